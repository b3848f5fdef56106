// The Verilated tile against the model and its cycle formulas: random operations one by one, and overlapping command
// sequences with stalls at every port.
#include <bit>
#include <catch2/catch.hpp>
#include <cstring>
#include <deque>
#include <vector>

#include "hw/dmmu/mac_tile.hpp"
#include "tb/hw/common/num_random.hpp"

using namespace cx::hw;
using cx::num::DType;
using cx::test::Random;

namespace {

const TileShape kSmall{8, 8, 256};
const TileShape kLarge{32, 32, 1024};

bool built(const TileShape &shape) {
  for (const TileShape &candidate : cx::rtl::built_tiles()) {
    if (candidate == shape) return true;
  }
  WARN("shape " << cx::rtl::to_string(shape) << " is not in CX_RTL_TILES");
  return false;
}

struct RandomMatrix {
  RandomMatrix(Random &random, DType dtype, uint32_t rows, uint32_t cols) {
    const size_t bytes = cx::num::bytes_of(dtype);
    const size_t stride = cols * bytes + random.between(0, 7);
    data.resize(rows * stride);
    for (uint32_t r = 0; r < rows; ++r) {
      for (uint32_t c = 0; c < cols; ++c) {
        const uint32_t raw = random.element(dtype);
        std::memcpy(&data[r * stride + c * bytes], &raw, bytes);
      }
    }
    operand.dtype = dtype;
    operand.rows = rows;
    operand.cols = cols;
    operand.raw = data.data();
    operand.raw_stride = static_cast<ptrdiff_t>(stride);
  }
  std::vector<std::byte> data;
  TileOperand operand;
};

/// Kinds of values in the accumulator rows, so that only like is added to like.
struct Accumulators {
  explicit Accumulators(const TileShape &shape) : columns(shape.acc_rows, 0), integer(shape.acc_rows, false) {}
  bool can_add(uint32_t row, uint32_t m, uint32_t n, bool is_int) const {
    for (uint32_t i = row; i < row + m; ++i) {
      if (columns[i] < n || integer[i] != is_int) return false;
    }
    return true;
  }
  void wrote(uint32_t row, uint32_t m, uint32_t n, bool is_int) {
    for (uint32_t i = row; i < row + m; ++i) {
      columns[i] = n;
      integer[i] = is_int;
    }
  }
  std::vector<uint32_t> columns;
  std::vector<bool> integer;
};

void compare_random(const TileShape &shape, uint64_t seed, int operations, uint32_t max_m) {
  Random random(cx::test::logged_seed(seed));
  const auto model = make_tile(shape, false), rtl = make_tile(shape, true);
  Accumulators accumulators(shape);
  DType dtype = DType::FP32;
  uint32_t k = 0, n = 0;
  int counts[3] = {0, 0, 0};
  for (int i = 0; i < operations; ++i) {
    INFO("operation " << i);
    const uint32_t choice = k == 0 ? 0 : random.between(0, 9);
    if (choice < 3) {
      dtype = static_cast<DType>(random.between(0, 5));
      k = random.between(1, shape.rows);
      n = random.between(1, shape.cols);
      const RandomMatrix w(random, dtype, k, n);
      const TileCycles cycles = model->load_weights(w.operand);
      REQUIRE(rtl->load_weights(w.operand) == cycles);
      REQUIRE(cycles == load_cycles(k));
    } else if (choice < 8) {
      const uint32_t m = random.one_in(4) ? random.between(1, 3) : random.between(1, max_m);
      const uint32_t row = random.between(0, random.one_in(2) ? 0 : shape.acc_rows - m);
      const uint32_t columns = random.one_in(4) ? random.between(1, n) : n;
      const bool is_int = dtype == DType::INT8;
      const bool accumulate = random.one_in(2) && accumulators.can_add(row, m, columns, is_int);
      if (!accumulate) accumulators.wrote(row, m, columns, is_int);
      const RandomMatrix a(random, dtype, m, k);
      const TileCycles cycles = model->matmul(a.operand, columns, row, accumulate);
      REQUIRE(rtl->matmul(a.operand, columns, row, accumulate) == cycles);
      REQUIRE(cycles == mul_cycles(shape, m, columns));
    } else {
      uint32_t row = random.between(0, random.one_in(2) ? 0 : shape.acc_rows - 1);
      while (row < shape.acc_rows && accumulators.columns[row] == 0) ++row;
      uint32_t m = 0, columns = shape.cols;
      while (m < max_m && row + m < shape.acc_rows && accumulators.columns[row + m] != 0) {
        columns = std::min(columns, accumulators.columns[row + m++]);
      }
      if (m == 0) continue;
      std::vector<uint32_t> want(m * columns), got(m * columns);
      const TileCycles cycles = model->drain(row, m, columns, want.data(), columns);
      REQUIRE(rtl->drain(row, m, columns, got.data(), columns) == cycles);
      REQUIRE(cycles == drain_cycles(m));
      REQUIRE((want == got));
    }
    ++counts[choice < 3 ? 0 : choice < 8 ? 1 : 2];
  }
  for (uint32_t row = 0; row < shape.acc_rows; ++row) {
    if (accumulators.columns[row] == 0) continue;
    std::vector<uint32_t> want(accumulators.columns[row]), got(want.size());
    const auto width = static_cast<uint32_t>(want.size());
    model->drain(row, 1, width, want.data(), width);
    rtl->drain(row, 1, width, got.data(), width);
    REQUIRE((want == got));
  }
  CHECK(counts[0] > 0);
  CHECK(counts[1] > 0);
  CHECK(counts[2] > 0);
}

/// Drives the pins as a pipelined master does: commands as soon as the tile takes them, rows at every port on their
/// own.
class Sequencer {
 public:
  Sequencer(const TileShape &shape, Random &random, bool stalls)
      : sim_(cx::rtl::make_tile_sim(shape)), schedule_(shape), random_(random), stalls_(stalls) {}

