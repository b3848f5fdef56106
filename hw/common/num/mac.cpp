#include "hw/common/num/mac.hpp"

#include <bit>
#include <cmath>
#include <stdexcept>

#include "hw/common/num/kernels.hpp"

namespace cx::num {
namespace {

void check_pack(unsigned pack) {
  if (pack != 1 && pack != 2 && pack != 4) throw std::invalid_argument("a MAC word packs 1, 2 or 4 values");
}

void finish(float chain, const Epilogue &epilogue, size_t i, size_t j, float &out) {
  const float row = epilogue.scale.row != nullptr ? epilogue.scale.row[i] : 1.0f;
  const float column = epilogue.scale.column != nullptr ? epilogue.scale.column[j] : 1.0f;
  const float scale = row * column;
  const float value = epilogue.accumulate ? std::fma(chain, scale, out) : chain * scale;
  out = std::isnan(value) ? std::bit_cast<float>(kCanonicalNan) : value;
}

void mac_fp_scalar(const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride,
                   size_t m, size_t n, size_t k, const Epilogue &epilogue) {
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      float sum = 0;
      for (size_t r = 0; r < k; ++r) sum = std::fma(a[i * a_stride + r], w[r * w_stride + j], sum);
      finish(sum, epilogue, i, j, acc[i * acc_stride + j]);
    }
  }
}

void mac_fp8_packed_scalar(unsigned pack, const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc,
                           size_t acc_stride, size_t m, size_t n, size_t k, const Epilogue &epilogue) {
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      const auto product = [&](size_t r) { return r < k ? a[i * a_stride + r] * w[r * w_stride + j] : 0.0f; };
      float sum = 0;
      for (size_t r = 0; r < k; r += pack) {
        float group = product(r) + product(r + 1);
        if (pack == 4) group += product(r + 2) + product(r + 3);
        sum += group;
      }
      finish(sum, epilogue, i, j, acc[i * acc_stride + j]);
    }
  }
}

uint32_t int8_sum(const int16_t *a, const uint32_t *w2, size_t w2_stride, size_t k) {
  uint32_t sum = 0;
  for (size_t r = 0; r < k; ++r) {
    const auto weight = static_cast<int16_t>(w2[r / 2 * w2_stride] >> (r % 2 * 16));
    sum += static_cast<uint32_t>(int32_t{a[r]} * weight);
  }
  return sum;
}

void mac_int8_scalar(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc,
                     size_t acc_stride, size_t m, size_t n, size_t k, bool accumulate) {
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      int32_t &out = acc[i * acc_stride + j];
      const uint32_t sum = int8_sum(a + i * a_stride, w2 + j, w2_stride, k);
      out = static_cast<int32_t>(accumulate ? static_cast<uint32_t>(out) + sum : sum);
    }
  }
}

void mac_int8_scaled_scalar(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, float *acc,
                            size_t acc_stride, size_t m, size_t n, size_t k, const Epilogue &epilogue) {
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      const auto sum = static_cast<int32_t>(int8_sum(a + i * a_stride, w2 + j, w2_stride, k));
      finish(static_cast<float>(sum), epilogue, i, j, acc[i * acc_stride + j]);
    }
  }
}

template <typename T>
uint64_t count_zeros_scalar(unsigned pack, const T *a, size_t a_stride, size_t m, size_t k) {
  uint64_t zeros = 0;
  for (size_t i = 0; i < m; ++i) {
    for (size_t r = 0; r < k; r += pack) {
      bool zero = true;
      for (size_t p = r; p < r + pack && p < k; ++p) zero = zero && a[i * a_stride + p] == 0;
      zeros += zero;
    }
  }
  return zeros;
}

}  // namespace

void mac_fp(Path path, const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride,
            size_t m, size_t n, size_t k, Epilogue epilogue) {
  switch (path) {
    case Path::kScalar:
      return mac_fp_scalar(a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue);
    case Path::kPortable:
      return portable::mac_fp(1, a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue);
    case Path::kAvx2:
      return avx2::mac_fp(1, a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue);
  }
}

void mac_fp(const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride, size_t m,
            size_t n, size_t k, Epilogue epilogue) {
  mac_fp(best_path(), a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue);
}

void mac_fp8_packed(Path path, unsigned pack, const float *a, size_t a_stride, const float *w, size_t w_stride,
                    float *acc, size_t acc_stride, size_t m, size_t n, size_t k, Epilogue epilogue) {
  check_pack(pack);
  if (pack == 1) return mac_fp(path, a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue);
  switch (path) {
    case Path::kScalar:
      return mac_fp8_packed_scalar(pack, a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue);
    case Path::kPortable:
      return portable::mac_fp(pack, a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue);
    case Path::kAvx2:
      return avx2::mac_fp(pack, a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue);
  }
}

void mac_fp8_packed(unsigned pack, const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc,
                    size_t acc_stride, size_t m, size_t n, size_t k, Epilogue epilogue) {
  mac_fp8_packed(best_path(), pack, a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue);
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
      return portable::mac_int8(a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, Epilogue(accumulate));
    case Path::kAvx2:
      return avx2::mac_int8(a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, Epilogue(accumulate));
  }
}

void mac_int8(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc, size_t acc_stride,
              size_t m, size_t n, size_t k, bool accumulate) {
  mac_int8(best_path(), a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, accumulate);
}

void mac_int8_scaled(Path path, const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, float *acc,
                     size_t acc_stride, size_t m, size_t n, size_t k, Epilogue epilogue) {
  switch (path) {
    case Path::kScalar:
      return mac_int8_scaled_scalar(a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, epilogue);
    case Path::kPortable:
      return portable::mac_int8_scaled(a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, epilogue);
    case Path::kAvx2:
      return avx2::mac_int8_scaled(a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, epilogue);
  }
}

void mac_int8_scaled(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, float *acc,
                     size_t acc_stride, size_t m, size_t n, size_t k, Epilogue epilogue) {
  mac_int8_scaled(best_path(), a, a_stride, w2, w2_stride, acc, acc_stride, m, n, k, epilogue);
}

uint64_t count_zeros(Path path, unsigned pack, const float *a, size_t a_stride, size_t m, size_t k) {
  check_pack(pack);
  switch (path) {
    case Path::kPortable:
      return portable::count_zeros(pack, a, a_stride, m, k);
    case Path::kAvx2:
      return avx2::count_zeros(pack, a, a_stride, m, k);
    case Path::kScalar:
      break;
  }
  return count_zeros_scalar(pack, a, a_stride, m, k);
}

uint64_t count_zeros(unsigned pack, const float *a, size_t a_stride, size_t m, size_t k) {
  return count_zeros(best_path(), pack, a, a_stride, m, k);
}

uint64_t count_zeros(Path path, unsigned pack, const int16_t *a, size_t a_stride, size_t m, size_t k) {
  check_pack(pack);
  switch (path) {
    case Path::kPortable:
      return portable::count_zeros(pack, a, a_stride, m, k);
    case Path::kAvx2:
      return avx2::count_zeros(pack, a, a_stride, m, k);
    case Path::kScalar:
      break;
  }
  return count_zeros_scalar(pack, a, a_stride, m, k);
}

uint64_t count_zeros(unsigned pack, const int16_t *a, size_t a_stride, size_t m, size_t k) {
  return count_zeros(best_path(), pack, a, a_stride, m, k);
}

}  // namespace cx::num
