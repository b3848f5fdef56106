#include "tb/rtl/sca_operations.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <vector>

#include "tb/rtl/tile_data.hpp"

namespace cx::test {
namespace {

using hw::ScaShape;
using hw::ScaTile;
using hw::ScaTileRtl;
using hw::SparseColumns;
using num::DType;

constexpr DType kFormats[] = {DType::FP16, DType::BF16, DType::FP8_E4M3, DType::FP8_E5M2, DType::INT8};

DType partner(Random &random, DType dtype) {
  if (dtype != DType::FP8_E4M3 && dtype != DType::FP8_E5M2) return dtype;
  return random.one_in(2) ? DType::FP8_E4M3 : DType::FP8_E5M2;
}

uint16_t nonzero_element(Random &random, DType dtype) {
  const uint32_t magnitude = dtype == DType::INT8 ? 0xFFu : num::bytes_of(dtype) == 1 ? 0x7Fu : 0x7FFFu;
  for (;;) {
    const uint32_t raw = random.element(dtype);
    if ((raw & magnitude) != 0) return static_cast<uint16_t>(raw);
  }
}

/// Which rows of a column are non-zero.
class Choice {
 public:
  Choice(Random &random, uint32_t k, uint32_t n, Pattern pattern) : random_(random), k_(k), n_(n), pattern_(pattern) {
    density_ = random.between(1, 99);
    full_ = random.between(0, n - 1);
    constexpr uint32_t kStructures[][2] = {{1, 8}, {2, 8}, {2, 4}, {1, 4}};
    const auto &structure = kStructures[random.between(0, 3)];
    kept_ = structure[0];
    among_ = structure[1];
    rows_.resize(k);
    for (auto &&row : rows_) row = random.one_in(4) ? 1 : 0;
  }

  std::vector<uint8_t> column(uint32_t c) {
    std::vector<uint8_t> flags(k_, 0);
    const auto uniform = [&](uint32_t density) {
      for (uint8_t &flag : flags) flag = random_.between(0, 99) < density ? 1 : 0;
    };
    switch (pattern_) {
      case Pattern::kUniform:
        uniform(density_);
        break;
      case Pattern::kDense:
        uniform(100);
        break;
      case Pattern::kNone:
        break;
      case Pattern::kOneColumn:
        uniform(c == full_ ? 100 : random_.between(0, 3));
        break;
      case Pattern::kClustered:
        for (uint32_t at = random_.between(0, k_ - 1); at < k_; at += random_.between(1, k_)) {
          const uint32_t end = std::min(k_, at + random_.between(1, 40));
          std::fill(flags.begin() + at, flags.begin() + end, uint8_t{1});
          at = end;
        }
        break;
      case Pattern::kRows:
        flags = rows_;
        break;
      case Pattern::kStaircase:
        std::fill(flags.begin() + static_cast<ptrdiff_t>(uint64_t{k_} * c / n_),
                  flags.begin() + static_cast<ptrdiff_t>(uint64_t{k_} * (c + 1) / n_), uint8_t{1});
        break;
      case Pattern::kStructured:
        for (uint32_t block = 0; block < k_; block += among_) {
          for (uint32_t i = 0; i < kept_; ++i) {
            const uint32_t row = block + random_.between(0, among_ - 1);
            if (row < k_) flags[row] = 1;
          }
        }
        break;
      case Pattern::kEnds:
        flags.front() = random_.one_in(2);
        flags.back() = 1;
        break;
      case Pattern::kUneven:
        uniform(random_.between(0, 100));
        break;
    }
    return flags;
  }

 private:
  Random &random_;
  uint32_t k_, n_;
  Pattern pattern_;
  uint32_t density_, full_, kept_, among_;
  std::vector<uint8_t> rows_;
};

class Comparison {
 public:
  Comparison(const ScaShape &shape, uint64_t seed)
      : shape_(shape),
        random_(seed),
        tiles_{hw::make_sca_tile(shape, false), hw::make_sca_tile(shape, true)},
        rows_(shape.acc_rows) {
    if (random_.one_in(2)) static_cast<ScaTileRtl &>(*tiles_[1]).set_stall_seed(seed | 1);
  }

