#include "hw/pcie/link.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace cx::hw {

namespace {

constexpr unsigned kFlitGeneration = 6;
// A flit of 256 bytes: 236 of packets, 6 of link control, 8 of CRC, 6 of forward error correction.
constexpr double kFlitShare = 236.0 / 256;

double encoding(unsigned gen) {
  if (gen <= 2) return 8.0 / 10;
  return gen < kFlitGeneration ? 128.0 / 130 : kFlitShare;
}

}  // namespace

double PcieLink::bytes_per_second(unsigned gen, unsigned width) {
  static constexpr double kGigaTransfers[] = {2.5, 5, 8, 16, 32, 64};
  if (gen < 1 || gen > 6) throw std::invalid_argument("PCIe generation " + std::to_string(gen) + " is not 1 to 6");
  if (width == 0 || width > 16) throw std::invalid_argument("PCIe width " + std::to_string(width) + " is not 1 to 16");
  return kGigaTransfers[gen - 1] * 1e9 * encoding(gen) * width / 8;
}

namespace {

double bytes_per_cycle(const Clock &clock, const PcieLinkParams &params) {
  return PcieLink::bytes_per_second(params.gen, params.width) * static_cast<double>(clock.period_ps()) * 1e-12;
}

}  // namespace

PcieLink::PcieLink(const Clock &clock, const PcieLinkParams &params)
    : overhead_(params.gen < kFlitGeneration ? kPacketOverhead : 0),
      dllp_(params.gen < kFlitGeneration ? kDllpPerPacket : 0),
      latency_(static_cast<Cycles>(std::ceil(params.latency_ns * 1000 / static_cast<double>(clock.period_ps())))),
      down_(bytes_per_cycle(clock, params)),
      host_down_(bytes_per_cycle(clock, params)),
      up_(bytes_per_cycle(clock, params)) {
  set_limits({params.mps, params.mrrs, params.tags, params.rcb, true});
}

void PcieLink::set_limits(const PcieLimits &limits) {
  if (limits.mps == 0 || limits.mrrs == 0 || limits.tags == 0) throw std::invalid_argument("a PCIe limit is 0");
  if (limits.rcb != 64 && limits.rcb != 128) throw std::invalid_argument("read completion boundary is not 64 or 128");
  limits_ = limits;
}

std::uint64_t PcieLink::packets(const PcieRuns &runs, unsigned limit) {
  const auto of_row = [&](std::uint64_t address) { return (address % limit + runs.row_bytes + limit - 1) / limit; };
  if (runs.pitch % limit == 0) return runs.rows * of_row(runs.address);
  std::uint64_t sum = 0;
  for (std::uint64_t row = 0; row < runs.rows; ++row) sum += of_row(runs.address + row * runs.pitch);
  return sum;
}

std::uint64_t PcieLink::completions(const PcieRuns &runs, unsigned mrrs, unsigned mps, unsigned rcb) {
  const auto of_request = [&](std::uint64_t address, std::uint64_t bytes) -> std::uint64_t {
    if (bytes <= mps) return 1;
    const std::uint64_t first = mps - address % rcb;
    return 1 + (bytes - first + mps - 1) / mps;
  };
  const auto of_row = [&](std::uint64_t address) {
    const std::uint64_t first = std::min<std::uint64_t>(runs.row_bytes, mrrs - address % mrrs);
    const std::uint64_t rest = runs.row_bytes - first;
    return of_request(address, first) + rest / mrrs * of_request(0, mrrs) +
           (rest % mrrs != 0 ? of_request(0, rest % mrrs) : 0);
  };
  if (runs.row_bytes == 0) return 0;
  if (runs.pitch % mrrs == 0) return runs.rows * of_row(runs.address);
  std::uint64_t sum = 0;
  for (std::uint64_t row = 0; row < runs.rows; ++row) sum += of_row(runs.address + row * runs.pitch);
  return sum;
}

Cycles PcieLink::host_write(Cycles start, std::uint64_t bytes) {
  if (counts_host_) to_device_ += bytes;
  posted_until_ = pass(host_down_, start, bytes + packets({1, bytes}, limits_.mps) * request_bytes());
  return posted_until_ + latency_;
}

Cycles PcieLink::host_read_request(Cycles start) { return pass(host_down_, start, request_bytes()) + latency_; }

Cycles PcieLink::host_read_completion(Cycles start, std::uint64_t bytes) {
  if (counts_host_) to_host_ += bytes;
  return pass(up_, start, bytes + packets({1, bytes}, limits_.mps) * completion_bytes()) + latency_;
}

