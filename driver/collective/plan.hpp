// How a collective is carried out: phases over groups of ranks, and the command lists that they become.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "driver/collective/cluster.hpp"

namespace cx::collective {

enum class Operation { kAllReduce, kReduceScatter, kAllGather, kBroadcast, kAllToAll };
const char *to_string(Operation operation);

/// Parts of `count` elements for `parts` owners: the first count % parts have one more.
struct Split {
  uint64_t count;
  uint32_t parts;
  uint64_t begin(uint32_t i) const { return i * (count / parts) + std::min<uint64_t>(i, count % parts); }
  uint64_t size(uint32_t i) const { return count / parts + (i < count % parts ? 1 : 0); }
};

/// What a group of ranks does together with the range of elements that its members hold. All groups of a phase are of
/// equal size and disjoint. Positions are those in the group. Orders of summation, with x_i what position i held:
/// - ring: part c of k is ((x_{c+1} + x_{c+2}) + ...) + x_c, positions modulo k.
/// - halving: parts of two halves of the group, split by the highest bit of the position that differs, are added
/// pairwise; first those of
///   neighbours (nearest first), or of the farthest (in order, for parts that stay where they are).
/// - direct: part c is ((x_c + x_{c+1}) + ...) + x_{c-1}, positions modulo k.
/// - doubling: as halving nearest first, whole ranges.
/// - tree: binomial; a parent adds its children in the order of rising distance.
/// - phases after each other: x_i is what the phases before have left at position i.
/// - fold: the first 2 e positions pair up, e = k - 2^floor(log2 k); the odd one adds the even one's and stands for
/// both.
struct Phase {
  enum class Kind {
    kReduceScatter,  ///< a member's range becomes its part of it, summed
    kAllGather,      ///< the reverse, without sums
    kAllReduce,      ///< ranges stay, summed (doubling)
    kReduce,         ///< to position `root` (tree)
    kBroadcast,      ///< from position `root` (tree, ring)
    kFold,           ///< leaves a power of two of active members
    kUnfold,         ///< gives results back to the others
    kAllToAll,       ///< direct; the range becomes what came, in the order of senders
    kScatter,        ///< position `root` of group `root_group` gives everyone of it its part; all hold their part
    kSort,           ///< the range's parts (one a rank) in another memory, in the order of the ranks' digits
    kSortPart,       ///< the same with the own part only, which is held; a gather for each digit restores the range
    kUnsort,         ///< back, the whole range
    kUnsortPart      ///< back, the own part only
  };
  enum class Algorithm { kRing, kHalving, kDirect, kDoubling, kTree };
  Kind kind;
  Algorithm algorithm;
  std::vector<std::vector<uint32_t>> groups;
  uint32_t root = 0, root_group = 0;
  /// Sorts: digits of a rank, innermost (fastest) first, at most 4 below 65536. Sorted, the innermost is slowest, so
  /// that a reduce-scatter from the inside out leaves a rank its own part.
  std::vector<uint32_t> levels = {};
  bool in_order = false;  ///< halving: farthest first, so that position i ends with part i
  bool serial = false;  ///< broadcast by tree: a child is served when the one before it has everything, not all at once
};

struct Plan {
  std::string name;                       ///< for reports: "ring", "hcp (node: ring, leaf: halving)"
  std::vector<std::vector<Phase>> parts;  ///< the data is split evenly among these; each goes through its phases
  uint32_t chunks = 1;                    ///< each part again; chunks follow each other through the phases
};

/// Command lists of all ranks for `count` elements at offset 0 of every card's memory.
struct Schedule {
  std::vector<std::vector<cx_comm_command>> ranks;
  std::vector<uint64_t> memory_bytes;  ///< of a card: data and scratch
};

/// all-to-all: `count` elements at offset 0, block j of count / ranks elements for rank j; results by sender after
/// them. Throws UsageError for more than 256 parts or 1024 chunks.
Schedule build(const Plan &plan, uint32_t ranks, uint64_t count, ElementType type);

}  // namespace cx::collective
