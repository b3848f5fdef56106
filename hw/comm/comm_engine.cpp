#include "hw/comm/comm_engine.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "hw/comm/sparse_commands.hpp"
#include "hw/common/num/formats.hpp"

namespace cx::hw::net {

namespace {

constexpr std::uint32_t kNone = CX_COMM_NONE;
constexpr std::size_t kNamedStalls = 8;
constexpr std::uint64_t kMostBlocks = 1u << 22;  // of a PERMUTE: as many ranks as a cluster may have
constexpr std::uint32_t kAhead = 8;              // commands that are fetched ahead

bool is_message(const cx_comm_command &command) { return command.op == CX_COMM_SEND || command.op == CX_COMM_RECV; }

bool may_be_indirect(unsigned op) { return op == CX_COMM_SEND || op == CX_COMM_RECV || op == CX_COMM_SCATTER_ADD; }

int type_of(const cx_comm_command &command, int of_job) { return command.type != 0 ? command.type - 1 : of_job; }

// None if there is no first one, or one after the last.
std::vector<std::uint64_t> digits_of(std::uint64_t packed) {
  std::vector<std::uint64_t> digits;
  for (; packed != 0; packed >>= 16) {
    if ((packed & 0xffff) == 0) return {};
    digits.push_back(packed & 0xffff);
  }
  return digits;
}

// More than kMostBlocks without digits.
std::uint64_t blocks_of(const std::vector<std::uint64_t> &digits) {
  std::uint64_t blocks = digits.empty() ? kMostBlocks + 1 : 1;
  for (const std::uint64_t size : digits) blocks *= size;  // 64 bits hold any
  return blocks;
}

void permute(const std::byte *source, std::byte *target, std::uint64_t bytes, std::uint64_t element,
             const std::vector<std::uint64_t> &digits, bool back) {
  const std::uint64_t blocks = blocks_of(digits), count = bytes / element, small = count / blocks,
                      larger = count % blocks;
  std::uint64_t sorted = 0;
  for (std::uint64_t place = 0; place < blocks && sorted < bytes; ++place) {
    // The digits of a place in the order of sorting are those of the block backwards.
    std::uint64_t rest = place, block = 0;
    for (std::size_t d = digits.size(); d-- > 0;) {
      block = block * digits[d] + rest % digits[d];
      rest /= digits[d];
    }
    const std::uint64_t natural = (block * small + std::min(block, larger)) * element;
    const std::uint64_t size = (small + (block < larger ? 1 : 0)) * element;
    back ? std::memcpy(target + natural, source + sorted, size) : std::memcpy(target + sorted, source + natural, size);
    sorted += size;
  }
}

template <class Element>
void add(const std::byte *source, std::byte *target, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    Element a, b;
    std::memcpy(&a, target + i * sizeof a, sizeof a);
    std::memcpy(&b, source + i * sizeof b, sizeof b);
    a = static_cast<Element>(a + b);
    std::memcpy(target + i * sizeof a, &a, sizeof a);
  }
}

}  // namespace

std::size_t element_bytes(int type) { return type == CX_COMM_FP16 || type == CX_COMM_BF16 ? 2 : 4; }

void reduce_elements(int type, const std::byte *source, std::byte *target, std::size_t count) {
  if (type == CX_COMM_FP32) return add<float>(source, target, count);
  if (type == CX_COMM_INT32) return add<std::uint32_t>(source, target, count);  // wraps
  const bool half = type == CX_COMM_FP16;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t a, b;
    std::memcpy(&a, target + 2 * i, 2);
    std::memcpy(&b, source + 2 * i, 2);
    a = half ? num::encode_fp16(num::decode_fp16(a) + num::decode_fp16(b))
             : num::encode_bf16(num::decode_bf16(a) + num::decode_bf16(b));
    std::memcpy(target + 2 * i, &a, 2);
  }
}

CommEngine::CommEngine(Fabric &fabric, const cx_comm_program *programs, std::size_t ranks, int type,
                       const CommTiming &timing)
    : fabric_(fabric), type_(type), timing_(timing), ranks_(ranks) {
  if (type < CX_COMM_FP32 || type > CX_COMM_BF16) throw CommProgramError("there is no type " + std::to_string(type));
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    ranks_[rank].program = &programs[rank];
    load(rank);
  }
  outcome_.sent.assign(ranks, 0);
  outcome_.received.assign(ranks, 0);
  fabric.listen(*this);
}

