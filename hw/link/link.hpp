// One direction of a link: rate, latency, errors, pauses and credits. Rule: README.md.
#ifndef HW_LINK_LINK_HPP
#define HW_LINK_LINK_HPP

#include <cstdint>
#include <limits>
#include <random>
#include <string>

#include "hw/link/event_queue.hpp"
#include "hw/link/framing.hpp"
#include "hw/link/packet.hpp"

namespace cx::hw::net {

struct LinkParams {
  Framing framing;
  double bytes_per_second = 12.5e9;  // above 0
  Ps latency = 0;                    // of the medium, transceivers included
  Ps receiver_delay = 0;             // until the receiver can pass a packet on: a switch's pipeline
  double bit_error_rate = 0;         // 0 to 1; a packet with an error is dropped by its check sequence
  std::uint64_t credit_bytes = 0;    // buffer of the receiver that is never overrun; 0: no credits
  // Provoked faults, chances of a packet of data, 0 to 1.
  double loss = 0;
  double duplicate = 0;  // it arrives twice
  double reorder = 0;    // it arrives late by a random part of `reorder_delay`
  Ps reorder_delay = 0;
};

struct LinkCounters {
  std::uint64_t packets = 0, payload_bytes = 0, wire_bytes = 0;
  std::uint64_t dropped = 0, duplicated = 0, reordered = 0;
  Ps busy = 0, paused = 0;
};

// Who has packets for a link. `paused`: packets of data are held back, others go.
class PacketSource {
 public:
  // The packet that goes next, still with its owner; null if there is none. `port` is that of the link's constructor.
  virtual Packet *peek(std::uint32_t port, bool paused) = 0;
  // Hands out what peek() gave.
  virtual Packet *take(std::uint32_t port) = 0;

 protected:
  ~PacketSource() = default;
};

class PacketReceiver {
 public:
  virtual void receive(Packet *packet, std::uint32_t port) = 0;

 protected:
  ~PacketReceiver() = default;
};

class Link final : EventQueue::Handler {
 public:
  Link(EventQueue &queue, PacketPool &pool, std::string name, const LinkParams &params, PacketSource &source,
       std::uint32_t source_port, PacketReceiver &receiver, std::uint32_t receiver_port, std::uint64_t seed);

  // The source has something that it had not.
  void wake();
  // Priority flow control: the receiver's pause or resume reaches this end one latency after it was sent.
  void pause_from_receiver(bool pause);
  // The receiver has room again; reaches this end one latency later.
  void return_credits(std::uint64_t bytes);

  // Down: what is on the wire and what is sent until it is up again is lost.
  void set_up(bool up);
  bool up() const { return up_; }
  // 0 to 1 of the rate that it was made with. Applies to packets from now on.
  void set_speed(double factor) { speed_ = factor; }
  void set_loss(double chance) { params_.loss = chance; }

  Ps serialisation(const Packet &packet) const;
  std::uint64_t wire_bytes(const Packet &packet) const {
    return params_.framing.wire_bytes(packet.payload, packet.header_extra);
  }
  const std::string &name() const { return name_; }
  const LinkParams &params() const { return params_; }
  double bytes_per_second() const { return params_.bytes_per_second * speed_; }
  const LinkCounters &counters() const { return counters_; }
  bool paused() const { return paused_; }
  bool has_credits() const { return params_.credit_bytes != 0; }

 private:
  enum What : std::uint32_t { kSent, kArrived, kPause, kResume, kCredits };
  void on_event(std::uint32_t what, std::uint64_t argument) override;
  void try_send();
  void deliver(Packet *packet);
  bool chance(double probability);

  EventQueue &queue_;
  PacketPool &pool_;
  std::string name_;
  LinkParams params_;
  PacketSource &source_;
  PacketReceiver &receiver_;
  std::uint32_t source_port_, receiver_port_;
  std::mt19937_64 random_;
  bool busy_ = false, paused_ = false, up_ = true, waking_ = false;
  std::uint64_t epoch_ = 0;  // counts when it went down: what was on the wire then is lost
  double speed_ = 1;
  std::uint64_t credits_;
  Ps paused_since_ = 0;
  LinkCounters counters_;
};

}  // namespace cx::hw::net

#endif
