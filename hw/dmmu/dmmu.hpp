// Dense matrix multiply unit: executes the MM_ instructions (hw/isa/isa.yaml) on a set of MAC tiles.
#ifndef HW_DMMU_DMMU_HPP
#define HW_DMMU_DMMU_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "hw/config/gen/chip.hpp"
#include "hw/dmmu/mac_tile.hpp"
#include "hw/dmmu/tile_engine.hpp"
#include "hw/dmmu/tile_workers.hpp"

namespace cx::hw {

/// A fault's address is the byte offset of the instruction's field that is wrong, except for SPM_FAULT (scratchpad
/// offset) and undefined descriptors (their index).
class Dmmu : public TileEngine {
 public:
  /// Throws std::invalid_argument for a shape that no tile can have, std::runtime_error if an RTL tile is asked for
  /// whose shape is not built.
  Dmmu(sc_core::sc_module_name name, const EngineContext &context, const config::Chip::DmmuSection &config);
  ~Dmmu() override;

  /// Throws std::invalid_argument for a format that tiles do not multiply.
  static TileShape tile_shape_of(const config::Chip::DmmuSection &config);

  const TileShape &tile_shape() const { return shape_; }
  uint32_t tile_count() const { return static_cast<uint32_t>(tiles_.size()); }

  /// Events since the last start. Counts of RTL tiles lag until a post or the end of the stream.
  TileCounters counters(uint32_t tile);
  /// Cycles in which weights were written into the array of a tile or an element of it multiplied, summed over tiles,
  /// since power-on.
  uint64_t array_cycles() const;
  /// Records a tile, which must be RTL (std::invalid_argument otherwise).
  void record(uint32_t tile, const TileWaves &waves);
  /// Ends all recordings, with everything that was issued in them; returns the cycles recorded.
  uint64_t stop_recording();
  /// What a tile writes to its accumulators from now on gets a wrong bit, to see the fault that follows.
  void inject_parity_errors(uint32_t tile, bool on);

 protected:
  Timing execute(const isa::Inst &inst) override;
  void settle(Cycles until) override;
  void reset_unit() override;

 private:
  struct Tile;

  Timing load_weights(const isa::MmLdw &in);
  Timing multiply(const isa::MmMul &in);
  Timing multiply_os(const isa::MmMulOs &in);
  Timing drain(const isa::MmDrain &in);

  /// Calls f(tile, rows, columns) for every tile that has a part of an m x n block.
  template <typename F>
  void for_each_part(unsigned m_split, unsigned n_split, uint64_t m, uint64_t n, F f);
  void run_tiles(Cycles until) override;

  /// What the processing elements do of m x k activations by n columns, into sums that join accumulators or replace
  /// them.
  void count_products(const TileOperand &activations, uint64_t n, bool integer, bool accumulate);
  void check_group(unsigned m_split, unsigned n_split, unsigned at) const;
  void check_format(isa::DType dtype, unsigned at) const;
  Share columns_of(unsigned group, uint64_t columns) const;
  Cycles all_idle() const;
  void check_accumulators(const Tile &tile, uint32_t first, uint32_t count, unsigned kind, uint32_t columns,
                          unsigned at) const;

  TileShape shape_;
  bool overlap_;
  bool has_rtl_ = false;
  bool computes_ = true;       // false: operands are neither read nor written, see Engine::timing_only()
  uint64_t array_cycles_ = 0;  // before the last start
  std::vector<std::unique_ptr<Tile>> tiles_;
  TileWorkers workers_;
};

}  // namespace cx::hw

#endif
