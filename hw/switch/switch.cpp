#include "hw/switch/switch.hpp"

#include <algorithm>

namespace cx::hw::net {

Switch::Switch(PacketPool &pool, const Router &router, std::uint32_t vertex, const SwitchParams &params,
               std::uint64_t seed)
    : pool_(pool), router_(router), vertex_(vertex), params_(params), random_(seed) {}

std::uint32_t Switch::add_port() {
  ports_.emplace_back();
  return static_cast<std::uint32_t>(ports_.size() - 1);
}

void Switch::connect(std::uint32_t port, Link *out, Link *in) {
  ports_.at(port).out = out;
  ports_.at(port).in = in;
}

bool Switch::wants_mark(const Port &port) {
  if (!params_.ecn || port.queued <= params_.ecn_low) return false;
  if (port.queued >= params_.ecn_high) return true;
  const double chance = params_.ecn_chance * static_cast<double>(port.queued - params_.ecn_low) /
                        static_cast<double>(params_.ecn_high - params_.ecn_low);
  return std::uniform_real_distribution<double>(0, 1)(random_) < chance;
}

void Switch::drop(Packet *packet, std::uint32_t port) {
  ++counters_.dropped;
  if (packet->charged != 0) ports_[port].in->return_credits(packet->charged);
  pool_.drop(packet);
}

void Switch::receive(Packet *packet, std::uint32_t port) {
  const std::uint32_t egress = router_.egress(vertex_, *packet);
  if (egress == Router::kNone) {
    ++counters_.unroutable;
    return drop(packet, port);
  }
  ++counters_.forwarded;
  Port &out = ports_[egress];
  packet->ingress = port;
  if (!packet->is_data()) {
    out.control.push(packet);
    return out.out->wake();
  }
  const std::uint64_t bytes = packet->payload + packet->header_extra + Framing::kRocePerPacket;
  Port &in = ports_[port];
  if (packet->charged == 0) {  // memory of a link with credits is that link's own
    const std::uint64_t free = params_.buffer_bytes - std::min(params_.buffer_bytes, used_);
    const bool over_share =
        !params_.pfc && static_cast<double>(out.queued) >= params_.share * static_cast<double>(free);
    if (bytes > free || over_share) return drop(packet, port);
    used_ += bytes;
    counters_.peak_buffer = std::max(counters_.peak_buffer, used_);
    in.holds += bytes;
    if (params_.pfc && !in.pausing && in.holds > params_.xoff_bytes) {
      in.pausing = true;
      ++counters_.pauses;
      in.in->pause_from_receiver(true);
    }
  }
  if (wants_mark(out)) {
    packet->marked = true;
    ++counters_.marked;
  }
  out.queued += bytes;
  out.data.push(packet);
  out.out->wake();
}

Packet *Switch::peek(std::uint32_t port, bool paused) {
  const Port &out = ports_[port];
  if (!out.control.empty()) return out.control.front();
  if (paused || out.data.empty()) return nullptr;
  return out.data.front();
}

Packet *Switch::take(std::uint32_t port) {
  Port &out = ports_[port];
  if (!out.control.empty()) return out.control.pop();
  Packet *packet = out.data.pop();
  const std::uint64_t bytes = packet->payload + packet->header_extra + Framing::kRocePerPacket;
  out.queued -= bytes;
  Port &in = ports_[packet->ingress];
  if (packet->charged != 0) {
    in.in->return_credits(packet->charged);
    packet->charged = 0;
  } else {
    used_ -= bytes;
    in.holds -= bytes;
    if (in.pausing && in.holds <= params_.xon_bytes) {
      in.pausing = false;
      in.in->pause_from_receiver(false);
    }
  }
  return packet;
}

}  // namespace cx::hw::net
