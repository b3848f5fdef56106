#include "hw/cp/function_trace.hpp"

#include <algorithm>
#include <utility>

namespace cx::hw {

FunctionTrace::FunctionTrace(Trace &trace, uint32_t pc, uint64_t cycles, uint64_t instructions,
                             std::function<uint64_t(uint64_t)> time)
    : trace_(trace), time_(std::move(time)) {
  push(pc, 0, cycles, instructions);
}

uint32_t FunctionTrace::function_of(uint32_t address) const {
  const auto &functions = trace_.functions();
  const auto next = std::upper_bound(functions.begin(), functions.end(), address);
  return static_cast<uint32_t>(next == functions.begin() ? functions.size() : next - functions.begin() - 1);
}

void FunctionTrace::push(uint32_t target, uint32_t return_address, uint64_t cycles, uint64_t instructions) {
  stack_.push_back({function_of(target), return_address, time_(cycles), instructions});
}

void FunctionTrace::pop(uint64_t cycles, uint64_t instructions, bool open) {
  const Frame frame = stack_.back();
  stack_.pop_back();
  const uint64_t all = instructions - frame.instructions;
  if (!stack_.empty()) stack_.back().inner += all;
  Trace::Record record{frame.begin, time_(cycles), trace_.new_id(), 0, CX_TRACE_FUNCTION, 0, frame.function, {}};
  record.values[CX_TRACE_FUNCTION_INSTRUCTIONS] = all;
  record.values[CX_TRACE_FUNCTION_OWN_INSTRUCTIONS] = all - frame.inner;
  record.values[CX_TRACE_FUNCTION_OPEN] = open ? 1 : 0;
  trace_.append(record);
}

void FunctionTrace::called(uint32_t target, uint32_t return_address, uint64_t cycles, uint64_t instructions) {
  push(target, return_address, cycles, instructions);
}

void FunctionTrace::returned(uint32_t target, uint64_t cycles, uint64_t instructions) {
  // Functions that ended in a jump left their frames to the one that returns for them.
  while (stack_.size() > 1) {
    const bool found = stack_.back().return_address == target;
    pop(cycles, instructions, false);
    if (found) return;
  }
  // Out of the function in which tracing began.
  pop(cycles, instructions, false);
  push(target, 0, cycles, instructions);
}

void FunctionTrace::jumped(uint32_t target, uint64_t cycles, uint64_t instructions) {
  if (function_of(target) == stack_.back().function) return;
  const uint32_t return_address = stack_.back().return_address;
  pop(cycles, instructions, false);
  push(target, return_address, cycles, instructions);
}

void FunctionTrace::close(uint64_t cycles, uint64_t instructions) {
  while (!stack_.empty()) pop(cycles, instructions, true);
}

}  // namespace cx::hw
