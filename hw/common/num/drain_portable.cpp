#include "hw/common/num/drain_kernels.hpp"

namespace cx::num::portable {
namespace {
#include "hw/common/num/convert_loops.inl"

constexpr size_t kBlock = 256;

/// Values of one block, NaN still as the host made it.
inline void finish(const DrainStage &stage, const uint32_t *words, size_t first, size_t n, float *values) {
  if (stage.integer) {
    for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(static_cast<int32_t>(words[i]));
  } else {
    __builtin_memcpy(values, words, n * sizeof(float));
  }
  if (stage.scale != nullptr) {
    for (size_t i = 0; i < n; ++i) values[i] *= stage.scale[first + i];
  }
  if (stage.bias != nullptr) {
    for (size_t i = 0; i < n; ++i) values[i] += stage.bias[first + i];
  }
  if (stage.act == DrainStage::Act::kRelu) {
    for (size_t i = 0; i < n; ++i) values[i] = values[i] <= 0 ? 0.0f : values[i];
  } else if (stage.act == DrainStage::Act::kClamp) {
    const float lo = stage.lo, hi = stage.hi;
    for (size_t i = 0; i < n; ++i) {
      const float raised = values[i] < lo ? lo : values[i];
      values[i] = raised > hi ? hi : raised;
    }
  }
}

}  // namespace

void drain_row(const DrainStage &stage, const uint32_t *words, void *out, size_t n) {
  const size_t step = bytes_of(stage.out);
  float values[kBlock];
  for (size_t first = 0; first < n; first += kBlock) {
    const size_t count = n - first < kBlock ? n - first : kBlock;
    auto *to = static_cast<uint8_t *>(out) + first * step;
    finish(stage, words + first, first, count, values);
    switch (stage.out) {
      case DType::FP32:
        narrow_loop<uint32_t>(values, to, count, [](float v) { return v == v ? as_bits(v) : kCanonicalNan; });
        break;
      case DType::FP16:
        narrow_loop<uint16_t>(values, to, count,
                              [](float v) { return narrow_float<10, 15, 16>(v, 0x7BFF, 0x7C00, 0x7E00); });
        break;
      default:
        narrow_common(stage.out, values, to, count, Overflow::kSaturate);
        break;
    }
  }
}

}  // namespace cx::num::portable
