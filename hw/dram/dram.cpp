#include "hw/dram/dram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

#include "hw/noc/memory_target.hpp"

namespace cx::hw {

namespace {

const DramParams &checked(const DramParams &params) {
  if (params.bytes == 0) throw std::invalid_argument("dram: the size must be above 0");
  if (params.channels == 0 || params.channels > 1024) throw std::invalid_argument("dram: 1 to 1024 channels");
  if (!std::has_single_bit(params.burst_bytes)) throw std::invalid_argument("dram: bursts must be a power of two");
  if (params.interleave_bytes == 0 || params.interleave_bytes % params.burst_bytes != 0) {
    throw std::invalid_argument("dram: the interleave must be a multiple of the burst");
  }
  if (!(params.latency_ns >= 0 && params.latency_ns < 1e9)) throw std::invalid_argument("dram: latency out of range");
  return params;
}

double channel_bytes_per_cycle(const Clock &clock, const DramParams &params) {
  const double bytes_per_ps = params.bandwidth_gbps / 1000.0;
  return bytes_per_ps * static_cast<double>(clock.period_ps()) / params.channels;
}

}  // namespace

Dram::Dram(sc_core::sc_module_name name, const Clock &clock, const DramParams &params)
    : sc_module(name),
      socket("socket"),
      clock_(clock),
      params_(checked(params)),
      channels_(params.channels, BandwidthServer(channel_bytes_per_cycle(clock, params))),
      latency_cycles_(
          static_cast<Cycles>(std::ceil(params.latency_ns * 1000.0 / static_cast<double>(clock.period_ps())))),
      store_(params.bytes, "dram", params.shared) {
  socket.register_b_transport(this, &Dram::b_transport);
  socket.register_get_direct_mem_ptr(this, &Dram::get_direct_mem_ptr);
  socket.register_transport_dbg(this, &Dram::transport_dbg);
}

Dram::~Dram() = default;

Cycles Dram::reserve(Cycles start, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes, bool write) {
  if (span == 0 || bytes == 0) return start;
  const std::uint64_t burst_mask = params_.burst_bytes - 1;
  const std::uint64_t first = offset & ~burst_mask;
  const std::uint64_t last = (offset + span + burst_mask) & ~burst_mask;
  const std::uint64_t covered = last - first;
  // Bursts that are moved: all of the range when contiguous, else as many as the caller counted.
  const std::uint64_t moved = bytes == span ? covered : (bytes + burst_mask) & ~burst_mask;
  (write ? bytes_written_ : bytes_read_) += moved;

  const std::uint64_t grain = params_.interleave_bytes;
  const std::uint64_t count = channels_.size();
  const std::uint64_t first_piece = first / grain;
  const std::uint64_t last_piece = (last - 1) / grain;
  const std::uint64_t pieces = last_piece - first_piece + 1;
  const std::uint64_t start_fine = start << BandwidthServer::kFraction;
  const std::uint64_t first_channel = first_piece % count;
  std::uint64_t end = start_fine;
  for (std::uint64_t i = 0; i < std::min(pieces, count); ++i) {
    // Pieces first_piece + i, + i + count, ... are this channel's; only the range's first and last may be partial.
    std::uint64_t share = ((pieces - i + count - 1) / count) * grain;
    if (i == 0) share -= first - first_piece * grain;
    if ((pieces - 1) % count == i) share -= (last_piece + 1) * grain - last;
    if (moved != covered) {
      share = static_cast<std::uint64_t>(static_cast<unsigned __int128>(share) * moved / covered);
    }
    BandwidthServer &channel = channels_[(first_channel + i) % count];
    end = std::max(end, channel.reserve_fine(start_fine, share));
  }
  return BandwidthServer::ceil(end) + latency_cycles_;
}

void Dram::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  const unsigned bytes = access_memory(transaction, store_.data(), params_.bytes);
  if (bytes == 0) return;
  const Cycles start = clock_.ceil(sc_core::sc_time_stamp() + delay);
  delay = clock_.until(reserve(start, transaction.get_address(), bytes, transaction.is_write()));
}

bool Dram::get_direct_mem_ptr(tlm::tlm_generic_payload &, tlm::tlm_dmi &dmi) {
  grant_memory(dmi, store_.data(), params_.bytes);
  return true;
}

unsigned Dram::transport_dbg(tlm::tlm_generic_payload &transaction) {
  return debug_memory(transaction, store_.data(), params_.bytes);
}

void Dram::reset() {
  store_.clear();
  for (BandwidthServer &channel : channels_) channel.reset();
  bytes_read_ = 0;
  bytes_written_ = 0;
}

}  // namespace cx::hw
