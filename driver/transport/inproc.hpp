// The card in this process.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "driver/transport/transport.hpp"

struct cx_port;

namespace cx {

/// Drives hw/chip through hw/common/port/cx_port.h. A process may open several; simulated time passes for all of them.
class InprocTransport final : public Transport {
 public:
  /// yaml: path of the chip's configuration; overrides: "key=value" in order. Throws InputError when the configuration
  /// is bad.
  InprocTransport(const std::string &yaml, const std::vector<std::string> &overrides);
  ~InprocTransport() override;

  void read(int bar, uint64_t offset, void *data, size_t size) override;
  void write(int bar, uint64_t offset, const void *data, size_t size) override;
  void dma_map(uint64_t iova, size_t size, void *memory, bool writable) override;
  void dma_unmap(uint64_t iova, size_t size) override;
  bool map_peer(uint64_t iova, size_t size, Transport &peer, uint64_t offset, bool writable) override;
  Wake advance(uint64_t limit_ps) override;
  std::optional<uint32_t> take_interrupt() override;
  bool take_error() override;
  void inject(const std::string &fault) override;
  uint64_t time_ps() const override;
  /// The card's number in the trace of this process; none while it is not traced.
  std::optional<uint32_t> trace_number() const;
  /// Its time as the trace has it; of a card that is not traced, time_ps().
  uint64_t trace_time_ps() const;

 private:
  void check(int result, const char *operation, int bar, uint64_t offset, size_t size) const;

  cx_port *port_;
};

}  // namespace cx
