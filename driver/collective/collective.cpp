#include "driver/collective/collective.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <span>

#include "hw/common/num/formats.hpp"

namespace cx::collective {
namespace {

constexpr double kSamples = 256;  ///< of links, for an observer

void check(const Cluster &cluster, const Spec &spec) {
  if (spec.root >= cluster.ranks()) {
    throw UsageError(fmt::format("root {}, expected a rank below {}", spec.root, cluster.ranks()));
  }
  if (spec.operation == Operation::kAllToAll && spec.count % cluster.ranks() != 0) {
    throw UsageError(
        fmt::format("all-to-all of {} elements, expected a multiple of the {} ranks", spec.count, cluster.ranks()));
  }
}

/// What the ranks have to agree on.
uint32_t digest(const Spec &spec, const Plan &plan, uint32_t ranks) {
  const std::string text = fmt::format("{} {} {} {} {} {} {}", static_cast<int>(spec.operation), plan.name, spec.count,
                                       static_cast<int>(spec.type), spec.root, plan.chunks, ranks);
  return digest_of(text);
}

bool same(const Spec &a, const Spec &b) {
  return a.operation == b.operation && a.algorithm == b.algorithm && a.count == b.count && a.type == b.type &&
         a.root == b.root && a.chunks == b.chunks;
}

Outcome finish(const Cluster &cluster, const Spec &spec, const Choice &choice, JobReport job) {
  Outcome outcome;
  outcome.plan = choice.plan.name;
  outcome.estimate_s = choice.estimate_s;
  outcome.job = std::move(job);
  const double time = outcome.job.time_s;
  if (cluster.ranks() < 2) return outcome;
  outcome.bound = lower_bound(cluster, spec.operation, spec.count, spec.type, spec.root);
  // Times are whole picoseconds.
  if (time < outcome.bound.time_s * (1 - 1e-6)) {
    throw BoundError(fmt::format("{} of {} bytes by {} took {:.6f} us, less than its lower bound of {:.6f} us ({})",
                                 to_string(spec.operation), spec.count * bytes_of(spec.type), outcome.plan, time * 1e6,
                                 outcome.bound.time_s * 1e6, outcome.bound.reason));
  }
  outcome.algorithm_bytes_per_s = static_cast<double>(spec.count * bytes_of(spec.type)) / time;
  outcome.bus_bytes_per_s = outcome.algorithm_bytes_per_s * bus_factor(spec.operation, cluster.ranks());
  return outcome;
}

// ---- data whose sums are exact ----

/// -3 to 3: sums of a thousand are exact in FP32 and INT32, of 33 in FP16 and of 42 in BF16.
int value_of(uint64_t seed, uint32_t rank, uint64_t element) {
  uint64_t x = seed + rank * 0x9e3779b97f4a7c15ull + element * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 31)) * 0x94d049bb133111ebull;
  return static_cast<int>((x >> 33) % 7) - 3;
}

template <class Element, class Encode>
void put_each(std::byte *at, std::span<const int> values, Encode encode) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Element element = encode(values[i]);
    std::memcpy(at + i * sizeof element, &element, sizeof element);
  }
}

void put_all(ElementType type, std::byte *at, std::span<const int> values) {
  switch (type) {
    case ElementType::kInt32:
      return put_each<int32_t>(at, values, [](int value) { return value; });
    case ElementType::kFp32:
      return put_each<float>(at, values, [](int value) { return static_cast<float>(value); });
    case ElementType::kFp16:
      return put_each<uint16_t>(at, values, [](int value) { return num::encode_fp16(static_cast<float>(value)); });
    case ElementType::kBf16:
      return put_each<uint16_t>(at, values, [](int value) { return num::encode_bf16(static_cast<float>(value)); });
  }
}

}  // namespace

uint32_t digest_of(const std::string &text) {
  uint64_t hash = 14695981039346656037ull;  // FNV-1a
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return static_cast<uint32_t>(hash ^ (hash >> 32));
}

