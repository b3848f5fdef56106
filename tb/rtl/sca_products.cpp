#include "tb/rtl/sca_products.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

namespace cx::test {
namespace {

using num::DType;

/// Dense k x n raw elements, zeros where there are none.
std::vector<std::byte> dense(const hw::SparseColumns &w) {
  const size_t bytes = num::bytes_of(w.dtype);
  std::vector<std::byte> result(size_t{w.k} * w.n * bytes, std::byte{0});
  for (uint32_t c = 0; c < w.n; ++c) {
    for (uint32_t i = w.starts[c]; i < w.starts[c + 1]; ++i) {
      std::memcpy(&result[(size_t{w.rows[i]} * w.n + c) * bytes], &w.raw[i], bytes);
    }
  }
  return result;
}

/// Columns from `first` on of m rows of n sums, as they are.
hw::TileTarget sums_at(std::vector<uint32_t> &words, uint32_t m, uint32_t n, uint32_t first) {
  hw::TileTarget target;
  target.stride = sizeof(uint32_t);
  for (uint32_t i = 0; i < m; ++i) target.rows.push_back(reinterpret_cast<std::byte *>(&words[size_t{i} * n + first]));
  return target;
}
num::DrainStage plain_stage(DType dtype) {
  num::DrainStage stage;
  stage.integer = dtype == DType::INT8;
  stage.out = stage.integer ? DType::INT32 : DType::FP32;
  return stage;
}

}  // namespace

Finite::Finite(Random &random, DType dtype, uint32_t m, uint32_t k) : data(size_t{m} * k * num::bytes_of(dtype)) {
  const size_t bytes = num::bytes_of(dtype);
  for (size_t i = 0; i < size_t{m} * k; ++i) {
    const float value = random.one_in(8) ? 0.0f : static_cast<float>(random.between(0, 254)) - 127;
    num::encode(dtype, dtype == DType::INT8 ? value : value / 32, &data[i * bytes]);
  }
  operand.dtype = dtype;
  operand.rows = m;
  operand.cols = k;
  operand.raw = data.data();
  operand.raw_stride = static_cast<ptrdiff_t>(k * bytes);
}

SparseProduct sparse_product(const hw::ScaShape &shape, bool rtl, const hw::TileOperand &a, const hw::SparseColumns &w,
                             bool accumulate, uint64_t stall_seed) {
  const std::unique_ptr<hw::ScaTile> tile = hw::make_sca_tile(shape, rtl);
  if (rtl && stall_seed != 0) static_cast<hw::ScaTileRtl &>(*tile).set_stall_seed(stall_seed);
  const auto shared = std::make_shared<const hw::SparseColumns>(w);
  const hw::ScaPlan plan = hw::plan_multiplication(shape, w, {});
  const uint32_t groups = hw::sca_groups(shape, w.n);
  tile->load(0, a.cols, a);
  for (int pass = 0; pass < (accumulate ? 2 : 1); ++pass) {
    tile->multiply(tile->schedule().earliest_mul(0, 0, groups), shared, plan, 0, pass == 1);
  }
  SparseProduct product;
  product.words.resize(size_t{a.rows} * w.n);
  product.cycles = tile->drain(tile->schedule().earliest_drain(0), w.n, 0, a.rows, w.n, plain_stage(w.dtype),
                               sums_at(product.words, a.rows, w.n, 0));
  tile->finish(product.cycles);
  product.counters = tile->counters();
  product.cycle_differences = tile->cycle_differences();
  product.first_difference = tile->first_difference();
  return product;
}

std::vector<uint32_t> dense_product(const hw::TileOperand &a, const hw::SparseColumns &w) {
  const hw::TileShape shape{32, 8, 256};
  const std::unique_ptr<hw::MacTile> tile = hw::make_tile(shape, false);
  const std::vector<std::byte> raw = dense(w);
  const size_t bytes = num::bytes_of(w.dtype);
  std::vector<uint32_t> words(size_t{a.rows} * w.n);
  for (uint32_t first = 0; first < w.n; first += shape.cols) {
    hw::TileOperand part;
    part.dtype = w.dtype;
    part.rows = w.k;
    part.cols = std::min(shape.cols, w.n - first);
    part.raw = raw.data() + first * bytes;
    part.raw_stride = static_cast<ptrdiff_t>(w.n * bytes);
    tile->matmul_os(tile->schedule().earliest_mul(0), hw::os_stream(shape, w.k), a, part, 0, false);
    tile->drain(tile->schedule().earliest_drain(0), a.rows, 0, a.rows, part.cols, plain_stage(w.dtype),
                sums_at(words, a.rows, w.n, first));
  }
  return words;
}

}  // namespace cx::test