void CommEngine::check(std::uint32_t rank, std::size_t index) const {
  const cx_comm_program &program = *ranks_[rank].program;
  const cx_comm_command &command = program.commands[index];
  const auto wrong = [&](const std::string &what) {
    throw CommProgramError("rank " + std::to_string(rank) + ", command " + std::to_string(index) + ", " +
                           cx_comm_op_name(command.op) + ": " + what);
  };
  const auto range = [&](const char *name, std::uint64_t offset, std::uint64_t bytes) {
    if (offset > program.memory_bytes || bytes > program.memory_bytes - offset) {
      wrong(std::string(name) + " " + std::to_string(offset) + " and " + std::to_string(bytes) +
            " bytes, expected a range of the memory of " + std::to_string(program.memory_bytes) + " bytes");
    }
  };
  for (const std::uint32_t after : command.after) {
    if (after != kNone && after >= index) wrong("after " + std::to_string(after) + ", expected an earlier command");
  }
  const auto whole = [&](std::uint64_t size) {
    if (command.bytes % size != 0)
      wrong(std::to_string(command.bytes) + " bytes, expected whole elements of " + std::to_string(size));
  };
  const auto words = [&](std::uint64_t offset) {
    if (offset % 4 != 0) wrong("offset " + std::to_string(offset) + ", expected multiples of 4");
  };
  const bool indirect = (command.flags & CX_COMM_INDIRECT) != 0;
  if ((command.flags & ~CX_COMM_INDIRECT) != 0 || (indirect && !may_be_indirect(command.op)))
    wrong("flags " + std::to_string(command.flags));
  const bool list = command.op == CX_COMM_ENCODE || command.op == CX_COMM_DECODE_ADD;
  const int value = command.type / 4;
  if (list ? command.type % 4 >= CX_COMM_LIST_KINDS ||
                 (value != CX_COMM_FP32 && value != CX_COMM_FP16 && value != CX_COMM_BF16)
           : command.type > 1 + CX_COMM_BF16 || (command.type != 0 && command.op != CX_COMM_REDUCE))
    wrong("type " + std::to_string(command.type));
  const auto parts = [&](std::uint64_t count) {
    if (count == 0 || count > CX_COMM_DIGITS)
      wrong(std::to_string(count) + " parts, expected 1 to " + std::to_string(CX_COMM_DIGITS));
  };
  const auto selection = [&](std::uint64_t offset) {
    words(offset);
    range("selection", offset, sizeof(cx_comm_selection));
  };
  const auto indexed = [&](std::uint64_t count) {
    if (count == 0 || count > kNone)
      wrong("a vector of " + std::to_string(count) + " elements, expected 1 to " + std::to_string(kNone));
  };
  switch (command.op) {
    case CX_COMM_SEND:
    case CX_COMM_RECV:
      if (command.peer >= ranks_.size() || command.peer == rank)
        wrong("peer " + std::to_string(command.peer) + ", expected another rank");
      if (command.op == CX_COMM_RECV) {
        range("target", command.target, command.bytes);
        if (indirect) range("extent", command.third, sizeof(cx_comm_extent));
      } else {
        range("source", command.source, indirect ? sizeof(cx_comm_extent) : command.bytes);
      }
      break;
    case CX_COMM_REDUCE:
      whole(element_bytes(type_of(command, type_)));
      [[fallthrough]];
    case CX_COMM_COPY:
      range("source", command.source, command.bytes);
      range("target", command.target, command.bytes);
      break;
    case CX_COMM_FILL:
      range("target", command.target, command.bytes);
      break;
    case CX_COMM_TOPK:
      if (type_ != CX_COMM_FP32) wrong("expected type FP32");
      whole(4);
      if (command.peer == 0 || command.peer > command.bytes / 4)
        wrong("count " + std::to_string(command.peer) + ", expected 1 to the " + std::to_string(command.bytes / 4) +
              " elements");
      range("source", command.source, command.bytes);
      range("residual", command.third, command.bytes);
      range("target", command.target, kPairBytes * command.peer);
      words(command.source), words(command.third);
      break;
    case CX_COMM_SCATTER_ADD:
      if (type_ != CX_COMM_FP32) wrong("expected type FP32");
      whole(kPairBytes);
      range("source", command.source, indirect ? sizeof(cx_comm_extent) : command.bytes);
      indexed(command.third);
      range("target", command.target, 4 * command.third);
      words(command.target);
      break;
    case CX_COMM_JOIN:
      break;
    case CX_COMM_INDEX_COUNT:
      whole(kPairBytes);
      indexed(command.third);
      if (command.peer == 0) wrong("no bins");
      range("source", command.source, command.bytes);
      range("target", command.target, 4 * std::uint64_t{command.peer});
      words(command.target);
      break;
    case CX_COMM_CUT:
      whole(4);
      indexed(command.third);
      parts(command.peer);
      range("source", command.source, command.bytes);
      range("target", command.target, sizeof(cx_comm_selection) + 4 * (std::uint64_t{command.peer} + 1));
      words(command.source);
      break;
    case CX_COMM_PARTITION:
      whole(kPairBytes);
      parts(command.peer);
      range("source", command.source, command.bytes);
      selection(command.third);
      range("target", command.target, sizeof(cx_comm_extent) * command.peer);
      break;
    case CX_COMM_COUNT:
    case CX_COMM_SELECT:
      if (type_ != CX_COMM_FP32) wrong("expected type FP32");
      whole(4);
      parts(std::uint64_t{command.peer} + 1);
      range("source", command.source, command.bytes);
      selection(command.third);
      range("target", command.target, command.op == CX_COMM_COUNT ? 4 * CX_COMM_DIGITS : sizeof(cx_comm_extent));
      words(command.source), words(command.target);
      break;
    case CX_COMM_NARROW:
      if (command.bytes != 4 * CX_COMM_DIGITS)
        wrong(std::to_string(command.bytes) + " bytes, expected " + std::to_string(4 * CX_COMM_DIGITS));
      parts(std::uint64_t{command.peer} + 1);
      range("source", command.source, command.bytes);
      selection(command.third);
      words(command.source);
      break;
    case CX_COMM_RETAIN:
      whole(kPairBytes);
      indexed(command.peer);
      range("source", command.source, command.bytes);
      range("result", command.third, 4 * std::uint64_t{command.peer});
      range("target", command.target, 4 * std::uint64_t{command.peer});
      words(command.third), words(command.target);
      break;
    case CX_COMM_ENCODE:
      if (type_ != CX_COMM_FP32) wrong("expected type FP32");
      whole(kPairBytes);
      indexed(command.peer);
      if (command.bytes / kPairBytes > command.peer)
        wrong(std::to_string(command.bytes / kPairBytes) + " pairs of " + std::to_string(command.peer) + " elements");
      range("source", command.source, command.bytes);
      range("residual", command.third, 4 * std::uint64_t{command.peer});
      range("target", command.target, cx_comm_list_bytes(command.type, command.peer, command.bytes / kPairBytes));
      words(command.third);
      break;
    case CX_COMM_DECODE_ADD:
      if (type_ != CX_COMM_FP32) wrong("expected type FP32");
      indexed(command.peer);
      if (command.third > command.peer)
        wrong(std::to_string(command.third) + " pairs of " + std::to_string(command.peer) + " elements");
      if (command.bytes != cx_comm_list_bytes(command.type, command.peer, command.third))
        wrong(std::to_string(command.bytes) + " bytes, expected " +
              std::to_string(cx_comm_list_bytes(command.type, command.peer, command.third)));
      range("source", command.source, command.bytes);
      range("target", command.target, 4 * std::uint64_t{command.peer});
      words(command.target);
      break;
    case CX_COMM_PERMUTE:
      whole(element_bytes(type_));
      range("source", command.source, command.bytes);
      range("target", command.target, command.bytes);
      if (command.source < command.target + command.bytes && command.target < command.source + command.bytes)
        wrong("source and target overlap");
      if (command.peer > 1) wrong("peer " + std::to_string(command.peer) + ", expected 0 or 1");
      if (blocks_of(digits_of(command.third)) > kMostBlocks)
        wrong("digits " + std::to_string(command.third) + ", expected 1 to " + std::to_string(kMostBlocks) + " blocks");
      break;
    default:
      wrong("there is no operation " + std::to_string(command.op));
  }
}

