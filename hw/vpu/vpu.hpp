// The vector unit: an engine that executes the V_ instructions on the scratchpad.
#pragma once

#include <cstdint>

#include "hw/engine/engine.hpp"
#include "hw/power/activity.hpp"
#include "hw/vpu/vpu_ops.hpp"

namespace cx::hw {

struct VpuParams {
  unsigned lanes = 64;         ///< elements a cycle (vpu.lanes), at least 1
  Cycles startup_cycles = 12;  ///< from issue to the first result (vpu.startup_cycles)
  double special_cycles = 4;   ///< cycles of a lane for a special function (vpu.special_cycles), at least 1
};

/// Cycles in which the lanes work on an instruction, start-up included, without waiting for the scratchpad.
Cycles vpu_compute_cycles(const VpuParams &params, const vpu::Work &work);

/// One instruction at a time: the next is accepted when the last result is written. See README.md for the rule.
class Vpu : public Engine {
 public:
  /// Throws std::invalid_argument for parameters out of range.
  Vpu(sc_core::sc_module_name name, const EngineContext &context, const VpuParams &params);

  const VpuParams &params() const { return params_; }
  const VectorActivity &activity() const { return activity_; }

 protected:
  Timing execute(const isa::Inst &inst) override;

 private:
  const Spm &scratchpad_;
  VpuParams params_;
  vpu::VectorUnit unit_;
  VectorActivity activity_;
};

}  // namespace cx::hw