  /// Issues one command. Without stalls the cycle in which the tile takes it must be the schedule's.
  void load(const RandomMatrix &w) {
    prepare(cx::rtl::TileSim::Op::kLoad, w.operand.dtype);
    sim_->in.cmd_k = static_cast<uint8_t>(w.operand.rows);
    issue(schedule_.earliest_load(cycle_));
    schedule_.load(cycle_ - 1, w.operand.rows);
    for (uint32_t r = 0; r < w.operand.rows; ++r) weights_.push_back(row_words(w, r));
  }
  void mul(const RandomMatrix &a, uint32_t n, uint32_t acc_row, bool accumulate) {
    prepare(cx::rtl::TileSim::Op::kMul, a.operand.dtype);
    sim_->in.cmd_m = static_cast<uint16_t>(a.operand.rows);
    sim_->in.cmd_k = static_cast<uint8_t>(a.operand.cols);
    sim_->in.cmd_n = static_cast<uint8_t>(n);
    sim_->in.cmd_acc_row = static_cast<uint16_t>(acc_row);
    sim_->in.cmd_accumulate = accumulate;
    issue(schedule_.earliest_mul(cycle_));
    schedule_.mul(cycle_ - 1, a.operand.rows, n);
    for (uint32_t r = 0; r < a.operand.rows; ++r) activations_.push_back(row_words(a, r));
  }
  void drain(uint32_t acc_row, uint32_t m) {
    prepare(cx::rtl::TileSim::Op::kDrain, DType::FP32);
    sim_->in.cmd_m = static_cast<uint16_t>(m);
    sim_->in.cmd_acc_row = static_cast<uint16_t>(acc_row);
    issue(schedule_.earliest_drain(cycle_));
    schedule_.drain(cycle_ - 1, m);
  }
  void finish() {
    sim_->in.cmd_valid = false;
    while (!sim_->out.idle) step();
    if (!stalls_) REQUIRE(cycle_ == schedule_.idle_from());
  }

  std::vector<std::vector<uint32_t>> drained;

 private:
  static std::vector<uint32_t> row_words(const RandomMatrix &matrix, uint32_t row) {
    const size_t bytes = cx::num::bytes_of(matrix.operand.dtype);
    std::vector<uint32_t> words(matrix.operand.cols, 0);
    for (uint32_t c = 0; c < matrix.operand.cols; ++c) {
      std::memcpy(&words[c], matrix.operand.raw + row * matrix.operand.raw_stride + c * bytes, bytes);
    }
    return words;
  }

