#include <cmath>
#include <cstddef>
#include <cstdint>

#include "hw/common/vmath/payne_hanek.hpp"
#include "hw/common/vmath/vmath.hpp"

namespace cx::vmath::detail {
namespace {

#include "hw/common/vmath/kernels.inl"

struct Portable {
  static constexpr size_t kLanes = 4;
  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
  typedef uint32_t U __attribute__((vector_size(16)));
  static F fma(F a, F b, F c) {
    return F{std::fma(a[0], b[0], c[0]), std::fma(a[1], b[1], c[1]), std::fma(a[2], b[2], c[2]),
             std::fma(a[3], b[3], c[3])};
  }
  static F sqrt(F a) { return F{std::sqrt(a[0]), std::sqrt(a[1]), std::sqrt(a[2]), std::sqrt(a[3])}; }
  static bool any(I mask) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }
};

}  // namespace

const Kernels &portable_kernels() {
  static constexpr Kernels kTable = make_kernels<Portable>();
  return kTable;
}

}  // namespace cx::vmath::detail
