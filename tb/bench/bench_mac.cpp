// Speed of the MAC kernels per path, operand format and shape, of the conversions of elements, and what counting zero
// activations adds.
// Each figure is the best of several runs, so that a busy machine disturbs little. Operations are 2 * m * n * k.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>
#include <vector>

#include "hw/common/num/mac.hpp"

using namespace cx::num;

namespace {

struct Shape {
  size_t m, n, k;
};

/// Seconds of one call, best of many.
double best_seconds(const std::function<void()> &call) {
  using Clock = std::chrono::steady_clock;
  const auto time = [&](size_t calls) {
    const auto begin = Clock::now();
    for (size_t i = 0; i < calls; ++i) call();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  size_t calls = 1;
  while (time(calls) < 1e-3) calls *= 2;
  double best = time(calls);
  for (int run = 0; run < 12; ++run) best = std::min(best, time(calls));
  return best / static_cast<double>(calls);
}

enum class Kind { kFloat, kInt8, kInt8Scaled };

struct Format {
  const char *name;
  Kind kind;
  DType dtype;
  unsigned pack;
  bool scaled;
};

constexpr Format kFormats[] = {
    {"FP32", Kind::kFloat, DType::FP32, 1, false},
    {"FP16", Kind::kFloat, DType::FP16, 1, false},
    {"BF16", Kind::kFloat, DType::BF16, 1, false},
    {"FP8 pack 1", Kind::kFloat, DType::FP8_E4M3, 1, false},
    {"FP8 pack 2", Kind::kFloat, DType::FP8_E4M3, 2, false},
    {"FP8 pack 4", Kind::kFloat, DType::FP8_E4M3, 4, false},
    {"FP8 pack 4, scaled", Kind::kFloat, DType::FP8_E4M3, 4, true},
    {"INT8", Kind::kInt8, DType::INT8, 1, false},
    {"INT8, scaled", Kind::kInt8Scaled, DType::INT8, 1, true},
};

/// Operands of one format: normally distributed, every third activation zero as behind a ReLU.
class Operands {
 public:
  Operands(const Format &format, const Shape &shape)
      : format_(format),
        shape_(shape),
        a_(shape.m * shape.k),
        w_(shape.k * shape.n),
        acc_(shape.m * shape.n),
        row_(shape.m, 0.5f),
        column_(shape.n, 0.25f),
        a16_(shape.m * ((shape.k + 1) / 2 * 2)),
        w2_((shape.k + 1) / 2 * shape.n),
        acc32_(shape.m * shape.n) {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    const auto value = [&] {
      uint32_t element = 0;
      encode(format.dtype, format.kind == Kind::kFloat ? normal(engine) : 30 * normal(engine), &element);
      return decode(format.dtype, &element);
    };
    for (float &v : a_) v = engine() % 3 == 0 ? 0.0f : value();
    for (float &v : w_) v = value();
    std::vector<int8_t> w8(w_.size());
    narrow(DType::INT8, w_.data(), w8.data(), w8.size());
    pack_int8_weights(w8.data(), static_cast<ptrdiff_t>(shape.n), shape.k, shape.n, w2_.data(), shape.n);
    const size_t stride = a16_.size() / shape.m;
    for (size_t i = 0; i < shape.m; ++i) {
      for (size_t r = 0; r < shape.k; ++r) a16_[i * stride + r] = encode_int8(a_[i * shape.k + r]);
    }
  }

  void multiply(Path path) {
    const auto [m, n, k] = shape_;
    const size_t a16_stride = a16_.size() / m;
    const Epilogue epilogue(true, format_.scaled ? BlockScale{row_.data(), column_.data()} : BlockScale{});
    switch (format_.kind) {
      case Kind::kFloat:
        return mac_fp8_packed(path, format_.pack, a_.data(), k, w_.data(), n, acc_.data(), n, m, n, k, epilogue);
      case Kind::kInt8:
        return mac_int8(path, a16_.data(), a16_stride, w2_.data(), n, acc32_.data(), n, m, n, k, true);
      case Kind::kInt8Scaled:
        return mac_int8_scaled(path, a16_.data(), a16_stride, w2_.data(), n, acc_.data(), n, m, n, k, epilogue);
    }
  }

  uint64_t count(Path path) const {
    const auto [m, n, k] = shape_;
    if (format_.kind == Kind::kFloat) return count_zeros(path, format_.pack, a_.data(), k, m, k);
    return count_zeros(path, format_.pack, a16_.data(), a16_.size() / m, m, k);
  }

  /// 1e9 operations a second.
  double speed(Path path) {
    const double operations = 2.0 * static_cast<double>(shape_.m * shape_.n * shape_.k);
    return operations / best_seconds([&] { multiply(path); }) * 1e-9;
  }

  /// Time of counting zeros by time of multiplying.
  double counting(Path path) {
    uint64_t zeros = 0;
    const double counting = best_seconds([&] { zeros += count(path); });
    if (zeros == 1) std::puts("");  // the count must not be optimised away
    return counting / best_seconds([&] { multiply(path); });
  }

 private:
  const Format &format_;
  Shape shape_;
  std::vector<float> a_, w_, acc_, row_, column_;
  std::vector<int16_t> a16_;
  std::vector<uint32_t> w2_;
  std::vector<int32_t> acc32_;
};

void print_formats(const Shape &shape) {
  std::printf("m %zu, n %zu, k %zu: Gop/s\n%-20s %9s %9s %9s %14s %20s\n", shape.m, shape.n, shape.k, "", "scalar",
              "portable", "avx2", "avx2/portable", "zero count (avx2)");
  for (const Format &format : kFormats) {
    Operands operands(format, shape);
    const double scalar = operands.speed(Path::kScalar), portable = operands.speed(Path::kPortable);
    std::printf("%-20s %9.2f %9.2f", format.name, scalar, portable);
    if (path_available(Path::kAvx2)) {
      const double avx2 = operands.speed(Path::kAvx2);
      std::printf(" %9.2f %14.1f %18.1f %%", avx2, avx2 / portable, 100 * operands.counting(Path::kAvx2));
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

/// 1e9 elements a second of widen and narrow.
void print_conversions() {
  constexpr size_t kCount = 4096;
  std::mt19937 engine(2);
  std::normal_distribution<float> normal(0, 30);
  std::vector<float> values(kCount), wide(kCount);
  for (float &value : values) value = normal(engine);
  std::printf("\nconversions: 1e9 elements a second\n%-12s %16s %16s %16s %16s\n", "", "widen, portable", "widen, avx2",
              "narrow, portable", "narrow, avx2");
  for (DType type :
       {DType::FP16, DType::BF16, DType::FP8_E4M3, DType::FP8_E5M2, DType::INT8, DType::UINT8, DType::INT32}) {
    std::vector<uint8_t> elements(kCount * bytes_of(type));
    narrow(type, values.data(), elements.data(), kCount);
    const auto speed = [&](Path path, bool widening) {
      if (!path_available(path)) return 0.0;
      return static_cast<double>(kCount) * 1e-9 / best_seconds([&] {
               if (widening) return widen(path, type, elements.data(), wide.data(), kCount);
               narrow(path, type, values.data(), elements.data(), kCount, Overflow::kSaturate);
             });
    };
    std::printf("%-12s %16.2f %16.2f %16.2f %16.2f\n", name_of(type).data(), speed(Path::kPortable, true),
                speed(Path::kAvx2, true), speed(Path::kPortable, false), speed(Path::kAvx2, false));
  }
}

void print_shapes(const Format &format, Path path, const char *path_name) {
  constexpr size_t kRows[] = {1, 2, 3, 4, 8, 32, 128, 512};
  std::printf("\n%s, %s: Gop/s\n%4s %5s", format.name, path_name, "n", "k");
  for (size_t m : kRows) std::printf("   m=%-4zu", m);
  std::printf("\n");
  for (size_t n : {8, 13, 32, 64}) {
    for (size_t k : {8, 32, 128}) {
      std::printf("%4zu %5zu", n, k);
      for (size_t m : kRows) {
        std::printf(" %8.2f", Operands(format, {m, n, k}).speed(path));
        std::fflush(stdout);
      }
      std::printf("\n");
    }
  }
}

}  // namespace

int main(int argc, char **) {
  print_formats({256, 32, 32});
  print_conversions();
  if (argc == 1) return 0;  // any argument: all shapes too
  for (const Format &format : kFormats) {
    if (path_available(Path::kAvx2)) print_shapes(format, Path::kAvx2, "avx2");
  }
  print_shapes(kFormats[0], Path::kPortable, "portable");
  return 0;
}
