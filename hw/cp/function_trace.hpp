// The firmware's functions as spans: a call stack kept from the core's calls and returns.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "hw/cp/rv32_core.hpp"
#include "hw/trace/trace.hpp"

namespace cx::hw {

class FunctionTrace : public Rv32CallWatch {
 public:
  /// Begins in the function that `pc` lies in. `time`: a record's time of a total of core cycles.
  FunctionTrace(Trace &trace, uint32_t pc, uint64_t cycles, uint64_t instructions,
                std::function<uint64_t(uint64_t cycles)> time);

  void called(uint32_t target, uint32_t return_address, uint64_t cycles, uint64_t instructions) override;
  void returned(uint32_t target, uint64_t cycles, uint64_t instructions) override;
  void jumped(uint32_t target, uint64_t cycles, uint64_t instructions) override;

  /// Ends all spans; those that are there have not returned.
  void close(uint64_t cycles, uint64_t instructions);

 private:
  struct Frame {
    uint32_t function;        // number in Trace::functions(), their count for an unknown one
    uint32_t return_address;  // 0: not known
    uint64_t begin;
    uint64_t instructions;  // retired when it began
    uint64_t inner = 0;     // retired in what it called
  };
  uint32_t function_of(uint32_t address) const;
  void push(uint32_t target, uint32_t return_address, uint64_t cycles, uint64_t instructions);
  void pop(uint64_t cycles, uint64_t instructions, bool open);

  Trace &trace_;
  std::function<uint64_t(uint64_t)> time_;
  std::vector<Frame> stack_;  // never empty until close()
};

}  // namespace cx::hw
