// What a plan will take, from the cluster's ways, rates and latencies; and what no plan can beat.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "driver/collective/plan.hpp"

namespace cx::collective {

/// Time of a plan for `count` elements on an idle cluster, seconds. Every step of a phase takes the longest latency of
/// its messages, the bytes on its fullest link over that link's payload rate, and the REDUCE; steps of a phase follow
/// each other. Chunks and parts overlap; their time is the mean of two bounds: the first goes through its steps and the
/// others follow each a longest step's link or REDUCE later, or what is busiest is never idle; and what is busiest
/// idles until the first chunk is through. Estimates ignore queues and different speeds of ranks.
double estimate(const Cluster &cluster, const Plan &plan, uint64_t count, ElementType type);

struct Bound {
  double time_s = 0;
  std::string reason;  ///< "leaf cut: 98304 bytes at 49.0 GB/s, and 2.1 us"
};

/// Lower bound for any algorithm that moves every element whole. For each cut of the cluster, bytes that have to cross
/// it over its payload rate; for an all-reduce over n cuts that share all ranks also 2 (n - 1) / n times the data for
/// each (Patarasuk and Yuan, 2009). The last of these bytes still needs the shortest latency between two ranks. And the
/// latency to the farthest rank alone. `count`: as for build().
Bound lower_bound(const Cluster &cluster, Operation operation, uint64_t count, ElementType type, uint32_t root = 0);

/// NCCL's factor from bytes over time to bus bandwidth: 2 (n - 1) / n for all-reduce, (n - 1) / n for reduce-scatter,
/// all-gather and all-to-all, 1 for broadcast (github.com/NVIDIA/nccl-tests, PERFORMANCE.md).
double bus_factor(Operation operation, uint32_t ranks);

}  // namespace cx::collective
