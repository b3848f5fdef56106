#include <cmath>

#include "hw/common/num/kernels.hpp"

namespace cx::num::portable {
namespace {
#include "hw/common/num/convert_loops.inl"

constexpr size_t kBlock = 8;

/// One row of activations against up to kBlock columns.
inline void chain(const float *a, const float *w, size_t w_stride, float *acc, size_t width, size_t k,
                  bool accumulate) {
  float sum[kBlock] = {};
  for (size_t r = 0; r < k; ++r) {
    for (size_t j = 0; j < width; ++j) sum[j] = std::fma(a[r], w[r * w_stride + j], sum[j]);
  }
  for (size_t j = 0; j < width; ++j) {
    const float value = accumulate ? acc[j] + sum[j] : sum[j];
    acc[j] = value == value ? value : as_float(kCanonicalNan);
  }
}
}  // namespace

void widen(DType type, const void *source, float *target, size_t n) {
  if (type == DType::FP16) {
    return widen_loop<uint16_t>(source, target, n, [](uint16_t v) { return widen_fp16(v); });
  }
  widen_common(type, source, target, n);
}

void narrow(DType type, const float *source, void *target, size_t n, Overflow overflow) {
  if (type == DType::FP16) {
    return narrow_loop<uint16_t>(source, target, n,
                                 [](float v) { return narrow_float<10, 15, 16>(v, 0x7BFF, 0x7C00, 0x7E00); });
  }
  narrow_common(type, source, target, n, overflow);
}

void mac_fp(const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride, size_t m,
            size_t n, size_t k, bool accumulate) {
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; j += kBlock) {
      const size_t width = n - j < kBlock ? n - j : kBlock;
      chain(a + i * a_stride, w + j, w_stride, acc + i * acc_stride + j, width, k, accumulate);
    }
  }
}

void mac_int8(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc, size_t acc_stride,
              size_t m, size_t n, size_t k, bool accumulate) {
  for (size_t i = 0; i < m; ++i) {
    int32_t *out = acc + i * acc_stride;
    for (size_t j = 0; j < n; ++j) {
      uint32_t sum = accumulate ? static_cast<uint32_t>(out[j]) : 0;
      for (size_t r = 0; r < k; r += 2) {
        const uint32_t pair = w2[r / 2 * w2_stride + j];
        const int32_t low = static_cast<int16_t>(pair & 0xFFFF), high = static_cast<int16_t>(pair >> 16);
        sum += static_cast<uint32_t>(a[i * a_stride + r] * low + a[i * a_stride + r + 1] * high);
      }
      out[j] = static_cast<int32_t>(sum);
    }
  }
}

}  // namespace cx::num::portable
