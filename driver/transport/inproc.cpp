#include "driver/transport/inproc.hpp"

#include "driver/include/cx/error.hpp"
#include "driver/transport/refused_access.hpp"
#include "hw/common/port/cx_port.h"

namespace cx {

InprocTransport::InprocTransport(const std::string &yaml, const std::vector<std::string> &overrides) {
  std::vector<const char *> sets;
  for (const std::string &item : overrides) sets.push_back(item.c_str());
  port_ = cx_port_open(yaml.c_str(), sets.data(), sets.size());
  if (!port_) throw InputError(cx_port_error(nullptr));
}

InprocTransport::~InprocTransport() { cx_port_close(port_); }

void InprocTransport::check(int result, const char *operation, int bar, uint64_t offset, size_t size) const {
  if (result == CX_PORT_OK) return;
  if (result == CX_PORT_BAD_ACCESS) refused_access(operation, bar, offset, size, cx_port_error(port_));
  const std::string message = access_text(operation, bar, offset, size) + ": " + cx_port_error(port_);
  if (result == CX_PORT_BAD_ARGUMENT) throw UsageError(message);
  throw Error(message);
}

void InprocTransport::read(int bar, uint64_t offset, void *data, size_t size) {
  check(cx_port_read(port_, bar, offset, data, size), "read of", bar, offset, size);
}

void InprocTransport::write(int bar, uint64_t offset, const void *data, size_t size) {
  check(cx_port_write(port_, bar, offset, data, size), "write to", bar, offset, size);
}

void InprocTransport::dma_map(uint64_t iova, size_t size, void *memory, bool writable) {
  const int result = cx_port_dma_map(port_, iova, size, memory, CX_PORT_DMA_READ | (writable ? CX_PORT_DMA_WRITE : 0));
  if (result != CX_PORT_OK) throw UsageError(std::string("mapping of host memory for DMA: ") + cx_port_error(port_));
}

void InprocTransport::dma_unmap(uint64_t iova, size_t size) {
  const int result = cx_port_dma_unmap(port_, iova, size);
  if (result != CX_PORT_OK) throw UsageError(std::string("unmapping of host memory: ") + cx_port_error(port_));
}

bool InprocTransport::map_peer(uint64_t iova, size_t size, Transport &peer, uint64_t offset, bool writable) {
  const auto *other = dynamic_cast<InprocTransport *>(&peer);
  if (other == nullptr || other == this) return false;
  const int access = CX_PORT_DMA_READ | (writable ? CX_PORT_DMA_WRITE : 0);
  if (cx_port_dma_map_peer(port_, iova, size, other->port_, offset, access) != CX_PORT_OK) {
    throw UsageError(std::string("mapping of another card's memory: ") + cx_port_error(port_));
  }
  return true;
}

Transport::Wake InprocTransport::advance(uint64_t limit_ps) {
  const int reason = cx_port_advance(port_, limit_ps);
  switch (reason) {
    case CX_PORT_ADVANCED_INTERRUPT:
      return Wake::kInterrupt;
    case CX_PORT_ADVANCED_LIMIT:
      return Wake::kLimit;
    case CX_PORT_ADVANCED_IDLE:
      return Wake::kIdle;
    default:
      throw Error(std::string("the simulation stopped: ") + cx_port_error(port_));
  }
}

std::optional<uint32_t> InprocTransport::take_interrupt() {
  uint32_t vector = 0;
  const int taken = cx_port_take_interrupt(port_, &vector);
  if (taken < 0) throw Error(std::string("taking an interrupt: ") + cx_port_error(port_));
  if (taken == 0) return std::nullopt;
  return vector;
}

bool InprocTransport::take_error() { return cx_port_take_error(port_) != 0; }

void InprocTransport::inject(const std::string &fault) {
  if (cx_port_inject(port_, fault.c_str()) != CX_PORT_OK) throw InputError(cx_port_error(port_));
}

uint64_t InprocTransport::time_ps() const { return cx_port_time_ps(port_); }

std::optional<uint32_t> InprocTransport::trace_number() const {
  const uint32_t number = cx_port_trace_card(port_);
  return number != CX_PORT_NOT_TRACED ? std::optional(number) : std::nullopt;
}

uint64_t InprocTransport::trace_time_ps() const { return cx_port_trace_time_ps(port_); }

}  // namespace cx
