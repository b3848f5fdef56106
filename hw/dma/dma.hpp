// DMA engines: load (device memory to scratchpad) and store (scratchpad to device memory).
#ifndef HW_DMA_DMA_HPP
#define HW_DMA_DMA_HPP

#include <cstdint>
#include <systemc>
#include <vector>

#include "hw/dma/strided.hpp"
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
  // The side of a transfer that lies in device memory.
  struct MemorySide {
    std::byte *element0;    // host pointer to the element with all indices 0
    std::uint64_t below;    // its distance from `address`
    std::uint64_t address;  // first byte that is touched
    std::uint64_t span;     // bytes from there to the last one
    std::uint64_t moved;    // bytes that memory transfers, whole bursts where runs are shorter
  };

  Timing load(const isa::DmaLoad &inst);
  Timing store(const isa::DmaStore &inst);
  Timing gather(const isa::DmaGather &inst);
  MemorySide memory_side(const MemoryView &view, const Dims &dims, std::uint32_t element_bytes);
  Timing price(Cycles begin, std::uint64_t runs, std::uint64_t scratchpad_bytes, const MemorySide *memory,
               bool to_memory);
  // The transfer reads, or writes, what the view touches in memory: its wrong words are met, or given new contents.
  void read_words(const MemorySide &side, const Dims &dims, const Strides &strides, std::uint32_t element_bytes);
  void write_words(const MemorySide &side, const Dims &dims, const Strides &strides, std::uint32_t element_bytes);
  void resolve_indices(const TensorView &idx, const Dims &dims, std::int64_t limit, std::int64_t stride);

  DmaParams params_;
  BandwidthServer datapath_;           // gives durations only
  std::vector<std::int64_t> offsets_;  // of a gather: byte offset along the axis for every index
};

}  // namespace cx::hw

#endif
