#include "hw/pcie/link.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace cx::hw {

double PcieLink::bytes_per_second(unsigned gen, unsigned width) {
  static constexpr double kGigaTransfers[] = {2.5, 5, 8, 16, 32};
  if (gen < 1 || gen > 5) throw std::invalid_argument("PCIe generation " + std::to_string(gen) + " is not 1 to 5");
  if (width == 0 || width > 16) throw std::invalid_argument("PCIe width " + std::to_string(width) + " is not 1 to 16");
  const double encoding = gen <= 2 ? 8.0 / 10 : 128.0 / 130;
  return kGigaTransfers[gen - 1] * 1e9 * encoding * width / 8;
}

namespace {

double bytes_per_cycle(const Clock &clock, const PcieLinkParams &params) {
  return PcieLink::bytes_per_second(params.gen, params.width) * static_cast<double>(clock.period_ps()) * 1e-12;
}

}  // namespace

PcieLink::PcieLink(const Clock &clock, const PcieLinkParams &params)
    : mps_(params.mps),
      mrrs_(params.mrrs),
      latency_(static_cast<Cycles>(std::ceil(params.latency_ns * 1000 / static_cast<double>(clock.period_ps())))),
      down_(bytes_per_cycle(clock, params)),
      host_down_(bytes_per_cycle(clock, params)),
      up_(bytes_per_cycle(clock, params)) {
  if (mps_ == 0 || mrrs_ == 0) throw std::invalid_argument("PCIe payload limits are 0");
}

Cycles PcieLink::host_write(Cycles start, std::uint64_t bytes) {
  to_device_ += bytes;
  const std::uint64_t wire = bytes + packets(1, bytes, mps_) * (kPacketOverhead + kRequestHeader);
  return pass(host_down_, start, wire) + latency_;
}

Cycles PcieLink::host_read_request(Cycles start) {
  return pass(host_down_, start, kPacketOverhead + kRequestHeader) + latency_;
}

Cycles PcieLink::host_read_completion(Cycles start, std::uint64_t bytes) {
  to_host_ += bytes;
  const std::uint64_t wire = bytes + packets(1, bytes, mps_) * (kPacketOverhead + kCompletionHeader);
  return pass(up_, start, wire) + latency_;
}

Cycles PcieLink::dma_read(Cycles start, std::uint64_t rows, std::uint64_t row_bytes) {
  const std::uint64_t bytes = rows * row_bytes;
  to_device_ += bytes;
  const std::uint64_t requests = packets(rows, row_bytes, mrrs_);
  const std::uint64_t completions = packets(rows, row_bytes, std::min(mps_, mrrs_));
  constexpr unsigned kRequest = kPacketOverhead + kRequestHeader;
  const Cycles first_sent = pass(up_, start, kRequest);
  // The other requests follow while the first answers are on their way, together with the answers' acknowledgements.
  const Cycles all_sent = pass(up_, first_sent, (requests - 1) * kRequest + completions * kDllpPerPacket);
  const std::uint64_t wire = bytes + completions * (kPacketOverhead + kCompletionHeader) + requests * kDllpPerPacket;
  const Cycles arrived = pass(down_, first_sent + latency_, wire) + latency_;
  return std::max(arrived, all_sent + 2 * latency_);
}

Cycles PcieLink::dma_write(Cycles start, std::uint64_t rows, std::uint64_t row_bytes) {
  const std::uint64_t bytes = rows * row_bytes;
  to_host_ += bytes;
  return pass(up_, start, bytes + packets(rows, row_bytes, mps_) * (kPacketOverhead + kRequestHeader));
}

Cycles PcieLink::message(Cycles start) {
  to_host_ += 4;
  return pass(up_, start, 4 + kPacketOverhead + kRequestHeader) + latency_;
}

void PcieLink::reset() {
  down_.reset();
  host_down_.reset();
  up_.reset();
  to_device_ = 0;
  to_host_ = 0;
  on_wire_ = 0;
}

}  // namespace cx::hw
