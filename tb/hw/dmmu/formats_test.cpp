// Packed 8-bit formats, mixed FP8, block scales and output-stationary passes as a stream of instructions, against a
// scalar reference with the order of sums in hw/isa/isa.yaml.
#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "tb/hw/dmmu/dmmu_bench.hpp"

namespace {

using namespace cx;
using namespace cx::tb;
using test::Random;

bool is_fp8(DType dtype) { return dtype == DType::FP8_E4M3 || dtype == DType::FP8_E5M2; }
bool is_narrow(DType dtype) { return is_fp8(dtype) || dtype == DType::INT8; }

float canonical(float value) { return std::isnan(value) ? std::bit_cast<float>(num::kCanonicalNan) : value; }

struct Sum {
  float real = 0;
  uint32_t integer = 0;
};

/// An M x N block of accumulators.
class Reference {
 public:
  Reference(const std::vector<uint8_t> &memory, uint32_t pack, uint32_t m, uint32_t n)
      : memory_(memory), pack_(pack), m_(m), n_(n), sums_(m * n) {}

  /// `rows`: FP32[M], `columns`: FP32[N], or null.
  void pass(const View &a, const View &w, bool accumulate, const View *rows = nullptr, const View *columns = nullptr) {
    for (uint32_t i = 0; i < m_; ++i) {
      for (uint32_t j = 0; j < n_; ++j) {
        const Sum chain = chain_of(a, w, i, j);
        Sum &sum = sums_[i * n_ + j];
        if (rows == nullptr && columns == nullptr) {
          sum.integer = chain.integer + (accumulate ? sum.integer : 0);
          sum.real = accumulate ? sum.real + chain.real : chain.real;
          continue;
        }
        const float row = rows != nullptr ? float_at(memory_, rows->at(0, i)) : 1;
        const float column = columns != nullptr ? float_at(memory_, columns->at(0, j)) : 1;
        const float scale = row * column;
        const float value =
            a.dtype == DType::INT8 ? static_cast<float>(static_cast<int32_t>(chain.integer)) : chain.real;
        sum.real = accumulate ? std::fma(value, scale, sum.real) : value * scale;
      }
    }
  }

  /// Without scale, bias and activation.
  void drain(const View &out, bool integer, std::vector<uint8_t> &to) const {
    for (uint32_t i = 0; i < m_; ++i) {
      for (uint32_t j = 0; j < n_; ++j) {
        const Sum &sum = sums_[i * n_ + j];
        if (integer && out.dtype == DType::INT32) {
          std::memcpy(&to[out.at(i, j)], &sum.integer, 4);
        } else {
          const float value = integer ? static_cast<float>(static_cast<int32_t>(sum.integer)) : canonical(sum.real);
          num::encode(out.dtype, value, &to[out.at(i, j)]);
        }
      }
    }
  }

 private:
  Sum chain_of(const View &a, const View &w, uint32_t i, uint32_t j) const {
    Sum chain;
    const uint32_t k = a.dims[3];
    const auto factor = [&](const View &view, uint32_t row, uint32_t column) {
      return num::decode(view.dtype, &memory_[view.at(row, column)]);
    };
    if (is_fp8(a.dtype) && pack_ == 2) {
      for (uint32_t r = 0; r < k; r += 2) {
        const float first = factor(a, i, r) * factor(w, r, j);
        const float second = r + 1 < k ? factor(a, i, r + 1) * factor(w, r + 1, j) : 0.0f;
        chain.real += first + second;
      }
      return chain;
    }
    for (uint32_t r = 0; r < k; ++r) {
      const float x = factor(a, i, r), y = factor(w, r, j);
      if (a.dtype == DType::INT8) {
        chain.integer += static_cast<uint32_t>(static_cast<int32_t>(x * y));
      } else {
        chain.real = std::fma(x, y, chain.real);
      }
    }
    return chain;
  }

  const std::vector<uint8_t> &memory_;
  uint32_t pack_, m_, n_;
  std::vector<Sum> sums_;
};

/// Operands side by side in the scratchpad.
class Arena {
 public:
  Arena(Random &random, std::vector<uint8_t> &memory) : random_(random), memory_(memory) {}

