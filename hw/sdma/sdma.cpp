#include "hw/sdma/sdma.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "hw/noc/register_target.hpp"
#include "hw/ras/memory_errors.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.h"

namespace cx::hw {

using regs::SdmaReg;
using regs::SdmaRegs;

Sdma::Sdma(sc_core::sc_module_name name, const Clock &clock, Noc &noc, PcieEndpoint &endpoint, unsigned channels)
    : sc_module(name),
      registers("registers"),
      memory("memory"),
      clock_(clock),
      noc_(noc),
      endpoint_(endpoint),
      channels_(channels) {
  if (channels == 0 || channels > SdmaRegs::CTRL_COUNT) {
    throw std::invalid_argument("system DMA with " + std::to_string(channels) + " channels");
  }
  initiator_ = noc_.add_initiator(basename(), memory);
  registers.register_b_transport(this, &Sdma::b_transport);
  memory.register_invalidate_direct_mem_ptr(this, &Sdma::invalidate_dmi);
  setup_registers();
  channel_.resize(channels);
  for (unsigned channel = 0; channel < channels; ++channel) {
    sc_core::sc_spawn([this, channel] { thread(channel); }, ("channel" + std::to_string(channel)).c_str());
  }
}

Sdma::~Sdma() = default;

// ---- registers ----

void Sdma::setup_registers() {
  regs_.on_write(SdmaReg::CTRL, [this](unsigned channel, std::uint32_t, std::uint32_t written, std::uint32_t) {
    regs_.set(SdmaRegs::CTRL_START, 0, channel);
    regs_.set(SdmaRegs::CTRL_ABORT, 0, channel);
    write_control(channel, written);
  });
  regs_.on_write(SdmaReg::DONE, [this](unsigned, std::uint32_t, std::uint32_t, std::uint32_t) { update_interrupt(); });
}

void Sdma::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  access_registers(regs_, transaction);
  delay += clock_.period();
}

void Sdma::invalidate_dmi(sc_dt::uint64, sc_dt::uint64) { dmi_.clear(); }

void Sdma::write_control(unsigned number, std::uint32_t bits) {
  const bool start = (bits & SdmaRegs::CTRL_START.mask()) != 0;
  const bool abort = (bits & SdmaRegs::CTRL_ABORT.mask()) != 0;
  if (number >= channels_) {
    if (start) finish(number, {CX_STATUS_UNSUPPORTED, number});
    return;
  }
  Channel &channel = channel_[number];
  if (abort && channel.busy) {
    ++channel.epoch;
    channel.busy = false;
    channel.stop.notify(sc_core::SC_ZERO_TIME);
    finish(number, {CX_STATUS_ABORTED, 0});
  }
  if (start && !abort && !channel.busy) {
    ++channel.epoch;
    channel.busy = true;
    regs_.set(SdmaReg::STATUS, SdmaRegs::STATUS_BUSY.mask(), number);
    regs_.set64(SdmaReg::FAULT_LO, 0, number);
    channel.start.notify(sc_core::SC_ZERO_TIME);
  }
}

void Sdma::finish(unsigned number, const Fault &fault) {
  regs_.set(SdmaReg::STATUS, 0, number);
  regs_.set(SdmaRegs::STATUS_ERROR, fault.status, number);
  regs_.set64(SdmaReg::FAULT_LO, fault.address, number);
  regs_.set(SdmaReg::DONE, regs_.get(SdmaReg::DONE) | 1u << number);
  update_interrupt();
}

void Sdma::update_interrupt() {
  if (interrupt_) interrupt_(regs_.get(SdmaReg::DONE) != 0);
}

void Sdma::reset() {
  regs_.reset();
  for (Channel &channel : channel_) {
    ++channel.epoch;
    channel.busy = false;
    channel.stop.notify(sc_core::SC_ZERO_TIME);
  }
  update_interrupt();
}

// ---- transfers ----