void CommEngine::load(std::uint32_t number) {
  Rank &rank = ranks_[number];
  const cx_comm_program &program = *rank.program;
  const std::size_t count = program.count;
  rank.commands.assign(count + 1, {});
  rank.left = count;
  ranks_left_ += count != 0 ? 1 : 0;
  std::unordered_map<std::uint64_t, std::uint32_t> last;
  for (std::size_t i = 0; i < count; ++i) {
    check(number, i);
    const cx_comm_command &command = program.commands[i];
    for (const std::uint32_t after : command.after) {
      if (after == kNone) continue;
      ++rank.commands[after + 1].begin;
      ++rank.commands[i].waits;
    }
    if (!is_message(command)) continue;
    const std::uint64_t key =
        std::uint64_t{command.peer} << 9 | std::uint64_t{command.channel} << 1 | (command.op == CX_COMM_SEND ? 1 : 0);
    const auto [entry, first] = last.emplace(key, static_cast<std::uint32_t>(i));
    if (!first) {
      rank.commands[entry->second].follower = static_cast<std::uint32_t>(i);
      ++rank.commands[i].waits;
      entry->second = static_cast<std::uint32_t>(i);
    }
  }
  std::vector<std::uint32_t> next(count);
  for (std::size_t i = 0; i < count; ++i) {
    next[i] = rank.commands[i].begin;
    rank.commands[i + 1].begin += rank.commands[i].begin;
  }
  rank.after.resize(rank.commands[count].begin);
  for (std::size_t i = 0; i < count; ++i) {
    for (const std::uint32_t after : program.commands[i].after) {
      if (after != kNone) rank.after[next[after]++] = static_cast<std::uint32_t>(i);
    }
  }
}

