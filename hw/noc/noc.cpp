#include "hw/noc/noc.hpp"

#include <algorithm>
#include <stdexcept>

#include "hw/ras/memory_errors.hpp"

namespace cx::hw {

// Sockets live in modules; these are children of whichever module is under construction.
struct Noc::Initiator : sc_core::sc_module {
  Initiator(sc_core::sc_module_name module_name, const std::string &label, double bytes_per_cycle)
      : sc_module(module_name), label(label), socket("socket"), read(bytes_per_cycle), write(bytes_per_cycle) {}

  std::string label;
  tlm_utils::simple_target_socket_tagged<Noc> socket;
  OriginExtension origin;
  BandwidthServer read, write;
  std::size_t number = 0;
  LinkNetwork::NodeId node = 0;  // on a network
  std::optional<Cycles> port;    // what an access to registers takes that goes beside the links
};

struct Noc::Target : sc_core::sc_module {
  Target(sc_core::sc_module_name module_name, const std::string &label, double bytes_per_cycle)
      : sc_module(module_name), label(label), socket("socket"), read(bytes_per_cycle), write(bytes_per_cycle) {}

  std::string label;
  tlm_utils::simple_initiator_socket_tagged<Noc> socket;
  std::uint64_t base = 0;
  std::uint64_t size = 0;
  MemoryTiming *timing = nullptr;
  BandwidthServer read, write;
  std::size_t number = 0;
  std::vector<LinkNetwork::NodeId> nodes;  // on a network: by port of the memory
};

// Bytes that go to or come from one node.
struct Noc::Piece {
  LinkNetwork::NodeId node;
  std::uint64_t bytes;
};

// A range that the memory is asked for at once, and its pieces.
struct Noc::Part {
  std::uint64_t offset, span, bytes;
  std::vector<Piece> pieces;
};

namespace {

// Largest piece of a transfer on a network: small beside a transfer, so that movers share links, large beside a packet.
constexpr std::uint64_t kPieceBytes = 1024;
constexpr std::uint64_t kLongStripe = 16384;

}  // namespace

Noc::Noc(sc_core::sc_module_name name, const Clock &clock, const NocParams &params)
    : sc_module(name), clock_(clock), params_(params) {
  BandwidthServer{params.bytes_per_cycle};  // checks the rate
  if (params.network) network_ = std::make_unique<LinkNetwork>(params.network->topology, params.network->links);
}

Noc::~Noc() = default;

Noc::InitiatorId Noc::add_initiator(const std::string &name, tlm::tlm_initiator_socket<> &socket, regs::Side side) {
  const auto id = static_cast<InitiatorId>(initiators_.size());
  auto &initiator = *initiators_.emplace_back(
      std::make_unique<Initiator>(("noc_from_" + name).c_str(), name, params_.bytes_per_cycle));
  initiator.origin.side = side;
  initiator.number = id;
  if (network_) initiator.node = attach(name);
  const int tag = static_cast<int>(id);
  initiator.socket.register_b_transport(this, &Noc::b_transport, tag);
  initiator.socket.register_get_direct_mem_ptr(this, &Noc::get_direct_mem_ptr, tag);
  initiator.socket.register_transport_dbg(this, &Noc::transport_dbg, tag);
  socket.bind(initiator.socket);
  return id;
}

void Noc::set_port(InitiatorId initiator, Cycles cycles) { initiators_.at(initiator)->port = cycles; }

Noc::TargetId Noc::add_target(const std::string &name, std::uint64_t base, std::uint64_t size,
                              tlm::tlm_target_socket<> &socket, MemoryTiming *timing, unsigned lanes) {
  if (size == 0 || base + (size - 1) < base)
    throw std::invalid_argument("noc: window of " + name + " is empty or wraps");
  if (lanes == 0) throw std::invalid_argument("noc: " + name + " has no lanes");
  for (const auto &other : targets_) {
    if (base <= other->base + (other->size - 1) && other->base <= base + (size - 1)) {
      throw std::invalid_argument("noc: windows of " + name + " and " + other->label + " overlap");
    }
  }
  const auto id = static_cast<TargetId>(targets_.size());
  auto &target = *targets_.emplace_back(
      std::make_unique<Target>(("noc_to_" + name).c_str(), name, params_.bytes_per_cycle * lanes));
  target.base = base;
  target.number = id;
  target.size = size;
  target.timing = timing;
  if (network_) {
    const auto &routers = params_.network->routers;
    const unsigned ports = timing ? timing->ports() : 1;
    if (routers.count(name) != 0 || routers.count(name + "0") == 0) {
      target.nodes.assign(ports, attach(timing || routers.count(name) != 0 ? name : "registers"));
    } else {
      for (unsigned port = 0; port < ports; ++port) {
        target.nodes.push_back(attach(name + std::to_string(port)));
      }
    }
  }
  target.socket.register_invalidate_direct_mem_ptr(this, &Noc::invalidate_direct_mem_ptr, static_cast<int>(id));
  target.socket.bind(socket);
  by_base_.push_back(&target);
  std::sort(by_base_.begin(), by_base_.end(), [](const Target *a, const Target *b) { return a->base < b->base; });
  return id;
}

const Noc::Target *Noc::route(std::uint64_t address, std::uint64_t bytes) const {
  auto next = std::upper_bound(by_base_.begin(), by_base_.end(), address,
                               [](std::uint64_t value, const Target *target) { return value < target->base; });
  if (next == by_base_.begin()) return nullptr;
  const Target *target = *--next;
  const std::uint64_t offset = address - target->base;
  return offset < target->size && bytes <= target->size - offset ? target : nullptr;
}

Noc::Target *Noc::route(std::uint64_t address, std::uint64_t bytes) {
  return const_cast<Target *>(static_cast<const Noc *>(this)->route(address, bytes));
}

Cycles Noc::hold_links(Initiator &initiator, Target &target, Cycles start, std::uint64_t bytes, bool write) {
  BandwidthServer &near = write ? initiator.write : initiator.read;
  BandwidthServer &far = write ? target.write : target.read;
  const std::uint64_t begin =
      std::max({start << BandwidthServer::kFraction, near.busy_until_fine(), far.busy_until_fine()});
  const std::uint64_t near_end = near.reserve_fine(begin, bytes);
  const std::uint64_t far_end = far.reserve_fine(begin, bytes);
  bytes_carried_ += bytes;
  if (trace_ != nullptr) {
    const std::uint64_t asked = start << BandwidthServer::kFraction;
    record_link(2 * initiator.number + (write ? 1 : 0), asked, begin, near_end, bytes);
    record_link(2 * (initiators_.size() + target.number) + (write ? 1 : 0), asked, begin, far_end, bytes);
  }
  return BandwidthServer::ceil(std::max(near_end, far_end));
}

Cycles Noc::reserve(InitiatorId initiator_id, Cycles start, std::uint64_t address, std::uint64_t span,
                    std::uint64_t bytes, bool write) {
  Initiator &initiator = *initiators_.at(initiator_id);
  Target *target = route(address, span);
  if (!target) throw std::out_of_range("noc: reservation of an address range that is not mapped");
  if (network_) {
    const std::uint64_t offset = address - target->base;
    return write ? network_write(initiator, *target, start, offset, span, bytes)
                 : network_read({&initiator_id, 1}, *target, start, offset, span, bytes, nullptr);
  }
  const Cycles one_way = kHopsOneWay * params_.hop_cycles;
  const Cycles arrival = start + one_way;
  const Cycles latency = target->timing ? target->timing->access_latency() : 0;
  const Cycles memory_end =
      target->timing ? target->timing->reserve(arrival, address - target->base, span, bytes, write) : arrival;
  if (write) {
    const Cycles arrived = hold_links(initiator, *target, start, bytes, true) + one_way;
    limited_by_links_ = arrived + latency > memory_end;
    return std::max(memory_end, arrived + latency);
  }
  const Cycles sent = hold_links(initiator, *target, arrival + latency, bytes, false);
  limited_by_links_ = sent > memory_end;
  return std::max(memory_end, sent) + one_way;
}

Cycles Noc::reserve_multicast(std::span<const InitiatorId> takers, Cycles start, std::uint64_t address,
                              std::uint64_t bytes, std::vector<Cycles> *arrivals) {
  if (takers.empty()) throw std::invalid_argument("noc: a multicast without takers");
  for (const InitiatorId taker : takers) initiators_.at(taker);
  Target *target = route(address, bytes);
  if (!target) throw std::out_of_range("noc: multicast of an address range that is not mapped");
  const std::uint64_t offset = address - target->base;
  if (network_) return network_read(takers, *target, start, offset, bytes, bytes, arrivals);
  // The crossbar's switch copies: the target's link is held once, each taker's for its own copy.
  const Cycles one_way = kHopsOneWay * params_.hop_cycles;
  const Cycles arrival = start + one_way;
  const Cycles latency = target->timing ? target->timing->access_latency() : 0;
  const Cycles memory_end = target->timing ? target->timing->reserve(arrival, offset, bytes, bytes, false) : arrival;
  std::uint64_t begin = std::max((arrival + latency) << BandwidthServer::kFraction, target->read.busy_until_fine());
  for (const InitiatorId taker : takers) begin = std::max(begin, initiators_[taker]->read.busy_until_fine());
  const std::uint64_t sent = target->read.reserve_fine(begin, bytes);
  bytes_carried_ += bytes;
  Cycles end = 0;
  if (arrivals) arrivals->clear();
  for (const InitiatorId taker : takers) {
    const std::uint64_t taken = std::max(sent, initiators_[taker]->read.reserve_fine(begin, bytes));
    const Cycles there = std::max(memory_end, BandwidthServer::ceil(taken)) + one_way;
    if (arrivals) arrivals->push_back(there);
    end = std::max(end, there);
  }
  return end;
}

Cycles Noc::latency(InitiatorId initiator, std::uint64_t address, bool write) const {
  const Target *target = route(address, 1);
  if (!target) throw std::out_of_range("noc: latency of an address that is not mapped");
  const Cycles memory = target->timing ? target->timing->access_latency() : 0;
  if (!network_) return (write ? 1 : 2) * kHopsOneWay * params_.hop_cycles + memory;
  const LinkNetwork::NodeId here = initiators_.at(initiator)->node, there = node_of(*target, address - target->base);
  std::uint64_t fine = network_->head_latency(here, there);
  if (!write) fine += network_->params().cycle + network_->head_latency(there, here);
  return BandwidthServer::ceil(fine) + memory;
}

// ---- the network ----

LinkNetwork::NodeId Noc::attach(const std::string &name) {
  const auto known = shared_nodes_.find(name);
  if (known != shared_nodes_.end()) return known->second;
  const auto place = params_.network->routers.find(name);
  if (place == params_.network->routers.end()) throw std::invalid_argument("noc: " + name + " has no router");
  const LinkNetwork::NodeId node = network_->attach(name, place->second);
  shared_nodes_.emplace(name, node);
  return node;
}

LinkNetwork::NodeId Noc::node_of(const Target &target, std::uint64_t offset) {
  return target.nodes.size() == 1 ? target.nodes.front() : target.nodes.at(target.timing->port_of(offset));
}

// In the network's time. Calendars may forget what is over.
std::uint64_t Noc::fine_start(Cycles start) {
  network_->advance(clock_.floor(sc_core::sc_time_stamp()) << BandwidthServer::kFraction);
  return start << BandwidthServer::kFraction;
}

// Cuts a request into parts of some pieces for each channel. Parts of a contiguous range end at multiples of the
// channels' stripes; those of a strided one are of equal span.
void Noc::split(const Target &target, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes,
                std::vector<Part> &parts) {
  const bool one = target.nodes.size() == 1;
  const std::uint64_t lanes = one ? 1 : target.timing->stripes();
  const std::uint64_t stride = one ? 0 : target.timing->stripe_bytes();
  // Where a request of usual size lies in one stripe a part is as long as a piece for each lane all the same.
  const std::uint64_t whole = lanes * (stride <= kLongStripe ? std::max(kPieceBytes, stride) : kPieceBytes);
  std::uint64_t done = 0, carried = 0;
  const std::uint64_t strided_parts = (bytes + whole - 1) / whole;
  for (std::uint64_t number = 1; done < span; ++number) {
    Part part;
    part.offset = offset + done;
    if (bytes == span) {
      part.span = std::min(span - done, whole - part.offset % whole);
      part.bytes = part.span;
    } else {
      const std::uint64_t end =
          number >= strided_parts
              ? span
              : static_cast<std::uint64_t>(static_cast<unsigned __int128>(span) * number / strided_parts);
      part.span = end - done;
      part.bytes = std::min(bytes - carried, number >= strided_parts ? bytes : whole);
    }
    done += part.span;
    carried += part.bytes;
    const auto add = [&](LinkNetwork::NodeId node, std::uint64_t share) {
      for (; share > kPieceBytes; share -= kPieceBytes) part.pieces.push_back({node, kPieceBytes});
      if (share != 0) part.pieces.push_back({node, share});
    };
    if (stride == 0) {
      add(target.nodes.front(), part.bytes);
    } else {
      const std::uint64_t first = part.offset / stride, last = (part.offset + part.span - 1) / stride;
      const std::uint64_t stripes = last - first + 1;
      std::uint64_t covered = 0, given = 0;
      for (std::uint64_t i = 0; i < std::min(stripes, lanes); ++i) {
        // Stripes first + i, + i + lanes, ... are this lane's; the first and the last may be partial.
        std::uint64_t share = ((stripes - i + lanes - 1) / lanes) * stride;
        if (i == 0) share -= part.offset - first * stride;
        if ((stripes - 1) % lanes == i) share -= (last + 1) * stride - (part.offset + part.span);
        covered += share;
        const auto upto = static_cast<std::uint64_t>(static_cast<unsigned __int128>(covered) * part.bytes / part.span);
        add(target.nodes.at(target.timing->port_of((first + i) * stride)), upto - given);
        given = upto;
      }
    }
    parts.push_back(std::move(part));
  }
}

Cycles Noc::network_read(std::span<const InitiatorId> takers, Target &target, Cycles start, std::uint64_t offset,
                         std::uint64_t span, std::uint64_t bytes, std::vector<Cycles> *arrivals) {
  constexpr unsigned kFraction = BandwidthServer::kFraction;
  LinkNetwork &network = *network_;
  const std::uint64_t asked = fine_start(start);
  const LinkNetwork::NodeId mover = initiators_[takers.front()]->node;
  std::vector<LinkNetwork::NodeId> nodes;
  for (const InitiatorId taker : takers) nodes.push_back(initiators_[taker]->node);
  std::vector<Part> parts;
  split(target, offset, span, bytes, parts);

  // A request flit for each packet: one train of them to each node.
  std::map<LinkNetwork::NodeId, std::uint64_t> requested;
  const std::uint64_t packet = network.params().packet_bytes, cycle = network.params().cycle;
  for (const Part &part : parts) {
    for (const Piece &piece : part.pieces) requested[piece.node] += (piece.bytes + packet - 1) / packet;
  }
  for (auto &[node, flits] : requested) flits = network.control(mover, node, asked, flits) - (flits - 1) * cycle;

  const std::uint64_t latency = (target.timing ? target.timing->access_latency() : 0) << kFraction;
  std::uint64_t end = asked;
  Cycles in_memory = 0, in_network = 0;
  std::vector<std::uint64_t> latest(takers.size(), asked), each;
  for (const Part &part : parts) {
    std::uint64_t arrival = ~std::uint64_t{0};
    for (const Piece &piece : part.pieces) arrival = std::min(arrival, requested[piece.node]);
    if (part.pieces.empty()) continue;
    const Cycles reached = BandwidthServer::ceil(arrival);
    const Cycles memory_end =
        target.timing ? target.timing->reserve(reached, part.offset, part.span, part.bytes, false) : reached;
    for (const Piece &piece : part.pieces) {
      // The first flit leaves so that the last one has what the memory read last.
      const std::uint64_t last = memory_end << kFraction;
      const std::uint64_t time = network.duration(piece.bytes);
      const std::uint64_t ready = std::max(requested[piece.node] + latency, last > time ? last - time : 0);
      if (nodes.size() == 1) {
        end = std::max(end, network.send(mover, piece.node, nodes.front(), ready, piece.bytes));
      } else {
        end = std::max(end, network.multicast(mover, piece.node, nodes, ready, piece.bytes, &each));
        for (std::size_t i = 0; i < each.size(); ++i) latest[i] = std::max(latest[i], each[i]);
      }
    }
    in_memory = memory_end - reached;
    in_network = BandwidthServer::ceil(end) - std::min(BandwidthServer::ceil(end), memory_end);
  }
  limited_by_links_ = in_network > in_memory;
  if (arrivals) {
    arrivals->clear();
    for (const std::uint64_t time : latest) arrivals->push_back(BandwidthServer::ceil(nodes.size() == 1 ? end : time));
  }
  bytes_carried_ += bytes;
  return BandwidthServer::ceil(end);
}

Cycles Noc::network_write(Initiator &initiator, Target &target, Cycles start, std::uint64_t offset, std::uint64_t span,
                          std::uint64_t bytes) {
  LinkNetwork &network = *network_;
  const std::uint64_t asked = fine_start(start);
  std::vector<Part> parts;
  split(target, offset, span, bytes, parts);
  const Cycles latency = target.timing ? target.timing->access_latency() : 0;
  Cycles end = start;
  for (const Part &part : parts) {
    std::uint64_t first = ~std::uint64_t{0}, last = asked;
    for (const Piece &piece : part.pieces) {
      const std::uint64_t there = network.send(initiator.node, initiator.node, piece.node, asked, piece.bytes);
      // The memory begins with the piece's first flit of data.
      first = std::min(first, there - network.duration(piece.bytes));
      last = std::max(last, there);
    }
    if (part.pieces.empty()) continue;
    end = std::max(end, BandwidthServer::ceil(last) + latency);
    limited_by_links_ = true;
    if (target.timing) {
      const Cycles stored =
          target.timing->reserve(BandwidthServer::ceil(first), part.offset, part.span, part.bytes, true);
      limited_by_links_ = stored <= end;
      end = std::max(end, stored);
    }
  }
  bytes_carried_ += bytes;
  return end;
}

// In the target's addresses.
void Noc::forward(Initiator &initiator, Target &target, tlm::tlm_generic_payload &transaction,
                  sc_core::sc_time &delay) {
  const std::uint64_t address = transaction.get_address();
  OriginExtension *outer = transaction.set_extension(&initiator.origin);
  transaction.set_address(address - target.base);
  target.socket->b_transport(transaction, delay);
  transaction.set_address(address);
  transaction.set_extension(outer);
}

void Noc::network_transport(Initiator &initiator, Target &target, tlm::tlm_generic_payload &transaction,
                            sc_core::sc_time &delay) {
  const std::uint64_t address = transaction.get_address(), bytes = transaction.get_data_length();
  const bool write = transaction.is_write();
  const LinkNetwork::NodeId node = node_of(target, address - target.base);
  const auto cross = [&](LinkNetwork::NodeId from, LinkNetwork::NodeId to, bool data) {
    const std::uint64_t start = fine_start(clock_.ceil(sc_core::sc_time_stamp() + delay));
    const std::uint64_t there =
        data ? network_->send(initiator.node, from, to, start, bytes) : network_->control(from, to, start);
    delay = clock_.until(BandwidthServer::ceil(there));
  };
  cross(initiator.node, node, write);
  forward(initiator, target, transaction, delay);
  cross(node, initiator.node, !write);
  bytes_carried_ += bytes;
}

void Noc::b_transport(int initiator_id, tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  Initiator &initiator = *initiators_[static_cast<unsigned>(initiator_id)];
  const std::uint64_t address = transaction.get_address();
  Target *target = route(address, transaction.get_data_length());
  if (!target) {
    transaction.set_response_status(tlm::TLM_ADDRESS_ERROR_RESPONSE);
    return;
  }
  if (initiator.port && target->timing == nullptr) {
    sc_core::sc_time own = sc_core::SC_ZERO_TIME;
    forward(initiator, *target, transaction, own);
    delay += clock_.span(*initiator.port);
    return;
  }
  if (network_) {
    network_transport(initiator, *target, transaction, delay);
    return;
  }
  const sc_core::sc_time one_way = clock_.span(kHopsOneWay * params_.hop_cycles);
  const bool write = transaction.is_write();
  const auto hold = [&] {
    const Cycles start = clock_.ceil(sc_core::sc_time_stamp() + delay);
    delay = clock_.until(hold_links(initiator, *target, start, transaction.get_data_length(), write));
  };
  if (write) hold();
  delay += one_way;
  forward(initiator, *target, transaction, delay);
  if (!write) hold();
  delay += one_way;
}

bool Noc::get_direct_mem_ptr(int, tlm::tlm_generic_payload &transaction, tlm::tlm_dmi &dmi) {
  const std::uint64_t address = transaction.get_address();
  Target *target = route(address, 1);
  if (!target) {
    dmi.allow_none();
    dmi.set_start_address(address);
    dmi.set_end_address(address);
    return false;
  }
  transaction.set_address(address - target->base);
  const bool granted = target->socket->get_direct_mem_ptr(transaction, dmi);
  transaction.set_address(address);
  if (dmi.get_end_address() > target->size - 1) dmi.set_end_address(target->size - 1);
  dmi.set_start_address(dmi.get_start_address() + target->base);
  dmi.set_end_address(dmi.get_end_address() + target->base);
  return granted;
}

unsigned Noc::transport_dbg(int initiator_id, tlm::tlm_generic_payload &transaction) {
  const std::uint64_t address = transaction.get_address();
  Target *target = route(address, 1);
  if (!target) return 0;
  const std::uint64_t room = target->size - (address - target->base);
  const unsigned length = transaction.get_data_length();
  OriginExtension *outer = transaction.set_extension(&initiators_[static_cast<unsigned>(initiator_id)]->origin);
  transaction.set_address(address - target->base);
  transaction.set_data_length(static_cast<unsigned>(std::min<std::uint64_t>(length, room)));
  const unsigned done = target->socket->transport_dbg(transaction);
  transaction.set_data_length(length);
  transaction.set_address(address);
  transaction.set_extension(outer);
  return done;
}

void Noc::invalidate_direct_mem_ptr(int target_id, sc_dt::uint64 first, sc_dt::uint64 last) {
  const Target &target = *targets_[static_cast<unsigned>(target_id)];
  if (first > target.size - 1) return;
  last = std::min<sc_dt::uint64>(last, target.size - 1);
  for (auto &initiator : initiators_)
    initiator->socket->invalidate_direct_mem_ptr(target.base + first, target.base + last);
}

MemoryErrors *Noc::memory_errors() const {
  return memory_errors_ != nullptr && !memory_errors_->empty() ? memory_errors_ : nullptr;
}

void Noc::record_link(std::size_t link, std::uint64_t asked, std::uint64_t begin, std::uint64_t end,
                      std::uint64_t bytes) {
  bursts_[link].add(*trace_, CX_TRACE_LINK, static_cast<std::uint16_t>(link), trace_->fine_time(begin),
                    trace_->fine_time(end), {bytes, end - begin, begin - asked, 1});
}

void Noc::set_trace(Trace *trace) {
  close_records();
  trace_ = trace;
  if (network_) {
    network_->set_trace(trace);
  } else {
    bursts_.resize(trace != nullptr ? 2 * (initiators_.size() + targets_.size()) : 0);
  }
}

void Noc::close_records() {
  if (network_) network_->close_records();
  for (TraceBurst &burst : bursts_) burst.close(*trace_);
}

std::string Noc::link_name(std::size_t link) const {
  if (network_) {
    const auto &uses = network_->uses();
    return link < uses.size() ? uses[link].from + " > " + uses[link].to : "";
  }
  const std::size_t end = link / 2;
  const char *direction = link % 2 == 0 ? " reads" : " writes";
  if (end < initiators_.size()) return initiators_[end]->label + direction;
  if (end - initiators_.size() < targets_.size()) return targets_[end - initiators_.size()]->label + direction;
  return "";
}

bool Noc::peek(std::uint64_t address, void *to, unsigned bytes) {
  Target *target = route(address, bytes);
  if (!target) return false;
  OriginExtension origin;
  origin.side = regs::Side::host;
  tlm::tlm_generic_payload transaction;
  transaction.set_command(tlm::TLM_READ_COMMAND);
  transaction.set_address(address - target->base);
  transaction.set_data_ptr(static_cast<unsigned char *>(to));
  transaction.set_data_length(bytes);
  transaction.set_streaming_width(bytes);
  transaction.set_response_status(tlm::TLM_INCOMPLETE_RESPONSE);
  transaction.set_extension(&origin);
  sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
  target->socket->b_transport(transaction, delay);
  transaction.clear_extension(&origin);
  return transaction.is_response_ok();
}

void Noc::reset() {
  for (auto &initiator : initiators_) {
    initiator->read.reset();
    initiator->write.reset();
  }
  for (auto &target : targets_) {
    target->read.reset();
    target->write.reset();
  }
  if (network_) network_->reset();
  bytes_carried_ = 0;
}

}  // namespace cx::hw