void Sdma::thread(unsigned number) {
  Channel &channel = channel_[number];
  for (;;) {
    while (!channel.busy) sc_core::wait(channel.start);
    const std::uint64_t epoch = channel.epoch;
    Transfer transfer;
    transfer.src = regs_.get64(SdmaReg::SRC_LO, number);
    transfer.dst = regs_.get64(SdmaReg::DST_LO, number);
    transfer.row_bytes = regs_.get(SdmaReg::ROW_BYTES, number);
    transfer.rows = regs_.get(SdmaReg::ROWS, number);
    transfer.src_pitch = regs_.get(SdmaReg::SRC_PITCH, number);
    transfer.dst_pitch = regs_.get(SdmaReg::DST_PITCH, number);
    transfer.pattern = regs_.get(SdmaReg::PATTERN, number);
    transfer.src_host = regs_.get(SdmaRegs::CTRL_SRC_HOST, number) != 0;
    transfer.dst_host = regs_.get(SdmaRegs::CTRL_DST_HOST, number) != 0;
    transfer.fill = regs_.get(SdmaRegs::CTRL_FILL, number) != 0;
    Fault fault;
    const Cycles begin = clock_.now();
    channel.record = trace_ != nullptr ? trace_->new_id() : 0;
    channel.spent = {};
    if (!run(number, epoch, transfer, fault)) continue;
    channel.busy = false;
    if (channel.record != 0) record(number, transfer, begin, fault);
    finish(number, fault);
  }
}

void Sdma::set_trace(Trace *trace, PacketWatch *packets) {
  trace_ = trace;
  packets_ = trace != nullptr ? packets : nullptr;
  for (Channel &channel : channel_) channel.record = 0;
}

void Sdma::record(unsigned number, const Transfer &transfer, Cycles begin, const Fault &fault) {
  const std::uint32_t what = (transfer.src_host ? 1 : 0) | (transfer.dst_host ? 2 : 0) | (transfer.fill ? 4 : 0);
  const std::uint64_t packet = packets_ != nullptr ? packets_->copy_of(transfer.src, transfer.dst) : 0;
  Trace::Record record{trace_->time(begin),
                       trace_->time(clock_.now()),
                       channel_[number].record,
                       packet,
                       CX_TRACE_TRANSFER,
                       static_cast<std::uint16_t>(number),
                       what,
                       {}};
  record.values[CX_TRACE_TRANSFER_SOURCE] = transfer.fill ? 0 : transfer.src;
  record.values[CX_TRACE_TRANSFER_TARGET] = transfer.dst;
  record.values[CX_TRACE_TRANSFER_BYTES] = transfer.row_bytes * transfer.rows;
  record.values[CX_TRACE_TRANSFER_ROWS] = transfer.rows;
  record.values[CX_TRACE_TRANSFER_STATUS] = fault.status;
  const auto &spent = channel_[number].spent;
  record.values[CX_TRACE_TRANSFER_LIMIT] =
      static_cast<std::uint64_t>(std::max_element(spent.begin(), spent.end()) - spent.begin());
  trace_->append(record);
  trace_->tick(sc_core::sc_time_stamp().value());
}

bool Sdma::wait_until(unsigned number, std::uint64_t epoch, Cycles cycle) {
  Channel &channel = channel_[number];
  for (;;) {
    if (channel.epoch != epoch) return false;
    const sc_core::sc_time left = clock_.until(cycle);
    if (left == sc_core::SC_ZERO_TIME) return true;
    sc_core::wait(left, channel.stop);
  }
}

bool Sdma::run(unsigned number, std::uint64_t epoch, Transfer transfer, Fault &fault) {
  if (!wait_until(number, epoch, clock_.now() + kStartCycles)) return false;
  fault = check(transfer);
  if (fault.status != CX_STATUS_OK) return true;
  // Rows without gaps are one row.
  const bool dense_src = transfer.fill || transfer.src_pitch == transfer.row_bytes;
  if (transfer.rows > 1 && dense_src && transfer.dst_pitch == transfer.row_bytes) {
    transfer.row_bytes *= transfer.rows;
    transfer.rows = 1;
  }
  std::deque<Piece> under_way;
  const auto retire = [&] {
    const Piece piece = under_way.front();
    under_way.pop_front();
    if (!wait_until(number, epoch, piece.end)) return false;
    fault = move(number, transfer, piece);
    return true;
  };
  std::uint64_t row = 0, column = 0;
  Cycles last_end = 0;
  while (row < transfer.rows) {
    while (under_way.size() >= kPiecesInFlight) {
      if (!retire()) return false;
      if (fault.status != CX_STATUS_OK) return true;
    }
    Piece piece{row, column, 1, 0, 0};
    if (transfer.row_bytes >= kPieceBytes || column != 0) {
      piece.row_bytes = std::min(kPieceBytes, transfer.row_bytes - column);
      column += piece.row_bytes;
      if (column == transfer.row_bytes) {
        column = 0;
        ++row;
      }
    } else {
      piece.row_bytes = transfer.row_bytes;
      piece.rows = std::min(kPieceBytes / transfer.row_bytes, transfer.rows - row);
      row += piece.rows;
    }
    const Trace::Cause cause(trace_, channel_[number].record);
    last_end = std::max(last_end, price(transfer, piece, clock_.now(), channel_[number]));
    piece.end = last_end;
    under_way.push_back(piece);
  }
  while (!under_way.empty()) {
    if (!retire()) return false;
    if (fault.status != CX_STATUS_OK) return true;
  }
  return true;
}

