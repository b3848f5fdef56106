// Sparse computing accelerator: executes the SP_ instructions (hw/isa/isa.yaml) on a set of sparse tiles.
#ifndef HW_SCA_SCA_HPP
#define HW_SCA_SCA_HPP

#include <cstdint>
#include <memory>
#include <vector>

#include "hw/config/gen/chip.hpp"
#include "hw/dmmu/tile_engine.hpp"
#include "hw/dmmu/tile_workers.hpp"
#include "hw/sca/sca_tile.hpp"
#include "hw/sca/stream_cache.hpp"

namespace cx::hw {

/// A fault's address is the byte offset of the instruction's field that is wrong, except for SPM_FAULT (scratchpad
/// offset), BAD_WEIGHTS (byte of the stream) and undefined descriptors (their index).
class Sca : public TileEngine {
 public:
  /// Throws std::invalid_argument for a shape that no tile can have, std::runtime_error if an RTL tile is asked for
  /// whose shape is not built.
  Sca(sc_core::sc_module_name name, const EngineContext &context, const config::Chip::ScaSection &config);
  ~Sca() override;

  static ScaShape tile_shape_of(const config::Chip::ScaSection &config);

  const ScaShape &tile_shape() const { return shape_; }
  uint32_t tile_count() const { return static_cast<uint32_t>(tiles_.size()); }

  /// Events since the last start. Counts of RTL tiles lag until a post or the end of the stream.
  ScaCounters counters(uint32_t tile);
  /// Records a tile, which must be RTL (std::invalid_argument otherwise).
  void record(uint32_t tile, const TileWaves &waves);
  /// Ends all recordings, with everything that was issued in them; returns the cycles recorded.
  uint64_t stop_recording();

 protected:
  Timing execute(const isa::Inst &inst) override;
  void settle(Cycles until) override;
  void reset_unit() override;

 private:
  struct Activations;
  struct Tile;

  Timing load(const isa::SpLda &in);
  Timing multiply(const isa::SpMul &in);
  Timing drain(const isa::SpDrain &in);

  void run_tiles(Cycles until) override;
  void check_group(unsigned m_split, unsigned n_split, unsigned at) const;
  /// Columns of tile column group `group`, whole groups of weights.
  Share columns_of(unsigned group, unsigned n_split, uint64_t columns) const;
  /// Calls f(tile, rows, columns) for every tile that has a part of an m x n block.
  template <typename F>
  void for_each_part(unsigned m_split, unsigned n_split, uint64_t m, uint64_t n, F f);
  /// The activations that SP_MUL takes, the same in all tiles of the group.
  /// What lanes, window, banks and accumulators do for a multiplication.
  void count_products(const isa::SpMul &in, const Activations &activations, const SparseColumns &columns,
                      uint64_t stored);
  const Activations &activations_for(const isa::SpMul &in) const;
  std::shared_ptr<const DecodedStream> decode(const isa::SpMul &in);
  /// How the groups of a part come, of which `parts` share the port, when all bytes are booked to be there at `read`.
  ScaFeed feed_of(const DecodedStream &weights, const Share &columns, unsigned parts, Cycles start, Cycles read) const;

  ScaShape shape_;
  std::vector<std::unique_ptr<Tile>> tiles_;
  TileWorkers workers_;
  StreamCache streams_;
};

}  // namespace cx::hw

#endif
