#include <cmath>
#include <cstdint>

#include "hw/vpu/kernels.hpp"

namespace cx::hw::vpu {
namespace {

#include "hw/vpu/integers.inl"
#include "hw/vpu/kernels.inl"

struct Portable {
  static constexpr size_t kLanes = 4;
  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
  typedef uint32_t U __attribute__((vector_size(16)));
  static F fma(F a, F b, F c) {
    return F{std::fma(a[0], b[0], c[0]), std::fma(a[1], b[1], c[1]), std::fma(a[2], b[2], c[2]),
             std::fma(a[3], b[3], c[3])};
  }
  static F floor(F a) { return F{std::floor(a[0]), std::floor(a[1]), std::floor(a[2]), std::floor(a[3])}; }
  static F ceil(F a) { return F{std::ceil(a[0]), std::ceil(a[1]), std::ceil(a[2]), std::ceil(a[3])}; }
  static F trunc(F a) { return F{std::trunc(a[0]), std::trunc(a[1]), std::trunc(a[2]), std::trunc(a[3])}; }
  static F round(F a) {
    return F{std::nearbyint(a[0]), std::nearbyint(a[1]), std::nearbyint(a[2]), std::nearbyint(a[3])};
  }
};

}  // namespace

const Kernels &portable_kernels() {
  static constexpr Kernels kTable = Rows<Portable>::table();
  return kTable;
}

#ifdef CX_VPU_AVX2
const Kernels &avx2_kernel_table();
#endif

const Kernels *avx2_kernels() {
#ifdef CX_VPU_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2_kernel_table();
#endif
  return nullptr;
}

const Kernels &kernels() {
  static const Kernels &best = avx2_kernels() != nullptr ? *avx2_kernels() : portable_kernels();
  return best;
}

}  // namespace cx::hw::vpu
