#include "hw/link/link.hpp"

#include <cmath>
#include <stdexcept>
#include <utility>

namespace cx::hw::net {

Link::Link(EventQueue &queue, PacketPool &pool, std::string name, const LinkParams &params, PacketSource &source,
           std::uint32_t source_port, PacketReceiver &receiver, std::uint32_t receiver_port, std::uint64_t seed)
    : queue_(queue),
      pool_(pool),
      name_(std::move(name)),
      params_(params),
      source_(source),
      receiver_(receiver),
      source_port_(source_port),
      receiver_port_(receiver_port),
      random_(seed),
      credits_(params.credit_bytes) {
  if (!(params.bytes_per_second > 0)) throw std::invalid_argument("link " + name_ + ": its rate is not above 0");
}

Ps Link::serialisation(const Packet &packet) const {
  return static_cast<Ps>(std::llround(static_cast<double>(wire_bytes(packet)) * 1e12 / bytes_per_second()));
}

void Link::wake() {
  if (!busy_) try_send();
}

void Link::pause_from_receiver(bool pause) { queue_.after(params_.latency, *this, pause ? kPause : kResume); }

void Link::return_credits(std::uint64_t bytes) { queue_.after(params_.latency, *this, kCredits, bytes); }

void Link::set_up(bool up) {
  if (up == up_) return;
  up_ = up;
  if (!up) {
    ++epoch_;
    return;
  }
  // Both ends start anew: nothing of before holds buffers or pauses.
  credits_ = params_.credit_bytes;
  paused_ = false;
  wake();
}

bool Link::chance(double probability) {
  if (probability <= 0) return false;
  return std::uniform_real_distribution<double>(0, 1)(random_) < probability;
}

void Link::try_send() {
  if (waking_) return;  // the source may wake the link from within peek()
  waking_ = true;
  const Packet *ahead = source_.peek(source_port_, paused_);
  waking_ = false;
  if (ahead == nullptr) return;
  const bool needs_credits = has_credits() && ahead->is_data();
  const std::uint64_t wire = wire_bytes(*ahead);
  if (needs_credits && up_ && credits_ < wire) return;
  Packet *packet = source_.take(source_port_);
  if (needs_credits && up_) {
    credits_ -= wire;
    packet->charged = static_cast<std::uint32_t>(wire);
  }
  const Ps time = serialisation(*packet);
  busy_ = true;
  counters_.busy += time;
  ++counters_.packets;
  counters_.payload_bytes += packet->payload;
  counters_.wire_bytes += wire;
  queue_.after(time, *this, kSent);

  bool lost = !up_;
  if (params_.bit_error_rate > 0) {
    lost |= chance(-std::expm1(8 * static_cast<double>(wire) * std::log1p(-params_.bit_error_rate)));
  }
  if (packet->is_data()) lost |= chance(params_.loss);
  if (lost) {
    ++counters_.dropped;
    if (needs_credits && up_) return_credits(wire);
    pool_.drop(packet);
    return;
  }
  Ps extra = 0;
  if (packet->is_data() && chance(params_.reorder)) {
    ++counters_.reordered;
    extra = std::uniform_int_distribution<Ps>(0, params_.reorder_delay)(random_);
  }
  if (packet->is_data() && chance(params_.duplicate)) {
    ++counters_.duplicated;
    Packet *second = pool_.copy(*packet);
    second->charged = 0;
    second->ingress = static_cast<std::uint32_t>(epoch_);
    queue_.after(time + params_.latency + params_.receiver_delay, *this, kArrived,
                 reinterpret_cast<std::uintptr_t>(second));
  }
  packet->ingress = static_cast<std::uint32_t>(epoch_);
  queue_.after(time + params_.latency + params_.receiver_delay + extra, *this, kArrived,
               reinterpret_cast<std::uintptr_t>(packet));
}

void Link::on_event(std::uint32_t what, std::uint64_t argument) {
  switch (what) {
    case kSent:
      busy_ = false;
      try_send();
      break;
    case kArrived: {
      Packet *packet = reinterpret_cast<Packet *>(argument);
      if (packet->ingress != static_cast<std::uint32_t>(epoch_)) {
        ++counters_.dropped;
        pool_.drop(packet);
        break;
      }
      receiver_.receive(packet, receiver_port_);
      break;
    }
    case kPause:
      if (!paused_) paused_since_ = queue_.now();
      paused_ = true;
      break;
    case kResume:
      if (paused_) counters_.paused += queue_.now() - paused_since_;
      paused_ = false;
      wake();
      break;
    case kCredits:
      credits_ = std::min(credits_ + argument, params_.credit_bytes);
      wake();
      break;
  }
}

}  // namespace cx::hw::net