std::byte *CommEngine::memory(std::uint32_t rank, std::uint64_t offset) const {
  auto *base = static_cast<std::byte *>(ranks_[rank].program->memory);
  return base == nullptr ? nullptr : base + offset;
}

cx_comm_extent CommEngine::source_of(std::uint32_t rank, const cx_comm_command &command) const {
  cx_comm_extent extent{command.source, command.bytes};
  const std::byte *at = memory(rank, command.source);
  if ((command.flags & CX_COMM_INDIRECT) == 0 || at == nullptr) return extent;
  std::memcpy(&extent, at, sizeof extent);
  const std::uint64_t room = ranks_[rank].program->memory_bytes;
  if (extent.bytes > command.bytes || extent.offset > room || extent.bytes > room - extent.offset)
    throw CommDataError("an extent of " + std::to_string(extent.bytes) + " bytes at " + std::to_string(extent.offset) +
                        ", expected at most " + std::to_string(command.bytes) + " in its memory");
  return extent;
}

std::uint64_t CommEngine::work(std::uint32_t rank, const cx_comm_command &command) const {
  const std::byte *base = memory(rank, 0);
  switch (command.op) {
    case CX_COMM_TOPK:
      // Sum and first digit, two more digits, taking; pairs are written.
      return 4 * command.bytes + kPairBytes * command.peer;
    case CX_COMM_ENCODE:
      return command.bytes + cx_comm_list_bytes(command.type, command.peer, command.bytes / kPairBytes);
    case CX_COMM_SCATTER_ADD:
      return base == nullptr ? command.bytes : source_of(rank, command).bytes;
    case CX_COMM_COUNT:
    case CX_COMM_SELECT:
      if (base == nullptr) return command.bytes;
      return 4 * part_elements(base + command.third, ranks_[rank].program->memory_bytes - command.third, command.peer);
    default:
      return command.bytes;
  }
}

void CommEngine::stop_data(std::uint32_t rank, const cx_comm_command &command, const std::string &what) {
  const std::uint32_t peer = is_message(command) ? command.peer : rank;
  stop(CX_COMM_FAILED, rank, peer, 0, 0,
       "rank " + std::to_string(rank) + ", " + cx_comm_op_name(command.op) + ": " + what);
}

void CommEngine::trace(const cx_comm_trace &trace) {
  if (trace.command == nullptr || trace.links == nullptr || trace.sample_ps == 0) {
    throw CommProgramError("trace: expected both functions and a time between samples above 0");
  }
  trace_ = &trace;
  for (Rank &rank : ranks_) rank.began.assign(rank.program->count, 0);
  fabric_.queue().after(trace.sample_ps, *this, kSample);
}

