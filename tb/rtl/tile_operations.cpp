#include "tb/rtl/tile_operations.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "tb/rtl/tile_data.hpp"

namespace cx::test {
namespace {

using hw::MacTile;
using hw::MacTileRtl;
using hw::TileShape;
using num::DType;

class Comparison {
 public:
  Comparison(const TileShape &shape, uint64_t seed, uint32_t max_m)
      : shape_(shape),
        random_(seed),
        max_m_(std::min(max_m, shape.acc_rows)),
        tiles_{hw::make_tile(shape, false), hw::make_tile(shape, true)},
        rows_(shape.acc_rows) {
    for (unsigned f = 0; f < 6; ++f) {
      if (shape.formats >> f & 1) formats_.push_back(static_cast<DType>(f));
    }
    if (random_.one_in(2)) static_cast<MacTileRtl &>(*tiles_[1]).set_stall_seed(seed | 1);
  }

  TileComparison run(uint64_t operations) {
    while (result_.operations < operations) {
      const uint32_t choice = random_.between(0, 99);
      if (choice < 28) {
        load();
      } else if (choice < 62) {
        multiply();
      } else if (choice < 74) {
        multiply_os();
      } else if (choice < 98) {
        drain();
      } else if (choice == 98) {
        inject();
      } else {
        settle();
      }
    }
    settle();
    drain_all();
    settle();
    const hw::TileCounters model = tiles_[0]->counters(), rtl = tiles_[1]->counters();
    if (!(model == rtl)) {
      ++result_.counter_differences;
      note("counters: " + text(model) + " in the model, " + text(rtl) + " in the RTL");
    }
    result_.cycle_differences = tiles_[1]->cycle_differences();
    if (result_.cycle_differences != 0) note(tiles_[1]->first_difference());
    return result_;
  }

 private:
  struct Row {
    uint32_t columns = 0;
    bool integer = false;
  };
  struct Weights {
    DType dtype = DType::FP32;
    uint32_t k = 0, n = 0;
    bool scaled = false;
  };

  void note(const std::string &what) {
    if (result_.first.empty()) result_.first = what;
  }

  static std::string text(const hw::TileCounters &c) {
    std::string result;
    for (uint64_t value : {c.busy, c.weight_rows, c.activation_rows, c.gated, c.drained_rows, c.weight_stalls,
                           c.activation_stalls, c.drain_stalls, c.parity_errors}) {
      result += (result.empty() ? "" : "/") + std::to_string(value);
    }
    return result;
  }

  /// Commands mostly follow as closely as the tile takes them.
  uint64_t from(uint64_t earliest) {
    if (!random_.one_in(4)) return earliest;
    return earliest + random_.between(1, random_.one_in(8) ? 400 : 12);
  }
  uint64_t stream(uint64_t least) {
    if (!random_.one_in(3)) return least;
    ++result_.stalled;
    return least + random_.between(1, random_.one_in(3) ? 60 : 6);
  }
  DType format() { return formats_[random_.between(0, static_cast<uint32_t>(formats_.size()) - 1)]; }
  DType partner(DType dtype) {
    std::vector<DType> partners;
    for (DType candidate : formats_) {
      if (hw::tile_pairs(dtype, candidate)) partners.push_back(candidate);
    }
    return partners[random_.between(0, static_cast<uint32_t>(partners.size()) - 1)];
  }
  std::vector<float> factors(uint32_t count) {
    std::vector<float> values(count);
    for (float &value : values) {
      value = random_.one_in(20) ? std::bit_cast<float>(random_.element(DType::FP32))
                                 : std::ldexp(1.0f + 0.001f * static_cast<float>(random_.between(0, 999)),
                                              static_cast<int>(random_.between(0, 12)) - 6);
    }
    return values;
  }
  bool can_add(uint32_t row, uint32_t m, uint32_t n, bool integer) const {
    return std::all_of(rows_.begin() + row, rows_.begin() + row + m,
                       [&](const Row &r) { return r.columns >= n && r.integer == integer; });
  }
  void wrote(uint32_t row, uint32_t m, uint32_t n, bool integer) {
    std::fill_n(rows_.begin() + row, m, Row{n, integer});
  }
  uint32_t some_row(uint32_t m) { return random_.between(0, random_.one_in(2) ? 0 : shape_.acc_rows - m); }

