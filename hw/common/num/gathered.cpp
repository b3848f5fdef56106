#include "hw/common/num/gathered.hpp"

#include <algorithm>
#include <vector>

#include "hw/common/num/mac.hpp"

namespace cx::num {
namespace {

/// The rows that a column meets, one after the other, for the kernels of dense products.
void mac_fp_copied(Path path, const GatheredColumn<float> &column, const float *a, size_t a_stride, float *acc,
                   size_t n, bool accumulate) {
  std::vector<float> met(column.count * n);
  for (size_t e = 0; e < column.count; ++e) std::copy_n(a + column.rows[e] * a_stride, n, &met[e * n]);
  mac_fp(path, column.values, column.count, met.data(), n, acc, n, 1, n, column.count, accumulate);
}

void mac_int8_plain(const GatheredColumn<int16_t> &column, const int16_t *a, size_t a_stride, int32_t *acc, size_t n,
                    bool accumulate) {
  std::vector<uint32_t> sums(n, 0);
  for (size_t e = 0; e < column.count; ++e) {
    const int16_t *row = a + column.rows[e] * a_stride;
    const int32_t value = column.values[e];
    for (size_t j = 0; j < n; ++j) sums[j] += static_cast<uint32_t>(row[j] * value);
  }
  for (size_t j = 0; j < n; ++j) {
    acc[j] = static_cast<int32_t>(accumulate ? static_cast<uint32_t>(acc[j]) + sums[j] : sums[j]);
  }
}

}  // namespace

void mac_fp_gathered(Path path, const GatheredColumn<float> &column, const float *a, size_t a_stride, float *acc,
                     size_t n, bool accumulate) {
  if (path == Path::kAvx2) return avx2::mac_fp_gathered(column, a, a_stride, acc, n, accumulate);
  mac_fp_copied(path, column, a, a_stride, acc, n, accumulate);
}

void mac_fp_gathered(const GatheredColumn<float> &column, const float *a, size_t a_stride, float *acc, size_t n,
                     bool accumulate) {
  mac_fp_gathered(best_path(), column, a, a_stride, acc, n, accumulate);
}

void mac_int8_gathered(Path path, const GatheredColumn<int16_t> &column, const int16_t *a, size_t a_stride,
                       int32_t *acc, size_t n, bool accumulate) {
  if (path == Path::kAvx2) return avx2::mac_int8_gathered(column, a, a_stride, acc, n, accumulate);
  mac_int8_plain(column, a, a_stride, acc, n, accumulate);
}

void mac_int8_gathered(const GatheredColumn<int16_t> &column, const int16_t *a, size_t a_stride, int32_t *acc, size_t n,
                       bool accumulate) {
  mac_int8_gathered(best_path(), column, a, a_stride, acc, n, accumulate);
}

}  // namespace cx::num
