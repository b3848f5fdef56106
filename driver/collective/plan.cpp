#include "driver/collective/plan.hpp"

#include "driver/collective/builder.hpp"

namespace cx::collective {

const char *to_string(Operation operation) {
  switch (operation) {
    case Operation::kAllReduce:
      return "all-reduce";
    case Operation::kReduceScatter:
      return "reduce-scatter";
    case Operation::kAllGather:
      return "all-gather";
    case Operation::kBroadcast:
      return "broadcast";
    case Operation::kAllToAll:
      return "all-to-all";
  }
  return "?";
}

namespace {

constexpr uint32_t kNone = CX_COMM_NONE;

/// Commands of all chunks of a part, in turn: chunks share connections, and on a connection the n-th message of each
/// chunk comes before the next of any. Chunks have the same commands with other ranges.
void interleave(std::vector<std::vector<cx_comm_command>> chunks, std::vector<cx_comm_command> &list) {
  const auto base = static_cast<uint32_t>(list.size()), count = static_cast<uint32_t>(chunks.size());
  list.reserve(list.size() + chunks.size() * chunks[0].size());
  for (std::size_t j = 0; j < chunks[0].size(); ++j) {
    for (uint32_t c = 0; c < count; ++c) {
      cx_comm_command command = chunks[c][j];
      for (uint32_t &after : command.after) {
        if (after != kNone) after = base + after * count + c;
      }
      list.push_back(command);
    }
  }
}

}  // namespace

Schedule build(const Plan &plan, uint32_t ranks, uint64_t count, ElementType type) {
  const auto parts = static_cast<uint32_t>(plan.parts.size());
  if (parts > 256 || plan.chunks == 0 || plan.chunks > 1024) {
    throw UsageError(std::to_string(parts) + " parts of " + std::to_string(plan.chunks) +
                     " chunks, expected at most 256 of 1 to 1024");
  }
  Builder builder(ranks, count * bytes_of(type), type);
  Schedule schedule;
  schedule.ranks.resize(ranks);
  const Split by_part{count, parts};
  for (uint32_t p = 0; p < parts; ++p) {
    const Split by_chunk{by_part.size(p), plan.chunks};
    std::vector<std::vector<std::vector<cx_comm_command>>> chunks;  // by chunk and rank
    for (uint32_t c = 0; c < plan.chunks; ++c) {
      builder.chunk(plan.parts[p], by_part.begin(p) + by_chunk.begin(c), by_chunk.size(c), static_cast<uint8_t>(p));
      chunks.push_back(builder.take());
    }
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      if (parts == 1 && plan.chunks == 1) {
        schedule.ranks[rank] = std::move(chunks[0][rank]);
        continue;
      }
      std::vector<std::vector<cx_comm_command>> own;
      for (auto &chunk : chunks) own.push_back(std::move(chunk[rank]));
      interleave(std::move(own), schedule.ranks[rank]);
    }
  }
  schedule.memory_bytes = builder.memory_bytes();
  return schedule;
}

}  // namespace cx::collective
