// Strided copies and fills in host memory, and the shape of the runs that they consist of.
#ifndef HW_DMA_STRIDED_HPP
#define HW_DMA_STRIDED_HPP

#include <array>
#include <cstddef>
#include <cstdint>

namespace cx::hw {

using Dims = std::array<std::uint32_t, 4>;    // [3] innermost
using Strides = std::array<std::int32_t, 4>;  // bytes

// A nest of loops over contiguous runs, made from strided views of the same dims. Dims of 1 are dropped; neighbouring
// dims that continue each other on both sides are joined.
struct RunNest {
  struct Loop {
    std::uint64_t count;
    std::int64_t dst;  // bytes per step
    std::int64_t src;
  };

  // Every dim is at least 1.
  RunNest(const Dims &dims, const Strides &dst, const Strides &src, std::uint32_t element_bytes);

  std::uint64_t runs() const;

  std::uint64_t run_bytes;
  unsigned depth = 0;
  std::array<Loop, 4> loops{};  // [0] innermost
};

// Whether distinct elements of the view never share a byte, as far as nested strides show it.
bool surely_disjoint(const Dims &dims, const Strides &strides, std::uint32_t element_bytes);

// Copies the elements of the view at `src` to the view at `dst`. Element sizes: 1, 2, 4, 8. The destination's elements
// are disjoint from each other and from the source.
void copy_strided(std::byte *dst, const Strides &dst_strides, const std::byte *src, const Strides &src_strides,
                  const Dims &dims, std::uint32_t element_bytes);

// Sets every element to the low bytes of `value`.
void fill_strided(std::byte *dst, const Strides &strides, const Dims &dims, std::uint32_t element_bytes,
                  std::uint64_t value);

}  // namespace cx::hw

#endif
