// All-reduce of the largest elements only, with what is not sent kept for the next time.
#pragma once

#include <string>
#include <vector>

#include "driver/collective/collective.hpp"

namespace cx::collective {

/// Every rank has a gradient g and a residual e of n FP32 elements; y = g + e, one rounding. k elements of y of largest
/// magnitude (of equal ones those of lower index; NaN counts as infinity) are offered.
///
/// - gather: the result is the sum of what the ranks offer, in the order of ranks, beginning with +0. A rank's residual
///   becomes y where it offered nothing, 0 elsewhere. Every rank receives (ranks - 1) k pairs of 8 bytes.
/// - oktopk: the result is the k largest elements (the same order) of that sum; zeros are not sent. The residual
/// becomes
///   0 where the rank offered an element that is in the result, y elsewhere. The index space is cut into one part for
///   each rank so that all get about as many pairs; a rank sums its part, the k-th magnitude is found by four small
///   all-reduces of counts, and the parts' results are gathered: about 2 k pairs a rank, whatever the number of ranks
///   (the scheme of Li and Hoefler, "Near-Optimal Sparse Allreduce for Distributed Deep Learning", PPoPP 2022, with an
///   exact threshold).
/// - inter-node-gather, inter-node-oktopk: gradients are summed densely in the node (reduce-scatter; the gradient is
///   overwritten), card c has part c of the node's sum as g, and its share of k; these are exchanged between the nodes,
///   and the results gathered in the node. Only the residual's part c is used.
/// - inter-node: the one of these two that moves less between nodes.
struct SparseSpec {
  std::string method = "oktopk";
  uint64_t count = 0;  ///< n, up to 2^32 - 1
  uint64_t k = 0;      ///< 1 to n; inter-node: at least the cards of a node
  /// Of lists on the wire: pairs (4-byte index, FP32), or index, gaps or bitmap, each with -fp32, -fp16 or -bf16
  /// (CX_COMM_LIST_INDEX and so on). With 16-bit values a rank contributes the rounded ones; what rounding takes away
  /// stays in its residual. Others than pairs: methods of gather only.
  std::string format = "pairs";
  Fidelity fidelity = Fidelity::kPacket;
  std::vector<std::string> faults;
  JobObserver *observer = nullptr;  ///< outlives the run
};
std::vector<std::string> sparse_methods();
std::vector<std::string> sparse_formats();

/// k of a density, 0 < density <= 1: at least 1. Throws UsageError.
uint64_t k_of_density(uint64_t count, double density);

/// Where a rank's buffers are in its memory, bytes.
struct SparseLayout {
  uint64_t gradient = 0, residual = 0, result = 0;
  std::vector<uint64_t> memory_bytes;  ///< one a rank
};
/// Throws UsageError for k and count out of range and an unknown method or format, UnsupportedError for inter-node
/// methods where there is one node and for a format that the method cannot take.
SparseLayout sparse_layout(const Cluster &cluster, const SparseSpec &spec);

/// Command lists of all ranks.
Schedule sparse_schedule(const Cluster &cluster, const SparseSpec &spec);

struct SparseOutcome {
  std::string plan;
  JobReport job;
  Bound bound;                                ///< latency, and what the ranks sent over what their cuts carry
  uint64_t most_sent = 0, most_received = 0;  ///< payload bytes of one rank
  uint64_t dense_ring_bytes = 0;  ///< payload of all ranks of a dense ring of values as wide: 2 (ranks - 1) n bytes
  double volume_ratio() const { return static_cast<double>(job.payload_bytes) / static_cast<double>(dense_ring_bytes); }
};

/// memory: as sparse_layout() says, or nullptr: then only time is computed, with as many pairs in every part as there
/// are on average. Throws CollectiveError, BoundError, InputError.
SparseOutcome run_sparse(const Cluster &cluster, const SparseSpec &spec, Memory *memory = nullptr);

/// With a description of its own for every rank: CollectiveError of kind kMismatch, kLength or kWatchdog when they
/// differ. The first one's fidelity and faults hold.
SparseOutcome run_sparse_each(const Cluster &cluster, const std::vector<SparseSpec> &specs, Memory *memory = nullptr);

/// Fills gradients and residuals with whole numbers, runs, and checks that all ranks have the same result, that it is
/// the sum of what left the residuals, and that nothing is lost: residual and what was sent are y, bit by bit. Throws
/// Error naming rank and element.
SparseOutcome run_sparse_checked(const Cluster &cluster, const SparseSpec &spec, uint64_t seed);

}  // namespace cx::collective
