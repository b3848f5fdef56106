#include "hw/trace/packet_watch.hpp"

#include <algorithm>
#include <cstring>

#include "hw/trace/host_words.hpp"

namespace cx::hw {

namespace {

constexpr std::uint64_t kRecordRest = sizeof(cx_completion) - offsetof(cx_completion, start);

bool inside(std::uint64_t address, std::uint64_t base, std::uint64_t bytes) { return address - base < bytes; }

std::uint64_t value_of(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

std::uint64_t span_of(std::uint64_t rows, std::uint64_t row_bytes, std::uint64_t pitch) {
  return rows == 0 ? 0 : (rows - 1) * pitch + row_bytes;
}

}  // namespace

template <typename As>
As PacketWatch::Packet::as() const {
  As packet;
  static_assert(sizeof packet == CX_PACKET_BYTES);
  std::memcpy(&packet, bytes.data(), sizeof packet);
  return packet;
}

void PacketWatch::set_trace(Trace *trace) {
  if (trace != nullptr && trace_ == nullptr) HostWords::all().watch();
  if (trace == nullptr && trace_ != nullptr) HostWords::all().unwatch();
  trace_ = trace;
  queues_ = {};
  index_written_ = -1;
  last_completed_ = 0;
}

void PacketWatch::read(std::uint64_t host, std::span<const std::byte> bytes, std::uint64_t now,
                       const std::byte *memory) {
  if (bytes.size() == sizeof(std::uint64_t) && memory != nullptr) looked(host, value_of(bytes), memory);
  if (bytes.size() % CX_PACKET_BYTES != 0 || bytes.empty()) return;
  for (unsigned number = 0; number < kQueues; ++number) {
    Queue &queue = queues_[number];
    const bool listed = inside(host, queue.list_base, queue.list_bytes);
    const Ring ring = listed ? Ring() : ring_(number);
    if (!listed && !inside(host, ring.base, ring.bytes)) continue;
    std::deque<Packet> &packets = listed ? queue.list : queue.ring;
    for (std::size_t at = 0; at < bytes.size(); at += CX_PACKET_BYTES) {
      Packet &packet = packets.emplace_back();
      packet.id = trace_->new_id();
      packet.index = static_cast<std::uint32_t>((host + at - (listed ? queue.list_base : ring.base)) / CX_PACKET_BYTES);
      packet.fetched = now;
      std::memcpy(packet.bytes.data(), bytes.data() + at, CX_PACKET_BYTES);
      if (!listed && packet.header().type == CX_PKT_EXECUTE) {
        const auto execute = packet.as<cx_packet_execute>();
        queue.list_base = execute.list;
        queue.list_bytes = std::uint64_t{execute.count} * CX_PACKET_BYTES;
      }
    }
    return;
  }
}

template <typename Function>
const PacketWatch::Packet *PacketWatch::find(Function matches) const {
  for (const Queue &queue : queues_) {
    for (const auto *packets : {&queue.list, &queue.ring}) {
      const auto found = std::find_if(packets->begin(), packets->end(), matches);
      if (found != packets->end()) return &*found;
    }
  }
  return nullptr;
}

// A packet that waits has read a value.
void PacketWatch::looked(std::uint64_t host, std::uint64_t value, const std::byte *memory) {
  Packet *waiting = find([host](const Packet &packet) {
    switch (packet.header().type) {
      case CX_PKT_WAIT:
        return !packet.recorded && packet.as<cx_packet_wait>().address == host;
      case CX_PKT_BARRIER_AND:
      case CX_PKT_BARRIER_OR: {
        const auto barrier = packet.as<cx_packet_barrier_and>();
        return !packet.recorded &&
               std::find(std::begin(barrier.deps), std::end(barrier.deps), host) != std::end(barrier.deps);
      }
      default:
        return false;
    }
  });
  if (waiting != nullptr) waiting->cause = HostWords::all().writer(memory, value);
}

// A packet has signalled a value, or is done and says so: the value of its record is the last that is written.
void PacketWatch::left(std::uint64_t host, std::uint64_t value, const std::byte *memory) {
  Packet *by = find([host](const Packet &packet) { return packet.recorded && packet.header().completion == host; });
  if (by == nullptr) {
    by = find([host](const Packet &packet) {
      return !packet.signalled && packet.header().type == CX_PKT_SIGNAL &&
             packet.as<cx_packet_signal>().address == host;
    });
    if (by != nullptr) by->signalled = true;
  }
  if (by != nullptr) HostWords::all().wrote(memory, value, by->id);
}

void PacketWatch::wrote(std::uint64_t host, std::span<const std::byte> bytes, const std::byte *memory) {
  if (bytes.size() == sizeof(std::uint64_t) && memory != nullptr) left(host, value_of(bytes), memory);
  if (bytes.size() != kRecordRest) return;
  const auto *found = find([host](const Packet &packet) {
    return !packet.recorded && packet.header().completion != 0 &&
           packet.header().completion + offsetof(cx_completion, start) == host;
  });
  if (found == nullptr) return;
  auto &packet = const_cast<Packet &>(*found);
  cx_completion record{};
  std::memcpy(&record.start, bytes.data(), kRecordRest);
  packet.start = record.start;
  packet.end = record.end;
  packet.status = record.status;
  packet.recorded = true;
}

void PacketWatch::read_index(unsigned queue, std::uint32_t index) {
  if (index == 0) {  // enabled, or reset
    queues_.at(queue) = {};
    return;
  }
  index_written_ = static_cast<int>(queue);
}

void PacketWatch::end(unsigned queue, std::deque<Packet> &packets, bool listed, std::uint64_t now) {
  const Packet &packet = packets.front();
  const std::uint64_t begin = packet.recorded ? packet.start : packet.fetched;
  Trace::Record record{trace_->time(begin),
                       trace_->time(packet.recorded ? packet.end : std::max(now, begin)),
                       packet.id,
                       packet.cause,
                       CX_TRACE_PACKET,
                       static_cast<std::uint16_t>(queue),
                       packet.header().type,
                       {}};
  record.values[CX_TRACE_PACKET_INDEX] = packet.index;
  record.values[CX_TRACE_PACKET_FETCHED] = trace_->time(packet.fetched);
  record.values[CX_TRACE_PACKET_COMPLETED] = trace_->time(now);
  record.values[CX_TRACE_PACKET_STATUS] = packet.status;
  record.values[CX_TRACE_PACKET_LISTED] = listed ? 1 : 0;
  trace_->append(record);
  last_completed_ = packet.id;
  packets.pop_front();
}

void PacketWatch::completed(std::uint64_t now) {
  const int ring = index_written_;
  index_written_ = -1;
  if (ring >= 0) {
    Queue &queue = queues_[static_cast<unsigned>(ring)];
    if (queue.ring.empty()) return;  // fetched before tracing began
    if (queue.ring.front().header().type == CX_PKT_EXECUTE) {
      queue.list.clear();
      queue.list_bytes = 0;
    }
    end(static_cast<unsigned>(ring), queue.ring, false, now);
    return;
  }
  // Of a list: that of the queue whose oldest packet has just got its record, else the first that has one.
  int chosen = -1;
  for (unsigned number = 0; number < kQueues; ++number) {
    const auto &list = queues_[number].list;
    if (list.empty()) continue;
    if (chosen < 0 || list.front().recorded) chosen = static_cast<int>(number);
    if (list.front().recorded) break;
  }
  if (chosen >= 0) end(static_cast<unsigned>(chosen), queues_[static_cast<unsigned>(chosen)].list, true, now);
}

std::uint64_t PacketWatch::launch_of(std::uint64_t stream_address) const {
  const auto *found = find([stream_address](const Packet &packet) {
    if (packet.header().type != CX_PKT_LAUNCH) return false;
    const auto launch = packet.as<cx_packet_launch>();
    return inside(stream_address, launch.program, launch.program_bytes);
  });
  return found != nullptr ? found->id : 0;
}

std::uint64_t PacketWatch::copy_of(std::uint64_t source, std::uint64_t target) const {
  const auto *found = find([source, target](const Packet &packet) {
    if (packet.header().type == CX_PKT_FILL) {
      const auto fill = packet.as<cx_packet_fill>();
      return inside(target, fill.dst, fill.bytes);
    }
    if (packet.header().type != CX_PKT_COPY) return false;
    const auto copy = packet.as<cx_packet_copy>();
    return inside(source, copy.src, span_of(copy.rows, copy.row_bytes, copy.src_pitch)) &&
           inside(target, copy.dst, span_of(copy.rows, copy.row_bytes, copy.dst_pitch));
  });
  return found != nullptr ? found->id : 0;
}

}  // namespace cx::hw
