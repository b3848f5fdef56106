// Compiled with -mavx2 -mfma; all but avx2_kernel_table() has internal linkage.
#include <immintrin.h>

#include <cstdint>

#include "hw/vpu/kernels.hpp"

namespace cx::hw::vpu {
namespace {

#include "hw/vpu/integers.inl"
#include "hw/vpu/kernels.inl"

struct Avx2 {
  static constexpr size_t kLanes = 8;
  typedef float F __attribute__((vector_size(32)));
  typedef int32_t I __attribute__((vector_size(32)));
  typedef uint32_t U __attribute__((vector_size(32)));
  static inline F fma(F a, F b, F c) { return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
  static inline F floor(F a) { return (F)_mm256_round_ps((__m256)a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
  static inline F ceil(F a) { return (F)_mm256_round_ps((__m256)a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
  static inline F round(F a) { return (F)_mm256_round_ps((__m256)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static inline F trunc(F a) { return (F)_mm256_round_ps((__m256)a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
};

}  // namespace

const Kernels &avx2_kernel_table();
const Kernels &avx2_kernel_table() {
  static constexpr Kernels kTable = Rows<Avx2>::table();
  return kTable;
}

}  // namespace cx::hw::vpu
