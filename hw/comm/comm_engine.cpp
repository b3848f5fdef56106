#include "hw/comm/comm_engine.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "hw/common/num/formats.hpp"

namespace cx::hw::net {

namespace {

constexpr std::uint64_t kPairBytes = 8;  // u32 index, f32 value
constexpr std::uint32_t kNone = CX_COMM_NONE;
constexpr std::size_t kNamedStalls = 8;

bool is_message(const cx_comm_command &command) { return command.op == CX_COMM_SEND || command.op == CX_COMM_RECV; }

const char *op_name(unsigned op) {
  static constexpr const char *kNames[] = {"SEND", "RECV", "REDUCE", "COPY", "FILL", "TOPK", "SCATTER_ADD", "JOIN"};
  return op < std::size(kNames) ? kNames[op] : "?";
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

void select_largest(const float *source, float *residual, std::size_t count, std::size_t k, std::byte *pairs) {
  for (std::size_t i = 0; i < count; ++i) residual[i] = source[i] + residual[i];
  const auto magnitude = [&](std::uint32_t i) {
    return std::isnan(residual[i]) ? std::numeric_limits<float>::infinity() : std::abs(residual[i]);
  };
  std::vector<std::uint32_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = static_cast<std::uint32_t>(i);
  k = std::min(k, count);
  const auto larger = [&](std::uint32_t a, std::uint32_t b) {
    const float x = magnitude(a), y = magnitude(b);
    return x != y ? x > y : a < b;
  };
  std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(), larger);
  std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k));
  for (std::size_t i = 0; i < k; ++i) {
    const std::uint32_t index = order[i];
    std::memcpy(pairs + kPairBytes * i, &index, 4);
    std::memcpy(pairs + kPairBytes * i + 4, &residual[index], 4);
    residual[index] = 0;
  }
}

