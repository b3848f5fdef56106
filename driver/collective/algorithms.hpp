// Plans of the algorithms, and the choice among them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "driver/collective/cost.hpp"
#include "driver/collective/plan.hpp"

namespace cx::collective {

/// ring, tree, halving (recursive halving and doubling of halves), doubling (recursive doubling), direct, torus, hcp.
std::vector<std::string> algorithms(Operation operation);

/// chunks: independent parts that overlap; 0 lets the cost model choose. hcp: the algorithm of every level is chosen by
/// the cost model. Throws UnsupportedError for an algorithm that the operation or the number of ranks does not allow,
/// UsageError for an unknown one.
Plan make_plan(const Cluster &cluster, Operation operation, const std::string &algorithm, uint64_t count,
               ElementType type, uint32_t chunks, uint32_t root = 0);

struct Choice {
  Plan plan;
  double estimate_s = 0;
};
/// "auto": the plan with the least estimate.
Choice choose(const Cluster &cluster, Operation operation, const std::string &algorithm, uint64_t count,
              ElementType type, uint32_t chunks, uint32_t root = 0);

/// Sizes of the groups that the topology has, from the inside out: cards of a node, nodes of a leaf, ... Their product
/// is the number of ranks.
std::vector<uint32_t> levels(const Cluster &cluster);

}  // namespace cx::collective