  template <typename F>
  void both(F f) {
    for (unsigned side : {0u, 1u}) f(*tiles_[side], side);
    ++result_.operations;
  }

  void load() {
    const DType dtype = format();
    const uint32_t k = random_.between(1, hw::longest_k(shape_, dtype));
    const uint32_t n = random_.between(1, shape_.cols);
    const bool scaled = random_.one_in(4);
    const RandomMatrix w(random_, dtype, k, n);
    const std::vector<float> scales = scaled ? factors(n) : std::vector<float>();
    const uint64_t start = from(tiles_[0]->schedule().earliest_load(base_, scaled));
    const uint64_t rows = stream(hw::words_along_k(shape_, dtype, k) + (scaled ? 1 : 0));
    both([&](MacTile &tile, unsigned) { tile.load_weights(start, rows, w.operand, scaled ? scales.data() : nullptr); });
    weights_ = {dtype, k, n, scaled};
    ++result_.loads;
  }

  void multiply() {
    if (weights_.k == 0) return;
    const DType dtype = partner(weights_.dtype);
    const uint32_t m = random_.one_in(2) ? random_.between(1, 3) : random_.between(1, max_m_);
    const uint32_t row = some_row(m);
    const uint32_t n = random_.one_in(4) ? random_.between(1, weights_.n) : weights_.n;
    const bool row_scaled = random_.one_in(5);
    const bool scaled = row_scaled || weights_.scaled;
    const bool integer = dtype == DType::INT8 && !scaled;
    const bool accumulate = random_.one_in(2) && can_add(row, m, n, integer);
    if (!accumulate) wrote(row, m, n, integer);
    const RandomMatrix a(random_, dtype, m, weights_.k);
    const std::vector<float> scales = row_scaled ? factors(m) : std::vector<float>();
    const uint64_t start = from(tiles_[0]->schedule().earliest_mul(base_));
    const uint64_t rows = stream(m);
    both([&](MacTile &tile, unsigned) {
      tile.matmul(start, rows, a.operand, n, row, accumulate, row_scaled ? scales.data() : nullptr);
    });
    ++result_.passes;
    ++result_.by_format[static_cast<unsigned>(dtype)];
    result_.scaled += scaled ? 1 : 0;
    result_.mixed += dtype != weights_.dtype ? 1 : 0;
  }

  void multiply_os() {
    const DType dtype = format(), w_dtype = partner(dtype);
    const uint32_t m = std::min(random_.between(1, shape_.rows), shape_.acc_rows);
    const uint32_t n = random_.between(1, shape_.cols);
    const uint32_t k = random_.between(1, random_.one_in(3) ? 5 * hw::longest_k(shape_, dtype) : 6);
    const uint32_t row = some_row(m);
    const bool integer = dtype == DType::INT8;
    const bool accumulate = random_.one_in(2) && can_add(row, m, n, integer);
    if (!accumulate) wrote(row, m, n, integer);
    const RandomMatrix a(random_, dtype, m, k), w(random_, w_dtype, k, n);
    const uint64_t start = from(tiles_[0]->schedule().earliest_mul(base_));
    const uint64_t steps = stream(hw::os_stream(shape_, hw::words_along_k(shape_, dtype, k)));
    both([&](MacTile &tile, unsigned) { tile.matmul_os(start, steps, a.operand, w.operand, row, accumulate); });
    ++result_.output_stationary;
    ++result_.by_format[static_cast<unsigned>(dtype)];
    result_.mixed += dtype != w_dtype ? 1 : 0;
  }

  void drain() {
    uint32_t row = random_.between(0, random_.one_in(2) ? 0 : shape_.acc_rows - 1);
    while (row < shape_.acc_rows && rows_[row].columns == 0) ++row;
    if (row == shape_.acc_rows) return;
    const uint32_t most = random_.between(1, random_.one_in(2) ? 4 : max_m_);
    drain(row, most, false);
  }

