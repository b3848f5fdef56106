// Dense matrix multiply unit: executes MM_LDW, MM_MUL and MM_DRAIN (hw/isa/isa.yaml) on a set of MAC tiles.
#ifndef HW_DMMU_DMMU_HPP
#define HW_DMMU_DMMU_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "hw/config/gen/chip.hpp"
#include "hw/dmmu/mac_tile.hpp"
#include "hw/engine/engine.hpp"

namespace cx::hw {

/// A fault's address is the byte offset of the instruction's field that is wrong, except for SPM_FAULT (scratchpad
/// offset) and undefined descriptors (their index).
class Dmmu : public Engine {
 public:
  /// Throws std::invalid_argument for a dataflow other than "ws" or a shape that no tile can have, std::runtime_error
  /// if an RTL tile is asked for whose shape is not built.
  Dmmu(sc_core::sc_module_name name, const EngineContext &context, const config::Chip::DmmuSection &config);
  ~Dmmu() override;

  const TileShape &tile_shape() const { return shape_; }
  uint32_t tile_count() const { return static_cast<uint32_t>(tiles_.size()); }

 protected:
  Timing execute(const isa::Inst &inst) override;
  void reset_unit() override;

 private:
  struct Tile;
  struct Share;
  struct Matrix;

  Timing load_weights(const isa::MmLdw &in);
  Timing multiply(const isa::MmMul &in);
  Timing drain(const isa::MmDrain &in);

  void check_group(unsigned m_split, unsigned n_split, unsigned at) const;
  void check_format(isa::DType dtype, unsigned at) const;
  /// Rows [first, first + count) of the tiles of row group `group`, of `rows` rows in all.
  Share rows_of(unsigned group, unsigned m_split, uint64_t rows) const;
  Share columns_of(unsigned group, uint64_t columns) const;
  Cycles all_idle() const;
  Cycles port_cycles(uint64_t bytes) const;
  /// The view's innermost rows as a matrix of raw elements; copies only what has no single row stride.
  Matrix gather(const TensorView &view);
  void widen(Matrix &matrix);
  const float *channel_values(unsigned index, uint32_t n, unsigned at, std::vector<float> &values);

  TileShape shape_;
  bool overlap_;
  double spm_bytes_per_cycle_;
  Cycles spm_latency_;
  uint32_t formats_ = 0;  // bit n: dtype n is multiplied
  std::vector<std::unique_ptr<Tile>> tiles_;

  // Scratch storage that lives across instructions to save allocations.
  std::vector<std::byte> raw_;
  std::vector<float> wide_;
  std::vector<int16_t> wide16_;
  std::vector<uint32_t> words_;
  std::vector<float> scale_, bias_, values_;
};

}  // namespace cx::hw

#endif
