#include "hw/common/num/mac.hpp"

#include <bit>
#include <cmath>

#include "hw/common/num/kernels.hpp"

namespace cx::num {
namespace {

void mac_fp_scalar(const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride,
                   size_t m, size_t n, size_t k, bool accumulate) {
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      float sum = 0;
      for (size_t r = 0; r < k; ++r) sum = std::fma(a[i * a_stride + r], w[r * w_stride + j], sum);
      float &out = acc[i * acc_stride + j];
      if (accumulate) sum = out + sum;
      out = std::isnan(sum) ? std::bit_cast<float>(kCanonicalNan) : sum;
    }
  }
}

void mac_int8_scalar(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc,
                     size_t acc_stride, size_t m, size_t n, size_t k, bool accumulate) {
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      int32_t &out = acc[i * acc_stride + j];
      uint32_t sum = accumulate ? static_cast<uint32_t>(out) : 0;
      for (size_t r = 0; r < k; ++r) {
        const auto weight = static_cast<int16_t>(w2[r / 2 * w2_stride + j] >> (r % 2 * 16));
        sum += static_cast<uint32_t>(int32_t{a[i * a_stride + r]} * weight);
      }
      out = static_cast<int32_t>(sum);
    }
  }
}

}  // namespace

void mac_fp(Path path, const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride,
            size_t m, size_t n, size_t k, bool accumulate) {
  switch (path) {
    case Path::kScalar:
      return mac_fp_scalar(a, a_stride, w, w_stride, acc, acc_stride, m, n, k, accumulate);
    case Path::kPortable:
      return portable::mac_fp(a, a_stride, w, w_stride, acc, acc_stride, m, n, k, accumulate);
    case Path::kAvx2:
      return avx2::mac_fp(a, a_stride, w, w_stride, acc, acc_stride, m, n, k, accumulate);
  }
}

void mac_fp(const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride, size_t m,
            size_t n, size_t k, bool accumulate) {
  mac_fp(best_path(), a, a_stride, w, w_stride, acc, acc_stride, m, n, k, accumulate);
}

void pack_int8_weights(const int8_t *w, ptrdiff_t w_stride, size_t k, size_t n, uint32_t *w2, size_t w2_stride) {
  for (size_t r = 0; r < k; r += 2) {
    const int8_t *low = w + static_cast<ptrdiff_t>(r) * w_stride;
    const int8_t *high = low + w_stride;
    uint32_t *out = w2 + r / 2 * w2_stride;
    const bool paired = r + 1 < k;
    for (size_t j = 0; j < n; ++j) {
      const auto upper = static_cast<uint16_t>(int16_t{paired ? high[j] : int8_t{0}});
      out[j] = static_cast<uint16_t>(int16_t{low[j]}) | static_cast<uint32_t>(upper) << 16;
    }
  }
}

void mac_int8(Path path, const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc,
              size_t acc_stride, size_t m, size_t n, size_t k, bool accumulate) {
  switch (path) {
    case Path::kScalar:
      return mac_int8_scalar(a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, accumulate);
    case Path::kPortable:
      return portable::mac_int8(a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, accumulate);
    case Path::kAvx2:
      return avx2::mac_int8(a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, accumulate);
  }
}

void mac_int8(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc, size_t acc_stride,
              size_t m, size_t n, size_t k, bool accumulate) {
  mac_int8(best_path(), a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, accumulate);
}

}  // namespace cx::num