  ScaComparison run(uint64_t operations) {
    while (result_.operations < operations) {
      const uint32_t choice = random_.between(0, 99);
      if (choice < 30) {
        load();
      } else if (choice < 65) {
        multiply();
      } else if (choice < 98) {
        drain();
      } else {
        settle();
      }
    }
    drain_all();
    settle();
    const hw::ScaCounters model = tiles_[0]->counters(), rtl = tiles_[1]->counters();
    if (!(model == rtl)) {
      ++result_.counter_differences;
      note("counters: " + text(model) + " in the model, " + text(rtl) + " in the RTL");
    }
    result_.cycle_differences = tiles_[1]->cycle_differences();
    if (result_.cycle_differences != 0) note(tiles_[1]->first_difference());
    return result_;
  }

 private:
  /// What a row of accumulators holds.
  struct Row {
    uint32_t columns = 0;
    uint32_t lanes = 0;
    bool integer = false;
  };
  struct Activations {
    DType dtype = DType::FP16;
    uint32_t m = 0, k = 0;
  };

  void note(const std::string &what) {
    if (result_.first.empty()) result_.first = what;
  }

  static std::string text(const hw::ScaCounters &c) {
    std::string result;
    for (uint64_t value : {c.busy, c.vectors, c.load_stalls, c.columns, c.drain_stalls, c.issued, c.gated,
                           c.stalls.window, c.stalls.feed, c.stalls.queue}) {
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
  std::vector<float> factors(uint32_t count) {
    std::vector<float> values(count);
    for (float &value : values) {
      value = random_.one_in(20) ? std::bit_cast<float>(random_.element(DType::FP32))
                                 : std::ldexp(1.0f + 0.001f * static_cast<float>(random_.between(0, 999)),
                                              static_cast<int>(random_.between(0, 12)) - 6);
    }
    return values;
  }
  template <typename F>
  void both(F f) {
    for (unsigned side : {0u, 1u}) f(*tiles_[side], side);
    ++result_.operations;
  }

  void load() {
    const DType dtype = kFormats[random_.between(0, 4)];
    const uint32_t m = random_.one_in(2) ? shape_.rows : random_.between(1, shape_.rows);
    const uint32_t longest = std::min(shape_.depth, 300u);
    const uint32_t k = random_.between(1, random_.one_in(3) ? longest : std::min(longest, 40u));
    const RandomMatrix a(random_, dtype, m, k);
    const uint64_t start = from(tiles_[0]->schedule().earliest_load(base_));
    const uint64_t vectors = stream(k);
    both([&](ScaTile &tile, unsigned) { tile.load(start, vectors, a.operand); });
    loaded_ = {dtype, m, k};
    ++result_.loads;
  }

  hw::ScaFeed feed(uint32_t groups) {
    hw::ScaFeed result;
    if (random_.one_in(2)) return result;
    ++result_.stalled;
    result.first = random_.between(0, 30);
    const uint32_t most = random_.between(1, 2 * loaded_.k);
    for (uint32_t g = 0; g < groups; ++g) result.cycles.push_back(random_.between(0, most));
    return result;
  }

  void multiply() {
    if (loaded_.k == 0) return;
    const DType dtype = partner(random_, loaded_.dtype);
    const uint32_t groups = random_.between(1, std::min(shape_.acc_rows, random_.one_in(4) ? 8u : 3u));
    const uint32_t n = (groups - 1) * shape_.cols + random_.between(1, shape_.cols);
    const uint32_t row = random_.between(0, random_.one_in(2) ? 0 : shape_.acc_rows - groups);
    const auto pattern = static_cast<Pattern>(random_.between(0, kPatterns - 1));
    const auto w = std::make_shared<const SparseColumns>(random_weights(random_, dtype, loaded_.k, n, pattern));
    const hw::ScaPlan plan = hw::plan_multiplication(shape_, *w, feed(groups));
    const bool integer = dtype == DType::INT8;
    const bool accumulate = random_.one_in(2) && can_add(row, n, integer);
    for (uint32_t g = 0; !accumulate && g < groups; ++g) {
      rows_[row + g] = {std::min(shape_.cols, n - g * shape_.cols), loaded_.m, integer};
    }
    const uint64_t start = from(tiles_[0]->schedule().earliest_mul(base_, row, groups));
    both([&](ScaTile &tile, unsigned) { tile.multiply(start, w, plan, row, accumulate); });
    ++result_.multiplications;
    ++result_.by_pattern[static_cast<unsigned>(pattern)];
    result_.nonzeros += w->nonzeros();
  }

  bool can_add(uint32_t row, uint32_t n, bool integer) const {
    for (uint32_t g = 0; g < hw::sca_groups(shape_, n); ++g) {
      const Row &r = rows_[row + g];
      if (r.columns < std::min(shape_.cols, n - g * shape_.cols) || r.integer != integer || r.lanes > loaded_.m) {
        return false;
      }
    }
    return true;
  }

  void drain() {
    uint32_t row = random_.between(0, random_.one_in(2) ? 0 : shape_.acc_rows - 1);
    while (row < shape_.acc_rows && rows_[row].columns == 0) ++row;
    if (row == shape_.acc_rows) return;
    drain(row, random_.between(1, 4), false);
  }

  /// Up to `most` rows from `row` on that hold something of one kind; returns how many.
  uint32_t drain(uint32_t row, uint32_t most, bool plain) {
    const bool integer = rows_[row].integer;
    uint32_t rows = 0, m = shape_.rows, n = 0;
    while (rows < most && row + rows < shape_.acc_rows) {
      const Row &next = rows_[row + rows];
      if (next.columns == 0 || next.integer != integer) break;
      m = std::min(m, next.lanes);
      n += next.columns;
      ++rows;
      if (next.columns != shape_.cols) break;
    }
    if (!plain && random_.one_in(4)) n = random_.between(1, n);
    if (!plain && random_.one_in(4)) m = random_.between(1, m);
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
    drained.what = "drain of rows " + std::to_string(row) + " + " + std::to_string(rows) + ", " + std::to_string(m) +
                   " x " + std::to_string(n) + " as " + std::string(num::name_of(stage.out)) + ", operation " +
                   std::to_string(result_.operations);
    const uint64_t start = from(tiles_[0]->schedule().earliest_drain(base_));
    const uint64_t columns = stream(n);
    both([&](ScaTile &tile, unsigned side) { tile.drain(start, columns, row, m, n, stage, drained.target(side)); });
    ++result_.drains;
    return rows;
  }

  /// Everything that the accumulators hold, as it is.
  void drain_all() {
    for (uint32_t row = 0; row < shape_.acc_rows;) {
      row += rows_[row].columns == 0 ? 1 : drain(row, shape_.acc_rows, true);
    }
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

  ScaShape shape_;
  Random random_;
  std::unique_ptr<ScaTile> tiles_[2];
  std::vector<Row> rows_;
  Activations loaded_;
  uint64_t base_ = 0;  // nothing starts before what was finished
  std::vector<std::unique_ptr<Drained>> drained_;
  ScaComparison result_;
};

}  // namespace

const char *name_of(Pattern pattern) {
  constexpr const char *kNames[kPatterns] = {"uniform", "dense",     "none",       "one column", "clustered",
                                             "rows",    "staircase", "structured", "ends",       "uneven"};
  return kNames[static_cast<unsigned>(pattern)];
}

SparseColumns random_weights(Random &random, DType dtype, uint32_t k, uint32_t n, Pattern pattern) {
  Choice choice(random, k, n, pattern);
  SparseColumns w;
  w.dtype = dtype;
  w.k = k;
  w.n = n;
  w.starts.push_back(0);
  for (uint32_t c = 0; c < n; ++c) {
    const std::vector<uint8_t> flags = choice.column(c);
    for (uint32_t row = 0; row < k; ++row) {
      if (flags[row] == 0) continue;
      w.rows.push_back(static_cast<uint16_t>(row));
      w.raw.push_back(nonzero_element(random, dtype));
    }
    w.starts.push_back(static_cast<uint32_t>(w.rows.size()));
  }
  return w;
}

void ScaComparison::add(const ScaComparison &other) {
  operations += other.operations;
  loads += other.loads;
  multiplications += other.multiplications;
  drains += other.drains;
  stalled += other.stalled;
  for (unsigned p = 0; p < kPatterns; ++p) by_pattern[p] += other.by_pattern[p];
  nonzeros += other.nonzeros;
  elements += other.elements;
  bit_differences += other.bit_differences;
  cycle_differences += other.cycle_differences;
  counter_differences += other.counter_differences;
  if (first.empty()) first = other.first;
}

ScaComparison compare_sca_tiles(const ScaShape &shape, uint64_t seed, uint64_t operations) {
  return Comparison(shape, seed).run(operations);
}

}  // namespace cx::test