  void prepare(cx::rtl::TileSim::Op op, DType dtype) {
    sim_->in.cmd_op = op;
    sim_->in.cmd_fmt = static_cast<uint8_t>(dtype);
  }

  void issue(uint64_t expected) {
    sim_->in.cmd_valid = true;
    // One step takes the command if it can be taken; the limit only ends a test that has failed.
    const uint64_t limit = cycle_ + 100000;
    while (!step()) REQUIRE(cycle_ < limit);
    sim_->in.cmd_valid = false;
    if (!stalls_) REQUIRE(cycle_ - 1 == expected);
  }

  /// One clock cycle; true if a command was taken in it.
  bool step() {
    const bool supply = !stalls_ || !random_.one_in(3);
    sim_->in.w_valid = !weights_.empty() && supply;
    sim_->in.a_valid = !activations_.empty() && (!stalls_ || !random_.one_in(3));
    sim_->in.d_ready = !stalls_ || !random_.one_in(2);
    if (sim_->in.w_valid) std::copy(weights_.front().begin(), weights_.front().end(), sim_->w_row);
    if (sim_->in.a_valid) std::copy(activations_.front().begin(), activations_.front().end(), sim_->a_row);
    sim_->settle();
    if (sim_->in.w_valid && sim_->out.w_ready) weights_.pop_front();
    if (sim_->in.a_valid && sim_->out.a_ready) activations_.pop_front();
    if (sim_->in.d_ready && sim_->out.d_valid) drained.emplace_back(sim_->d_row, sim_->d_row + sim_->shape().cols);
    const bool taken = sim_->in.cmd_valid && sim_->out.cmd_ready;
    sim_->tick();
    ++cycle_;
    return taken;
  }

  std::unique_ptr<cx::rtl::TileSim> sim_;
  TileSchedule schedule_;
  Random &random_;
  bool stalls_;
  uint64_t cycle_ = 0;
  std::deque<std::vector<uint32_t>> weights_, activations_;
};

void compare_sequences(const TileShape &shape, uint64_t seed, int rounds, bool stalls) {
  Random random(cx::test::logged_seed(seed));
  for (int round = 0; round < rounds; ++round) {
    INFO("round " << round);
    const auto model = make_tile(shape, false);
    Sequencer sequencer(shape, random, stalls);
    Accumulators accumulators(shape);
    std::vector<std::vector<uint32_t>> want;
    DType dtype = DType::FP32;
    uint32_t k = 0, n = 0;
    for (int i = 0; i < 24; ++i) {
      const uint32_t choice = k == 0 ? 0 : random.between(0, 9);
      if (choice < 4) {
        dtype = static_cast<DType>(random.between(0, 5));
        k = random.between(1, shape.rows);
        n = random.between(1, shape.cols);
        const RandomMatrix w(random, dtype, k, n);
        model->load_weights(w.operand);
        sequencer.load(w);
      } else if (choice < 8) {
        // Short passes let several be in flight; the same few rows provoke forwarding.
        const uint32_t m = random.between(1, random.one_in(3) ? 20 : 3);
        const uint32_t row = random.between(0, 2);
        const bool is_int = dtype == DType::INT8;
        const bool accumulate = accumulators.can_add(row, m, n, is_int) && !random.one_in(4);
        if (!accumulate) accumulators.wrote(row, m, n, is_int);
        const RandomMatrix a(random, dtype, m, k);
        model->matmul(a.operand, n, row, accumulate);
        sequencer.mul(a, n, row, accumulate);
      } else {
        uint32_t row = 0, m = 0, columns = shape.cols;
        while (row < 4 && accumulators.columns[row] == 0) ++row;
        while (accumulators.columns[row + m] != 0) columns = std::min(columns, accumulators.columns[row + m++]);
        if (m == 0) continue;
        std::vector<uint32_t> words(m * columns);
        model->drain(row, m, columns, words.data(), columns);
        for (uint32_t r = 0; r < m; ++r) {
          want.emplace_back(words.begin() + r * columns, words.begin() + (r + 1) * columns);
        }
        sequencer.drain(row, m);
      }
    }
    sequencer.finish();
    REQUIRE(sequencer.drained.size() == want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      sequencer.drained[i].resize(want[i].size());
      REQUIRE((sequencer.drained[i] == want[i]));
    }
  }
}

}  // namespace

