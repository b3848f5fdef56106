// A packet on its way through a cluster.
#ifndef HW_LINK_PACKET_HPP
#define HW_LINK_PACKET_HPP

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "hw/link/event_queue.hpp"

namespace cx::hw::net {

enum class Opcode : std::uint8_t { send, write, read_request, read_response, atomic_request, atomic_response };

// Bytes of a message lie in one or several parts of memory, one after the other. memory may be null: only time counts.
struct MemoryPart {
  std::byte *memory = nullptr;
  std::uint64_t bytes = 0;
};
using MemoryParts = std::vector<MemoryPart>;

struct Packet {
  enum class Kind : std::uint8_t {
    data,         // ordered by `sequence`
    acknowledge,  // everything before `sequence` has arrived
    negative,     // everything before `sequence` has arrived, it has not and a later one has
    refuse,       // the message of `sequence` is refused with `fault`
    not_ready,    // everything before `sequence` has arrived; it finds no receive in a shared queue (RNR NAK)
    congestion    // congestion notification
  };
  Kind kind = Kind::data;
  Opcode opcode = Opcode::send;
  bool first = false, last = false;  // of the message
  bool has_immediate = false;
  bool marked = false;  // congestion experienced
  std::uint8_t fault = 0;
  std::uint8_t header_extra = 0;               // bytes of extended transport headers (RETH, AETH, atomic, immediate)
  std::uint32_t payload = 0;                   // bytes
  std::uint32_t source = 0, target = 0;        // endpoints
  std::uint32_t source_qp = 0, target_qp = 0;  // of their endpoint
  std::uint32_t flow = 0;                      // what equal-cost routes are chosen by (UDP source port)
  std::uint32_t immediate = 0;
  std::uint64_t sequence = 0;              // its low 24 bits are BTH's packet sequence number
  std::uint64_t selective = 0;             // acknowledge: this one has arrived, too
  std::uint64_t credits = 0;               // acknowledge: receives that were posted since the connection was made
  std::uint64_t message = 0;               // data: number of its request among the sender's of this queue pair
  std::uint64_t receive = 0;               // SEND: number of the receive that it consumes
  std::uint64_t offset = 0;                // of the payload in the message
  std::uint64_t length = 0;                // of the message
  std::uint64_t address = 0;               // remote, of the message
  std::uint32_t key = 0;                   // remote
  std::uint32_t request = 0;               // read, atomic: number of the request that a response belongs to
  std::uint64_t operand = 0, compare = 0;  // atomic: swap or add value, compare; response: former value
  bool is_swap = false;
  const MemoryParts *parts = nullptr;  // of the message, of which the payload begins at `offset`
  // Bookkeeping of who holds the packet.
  Packet *next = nullptr;
  std::uint32_t ingress = 0;  // switch: port that it came by
  std::uint32_t charged = 0;  // switch: bytes that its ingress holds for it

  bool is_data() const { return kind == Kind::data; }
};

// Packets are reused: a simulation makes millions of them.
class PacketPool {
 public:
  Packet *make() {
    if (free_ == nullptr) {
      blocks_.emplace_back(kBlock);
      for (Packet &packet : blocks_.back()) give_back(&packet);
    }
    Packet *packet = free_;
    free_ = packet->next;
    *packet = Packet{};
    ++live_;
    return packet;
  }
  Packet *copy(const Packet &of) {
    Packet *packet = make();
    *packet = of;
    packet->next = nullptr;
    return packet;
  }
  void drop(Packet *packet) {
    --live_;
    give_back(packet);
  }
  std::uint64_t live() const { return live_; }

 private:
  static constexpr std::size_t kBlock = 1024;
  void give_back(Packet *packet) {
    packet->next = free_;
    free_ = packet;
  }
  std::deque<std::vector<Packet>> blocks_;
  Packet *free_ = nullptr;
  std::uint64_t live_ = 0;
};

// First in, first out, through Packet::next.
class PacketQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  Packet *front() const { return head_; }
  void push(Packet *packet) {
    packet->next = nullptr;
    (head_ == nullptr ? head_ : tail_->next) = packet;
    tail_ = packet;
  }
  Packet *pop() {
    Packet *packet = head_;
    head_ = packet->next;
    packet->next = nullptr;
    return packet;
  }

 private:
  Packet *head_ = nullptr;
  Packet *tail_ = nullptr;
};

}  // namespace cx::hw::net

#endif