CommOutcome CommEngine::run() {
  // Receives come first: the ranks agree to start when those that need nothing before them are posted.
  try {
    for (const unsigned op : {CX_COMM_RECV, CX_COMM_SEND}) {
      for (std::uint32_t rank = 0; rank < ranks_.size(); ++rank) {
        const cx_comm_program &program = *ranks_[rank].program;
        for (std::uint32_t i = 0; i < program.count; ++i) {
          if ((program.commands[i].op == CX_COMM_RECV) != (op == CX_COMM_RECV)) continue;
          const Progress &command = ranks_[rank].commands[i];
          if (command.waits == 0 && !command.issued) issue(rank, i);
        }
      }
      starting_ = false;
    }
    EventQueue &queue = fabric_.queue();
    queue.after(timing_.watchdog, *this, kWatchdog);
    while (ranks_left_ != 0 && !stopped_) {
      if (!queue.run_one()) {
        report_stall(true);
        break;
      }
    }
  } catch (const NoRouteError &error) {
    stop(CX_COMM_NO_ROUTE, error.rank, error.peer, 0, 0, error.what());
  }
  for (const Rank &rank : ranks_) {
    outcome_.rank_end.push_back(rank.end);
    if (outcome_.status == CX_COMM_DONE) outcome_.time = std::max(outcome_.time, rank.end);
  }
  return outcome_;
}

void CommEngine::satisfied(std::uint32_t rank, std::uint32_t index) {
  if (--ranks_[rank].commands[index].waits == 0) issue(rank, index);
}

void CommEngine::issue(std::uint32_t number, std::uint32_t index) {
  Rank &rank = ranks_[number];
  // A chain of messages of one connection may be long: no recursion.
  for (;;) {
    const cx_comm_command &command = rank.program->commands[index];
    const Fabric::Connection connection{number, command.peer, command.channel};
    rank.commands[index].issued = true;
    if (trace_ != nullptr) rank.began[index] = fabric_.queue().now();
    if (command.op == CX_COMM_SEND) {
      cx_comm_extent extent;
      try {
        extent = source_of(number, command);
      } catch (const CommDataError &error) {
        return stop_data(number, command, error.what());
      }
      outcome_.payload_bytes += extent.bytes;
      outcome_.sent[number] += extent.bytes;
      const std::uint32_t cards = timing_.cards_per_node;
      if (number / cards != command.peer / cards) outcome_.network_bytes += extent.bytes;
      const bool awaited = rank.commands[index].begin != rank.commands[index + 1].begin;
      fabric_.send(connection, memory(number, extent.offset), extent.bytes, rank.program->digest, index, awaited);
    } else if (command.op == CX_COMM_RECV) {
      fabric_.receive(connection, memory(number, command.target), command.bytes, index, starting_);
    } else if (command.op == CX_COMM_JOIN) {
      return complete(number, index, fabric_.queue().now());
    } else {
      rank.local.push_back(index);
      if (!rank.busy) start_local(number);
      return;
    }
    index = rank.commands[index].follower;
    if (index == kNone || --rank.commands[index].waits != 0) return;
  }
}

void CommEngine::complete(std::uint32_t number, std::uint32_t index, Ps when) {
  Rank &rank = ranks_[number];
  rank.commands[index].done = true;
  ++progress_;
  rank.end = std::max(rank.end, when);
  if (trace_ != nullptr) trace_->command(trace_->context, number, index, rank.began[index], when);
  // Commands of a rank are done about in the order of their list, those of a thousand ranks in turn: by the time that
  // the next ones are looked at they would not be in a cache.
  const std::uint32_t begin = rank.commands[index].begin, end = rank.commands[index + 1].begin;
  const std::size_t ahead = std::min<std::size_t>(index + kAhead, rank.program->count - 1);
  __builtin_prefetch(&rank.commands[ahead]);
  __builtin_prefetch(&rank.program->commands[ahead]);
  __builtin_prefetch(rank.after.data() + std::min<std::size_t>(begin + kAhead, rank.after.size()));
  if (--rank.left == 0) --ranks_left_;
  for (std::uint32_t i = begin; i < end && !stopped_; ++i) {
    satisfied(number, rank.after[i]);
  }
}

void CommEngine::start_local(std::uint32_t number) {
  Rank &rank = ranks_[number];
  if (rank.local.empty()) {
    rank.busy = false;
    return;
  }
  rank.busy = true;
  if (trace_ != nullptr) rank.began[rank.local.front()] = fabric_.queue().now();
  const cx_comm_command &command = rank.program->commands[rank.local.front()];
  double bytes = 0;
  try {
    bytes = static_cast<double>(work(number, command));
  } catch (const CommDataError &error) {
    return stop_data(number, command, error.what());
  }
  fabric_.queue().after(timing_.command_time + static_cast<Ps>(std::llround(bytes * 1e12 / timing_.reduce_bytes_per_s)),
                        *this, kLocalDone, number);
}