  uint32_t drain(uint32_t row, uint32_t most, bool plain) {
    const bool integer = rows_[row].integer;
    uint32_t m = 0, n = shape_.cols;
    while (m < most && row + m < shape_.acc_rows && rows_[row + m].columns != 0 && rows_[row + m].integer == integer) {
      n = std::min(n, rows_[row + m++].columns);
    }
    if (!plain && random_.one_in(4)) n = random_.between(1, n);
    num::DrainStage stage;
    stage.integer = integer;
    stage.out = plain ? (integer ? DType::INT32 : DType::FP32) : static_cast<DType>(random_.between(0, 7));
    std::vector<float> scale, bias;
    if (!plain && random_.one_in(2)) {
      scale = factors(n);
      stage.scale = scale.data();
    }
    if (!plain && random_.one_in(2)) {
      bias = factors(n);
      stage.bias = bias.data();
    }
    if (!plain) {
      stage.act = static_cast<num::DrainStage::Act>(random_.between(0, 2));
      stage.lo = -static_cast<float>(random_.between(0, 3));
      stage.hi = static_cast<float>(random_.between(0, 6));
    }
    drained_.push_back(std::make_unique<Drained>(random_, stage.out, m, n));
    Drained &drained = *drained_.back();
    drained.what = "drain of rows " + std::to_string(row) + " + " + std::to_string(m) + ", " + std::to_string(n) +
                   " columns as " + std::string(num::name_of(stage.out)) + ", operation " +
                   std::to_string(result_.operations);
    const uint64_t start = from(tiles_[0]->schedule().earliest_drain(base_));
    const uint64_t rows = stream(m);
    both([&](MacTile &tile, unsigned side) { tile.drain(start, rows, row, m, n, stage, drained.target(side)); });
    ++result_.drains;
    return m;
  }

  /// Everything that the accumulators hold, as it is.
  void drain_all() {
    for (uint32_t row = 0; row < shape_.acc_rows;) {
      row += rows_[row].columns == 0 ? 1 : drain(row, shape_.acc_rows, true);
    }
  }

  void inject() {
    injecting_ = !injecting_;
    for (auto &tile : tiles_) tile->inject_parity_errors(injecting_);
    base_ = tiles_[0]->schedule().idle_from();
    result_.injected += injecting_ ? 1 : 0;
  }

  void settle() {
    base_ = tiles_[0]->schedule().idle_from();
    for (auto &tile : tiles_) tile->finish(base_);
    for (const auto &drained : drained_) {
      result_.elements += drained->elements;
      if (drained->bytes_of_side[0] == drained->bytes_of_side[1]) continue;
      ++result_.bit_differences;
      note(drained->what + drained->difference());
    }
    drained_.clear();
  }

  TileShape shape_;
  Random random_;
  uint32_t max_m_;
  std::unique_ptr<MacTile> tiles_[2];
  std::vector<DType> formats_;
  std::vector<Row> rows_;
  Weights weights_;
  bool injecting_ = false;
  uint64_t base_ = 0;  // nothing starts before what was finished
  std::vector<std::unique_ptr<Drained>> drained_;
  TileComparison result_;
};

}  // namespace

void TileComparison::add(const TileComparison &other) {
  operations += other.operations;
  loads += other.loads;
  passes += other.passes;
  output_stationary += other.output_stationary;
  drains += other.drains;
  scaled += other.scaled;
  mixed += other.mixed;
  stalled += other.stalled;
  injected += other.injected;
  for (unsigned f = 0; f < 6; ++f) by_format[f] += other.by_format[f];
  elements += other.elements;
  bit_differences += other.bit_differences;
  cycle_differences += other.cycle_differences;
  counter_differences += other.counter_differences;
  if (first.empty()) first = other.first;
}

TileComparison compare_tiles(const TileShape &shape, uint64_t seed, uint64_t operations, uint32_t max_m) {
  return Comparison(shape, seed, max_m).run(operations);
}

}  // namespace cx::test