void scatter_add(const std::byte *pairs, std::size_t k, float *target) {
  for (std::size_t i = 0; i < k; ++i) {
    std::uint32_t index;
    float value;
    std::memcpy(&index, pairs + kPairBytes * i, 4);
    std::memcpy(&value, pairs + kPairBytes * i + 4, 4);
    target[index] += value;
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
  fabric.listen(*this);
}

void CommEngine::check(std::uint32_t rank, std::size_t index) const {
  const cx_comm_program &program = *ranks_[rank].program;
  const cx_comm_command &command = program.commands[index];
  const auto wrong = [&](const std::string &what) {
    throw CommProgramError("rank " + std::to_string(rank) + ", command " + std::to_string(index) + ", " +
                           op_name(command.op) + ": " + what);
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
  switch (command.op) {
    case CX_COMM_SEND:
    case CX_COMM_RECV:
      if (command.peer >= ranks_.size() || command.peer == rank)
        wrong("peer " + std::to_string(command.peer) + ", expected another rank");
      command.op == CX_COMM_SEND ? range("source", command.source, command.bytes)
                                 : range("target", command.target, command.bytes);
      break;
    case CX_COMM_REDUCE:
      whole(element_bytes(type_));
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
      if (command.peer > command.bytes / 4)
        wrong("count " + std::to_string(command.peer) + ", expected at most the elements");
      range("source", command.source, command.bytes);
      range("residual", command.residual, command.bytes);
      range("target", command.target, kPairBytes * command.peer);
      if (command.source % 4 != 0 || command.residual % 4 != 0) wrong("expected offsets that are multiples of 4");
      break;
    case CX_COMM_SCATTER_ADD:
      if (type_ != CX_COMM_FP32) wrong("expected type FP32");
      whole(kPairBytes);
      range("source", command.source, command.bytes);
      if (command.target > program.memory_bytes || command.target % 4 != 0)
        wrong("expected a target in memory, a multiple of 4");
      break;
    case CX_COMM_JOIN:
      break;
    default:
      wrong("there is no operation " + std::to_string(command.op));
  }
}

void CommEngine::load(std::uint32_t number) {
  Rank &rank = ranks_[number];
  const cx_comm_program &program = *rank.program;
  const std::size_t count = program.count;
  rank.waits.assign(count, 0);
  rank.begin.assign(count + 1, 0);
  rank.follower.assign(count, kNone);
  rank.issued.assign(count, false);
  rank.done.assign(count, false);
  rank.left = count;
  ranks_left_ += count != 0 ? 1 : 0;
  std::unordered_map<std::uint64_t, std::uint32_t> last;
  for (std::size_t i = 0; i < count; ++i) {
    check(number, i);
    const cx_comm_command &command = program.commands[i];
    for (const std::uint32_t after : command.after) {
      if (after == kNone) continue;
      ++rank.begin[after + 1];
      ++rank.waits[i];
    }
    if (!is_message(command)) continue;
    const std::uint64_t key =
        std::uint64_t{command.peer} << 9 | std::uint64_t{command.channel} << 1 | (command.op == CX_COMM_SEND ? 1 : 0);
    const auto [entry, first] = last.emplace(key, static_cast<std::uint32_t>(i));
    if (!first) {
      rank.follower[entry->second] = static_cast<std::uint32_t>(i);
      ++rank.waits[i];
      entry->second = static_cast<std::uint32_t>(i);
    }
  }
  for (std::size_t i = 0; i < count; ++i) rank.begin[i + 1] += rank.begin[i];
  rank.after.resize(rank.begin[count]);
  std::vector<std::uint32_t> next(rank.begin.begin(), rank.begin.end());
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

CommOutcome CommEngine::run() {
  // Receives come first: the ranks agree to start when those that need nothing before them are posted.
  try {
    for (const unsigned op : {CX_COMM_RECV, CX_COMM_SEND}) {
      for (std::uint32_t rank = 0; rank < ranks_.size(); ++rank) {
        const cx_comm_program &program = *ranks_[rank].program;
        for (std::uint32_t i = 0; i < program.count; ++i) {
          if ((program.commands[i].op == CX_COMM_RECV) != (op == CX_COMM_RECV)) continue;
          if (ranks_[rank].waits[i] == 0 && !ranks_[rank].issued[i]) issue(rank, i);
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
  if (--ranks_[rank].waits[index] == 0) issue(rank, index);
}

void CommEngine::issue(std::uint32_t number, std::uint32_t index) {
  Rank &rank = ranks_[number];
  // A chain of messages of one connection may be long: no recursion.
  for (;;) {
    const cx_comm_command &command = rank.program->commands[index];
    const Fabric::Connection connection{number, command.peer, command.channel};
    rank.issued[index] = true;
    if (command.op == CX_COMM_SEND) {
      outcome_.payload_bytes += command.bytes;
      fabric_.send(connection, memory(number, command.source), command.bytes, rank.program->digest, index);
    } else if (command.op == CX_COMM_RECV) {
      fabric_.receive(connection, memory(number, command.target), command.bytes, index, starting_);
    } else if (command.op == CX_COMM_JOIN) {
      return complete(number, index);
    } else {
      rank.local.push_back(index);
      if (!rank.busy) start_local(number);
      return;
    }
    index = rank.follower[index];
    if (index == kNone || --rank.waits[index] != 0) return;
  }
}

void CommEngine::complete(std::uint32_t number, std::uint32_t index) {
  Rank &rank = ranks_[number];
  rank.done[index] = true;
  ++progress_;
  rank.end = fabric_.queue().now();
  if (--rank.left == 0) --ranks_left_;
  for (std::uint32_t i = rank.begin[index]; i < rank.begin[index + 1] && !stopped_; ++i) {
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
  const cx_comm_command &command = rank.program->commands[rank.local.front()];
  const double bytes = static_cast<double>(command.bytes);
  fabric_.queue().after(timing_.command_time + static_cast<Ps>(std::llround(bytes * 1e12 / timing_.reduce_bytes_per_s)),
                        *this, kLocalDone, number);
}

void CommEngine::execute(std::uint32_t rank, const cx_comm_command &command) {
  std::byte *target = memory(rank, command.target);
  if (target == nullptr) return;
  const std::byte *source = memory(rank, command.source);
  switch (command.op) {
    case CX_COMM_REDUCE:
      reduce_elements(type_, source, target, command.bytes / element_bytes(type_));
      break;
    case CX_COMM_COPY:
      std::memmove(target, source, command.bytes);
      break;
    case CX_COMM_FILL:
      std::memset(target, 0, command.bytes);
      break;
    case CX_COMM_TOPK:
      select_largest(reinterpret_cast<const float *>(source), reinterpret_cast<float *>(memory(rank, command.residual)),
                     command.bytes / 4, command.peer, target);
      break;
    case CX_COMM_SCATTER_ADD: {
      const std::uint64_t room = (ranks_[rank].program->memory_bytes - command.target) / 4;
      for (std::uint64_t at = 0; at < command.bytes; at += kPairBytes) {
        std::uint32_t index;
        std::memcpy(&index, source + at, 4);
        if (index >= room) {
          stop(CX_COMM_FAILED, rank, rank, 0, 0,
               "rank " + std::to_string(rank) + ": SCATTER_ADD of element " + std::to_string(index) +
                   " is outside of its memory");
          return;
        }
      }
      scatter_add(source, command.bytes / kPairBytes, reinterpret_cast<float *>(target));
      break;
    }
  }
}

void CommEngine::on_event(std::uint32_t what, std::uint64_t argument) {
  if (what == kWatchdog) {
    if (progress_ == progress_seen_) return report_stall(false);
    progress_seen_ = progress_;
    fabric_.queue().after(timing_.watchdog, *this, kWatchdog);
    return;
  }
  const auto rank = static_cast<std::uint32_t>(argument);
  const std::uint32_t index = ranks_[rank].local.front();
  ranks_[rank].local.pop_front();
  execute(rank, ranks_[rank].program->commands[index]);
  if (stopped_) return;
  complete(rank, index);
  start_local(rank);
}

void CommEngine::sent(std::uint32_t rank, std::uint64_t tag) { complete(rank, static_cast<std::uint32_t>(tag)); }

void CommEngine::received(std::uint32_t number, std::uint64_t tag, std::uint64_t, std::uint32_t digest) {
  const Rank &rank = ranks_[number];
  const cx_comm_command &command = rank.program->commands[tag];
  if (digest != rank.program->digest) {
    const auto state = fabric_.state({number, command.peer, command.channel});
    return stop(CX_COMM_MISMATCH, number, command.peer, state.qp, 0,
                "rank " + std::to_string(number) + " got a message of another operation from rank " +
                    std::to_string(command.peer) + ": the ranks do not run the same collective");
  }
  complete(number, static_cast<std::uint32_t>(tag));
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
      if (rank.done[i] || !rank.issued[i] || !is_message(command)) continue;
      ++blocked;
      if (named == kNamedStalls) break;
      const Fabric::Connection connection{number, command.peer, command.channel};
      const auto state = fabric_.state(connection);
      const bool send = command.op == CX_COMM_SEND;
      const std::uint64_t bytes =
          send ? std::max<std::uint64_t>(state.bytes_outstanding, command.bytes) : command.bytes;
      text += "; rank " + std::to_string(number) + " waits in " + op_name(command.op) + " " + (send ? "to" : "from") +
              " rank " + std::to_string(command.peer) + ", queue pair " + std::to_string(state.qp) + ", " +
              std::to_string(bytes) + " bytes outstanding" +
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