void CommEngine::execute(std::uint32_t rank, const cx_comm_command &command) {
  if (memory(rank, 0) == nullptr) return;
  const std::uint64_t room = ranks_[rank].program->memory_bytes, third_room = room - std::min(room, command.third);
  const auto at = [&](std::uint64_t offset) { return memory(rank, offset); };
  const auto floats = [&](std::uint64_t offset) { return reinterpret_cast<float *>(memory(rank, offset)); };
  const auto counts = [&](std::uint64_t offset) { return reinterpret_cast<std::uint32_t *>(memory(rank, offset)); };
  switch (command.op) {
    case CX_COMM_REDUCE:
      reduce_elements(type_of(command, type_), at(command.source), at(command.target),
                      command.bytes / element_bytes(type_of(command, type_)));
      break;
    case CX_COMM_COPY:
      std::memmove(at(command.target), at(command.source), command.bytes);
      break;
    case CX_COMM_FILL:
      std::memset(at(command.target), 0, command.bytes);
      break;
    case CX_COMM_TOPK:
      select_largest(floats(command.source), floats(command.third), command.bytes / 4, command.peer,
                     at(command.target));
      break;
    case CX_COMM_SCATTER_ADD: {
      const cx_comm_extent extent = source_of(rank, command);
      scatter_add(memory(rank, extent.offset), extent.bytes / kPairBytes, floats(command.target), command.third);
      break;
    }
    case CX_COMM_INDEX_COUNT:
      count_indices(at(command.source), command.bytes / kPairBytes, command.third, command.peer,
                    counts(command.target));
      break;
    case CX_COMM_CUT:
      cut_index_space(counts(command.source), command.bytes / 4, command.third, command.peer, at(command.target));
      break;
    case CX_COMM_PARTITION: {
      const auto extents = partition(at(command.source), command.bytes / kPairBytes, command.source, at(command.third),
                                     third_room, command.peer);
      std::memcpy(at(command.target), extents.data(), extents.size() * sizeof extents[0]);
      break;
    }
    case CX_COMM_COUNT:
      count_magnitudes(floats(command.source), command.bytes / 4, at(command.third), third_room, command.peer,
                       counts(command.target));
      break;
    case CX_COMM_NARROW:
      narrow_selection(counts(command.source), at(command.third), third_room, command.peer, command.target);
      break;
    case CX_COMM_SELECT: {
      const std::uint64_t pairs = command.target + sizeof(cx_comm_extent);
      const std::size_t taken = take_selected(floats(command.source), command.bytes / 4, at(command.third), third_room,
                                              command.peer, memory(rank, pairs), (room - pairs) / kPairBytes);
      const cx_comm_extent extent{pairs, kPairBytes * taken};
      std::memcpy(at(command.target), &extent, sizeof extent);
      break;
    }
    case CX_COMM_PERMUTE:
      permute(at(command.source), at(command.target), command.bytes, element_bytes(type_), digits_of(command.third),
              command.peer == 1);
      break;
    case CX_COMM_ENCODE:
      encode_list(command.type, at(command.source), command.bytes / kPairBytes, command.peer, floats(command.third),
                  at(command.target));
      break;
    case CX_COMM_DECODE_ADD:
      decode_add(command.type, at(command.source), command.third, command.peer, floats(command.target));
      break;
    case CX_COMM_RETAIN:
      retain(at(command.source), command.bytes / kPairBytes, floats(command.third), floats(command.target),
             command.peer);
      break;
  }
}

void CommEngine::on_event(std::uint32_t what, std::uint64_t argument) {
  if (what == kWatchdog) {
    if (progress_ == progress_seen_) return report_stall(false);
    progress_seen_ = progress_;
    fabric_.queue().after(timing_.watchdog, *this, kWatchdog);
    return;
  }
  if (what == kSample) {
    trace_->links(trace_->context, fabric_.queue().now(), fabric_.wire_bytes().data());
    fabric_.queue().after(trace_->sample_ps, *this, kSample);
    return;
  }
  const auto rank = static_cast<std::uint32_t>(argument);
  const std::uint32_t index = ranks_[rank].local.front();
  ranks_[rank].local.pop_front();
  const cx_comm_command &command = ranks_[rank].program->commands[index];
  try {
    execute(rank, command);
  } catch (const CommDataError &error) {
    return stop_data(rank, command, error.what());
  }
  complete(rank, index, fabric_.queue().now());
  start_local(rank);
}

