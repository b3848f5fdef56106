// DMA engines: load (device memory to scratchpad) and store (scratchpad to device memory).
#ifndef HW_DMA_DMA_HPP
#define HW_DMA_DMA_HPP

#include <cstdint>
#include <systemc>

#include "hw/engine/engine.hpp"

namespace cx::hw {

struct DmaParams {
  Cycles setup_cycles = 8;      // of an instruction: descriptors and bounds (dma.setup_cycles)
  double bytes_per_cycle = 64;  // of the datapath (dma.bytes_per_cycle)
  double element_cycles = 1;    // per contiguous run, address generation (dma.element_cycles)
};

// `id` is isa::Engine::LOAD or STORE. Timing rule: README.md.
class DmaEngine : public Engine {
 public:
  DmaEngine(sc_core::sc_module_name name, isa::Engine id, const EngineContext &context, const DmaParams &params);

 protected:
  Timing execute(const isa::Inst &inst) override;

 private:
  Timing load(const isa::Inst &inst);
  Timing store(const isa::Inst &inst);

  DmaParams params_;
};

}  // namespace cx::hw

#endif