std::vector<cx_comm_program> programs(const Schedule &schedule, uint32_t digest, Memory *memory) {
  std::vector<cx_comm_program> out;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    cx_comm_program program{};
    program.commands = schedule.ranks[rank].data();
    program.count = schedule.ranks[rank].size();
    program.memory_bytes = schedule.memory_bytes[rank];
    program.digest = digest;
    if (memory != nullptr) {
      auto &own = memory->at(rank);
      if (own.size() < program.memory_bytes) {
        throw UsageError(
            fmt::format("memory of rank {}: {} bytes, expected {} or more", rank, own.size(), program.memory_bytes));
      }
      program.memory = own.data();
    }
    out.push_back(program);
  }
  return out;
}

namespace {

Choice choice_of(const Cluster &cluster, const Spec &spec, const Plan *plan = nullptr) {
  check(cluster, spec);
  if (plan != nullptr) return {*plan, estimate(cluster, *plan, spec.count, spec.type)};
  return choose(cluster, spec.operation, spec.algorithm, spec.count, spec.type, spec.chunks, spec.root);
}

Outcome execute(const Cluster &cluster, const Spec &spec, const Choice &choice, const Schedule &schedule,
                Memory *memory) {
  const uint32_t mark = digest(spec, choice.plan, cluster.ranks());
  return finish(cluster, spec, choice,
                cluster.run(programs(schedule, mark, memory), spec.type, spec.fidelity, spec.faults, spec.observer,
                            choice.estimate_s / kSamples));
}

}  // namespace

std::vector<uint64_t> memory_needed(const Cluster &cluster, const Spec &spec) {
  return build(choice_of(cluster, spec).plan, cluster.ranks(), spec.count, spec.type).memory_bytes;
}

Outcome run(const Cluster &cluster, const Spec &spec, Memory *memory) {
  const Choice choice = choice_of(cluster, spec);
  return execute(cluster, spec, choice, build(choice.plan, cluster.ranks(), spec.count, spec.type), memory);
}

Outcome run_plan(const Cluster &cluster, const Spec &spec, const Plan &plan, Memory *memory) {
  const Choice choice = choice_of(cluster, spec, &plan);
  return execute(cluster, spec, choice, build(choice.plan, cluster.ranks(), spec.count, spec.type), memory);
}

Outcome run_each(const Cluster &cluster, const std::vector<Spec> &specs, Memory *memory) {
  if (specs.size() != cluster.ranks()) {
    throw UsageError(fmt::format("descriptions of {} ranks, expected {}", specs.size(), cluster.ranks()));
  }
  std::vector<cx_comm_program> all(specs.size());
  std::vector<Schedule> schedules;
  schedules.reserve(specs.size());
  std::vector<std::size_t> of;  // the first rank with the same description
  Choice choice;
  for (std::size_t rank = 0; rank < specs.size(); ++rank) {
    std::size_t first = 0;
    while (!same(specs[first], specs[rank])) ++first;
    of.push_back(first);
    if (first != rank) continue;
    const Spec &spec = specs[rank];
    const Choice own = choice_of(cluster, spec);
    if (rank == 0) choice = own;
    schedules.push_back(build(own.plan, cluster.ranks(), spec.count, spec.type));
    const auto some = programs(schedules.back(), digest(spec, own.plan, cluster.ranks()), memory);
    for (std::size_t other = rank; other < specs.size(); ++other) {
      if (same(spec, specs[other])) all[other] = some[other];
    }
  }
  return finish(cluster, specs[0], choice, cluster.run(all, specs[0].type, specs[0].fidelity, specs[0].faults));
}