void CommEngine::sent(std::uint32_t rank, std::uint64_t tag, Ps when) {
  complete(rank, static_cast<std::uint32_t>(tag), when);
}

void CommEngine::received(std::uint32_t number, std::uint64_t tag, std::uint64_t bytes, std::uint32_t digest) {
  const Rank &rank = ranks_[number];
  const cx_comm_command &command = rank.program->commands[tag];
  if (digest != rank.program->digest) {
    const auto state = fabric_.state({number, command.peer, command.channel});
    return stop(CX_COMM_MISMATCH, number, command.peer, state.qp, 0,
                "rank " + std::to_string(number) + " got a message of another operation from rank " +
                    std::to_string(command.peer) + ": the ranks do not run the same collective");
  }
  outcome_.received[number] += bytes;
  std::byte *extent_at = (command.flags & CX_COMM_INDIRECT) != 0 ? memory(number, command.third) : nullptr;
  if (extent_at != nullptr) {
    const cx_comm_extent extent{command.target, bytes};
    std::memcpy(extent_at, &extent, sizeof extent);
  }
  complete(number, static_cast<std::uint32_t>(tag), fabric_.queue().now());
}

void CommEngine::failed(const Fabric::Connection &connection, std::uint32_t qp, Status status) {
  if (stopped_) return;
  const int what = status == Status::local_length     ? CX_COMM_LENGTH
                   : status == Status::retry_exceeded ? CX_COMM_PEER_LOST
                                                      : CX_COMM_FAILED;
  const auto state = fabric_.state(connection);
  stop(what, connection.rank, connection.peer, qp, state.bytes_outstanding,
       "rank " + std::to_string(connection.rank) + ", queue pair " + std::to_string(qp) + " to rank " +
           std::to_string(connection.peer) + ": " + to_string(status));
}

void CommEngine::stop(int status, std::uint32_t rank, std::uint32_t peer, std::uint32_t qp, std::uint64_t bytes,
                      std::string why) {
  if (stopped_) return;
  stopped_ = true;
  outcome_.status = status;
  outcome_.rank = rank;
  outcome_.peer = peer;
  outcome_.qp = qp;
  outcome_.bytes_outstanding = bytes;
  outcome_.time = fabric_.queue().now();
  outcome_.message = std::move(why);
}

void CommEngine::report_stall(bool idle) {
  std::string text = idle ? "nothing is under way any more" : "no progress";
  std::size_t named = 0, blocked = 0;
  std::uint32_t rank_named = 0, peer = 0, qp = 0;
  std::uint64_t outstanding = 0;
  for (std::uint32_t number = 0; number < ranks_.size(); ++number) {
    const Rank &rank = ranks_[number];
    if (rank.left == 0) continue;
    // The first message that was issued and is not complete; what waits for it is no news.
    for (std::uint32_t i = 0; i < rank.program->count; ++i) {
      const cx_comm_command &command = rank.program->commands[i];
      if (rank.commands[i].done || !rank.commands[i].issued || !is_message(command)) continue;
      ++blocked;
      if (named == kNamedStalls) break;
      const Fabric::Connection connection{number, command.peer, command.channel};
      const auto state = fabric_.state(connection);
      const bool send = command.op == CX_COMM_SEND;
      // A SEND was issued, so that its extent is one.
      const std::uint64_t bytes =
          send ? std::max(state.bytes_outstanding, source_of(number, command).bytes) : command.bytes;
      text += "; rank " + std::to_string(number) + " waits in " + cx_comm_op_name(command.op) + " " +
              (send ? "to" : "from") + " rank " + std::to_string(command.peer) + ", queue pair " +
              std::to_string(state.qp) + ", " + std::to_string(bytes) + " bytes outstanding" +
              (send && state.waits_for_receive ? " (no receive is posted there)" : "");
      if (named++ == 0) {
        rank_named = number;
        peer = command.peer;
        qp = state.qp;
        outstanding = bytes;
      }
      break;
    }
  }
  if (blocked > named) text += "; and " + std::to_string(blocked - named) + " more ranks";
  stop(CX_COMM_WATCHDOG, rank_named, peer, qp, outstanding, text);
}

}  // namespace cx::hw::net