TEST_CASE("8x8: random operations give the model's bits and cycles") {
  if (built(kSmall)) compare_random(kSmall, 4, 1000, 40);
}

TEST_CASE("8x8: whole accumulator memory in one pass") {
  if (!built(kSmall)) return;
  Random random(cx::test::logged_seed(5));
  const auto model = make_tile(kSmall, false), rtl = make_tile(kSmall, true);
  const RandomMatrix w(random, DType::BF16, 8, 8), a(random, DType::BF16, kSmall.acc_rows, 8);
  model->load_weights(w.operand);
  rtl->load_weights(w.operand);
  REQUIRE(rtl->matmul(a.operand, 8, 0, false) == model->matmul(a.operand, 8, 0, false));
  REQUIRE(rtl->matmul(a.operand, 8, 0, true) == model->matmul(a.operand, 8, 0, true));
  std::vector<uint32_t> want(kSmall.acc_rows * 8), got(want.size());
  REQUIRE(rtl->drain(0, kSmall.acc_rows, 8, got.data(), 8) == model->drain(0, kSmall.acc_rows, 8, want.data(), 8));
  CHECK((want == got));
}

TEST_CASE("8x8: overlapping commands are taken in the cycles that the schedule says") {
  if (built(kSmall)) compare_sequences(kSmall, 6, 150, false);
}

TEST_CASE("8x8: stalls at every port change no bit") {
  if (built(kSmall)) compare_sequences(kSmall, 7, 100, true);
}

TEST_CASE("32x32: random operations give the model's bits and cycles") {
  if (built(kLarge)) compare_random(kLarge, 8, 60, 40);
}

TEST_CASE("32x32: overlapping commands") {
  if (built(kLarge)) compare_sequences(kLarge, 9, 3, false);
}

TEST_CASE("bad operands are refused alike by model and RTL") {
  Random random(1);
  for (bool rtl : {false, true}) {
    if (rtl && !built(kSmall)) continue;
    const auto tile = make_tile(kSmall, rtl);
    const RandomMatrix w(random, DType::FP16, 8, 8), tall(random, DType::FP16, 9, 8), wide(random, DType::FP16, 8, 9),
        a(random, DType::FP16, 4, 8), other(random, DType::BF16, 4, 8), narrow(random, DType::FP16, 4, 7),
        unsigned8(random, DType::UINT8, 4, 8);
    CHECK_THROWS_AS(tile->matmul(a.operand, 8, 0, false), std::invalid_argument);
    CHECK_THROWS_AS(tile->load_weights(tall.operand), std::invalid_argument);
    CHECK_THROWS_AS(tile->load_weights(wide.operand), std::invalid_argument);
    CHECK_THROWS_AS(tile->load_weights(unsigned8.operand), std::invalid_argument);
    tile->load_weights(w.operand);
    CHECK_THROWS_AS(tile->matmul(other.operand, 8, 0, false), std::invalid_argument);
    CHECK_THROWS_AS(tile->matmul(narrow.operand, 8, 0, false), std::invalid_argument);
    CHECK_THROWS_AS(tile->matmul(a.operand, 9, 0, false), std::invalid_argument);
    CHECK_THROWS_AS(tile->matmul(a.operand, 8, 253, false), std::invalid_argument);
    CHECK_NOTHROW(tile->matmul(a.operand, 8, 252, false));
    uint32_t words[8];
    CHECK_THROWS_AS(tile->drain(256, 1, 8, words, 8), std::invalid_argument);
    tile->reset();
    CHECK_THROWS_AS(tile->matmul(a.operand, 8, 0, false), std::invalid_argument);
  }
  CHECK_THROWS_WITH(make_tile({8, 8, 255}, true), Catch::Contains("CX_RTL_TILES"));
  CHECK_THROWS_AS(make_tile({0, 8, 255}, false), std::invalid_argument);
}
