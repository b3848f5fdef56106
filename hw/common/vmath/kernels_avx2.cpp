// Compiled with -mavx2 -mfma. Everything here but avx2_kernels() has internal linkage, so that no other file can pick
// up code that needs AVX2.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "hw/common/vmath/payne_hanek.hpp"
#include "hw/common/vmath/vmath.hpp"

namespace cx::vmath::detail {
namespace {

#include "hw/common/vmath/kernels.inl"

struct Avx2 {
  static constexpr size_t kLanes = 8;
  typedef float F __attribute__((vector_size(32)));
  typedef int32_t I __attribute__((vector_size(32)));
  typedef uint32_t U __attribute__((vector_size(32)));
  static inline F fma(F a, F b, F c) { return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
  static inline F sqrt(F a) { return (F)_mm256_sqrt_ps((__m256)a); }
  static inline bool any(I mask) { return _mm256_movemask_ps((__m256)mask) != 0; }
};

}  // namespace

const Kernels &avx2_kernels() {
  static constexpr Kernels kTable = make_kernels<Avx2>();
  return kTable;
}

}  // namespace cx::vmath::detail
