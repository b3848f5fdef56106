// What carries messages between the communication engines of cards: packets or flows.
#ifndef HW_COMM_FABRIC_HPP
#define HW_COMM_FABRIC_HPP

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "hw/link/event_queue.hpp"
#include "hw/rdma/nic.hpp"

namespace cx::hw::net {

// There is no way between two ranks.
class NoRouteError : public std::runtime_error {
 public:
  NoRouteError(std::uint32_t rank, std::uint32_t peer)
      : std::runtime_error("there is no way from rank " + std::to_string(rank) + " to rank " + std::to_string(peer)),
        rank(rank),
        peer(peer) {}
  std::uint32_t rank, peer;
};

struct FabricCounters {
  std::uint64_t data_packets = 0, retransmitted = 0, dropped = 0, marked = 0, pauses = 0, notifications = 0,
                timeouts = 0;
};

// Messages of a pair of ranks and a channel arrive in the order of sending and match receives in the order of posting.
class Fabric {
 public:
  struct Connection {
    std::uint32_t rank, peer;
    std::uint8_t channel;
  };
  class Listener {
   public:
    // `tag` is that of send() or receive(). when: of the acknowledgement; later than now only for what is not awaited.
    virtual void sent(std::uint32_t rank, std::uint64_t tag, Ps when) = 0;
    virtual void received(std::uint32_t rank, std::uint64_t tag, std::uint64_t bytes, std::uint32_t digest) = 0;
    virtual void failed(const Connection &connection, std::uint32_t qp, Status status) = 0;

   protected:
    ~Listener() = default;
  };
  struct State {
    std::uint32_t qp = 0;
    std::uint64_t bytes_outstanding = 0;  // of sends
    bool waits_for_receive = false;
  };

  virtual ~Fabric() = default;
  virtual EventQueue &queue() = 0;
  virtual void listen(Listener &listener) = 0;
  // `data` may be null. awaited: something waits for its acknowledgement. Throws NoRouteError.
  virtual void send(const Connection &connection, const std::byte *data, std::uint64_t bytes, std::uint32_t digest,
                    std::uint64_t tag, bool awaited) = 0;
  // announced: the sender knows of it at once.
  virtual void receive(const Connection &connection, std::byte *target, std::uint64_t bytes, std::uint64_t tag,
                       bool announced) = 0;
  virtual State state(const Connection &connection) = 0;
  virtual FabricCounters counters() const = 0;
  // Bytes that every link of the topology has carried, headers included.
  virtual std::vector<double> wire_bytes() const = 0;
};

}  // namespace cx::hw::net

#endif
