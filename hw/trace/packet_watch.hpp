// Follows the packets of the queues from what passes on the card's buses: fetches, completion records, registers.
#ifndef HW_TRACE_PACKET_WATCH_HPP
#define HW_TRACE_PACKET_WATCH_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <utility>

#include "hw/regs/gen/packets.h"
#include "hw/trace/trace.hpp"

namespace cx::hw {

// Needs nothing of the firmware but what the interface says: packets are read from rings and lists in order, those of a
// queue complete in order, and each completion writes the completion record, READ_INDEX (of a ring's packet) and
// dev.PACKETS.
class PacketWatch {
 public:
  struct Ring {
    std::uint64_t base = 0;
    std::uint64_t bytes = 0;  // 0: the queue is not enabled
  };
  static constexpr unsigned kQueues = 16;

  // `ring`: of a queue, now.
  explicit PacketWatch(std::function<Ring(unsigned queue)> ring) : ring_(std::move(ring)) {}
  PacketWatch(const PacketWatch &) = delete;
  ~PacketWatch() { set_trace(nullptr); }

  // Packets that are known are forgotten. nullptr ends the watch.
  void set_trace(Trace *trace);
  bool watching() const { return trace_ != nullptr; }

  // The system DMA has read host memory into the firmware's memory, or written it from there. `now` in core cycles.
  // `memory`: where that lies in this process; nullptr: not known.
  void read(std::uint64_t host, std::span<const std::byte> bytes, std::uint64_t now, const std::byte *memory = nullptr);
  void wrote(std::uint64_t host, std::span<const std::byte> bytes, const std::byte *memory = nullptr);
  // The firmware has written READ_INDEX of a queue, and dev.PACKETS.
  void read_index(unsigned queue, std::uint32_t index);
  void completed(std::uint64_t now);

  // Ids of the packets that launched the program at, or asked for the transfer from or to, an address; 0: none known.
  std::uint64_t launch_of(std::uint64_t stream_address) const;
  std::uint64_t copy_of(std::uint64_t source, std::uint64_t target) const;
  std::uint64_t last_completed() const { return last_completed_; }

 private:
  struct Packet {
    std::uint64_t id;
    std::uint32_t index;
    std::uint64_t fetched;
    std::uint64_t start = 0, end = 0;  // core cycles; 0: no record was seen
    std::uint32_t status = 0;
    std::uint64_t cause = 0;  // of a packet that waits: which wrote the value that it has seen last
    bool recorded = false, signalled = false;
    std::array<std::byte, CX_PACKET_BYTES> bytes;

    template <typename Packet>
    Packet as() const;
    cx_packet_header header() const { return as<cx_packet_header>(); }
  };
  struct Queue {
    std::deque<Packet> ring, list;
    std::uint64_t list_base = 0, list_bytes = 0;
    std::uint32_t fetched = 0;  // of the ring, since enable
    std::uint64_t ring_base = 0;
  };

  template <typename Function>
  const Packet *find(Function matches) const;
  template <typename Function>
  Packet *find(Function matches) {
    return const_cast<Packet *>(std::as_const(*this).find(matches));
  }
  void looked(std::uint64_t host, std::uint64_t value, const std::byte *memory);
  void left(std::uint64_t host, std::uint64_t value, const std::byte *memory);
  void end(unsigned queue, std::deque<Packet> &packets, bool listed, std::uint64_t now);

  std::function<Ring(unsigned)> ring_;
  Trace *trace_ = nullptr;
  std::array<Queue, kQueues> queues_;
  int index_written_ = -1;  // queue whose READ_INDEX was written since dev.PACKETS was
  std::uint64_t last_completed_ = 0;
};

}  // namespace cx::hw

#endif
