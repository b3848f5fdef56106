// What a sparse multiplication costs the host: decoding the stream, planning its cycles, the product of a tile.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <vector>

#include "hw/common/num/gathered.hpp"
#include "hw/common/sparse/sparse.hpp"
#include "hw/sca/sca_timing.hpp"
#include "tb/hw/common/num_random.hpp"

namespace {

using namespace cx;

constexpr uint32_t kK = 512, kN = 512, kCols = 32, kLanes = 32;
constexpr uint64_t kSeed = 1;
constexpr int kRounds = 15;

/// Nanoseconds of the fastest of several calls.
template <typename F>
double fastest(F f) {
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

/// FP16 weights, `zeros` percent of them zeros.
std::vector<uint8_t> weights(uint32_t zeros) {
  test::Random random(kSeed);
  std::vector<uint8_t> matrix(size_t{kK} * kN * 2, 0);
  for (size_t i = 0; i < matrix.size(); i += 2) {
    if (random.between(0, 99) >= zeros) matrix[i + 1] = static_cast<uint8_t>(random.between(0x30, 0x3F));
  }
  return matrix;
}

hw::SparseColumns columns_of(const std::vector<sparse::Group> &groups) {
  hw::SparseColumns w;
  w.dtype = num::DType::FP16;
  w.k = kK;
  w.n = kN;
  w.starts.push_back(0);
  for (const sparse::Group &group : groups) {
    for (uint32_t c = 0; c < group.header.columns; ++c) {
      for (const sparse::Entry &entry : group.column(c)) {
        w.rows.push_back(static_cast<uint16_t>(entry.k));
        w.raw.push_back(entry.bits);
      }
      w.starts.push_back(static_cast<uint32_t>(w.rows.size()));
    }
  }
  return w;
}

void measure(uint32_t zeros, const sparse::Layout &layout) {
  const std::vector<uint8_t> matrix = weights(zeros);
  const auto stream = sparse::encode(sparse::row_major(matrix.data(), num::DType::FP16, kK, kN), kCols, layout);
  hw::SparseColumns w;
  const double decode =
      fastest([&] { w = columns_of(sparse::decode_stream(stream, kK, kN, num::DType::FP16, kCols)); });
  const hw::ScaShape shape{kLanes, kCols, 64, 2048};
  const double plan = fastest([&] { hw::plan_multiplication(shape, w, {}); });
  std::vector<float> a(size_t{kK} * kLanes, 1), sums(size_t{kN} * kLanes), values(w.nonzeros());
  num::widen(w.dtype, w.raw.data(), values.data(), values.size());
  const double product = fastest([&] {
    for (uint32_t c = 0; c < kN; ++c) {
      const uint32_t first = w.starts[c];
      num::mac_fp_gathered({values.data() + first, w.rows.data() + first, w.starts[c + 1] - first}, a.data(), kLanes,
                           &sums[size_t{c} * kLanes], kLanes, false);
    }
  });
  const auto each = static_cast<double>(w.nonzeros());
  fmt::print("| {} %, {} | {:.1f} | {:.1f} | {:.1f} |\n", zeros, sparse::to_string(layout), decode / each, plan / each,
             product / each);
}

}  // namespace

int main() {
  fmt::print("K = {}, N = {}, FP16, seed {}: ns for each non-zero, fastest of {}\n\n", kK, kN, kSeed, kRounds);
  fmt::print("| zeros, format | decoding | plan | product of a tile of {} rows |\n|---|---:|---:|---:|\n", kLanes);
  for (uint32_t zeros : {40u, 87u}) {
    for (const sparse::Layout &layout : {sparse::bitmap(), sparse::run_length()}) measure(zeros, layout);
  }
  return 0;
}
