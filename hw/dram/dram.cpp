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
  if (params_.part) {
    const DramModelParams &part = *params_.part;
    params_.burst_bytes = part.geometry.burst_bytes;
    mapping_.emplace(part.mapping, part.hash, part.geometry);
    part_channels_.reserve(part.geometry.all_channels());
    for (std::uint32_t i = 0; i < part.geometry.all_channels(); ++i) {
      part_channels_.emplace_back(part.timing, part.geometry, part.scheduling, mapping_->pattern());
    }
    // To the first data of a row that is open.
    latency_cycles_ = cycles_of(part.timing.cl * Ticks{part.timing.tick_ps}) + controller_cycles();
  }
  socket.register_b_transport(this, &Dram::b_transport);
  socket.register_get_direct_mem_ptr(this, &Dram::get_direct_mem_ptr);
  socket.register_transport_dbg(this, &Dram::transport_dbg);
}

Dram::~Dram() = default;

Cycles Dram::reserve(Cycles start, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes, bool write) {
  if (span == 0 || bytes == 0) return start;
  if (params_.part) return reserve_part(start, offset, span, bytes, write);
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
  std::uint64_t passed = 0, recorded = 0;
  for (std::uint64_t i = 0; i < std::min(pieces, count); ++i) {
    // Pieces first_piece + i, + i + count, ... are this channel's; only the range's first and last may be partial.
    std::uint64_t share = ((pieces - i + count - 1) / count) * grain;
    if (i == 0) share -= first - first_piece * grain;
    if ((pieces - 1) % count == i) share -= (last_piece + 1) * grain - last;
    passed += share;
    if (moved != covered) {
      share = static_cast<std::uint64_t>(static_cast<unsigned __int128>(share) * moved / covered);
    }
    const std::uint64_t number = (first_channel + i) % count;
    BandwidthServer &channel = channels_[number];
    const std::uint64_t channel_end = channel.reserve_fine(start_fine, share);
    end = std::max(end, channel_end);
    if (trace_ != nullptr) {
      // Shares are rounded down; the sum of what is recorded is what moved.
      const auto upto = static_cast<std::uint64_t>(static_cast<unsigned __int128>(passed) * moved / covered);
      record(static_cast<unsigned>(number), channel_end - channel.duration_fine(share), channel_end, upto - recorded,
             write);
      recorded = upto;
    }
  }
  return BandwidthServer::ceil(end) + latency_cycles_;
}

Cycles Dram::cycles_of(std::uint64_t ps) const { return (ps + clock_.period_ps() - 1) / clock_.period_ps(); }

Cycles Dram::controller_cycles() const {
  return cycles_of(static_cast<std::uint64_t>(std::ceil(params_.part->controller_ns * 1000)));
}

Cycles Dram::reserve_part(Cycles start, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes, bool write) {
  const std::uint64_t tick = params_.part->timing.tick_ps;
  const Ticks arrival = (start * clock_.period_ps() + tick - 1) / tick;
  mapping_->parts(offset, span, bytes, parts_);
  Ticks end = 0;
  std::uint64_t bursts = 0;
  for (const AddressMapping::Part &part : parts_) {
    DramChannel &channel = part_channels_[part.channel];
    const Ticks done = (write ? channel.write(arrival, part.strip) : channel.read(arrival, part.strip)).done;
    end = std::max(end, done);
    bursts += part.strip.bursts;
    if (trace_ != nullptr) {
      const auto fine = [&](Ticks ticks) { return (ticks * tick << BandwidthServer::kFraction) / clock_.period_ps(); };
      const Ticks busy = part.strip.bursts * params_.part->timing.burst;
      record(part.channel, fine(done - std::min(done, busy)), fine(done), part.strip.bursts * params_.burst_bytes,
             write);
    }
  }
  (write ? bytes_written_ : bytes_read_) += bursts * params_.burst_bytes;
  return cycles_of(end * tick) + controller_cycles();
}

unsigned Dram::channel_of(std::uint64_t offset) const {
  if (mapping_) return mapping_->place(offset).channel;
  return static_cast<unsigned>(offset / params_.interleave_bytes % params_.channels);
}

unsigned Dram::port_of(std::uint64_t offset) const {
  return params_.part ? channel_of(offset) / params_.part->geometry.pseudo_channels : channel_of(offset);
}

std::uint64_t Dram::stripe_bytes() const {
  return mapping_ ? mapping_->grain() * params_.burst_bytes : params_.interleave_bytes;
}

DramActivity Dram::activity() const {
  DramActivity activity;
  if (!params_.part) return activity;
  DramCounts counts;
  for (const DramChannel &channel : part_channels_) counts += channel.counts();
  const auto ns = [&](std::int64_t ticks) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(ticks, 0)) * params_.part->timing.tick_ps / 1000;
  };
  activity.row_hits = counts.hits;
  activity.row_misses = counts.misses;
  activity.row_conflicts = counts.conflicts;
  activity.refreshes = counts.refreshes;
  activity.turnarounds = counts.turnarounds;
  activity.code_bytes = counts.ecc_bursts * params_.burst_bytes;
  activity.busy_ns = ns(static_cast<std::int64_t>(counts.busy));
  activity.idle_ns = ns(counts[DramLoss::idle]);
  activity.row_ns = ns(counts[DramLoss::row]);
  activity.activate_ns = ns(counts[DramLoss::activate]);
  activity.bank_group_ns = ns(counts[DramLoss::bank_group]);
  activity.turnaround_ns = ns(counts[DramLoss::turnaround]);
  activity.refresh_ns = ns(counts[DramLoss::refresh]);
  return activity;
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

void Dram::set_trace(Trace *trace) {
  close_records();
  trace_ = trace;
  bursts_.resize(trace != nullptr ? std::max(channels_.size(), part_channels_.size()) : 0);
}

void Dram::close_records() {
  for (TraceBurst &burst : bursts_) burst.close(*trace_);
}

void Dram::record(unsigned channel, std::uint64_t begin_fine, std::uint64_t end_fine, std::uint64_t bytes, bool write) {
  bursts_[channel].add(*trace_, CX_TRACE_DRAM, static_cast<std::uint16_t>(channel), trace_->fine_time(begin_fine),
                       trace_->fine_time(end_fine), {write ? 0 : bytes, write ? bytes : 0, 1});
}

void Dram::reset() {
  store_.clear();
  for (BandwidthServer &channel : channels_) channel.reset();
  for (DramChannel &channel : part_channels_) channel.reset();
  bytes_read_ = 0;
  bytes_written_ = 0;
}

}  // namespace cx::hw