Sdma::Fault Sdma::check(const Transfer &transfer) {
  if (transfer.row_bytes == 0 || transfer.rows == 0) return {CX_STATUS_BAD_FIELD, 0};
  if (transfer.fill) {
    if (transfer.dst_host || transfer.src_host) return {CX_STATUS_BAD_FIELD, 0};
    if (transfer.dst % 4 != 0 || transfer.row_bytes % 4 != 0 || (transfer.rows > 1 && transfer.dst_pitch % 4 != 0)) {
      return {CX_STATUS_BAD_ALIGNMENT, transfer.dst};
    }
  }
  if (transfer.src_host && transfer.dst_host) return {CX_STATUS_BAD_FIELD, 0};
  if (!transfer.fill && !transfer.src_host) {
    const Fault fault = check_device(transfer.src, transfer, transfer.src_pitch);
    if (fault.status != CX_STATUS_OK) return fault;
  }
  if (!transfer.dst_host) return check_device(transfer.dst, transfer, transfer.dst_pitch);
  return {};
}

// The whole range, gaps included, lies in one memory.
Sdma::Fault Sdma::check_device(std::uint64_t address, const Transfer &transfer, std::uint64_t pitch) {
  const auto span = static_cast<unsigned __int128>(transfer.rows - 1) * pitch + transfer.row_bytes;
  if (span > ~address) return {CX_STATUS_BAD_ADDRESS, address};
  if (!device_memory(address, static_cast<std::uint64_t>(span))) return {CX_STATUS_BAD_ADDRESS, address};
  return {};
}

Cycles Sdma::price(const Transfer &transfer, const Piece &piece, Cycles start, Channel &channel) {
  const std::uint64_t bytes = piece.rows * piece.row_bytes;
  const auto host = [&](std::uint64_t base, std::uint64_t pitch) -> PcieRuns {
    const std::uint64_t address = base + piece.row * pitch + piece.column;
    if (pitch == piece.row_bytes) return {1, bytes, address};
    return {piece.rows, piece.row_bytes, address, pitch};
  };
  const auto spend = [&channel](Limit limit, Cycles cycles) {
    channel.spent[static_cast<std::size_t>(limit)] += cycles;
  };
  const auto device = [&](std::uint64_t base, std::uint64_t pitch, Cycles from, bool write) {
    const std::uint64_t address = base + piece.row * pitch + piece.column;
    const std::uint64_t span = (piece.rows - 1) * pitch + piece.row_bytes;
    const Cycles end = noc_.reserve(initiator_, from, address, span, bytes, write);
    const Limit at_target = address >= CX_MEM_DRAM_BASE ? Limit::memory : Limit::scratchpad;
    spend(noc_.last_limited_by_links() ? Limit::network : at_target, end - from);
    return end;
  };
  if (transfer.fill) return device(transfer.dst, transfer.dst_pitch, start, true);
  Cycles arrived = 0;
  if (transfer.src_host) {
    arrived = endpoint_.dma_read(start, host(transfer.src, transfer.src_pitch));
    spend(Limit::link, arrived - start);
  } else {
    arrived = device(transfer.src, transfer.src_pitch, start, false);
  }
  if (transfer.dst_host) {
    const Cycles end = endpoint_.dma_write(arrived, host(transfer.dst, transfer.dst_pitch));
    spend(Limit::link, end - arrived);
    return end;
  }
  return device(transfer.dst, transfer.dst_pitch, arrived, true);
}

// Whether the card may touch host memory.
Sdma::Fault Sdma::host_access(unsigned channel, std::uint64_t address, std::uint64_t bytes, bool write) {
  // The firmware keeps channel 0 to itself where there are others.
  if (lost_mappings_ != 0 && (channel != 0 || channels_ == 1)) {
    --lost_mappings_;
    endpoint_.note_host_fault();
    return {CX_STATUS_IOMMU_FAULT, address};
  }
  std::uint64_t fault = 0;
  if (endpoint_.host_memory().check(address, bytes, write, &fault)) return {};
  endpoint_.note_host_fault();
  return {CX_STATUS_IOMMU_FAULT, fault};
}

