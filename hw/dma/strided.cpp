#include "hw/dma/strided.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace cx::hw {

static_assert(std::endian::native == std::endian::little);

namespace {

using Loop = RunNest::Loop;

// Side of the squares in which a transposition is copied: both sides then use whole cache lines.
constexpr std::uint64_t kSquare = 32;

template <std::size_t Bytes>
void copy_loop(std::byte *dst, const std::byte *src, const Loop &loop) {
  for (std::uint64_t i = 0; i < loop.count; ++i, dst += loop.dst, src += loop.src) std::memcpy(dst, src, Bytes);
}

void copy_loop(std::byte *dst, const std::byte *src, const Loop &loop, std::uint64_t run_bytes) {
  switch (run_bytes) {
    case 1:
      return copy_loop<1>(dst, src, loop);
    case 2:
      return copy_loop<2>(dst, src, loop);
    case 4:
      return copy_loop<4>(dst, src, loop);
    case 8:
      return copy_loop<8>(dst, src, loop);
    case 16:
      return copy_loop<16>(dst, src, loop);
    default:
      for (std::uint64_t i = 0; i < loop.count; ++i, dst += loop.dst, src += loop.src) std::memcpy(dst, src, run_bytes);
  }
}

// Two inner loops of which one is dense at the destination and the other one at the source.
void copy_transposed(std::byte *dst, const std::byte *src, const Loop &inner, const Loop &outer,
                     std::uint64_t run_bytes) {
  for (std::uint64_t o = 0; o < outer.count; o += kSquare) {
    const std::uint64_t outer_end = std::min(o + kSquare, outer.count);
    for (std::uint64_t i = 0; i < inner.count; i += kSquare) {
      const Loop part{std::min(kSquare, inner.count - i), inner.dst, inner.src};
      for (std::uint64_t row = o; row < outer_end; ++row) {
        const auto at = static_cast<std::int64_t>(row);
        const auto column = static_cast<std::int64_t>(i);
        copy_loop(dst + at * outer.dst + column * inner.dst, src + at * outer.src + column * inner.src, part,
                  run_bytes);
      }
    }
  }
}

bool is_transposition(const RunNest &nest) {
  if (nest.depth < 2 || nest.run_bytes > 8) return false;
  const auto run = static_cast<std::int64_t>(nest.run_bytes);
  const Loop &inner = nest.loops[0];
  const Loop &outer = nest.loops[1];
  return inner.count > kSquare && ((inner.dst == run && outer.src == run) || (inner.src == run && outer.dst == run));
}

void copy_level(const RunNest &nest, unsigned level, bool transposition, std::byte *dst, const std::byte *src) {
  const Loop &loop = nest.loops[level];
  if (level == 0) return copy_loop(dst, src, loop, nest.run_bytes);
  if (level == 1 && transposition) return copy_transposed(dst, src, nest.loops[0], loop, nest.run_bytes);
  for (std::uint64_t i = 0; i < loop.count; ++i, dst += loop.dst, src += loop.src) {
    copy_level(nest, level - 1, transposition, dst, src);
  }
}

void fill_run(std::byte *dst, std::uint64_t bytes, const std::array<std::byte, 8> &pattern, std::uint32_t element_bytes,
              bool uniform) {
  if (uniform) {
    std::memset(dst, static_cast<int>(pattern[0]), bytes);
  } else {
    for (std::uint64_t i = 0; i < bytes; i += element_bytes) std::memcpy(dst + i, pattern.data(), element_bytes);
  }
}

void fill_level(const RunNest &nest, unsigned levels, std::byte *dst, const std::array<std::byte, 8> &pattern,
                std::uint32_t element_bytes, bool uniform) {
  if (levels == 0) return fill_run(dst, nest.run_bytes, pattern, element_bytes, uniform);
  const Loop &loop = nest.loops[levels - 1];
  for (std::uint64_t i = 0; i < loop.count; ++i, dst += loop.dst) {
    fill_level(nest, levels - 1, dst, pattern, element_bytes, uniform);
  }
}

}  // namespace

RunNest::RunNest(const Dims &dims, const Strides &dst, const Strides &src, std::uint32_t element_bytes)
    : run_bytes(element_bytes) {
  for (unsigned d = 4; d-- > 0;) {
    if (dims[d] == 1) continue;
    const std::uint64_t count = dims[d];
    if (depth == 0 && dst[d] == static_cast<std::int64_t>(run_bytes) &&
        src[d] == static_cast<std::int64_t>(run_bytes)) {
      run_bytes *= count;
      continue;
    }
    if (depth > 0) {
      Loop &inner = loops[depth - 1];
      const auto inner_count = static_cast<std::int64_t>(inner.count);
      if (inner.dst * inner_count == dst[d] && inner.src * inner_count == src[d]) {
        inner.count *= count;
        continue;
      }
    }
    loops[depth++] = {count, dst[d], src[d]};
  }
}

std::uint64_t RunNest::runs() const {
  std::uint64_t runs = 1;
  for (unsigned i = 0; i < depth; ++i) runs *= loops[i].count;
  return runs;
}

bool surely_disjoint(const Dims &dims, const Strides &strides, std::uint32_t element_bytes) {
  std::vector<std::pair<std::int64_t, std::int64_t>> by_stride;  // stride, steps
  for (unsigned d = 0; d < 4; ++d) {
    if (dims[d] == 1) continue;
    by_stride.emplace_back(std::abs(std::int64_t{strides[d]}), std::int64_t{dims[d]} - 1);
  }
  std::sort(by_stride.begin(), by_stride.end());
  std::int64_t extent = element_bytes;
  for (const auto &[stride, steps] : by_stride) {
    if (stride < extent) return false;
    extent += stride * steps;
  }
  return true;
}

void copy_strided(std::byte *dst, const Strides &dst_strides, const std::byte *src, const Strides &src_strides,
                  const Dims &dims, std::uint32_t element_bytes) {
  const RunNest nest(dims, dst_strides, src_strides, element_bytes);
  if (nest.depth == 0) {
    std::memcpy(dst, src, nest.run_bytes);
  } else {
    copy_level(nest, nest.depth - 1, is_transposition(nest), dst, src);
  }
}

void fill_strided(std::byte *dst, const Strides &strides, const Dims &dims, std::uint32_t element_bytes,
                  std::uint64_t value) {
  std::array<std::byte, 8> pattern;
  std::memcpy(pattern.data(), &value, sizeof value);
  const bool uniform =
      std::all_of(pattern.begin(), pattern.begin() + element_bytes, [&](std::byte byte) { return byte == pattern[0]; });
  const RunNest nest(dims, strides, strides, element_bytes);
  fill_level(nest, nest.depth, dst, pattern, element_bytes, uniform);
}

}  // namespace cx::hw