  /// Room for `span` bytes, filled with elements of the format.
  uint32_t place(DType dtype, uint32_t span) {
    const auto bytes = static_cast<uint32_t>(num::bytes_of(dtype));
    const uint32_t base = next_ + random_.between(0, 3) * 4;
    next_ = base + (span + 3) / 4 * 4;
    REQUIRE(next_ <= 0xC000);
    const bool sparse = random_.one_in(4);
    for (uint32_t at = base; at + bytes <= next_; at += bytes) {
      const uint32_t raw = sparse && !random_.one_in(3) ? 0 : random_.element(dtype);
      std::memcpy(&memory_[at], &raw, bytes);
    }
    return base;
  }

  /// FP32[n], sometimes with gaps. `wild` ones are zeros, infinities and NaNs too.
  View scales(uint32_t n, bool wild) {
    const int32_t step = random_.one_in(3) ? 8 : 4;
    View view{DType::FP32, place(DType::FP32, n * 8), {1, 1, 1, static_cast<uint16_t>(n)}, {0, 0, 0, step}};
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t tame = (random_.bits() & 0x807FFFFFu) | random_.between(118, 136) << 23;
      put_float(memory_, view.at(0, i), std::bit_cast<float>(wild ? random_.fp32() : tame));
    }
    return view;
  }

 private:
  Random &random_;
  std::vector<uint8_t> &memory_;
  uint32_t next_ = 0;
};

