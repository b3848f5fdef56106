// Collective operations of a cluster's cards: choice, run, check.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "driver/collective/algorithms.hpp"

namespace cx::collective {

struct Spec {
  Operation operation = Operation::kAllReduce;
  std::string algorithm = "auto";
  uint64_t count = 0;  ///< elements of a rank's buffer; all-to-all: a multiple of the ranks
  ElementType type = ElementType::kFp32;
  uint32_t root = 0;    ///< broadcast
  uint32_t chunks = 0;  ///< 0: the cost model chooses
  Fidelity fidelity = Fidelity::kPacket;
  std::vector<std::string> faults;
  JobObserver *observer = nullptr;  ///< of the run; sees links 256 times, about
};

/// A run was faster than the bound that nothing can beat: the model is wrong.
class BoundError : public Error {
 public:
  using Error::Error;
};

struct Outcome {
  std::string plan;  ///< what was chosen
  double estimate_s = 0;
  Bound bound;
  JobReport job;
  double algorithm_bytes_per_s = 0;  ///< a rank's bytes over the time
  double bus_bytes_per_s = 0;        ///< times bus_factor()
  bool checked = false;              ///< results were compared, by run_checked()
};

/// Data of a rank: where it is, as many bytes as the schedule asks for. Null: only time is computed.
using Memory = std::vector<std::vector<std::byte>>;

/// Bytes that run() needs of every rank: data at the beginning, all-to-all results after it, scratch.
std::vector<uint64_t> memory_needed(const Cluster &cluster, const Spec &spec);

/// memory: one vector a rank, of memory_needed() or more bytes, or nullptr. Throws CollectiveError, BoundError,
/// InputError.
Outcome run(const Cluster &cluster, const Spec &spec, Memory *memory = nullptr);

/// One of candidates(), whatever the cost model thinks of it.
Outcome run_plan(const Cluster &cluster, const Spec &spec, const Plan &plan, Memory *memory = nullptr);

/// The same with a description of its own for every rank, as ranks of separate programs have: CollectiveError of kind
/// kMismatch, kLength or kWatchdog when they differ.
Outcome run_each(const Cluster &cluster, const std::vector<Spec> &specs, Memory *memory = nullptr);

/// Fills the ranks' buffers with whole numbers whose sums are exact in every type, runs, and compares every result.
/// Throws Error naming rank and element when one is wrong. plan: as for run_plan(), instead of the choice. Where the
/// ranks' buffers together are more than most_bytes, only time is computed.
Outcome run_checked(const Cluster &cluster, const Spec &spec, uint64_t seed, const Plan *plan = nullptr,
                    uint64_t most_bytes = UINT64_MAX);

/// Largest share of its rate that a link was used over the run, with its name; and the mean of network links that
/// carried anything.
struct Utilisation {
  double busiest = 0, mean = 0;
  std::string busiest_link;
};
Utilisation utilisation(const Cluster &cluster, const JobReport &job);

/// What the ranks of an operation have to agree on, as its messages carry it.
uint32_t digest_of(const std::string &text);

/// Programs of a schedule. memory: as for run(). Throws UsageError when a rank has too little.
std::vector<cx_comm_program> programs(const Schedule &schedule, uint32_t digest, Memory *memory);

}  // namespace cx::collective