Cycles PcieLink::tags_free(Cycles start, std::uint64_t requests) {
  while (!outstanding_.empty() && outstanding_.front().last <= start) {
    outstanding_requests_ -= outstanding_.front().requests;
    outstanding_.pop_front();
  }
  if (outstanding_requests_ + requests <= limits_.tags) return start;
  std::uint64_t wanted = outstanding_requests_ + requests - limits_.tags;  // that many must come back, oldest first
  for (const Outstanding &group : outstanding_) {
    if (wanted <= group.requests) {
      return std::max(start, group.first + (group.last - group.first) * wanted / group.requests);
    }
    wanted -= group.requests;
  }
  return std::max(start, outstanding_.back().last);
}

Cycles PcieLink::read_part(Cycles start, std::uint64_t requests, std::uint64_t completions, std::uint64_t bytes) {
  // Requests that wait for tags leave the link to others meanwhile: its share is taken at once.
  const Cycles free = tags_free(start, requests);
  const Cycles first_sent = std::max(free, pass(up_, start, request_bytes()));
  // The other requests follow while the first answers are on their way, together with the answers' acknowledgements.
  const Cycles all_sent = std::max(free, pass(up_, start, (requests - 1) * request_bytes() + completions * dllp_));
  const std::uint64_t wire = bytes + completions * completion_bytes() + requests * dllp_;
  Cycles answered = first_sent + latency_;
  if (!limits_.relaxed_ordering) answered = std::max(answered, posted_until_);
  const Cycles passes = std::max(answered, down_.busy_until());
  const Cycles arrived = std::max(pass(down_, answered, wire) + latency_, all_sent + 2 * latency_);
  outstanding_.push_back({passes + latency_, arrived, requests});
  outstanding_requests_ += requests;
  return arrived;
}

Cycles PcieLink::dma_read(Cycles start, const PcieRuns &runs) {
  const std::uint64_t bytes = runs.bytes();
  to_device_ += bytes;
  const std::uint64_t requests = packets(runs, limits_.mrrs);
  const std::uint64_t answers = completions(runs, limits_.mrrs, limits_.mps, limits_.rcb);
  // Tags are taken and given back in parts, so that new requests follow answers closely.
  const std::uint64_t part = std::max(1u, limits_.tags / 8);
  const auto share = [&](std::uint64_t amount, std::uint64_t done) {
    return static_cast<std::uint64_t>(static_cast<unsigned __int128>(amount) * done / requests);
  };
  Cycles end = start;
  for (std::uint64_t done = 0; done < requests;) {
    const std::uint64_t next = std::min(requests, done + part);
    end = read_part(start, next - done, share(answers, next) - share(answers, done),
                    share(bytes, next) - share(bytes, done));
    done = next;
  }
  return end;
}

Cycles PcieLink::dma_write(Cycles start, const PcieRuns &runs) {
  to_host_ += runs.bytes();
  return pass(up_, start, runs.bytes() + packets(runs, limits_.mps) * request_bytes());
}

Cycles PcieLink::peer_write(Cycles start, const PcieRuns &runs) {
  to_device_ += runs.bytes();
  return pass(down_, start, runs.bytes() + packets(runs, limits_.mps) * request_bytes()) + latency_;
}

Cycles PcieLink::peer_read_request(Cycles start, const PcieRuns &runs) {
  return pass(down_, start, packets(runs, limits_.mrrs) * request_bytes()) + latency_;
}

Cycles PcieLink::peer_read_completion(Cycles start, const PcieRuns &runs) {
  to_host_ += runs.bytes();
  return pass(up_, start,
              runs.bytes() + completions(runs, limits_.mrrs, limits_.mps, limits_.rcb) * completion_bytes());
}

Cycles PcieLink::message(Cycles start) {
  to_host_ += 4;
  return pass(up_, start, 4 + request_bytes()) + latency_;
}

void PcieLink::set_trace(Trace *trace) {
  close_records();
  trace_ = trace;
}

void PcieLink::close_records() {
  if (trace_ == nullptr) return;
  for (TraceBurst &burst : bursts_) burst.close(*trace_);
}

void PcieLink::record(const BandwidthServer &direction, std::uint64_t wire_bytes) {
  const std::uint16_t unit = &direction == &down_ ? 0 : &direction == &up_ ? 1 : 2;
  const std::uint64_t end = direction.busy_until_fine();
  bursts_[unit].add(*trace_, CX_TRACE_PCIE, unit, trace_->fine_time(end - direction.duration_fine(wire_bytes)),
                    trace_->fine_time(end), {wire_bytes, 1});
}

void PcieLink::reset() {
  down_.reset();
  host_down_.reset();
  up_.reset();
  posted_until_ = 0;
  outstanding_.clear();
  outstanding_requests_ = 0;
  to_device_ = 0;
  to_host_ = 0;
  on_wire_ = 0;
}

}  // namespace cx::hw
