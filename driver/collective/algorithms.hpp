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

/// Everything that an algorithm's name stands for, one chunk each: make_plan() takes the one of least estimate. Throws
/// as make_plan().
std::vector<Plan> candidates(const Cluster &cluster, Operation operation, const std::string &algorithm, uint32_t root);

struct Choice {
  Plan plan;
  double estimate_s = 0;  ///< simulated or, if it was not, estimate()
};
/// The plans with the least estimates are simulated as flows on the idle cluster, the fastest is taken; where that
/// would take long (a thousand ranks), the least estimate. "auto": of all algorithms.
Choice choose(const Cluster &cluster, Operation operation, const std::string &algorithm, uint64_t count,
              ElementType type, uint32_t chunks, uint32_t root = 0);

/// Phases of an all-reduce among the members of groups, for any number of members (halving and doubling fold first).
std::vector<Phase> all_reduce(Phase::Algorithm algorithm, const std::vector<std::vector<uint32_t>> &groups);

/// Ranks that differ in one digit: of `size` values, `stride` apart. `ranks` is a multiple of stride * size.
std::vector<std::vector<uint32_t>> digit_groups(uint32_t ranks, uint32_t stride, uint32_t size);

/// The algorithm of a reduce-scatter and a gather back among groups that takes least by estimate, for `count` elements.
Phase::Algorithm best_scatter(const Cluster &cluster, const std::vector<std::vector<uint32_t>> &groups, uint64_t count,
                              ElementType type);
const char *to_string(Phase::Algorithm algorithm);

/// Sizes of the groups that the topology has, from the inside out: cards of a node, nodes of a leaf, ... Their product
/// is the number of ranks.
std::vector<uint32_t> levels(const Cluster &cluster);

}  // namespace cx::collective