/// Passes of both dataflows into one block of accumulators, then a drain.
void random_program(Random &random, Pair &pair, unsigned round) {
  const uint32_t pack = pair.shape.pack;
  const auto m_split = static_cast<uint8_t>(random.between(1, kTiles));
  const auto n_split = static_cast<uint8_t>(random.between(1, kTiles / m_split));
  const auto n = static_cast<uint16_t>(random.between(1, n_split * kCols));
  std::array<uint16_t, 4> dims{static_cast<uint16_t>(random.between(1, 2)), static_cast<uint16_t>(random.between(1, 3)),
                               static_cast<uint16_t>(random.between(1, 6)), 1};
  const uint32_t m = dims[0] * dims[1] * dims[2];
  const uint32_t chunk = (m + m_split - 1) / m_split;
  const bool integer = random.one_in(4);
  const bool wild = random.one_in(3);

  std::vector<uint8_t> memory(1 << 16);
  Arena arena(random, memory);
  Reference reference(memory, pack, m, n);
  std::vector<isa::Inst> program;
  uint64_t macs = 0, read = 0;
  struct Loaded {
    View w;
    std::optional<View> scale;
  };
  std::optional<Loaded> loaded;
  const auto acc_row = static_cast<uint16_t>(random.between(0, pair.shape.acc_rows - chunk));

  const uint32_t passes = random.between(1, 4);
  for (uint32_t pass = 0; pass < passes; ++pass) {
    const bool accumulate = pass != 0;
    const bool again = loaded && random.one_in(4);
    auto dtype = integer ? DType::INT8 : static_cast<DType>(random.between(0, 5));
    if (!integer && random.one_in(2)) dtype = random.one_in(2) ? DType::FP8_E4M3 : DType::FP8_E5M2;
    if (again) dtype = loaded->w.dtype;
    const bool os = !again && chunk <= kRows && random.one_in(3) && (integer || dtype != DType::INT8);
    const bool scaled = !integer && !os && (dtype == DType::INT8 || random.one_in(2));
    const auto other = [&] { return random.one_in(2) ? DType::FP8_E4M3 : DType::FP8_E5M2; };
    const DType a_dtype = is_fp8(dtype) ? other() : dtype;
    const auto bytes = static_cast<int32_t>(num::bytes_of(dtype));

    // All operands of the longest program fit in the scratchpad.
    const uint32_t room = 0x1400 / static_cast<uint32_t>(bytes);
    uint32_t k = is_narrow(dtype) ? kRows * pack : kRows;
    if (os) k = std::min(room / std::max<uint32_t>(n, m) - 2, 600u);
    k = again ? loaded->w.dims[2] : random.between(1, k);
    if (!again) {
      const int32_t row = static_cast<int32_t>(n + random.between(0, 1)) * bytes;
      View w{dtype, 0, {1, 1, static_cast<uint16_t>(k), n}, {0, 0, row, bytes}};
      w.base = arena.place(dtype, k * static_cast<uint32_t>(row));
      if (random.one_in(4)) w.strides = {0, 0, bytes, static_cast<int32_t>(k) * bytes};
      program.push_back(w.inst(0));
      if (!os) {
        loaded = Loaded{w, {}};
        if (scaled && random.one_in(2)) loaded->scale = arena.scales(n, wild);
        if (loaded->scale) program.push_back(loaded->scale->inst(2));
        program.push_back(ldw(0, m_split, n_split, loaded->scale ? 2 : kNone));
        if (loaded->scale) read += n * 4;
      } else {
        // The weights of this pass are the instruction's own.
        dims[3] = static_cast<uint16_t>(k);
        const int32_t pixel = static_cast<int32_t>(k + random.between(0, 1)) * bytes;
        View a{a_dtype, 0, dims, {pixel * dims[2] * dims[1], pixel * dims[2], pixel, bytes}};
        a.base = arena.place(a_dtype, m * static_cast<uint32_t>(pixel));
        program.push_back(a.inst(1));
        program.push_back(mul_os(1, 0, accumulate, acc_row, m_split, n_split));
        reference.pass(a, w, accumulate);
      }
      read += uint64_t{k} * n * static_cast<uint32_t>(bytes);
    }
    if (!os) {
      dims[3] = static_cast<uint16_t>(k);
      const int32_t pixel = static_cast<int32_t>(k + random.between(0, 2)) * bytes;
      View a{a_dtype, 0, dims, {pixel * dims[2] * dims[1], pixel * dims[2], pixel, bytes}};
      if (random.one_in(4)) a.strides[2] = bytes;  // overlapping windows
      a.base = arena.place(a_dtype, m * static_cast<uint32_t>(pixel));
      // Sums of INT8 are floats once a factor scales them.
      std::optional<View> rows;
      if (scaled && (!loaded->scale || random.one_in(2))) rows = arena.scales(m, wild);
      if (!integer && dtype == DType::INT8 && !loaded->scale && !rows) rows = arena.scales(m, wild);
      program.push_back(a.inst(1));
      if (rows) program.push_back(rows->inst(3));
      program.push_back(mul(1, n, accumulate, acc_row, m_split, n_split, rows ? 3 : kNone));
      if (rows) read += m * 4;
      reference.pass(a, loaded->w, accumulate, rows ? &*rows : nullptr, loaded->scale ? &*loaded->scale : nullptr);
    }
    macs += uint64_t{m} * n * k;
    read += uint64_t{m} * k * static_cast<uint32_t>(bytes);
  }

  auto out_dtype = static_cast<DType>(random.between(0, 7));
  if (random.one_in(2)) out_dtype = integer ? DType::INT32 : DType::FP32;
  const auto out_bytes = static_cast<int32_t>(num::bytes_of(out_dtype));
  const int32_t row = n * out_bytes;
  dims[3] = n;
  const View out{out_dtype, 0xC000, dims, {row * dims[2] * dims[1], row * dims[2], row, out_bytes}};
  program.push_back(out.inst(4));
  program.push_back(drain(4, acc_row, m_split, n_split));
  std::vector<uint8_t> want = memory;
  reference.drain(out, integer, want);

  INFO(rtl::to_string(pair.shape) << " round " << round << ": " << passes << " passes, m " << m << " n " << n
                                  << " split " << int{m_split} << " x " << int{n_split} << " to "
                                  << num::name_of(out_dtype));
  std::vector<uint8_t> got = memory;
  const Counters counters = run(pair, program, got);
  REQUIRE((got == want));
  CHECK(counters.operations == macs);
  CHECK(counters.read == read);
  CHECK(counters.written == uint64_t{m} * n * static_cast<uint32_t>(out_bytes));
}

}  // namespace

TEST_CASE("both dataflows, packed and mixed formats, block scales: the reference's bits on model and RTL") {
  Random random(test::logged_seed(20));
  for (unsigned round = 0; round < 300; ++round) {
    random_program(random, chip().packed, round);
    if (round % 3 == 0) random_program(random, chip().plain, round);
  }
}
