#include "hw/common/num/drain.hpp"

#include <bit>
#include <cmath>
#include <stdexcept>
#include <string>

#include "hw/common/num/drain_kernels.hpp"

namespace cx::num {
namespace {

uint32_t finish_scalar(const DrainStage &stage, uint32_t word, size_t column) {
  float value = stage.integer ? static_cast<float>(static_cast<int32_t>(word)) : std::bit_cast<float>(word);
  if (stage.scale != nullptr) value *= stage.scale[column];
  if (stage.bias != nullptr) value += stage.bias[column];
  switch (stage.act) {
    case DrainStage::Act::kNone:
      break;
    case DrainStage::Act::kRelu:
      value = value <= 0 ? 0.0f : value;
      break;
    case DrainStage::Act::kClamp:
      value = value < stage.lo ? stage.lo : value;
      value = value > stage.hi ? stage.hi : value;
      break;
  }
  return std::isnan(value) ? kCanonicalNan : std::bit_cast<uint32_t>(value);
}

void drain_row_scalar(const DrainStage &stage, const uint32_t *words, void *out, size_t n) {
  const size_t step = bytes_of(stage.out);
  for (size_t i = 0; i < n; ++i) {
    encode(stage.out, std::bit_cast<float>(finish_scalar(stage, words[i], i)), static_cast<uint8_t *>(out) + i * step);
  }
}

bool copies(const DrainStage &stage) {
  return stage.integer && stage.out == DType::INT32 && stage.scale == nullptr && stage.bias == nullptr &&
         stage.act == DrainStage::Act::kNone;
}

void check(const DrainStage &stage) {
  if (stage.out > DType::INT32) {
    throw std::invalid_argument("no accumulator drains to data type " + std::string(name_of(stage.out)));
  }
  if (stage.act > DrainStage::Act::kClamp) {
    throw std::invalid_argument("no drain activation " + std::to_string(static_cast<unsigned>(stage.act)));
  }
}

}  // namespace

void drain_rows(Path path, const DrainStage &stage, const uint32_t *words, size_t word_stride, void *out,
                ptrdiff_t out_stride, size_t m, size_t n) {
  check(stage);
  if (n == 0) return;
  const bool copy = copies(stage);
  auto *to = static_cast<uint8_t *>(out);
  for (size_t i = 0; i < m; ++i, words += word_stride, to += out_stride) {
    if (copy) {
      __builtin_memcpy(to, words, n * sizeof(uint32_t));
    } else if (path == Path::kScalar) {
      drain_row_scalar(stage, words, to, n);
    } else if (path == Path::kPortable) {
      portable::drain_row(stage, words, to, n);
    } else {
      // Every further path needs at least what this one needs.
      avx2::drain_row(stage, words, to, n);
    }
  }
}

void drain_rows(const DrainStage &stage, const uint32_t *words, size_t word_stride, void *out, ptrdiff_t out_stride,
                size_t m, size_t n) {
  drain_rows(best_path(), stage, words, word_stride, out, out_stride, m, n);
}

void drain_row(Path path, const DrainStage &stage, const uint32_t *words, void *out, size_t n) {
  drain_rows(path, stage, words, 0, out, 0, 1, n);
}

void drain_row(const DrainStage &stage, const uint32_t *words, void *out, size_t n) {
  drain_row(best_path(), stage, words, out, n);
}

}  // namespace cx::num
