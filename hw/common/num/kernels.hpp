// Internal: the compiled variants behind formats.hpp and mac.hpp. avx2:: may be called only where
// path_available(Path::kAvx2). The arguments are checked by the callers.
#pragma once

#include "hw/common/num/formats.hpp"
#include "hw/common/num/mac.hpp"

#define CX_NUM_DECLARE_KERNELS                                                                              \
  void widen(DType type, const void *source, float *target, size_t n);                                      \
  void narrow(DType type, const float *source, void *target, size_t n, Overflow overflow);                  \
  /* pack 1 is mac_fp of mac.hpp, 2 and 4 are mac_fp8_packed. */                                            \
  void mac_fp(unsigned pack, const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc,  \
              size_t acc_stride, size_t m, size_t n, size_t k, const Epilogue &epilogue);                   \
  void mac_int8(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc,      \
                size_t acc_stride, size_t m, size_t n, size_t k, const Epilogue &epilogue);                 \
  void mac_int8_scaled(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, float *acc, \
                       size_t acc_stride, size_t m, size_t n, size_t k, const Epilogue &epilogue);          \
  uint64_t count_zeros(unsigned pack, const float *a, size_t a_stride, size_t m, size_t k);                 \
  uint64_t count_zeros(unsigned pack, const int16_t *a, size_t a_stride, size_t m, size_t k);

namespace cx::num::portable {
CX_NUM_DECLARE_KERNELS
}

namespace cx::num::avx2 {
bool compiled_in();
CX_NUM_DECLARE_KERNELS
}  // namespace cx::num::avx2

#undef CX_NUM_DECLARE_KERNELS