Outcome run_checked(const Cluster &cluster, const Spec &spec, uint64_t seed, const Plan *plan, uint64_t most_bytes) {
  const uint32_t ranks = cluster.ranks();
  const uint64_t size = bytes_of(spec.type);
  const Choice choice = choice_of(cluster, spec, plan);
  const Schedule schedule = build(choice.plan, ranks, spec.count, spec.type);
  const std::vector<uint64_t> &needed = schedule.memory_bytes;
  if (std::accumulate(needed.begin(), needed.end(), uint64_t{0}) > most_bytes) {
    return execute(cluster, spec, choice, schedule, nullptr);
  }
  Memory memory;
  for (const uint64_t bytes : needed) memory.emplace_back(bytes);
  const Split parts{spec.count, ranks};
  const bool sum = spec.operation == Operation::kAllReduce || spec.operation == Operation::kReduceScatter;
  // By blocks: a comparison of single elements takes longer than the simulation.
  constexpr uint64_t kBlock = 4096;
  std::vector<int> values(kBlock), sums(sum ? spec.count : 0);
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    for (uint64_t at = 0; at < spec.count; at += kBlock) {
      const uint64_t count = std::min(kBlock, spec.count - at);
      for (uint64_t i = 0; i < count; ++i) values[i] = value_of(seed, rank, at + i);
      for (uint64_t i = 0; sum && i < count; ++i) sums[at + i] += values[i];
      put_all(spec.type, &memory[rank][at * size], {values.data(), count});
    }
  }
  Outcome outcome = execute(cluster, spec, choice, schedule, &memory);
  const uint64_t block = spec.count / ranks;
  const uint64_t results = (spec.count * size + 63) / 64 * 64;  // of an all-to-all
  std::vector<std::byte> expected(kBlock * size);
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    uint64_t first = 0, last = spec.count, base = 0;
    if (spec.operation == Operation::kReduceScatter) {
      first = parts.begin(rank);
      last = first + parts.size(rank);
    }
    if (spec.operation == Operation::kAllToAll) base = results;
    uint32_t owner = 0;
    const auto expected_value = [&](uint64_t i) {
      switch (spec.operation) {
        case Operation::kAllReduce:
        case Operation::kReduceScatter:
          return sums[i];
        case Operation::kAllGather:
          while (i >= parts.begin(owner) + parts.size(owner)) ++owner;
          return value_of(seed, owner, i);
        case Operation::kBroadcast:
          return value_of(seed, spec.root, i);
        case Operation::kAllToAll:
          return value_of(seed, static_cast<uint32_t>(i / block), rank * block + i % block);
      }
      throw Error("an operation without results");
    };
    for (uint64_t at = first; at < last; at += kBlock) {
      const uint64_t count = std::min(kBlock, last - at);
      for (uint64_t i = 0; i < count; ++i) values[i] = expected_value(at + i);
      put_all(spec.type, expected.data(), {values.data(), count});
      const std::byte *actual = &memory[rank][base + at * size];
      if (std::memcmp(expected.data(), actual, count * size) == 0) continue;
      uint64_t wrong = 0;
      while (std::memcmp(&expected[wrong * size], actual + wrong * size, size) == 0) ++wrong;
      throw Error(fmt::format("{} by {}: element {} of rank {} is wrong, expected {}", to_string(spec.operation),
                              outcome.plan, at + wrong, rank, values[wrong]));
    }
  }
  outcome.checked = true;
  return outcome;
}

Utilisation utilisation(const Cluster &cluster, const JobReport &job) {
  Utilisation out;
  double sum = 0;
  unsigned used = 0;
  for (std::size_t l = 0; l < cluster.links().size(); ++l) {
    const Cluster::Link &link = cluster.links()[l];
    const double share = job.link_wire_bytes[l] / (link.bytes_per_s * job.time_s);
    if (share > out.busiest) {
      out.busiest = share;
      out.busiest_link = link.name;
    }
    if (link.is_pcie || job.link_wire_bytes[l] == 0) continue;
    sum += share;
    ++used;
  }
  if (used > 0) out.mean = sum / used;
  return out;
}

}  // namespace cx::collective