Sdma::Fault Sdma::read_memory(std::uint64_t address, std::uint64_t bytes) {
  MemoryErrors *errors = noc_.memory_errors();
  if (errors == nullptr) return {};
  const auto bad = errors->read(address, bytes);
  return bad ? Fault{CX_STATUS_ECC_UNCORRECTED, *bad} : Fault{};
}

void Sdma::write_memory(std::uint64_t address, std::uint64_t bytes) {
  if (MemoryErrors *errors = noc_.memory_errors()) errors->write(address, bytes);
}

// Packets are what the firmware's channel reads in multiples of their size.
void Sdma::damage_packet(unsigned channel, const Transfer &transfer, std::byte *packets) {
  if (damaged_packets_ == 0 || channel != 0 || transfer.row_bytes % CX_PACKET_BYTES != 0) return;
  --damaged_packets_;
  packets[0] ^= std::byte{0x80};
}

Sdma::Fault Sdma::move(unsigned channel, const Transfer &transfer, const Piece &piece) {
  HostMemory &host = endpoint_.host_memory();
  if (transfer.src_host || transfer.dst_host) {
    const std::uint64_t address = transfer.src_host ? transfer.src : transfer.dst;
    if (!endpoint_.link_up()) return {CX_STATUS_LINK_DOWN, address};
    if (!endpoint_.bus_master()) return {CX_STATUS_IOMMU_FAULT, address};
  }
  const std::uint64_t bytes = piece.row_bytes;
  for (std::uint64_t i = 0; i < piece.rows; ++i) {
    const std::uint64_t src = transfer.src + (piece.row + i) * transfer.src_pitch + piece.column;
    const std::uint64_t dst = transfer.dst + (piece.row + i) * transfer.dst_pitch + piece.column;
    Fault fault;
    if (transfer.src_host) {
      fault = host_access(channel, src, bytes, false);
    } else if (!transfer.fill) {
      fault = read_memory(src, bytes);
    }
    if (fault.status == CX_STATUS_OK && transfer.dst_host) fault = host_access(channel, dst, bytes, true);
    if (fault.status != CX_STATUS_OK) return fault;
    if (!transfer.dst_host) write_memory(dst, bytes);
    if (transfer.fill) {
      std::fill_n(reinterpret_cast<std::uint32_t *>(device_memory(dst, bytes)), bytes / 4, transfer.pattern);
    } else if (transfer.src_host) {
      std::byte *to = device_memory(dst, bytes);
      if (!host.read(src, to, bytes)) return {CX_STATUS_IOMMU_FAULT, src};
      damage_packet(channel, transfer, to);
    } else if (transfer.dst_host) {
      if (!host.write(dst, device_memory(src, bytes), bytes)) return {CX_STATUS_IOMMU_FAULT, dst};
    } else {
      std::memmove(device_memory(dst, bytes), device_memory(src, bytes), bytes);
    }
    bytes_moved_ += bytes;
    if (packets_ != nullptr && channel == 0) {
      if (transfer.src_host) packets_->read(src, {device_memory(dst, bytes), bytes}, clock_.now(), host.pointer(src));
      if (transfer.dst_host) packets_->wrote(dst, {device_memory(src, bytes), bytes}, host.pointer(dst));
    }
  }
  return {};
}

std::byte *Sdma::device_memory(std::uint64_t address, std::uint64_t bytes) {
  const std::uint64_t last = address + bytes - 1;
  const auto inside = [&](const tlm::tlm_dmi &dmi) {
    return dmi.get_start_address() <= address && last <= dmi.get_end_address();
  };
  auto found = std::find_if(dmi_.begin(), dmi_.end(), inside);
  if (found == dmi_.end()) {
    tlm::tlm_generic_payload transaction;
    transaction.set_command(tlm::TLM_WRITE_COMMAND);
    transaction.set_address(address);
    tlm::tlm_dmi dmi;
    if (!noc_.mapped(address, bytes) || !memory->get_direct_mem_ptr(transaction, dmi) || !dmi.is_read_write_allowed() ||
        !inside(dmi)) {
      return nullptr;
    }
    dmi_.push_back(dmi);
    found = dmi_.end() - 1;
  }
  return reinterpret_cast<std::byte *>(found->get_dmi_ptr()) + (address - found->get_start_address());
}

}  // namespace cx::hw
