// Speed of the vector unit's functional core on this host, in millions of elements (windows: multiply-accumulates) a
// second. Host time is printed only; nothing depends on it.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>

#include "hw/vpu/vpu_ops.hpp"

namespace {

using namespace cx;
using namespace cx::hw::vpu;
using num::DType;
using Dims = std::array<uint32_t, 4>;

View dense(uint32_t base, Dims d, DType type = DType::FP32) {
  const auto bytes = static_cast<int32_t>(num::bytes_of(type));
  const auto n = [&](int i) { return static_cast<int32_t>(d[i]); };
  return {type, base, d, {n(1) * n(2) * n(3) * bytes, n(2) * n(3) * bytes, n(3) * bytes, bytes}};
}

void time(const char *what, double operations, const std::function<void()> &f) {
  const auto now = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  f();
  int rounds = 0;
  const double start = now();
  while (now() - start < 0.2) {
    f();
    ++rounds;
  }
  std::printf("%-44s %9.0f M/s\n", what, operations * rounds / (now() - start) * 1e-6);
}

}  // namespace

int main() {
  std::vector<std::byte> spm(8 << 20);
  std::mt19937 random(1);
  for (size_t i = 0; i + 4 <= spm.size(); i += 4) {
    const float x = static_cast<float>(random() % 2000) * 0.004f - 4.0f;
    std::memcpy(spm.data() + i, &x, 4);
  }
  const std::span<std::byte> memory(spm.data(), spm.size());
  VectorUnit unit;
  Views v;
  constexpr uint32_t kOut = 4 << 20;

  const Dims image{1, 28, 28, 96};
  const double n = 28 * 28 * 96;
  v[0] = dense(kOut, image);
  v[1] = dense(0, image);
  v[2] = dense(2 << 20, image);
  isa::VUnary unary;
  unary.src = 1;
  for (const auto &[name, f] : {std::pair{"RELU", isa::Unary::RELU},
                                {"EXP", isa::Unary::EXP},
                                {"GELU", isa::Unary::GELU},
                                {"ERF", isa::Unary::ERF},
                                {"SIN", isa::Unary::SIN}}) {
    unary.func = f;
    time(name, n, [&] { unit.run(memory, v, unary); });
  }
  isa::VBinary binary;
  binary.a = 1;
  binary.b = 2;
  time("ADD", n, [&] { unit.run(memory, v, binary); });
  v[2] = View{DType::FP32, 2 << 20, {1, 1, 1, 96}, {0, 0, 0, 4}};
  time("ADD, one operand a row for all pixels", n, [&] { unit.run(memory, v, binary); });
  binary.func = isa::Binary::POW;
  time("POW", n, [&] { unit.run(memory, v, binary); });
  v[1] = dense(0, image, DType::FP16);
  v[0] = dense(kOut, image, DType::INT8);
  unary.func = isa::Unary::RELU;
  time("RELU FP16 to INT8", n, [&] { unit.run(memory, v, unary); });
  v[0] = dense(kOut, image);
  v[1] = View{DType::FP32, 0, image, {0, 28 * 4, 4, 28 * 28 * 4}};
  unary.func = isa::Unary::COPY;
  time("COPY, channels innermost from outermost", n, [&] { unit.run(memory, v, unary); });

  isa::VSoftmax softmax;
  softmax.src = 1;
  v[0] = dense(kOut, {1, 12, 64, 64});
  v[1] = dense(0, {1, 12, 64, 64});
  time("SOFTMAX of 64", 12 * 64 * 64, [&] { unit.run(memory, v, softmax); });
  v[0] = dense(kOut, {1, 1, 64, 1000});
  v[1] = dense(0, {1, 1, 64, 1000});
  time("SOFTMAX of 1000", 64 * 1000, [&] { unit.run(memory, v, softmax); });

  isa::VReduce reduce;
  reduce.src = 1;
  reduce.axes = 8;
  v[1] = dense(0, {1, 1, 128, 768});
  v[0] = dense(kOut, {1, 1, 128, 1});
  time("SUM of rows of 768", 128 * 768, [&] { unit.run(memory, v, reduce); });
  reduce.axes = 6;
  v[1] = dense(0, {1, 7, 7, 1280});
  v[0] = dense(kOut, {1, 1, 1, 1280});
  time("SUM over 7 x 7 pixels of 1280 channels", 49 * 1280, [&] { unit.run(memory, v, reduce); });

  isa::VWindow window;
  window.src = 1;
  window.kernel_y = window.kernel_x = 3;
  for (const DType type : {DType::FP32, DType::FP16, DType::INT8}) {
    v[0] = dense(kOut, {1, 28, 28, 192}, type);
    v[1] = dense(0, {1, 30, 30, 192}, type);
    v[2] = dense(3 << 20, {1, 3, 3, 192}, type);
    v[3] = dense((3 << 20) + 65536, {1, 1, 1, 192});
    window.func = isa::Window::MAC;
    window.w = 2;
    window.bias = 3;
    window.act = isa::Activation::RELU;
    const std::string name = "depthwise 3 x 3, 192 channels, " + std::string(num::name_of(type));
    time(name.c_str(), 28.0 * 28 * 192 * 9, [&] { unit.run(memory, v, window); });
    window.func = isa::Window::MAX;
    window.w = window.bias = 0xFF;
    window.act = isa::Activation::NONE;
    time("  maximum", 28.0 * 28 * 192 * 9, [&] { unit.run(memory, v, window); });
  }
  return 0;
}
