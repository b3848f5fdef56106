// Speed of the vector unit's functional core on this host, in millions of elements (windows: multiply-accumulates) a
// second. Host time is printed only; nothing depends on it.
#include <cstdio>
#include <cstring>
#include <ctime>
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
  // Of this process: other work of the host does not count.
  const auto now = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
  f();
  int rounds = 0;
  const double start = now();
  double taken = 0;
  while (taken < 0.05) {
    f();
    ++rounds;
    taken = now() - start;
  }
  std::printf("%-44s %9.0f M/s\n", what, operations * rounds / taken * 1e-6);
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

  v[0] = dense(kOut, image, DType::FP16);
  v[1] = View{DType::FP16, 0, image, {0, 28 * 2, 2, 28 * 28 * 2}};
  time("  FP16", n, [&] { unit.run(memory, v, unary); });
  v[0] = View{DType::FP16, kOut, image, {0, 28 * 2, 2, 28 * 28 * 2}};
  v[1] = dense(0, image, DType::FP16);
  time("  FP16, the other way", n, [&] { unit.run(memory, v, unary); });
  v[0] = dense(kOut, image, DType::FP16);
  v[1] = View{DType::FP16, 0, image, {0, 56 * 200, 200, 2}};
  time("COPY FP16, rows of 96", n, [&] { unit.run(memory, v, unary); });
  v[1] = dense(0, image, DType::FP16);
  v[2] = dense(2 << 20, image, DType::FP16);
  for (const auto &[name, f] :
       {std::pair{"RELU FP16", isa::Unary::RELU}, {"HARD_SWISH FP16", isa::Unary::HARD_SWISH}}) {
    unary.func = f;
    time(name, n, [&] { unit.run(memory, v, unary); });
  }
  binary.func = isa::Binary::ADD;
  time("ADD FP16", n, [&] { unit.run(memory, v, binary); });
  for (const DType type : {DType::INT8, DType::INT32, DType::INT64}) {
    const std::string name(num::name_of(type));
    v[0] = dense(kOut, image, type);
    v[1] = dense(0, image, type);
    v[2] = dense(2 << 20, image, type);
    for (const auto &[op, f] : {std::pair{"ADD ", isa::Binary::ADD},
                                {"MUL ", isa::Binary::MUL},
                                {"DIV ", isa::Binary::DIV},
                                {"LT ", isa::Binary::LT}}) {
      binary.func = f;
      time((op + name).c_str(), n, [&] { unit.run(memory, v, binary); });
    }
    v[2] = dense(kOut, image);
    unary.func = isa::Unary::COPY;
    unary.dst = 2;
    time(("COPY to FP32 " + name).c_str(), n, [&] { unit.run(memory, v, unary); });
    unary.dst = 0;
  }
  v[0] = dense(kOut, image);
  v[1] = dense(0, image);
  v[2] = dense(2 << 20, image);
  binary.func = isa::Binary::FMOD;
  time("FMOD", n, [&] { unit.run(memory, v, binary); });
  v[3] = dense(3 << 20, image, DType::UINT8);
  isa::VSelect select;
  select.cond = 3;
  select.a = 1;
  select.b = 2;
  time("SELECT", n, [&] { unit.run(memory, v, select); });

  // Indices: 784 of rows of 96, and one for each element.
  for (uint32_t i = 0; i < 28 * 28 * 96; ++i) {
    const uint32_t index = i * 7 % 784;
    std::memcpy(spm.data() + (6 << 20) + 4 * i, &index, 4);
  }
  const Dims table{1, 1, 784, 96};
  v[0] = dense(kOut, table);
  v[1] = dense(0, table);
  v[2] = View{DType::INT32, 6 << 20, {1, 1, 784, 1}, {0, 0, 4, 0}};
  isa::VGather gather;
  gather.src = 1;
  gather.idx = 2;
  gather.axis = 2;
  isa::VScatter scatter;
  scatter.src = 1;
  scatter.idx = 2;
  scatter.axis = 2;
  for (const char *what : {", rows of 96", ", elements"}) {
    time((std::string("GATHER") + what).c_str(), n, [&] { unit.run(memory, v, gather); });
    scatter.func = isa::Scatter::SET;
    time((std::string("SCATTER SET") + what).c_str(), n, [&] { unit.run(memory, v, scatter); });
    scatter.func = isa::Scatter::ADD;
    time((std::string("SCATTER ADD") + what).c_str(), n, [&] { unit.run(memory, v, scatter); });
    v[2] = View{DType::INT32, 6 << 20, table, {0, 0, 384, 4}};
  }
  isa::VScan scan;
  scan.src = 1;
  for (const unsigned axis : {2u, 3u}) {
    scan.axis = static_cast<uint8_t>(axis);
    time(("SCAN along " + std::to_string(axis)).c_str(), n, [&] { unit.run(memory, v, scan); });
  }
  isa::VArg arg;
  arg.src = 1;
  v[2] = v[0];
  for (const unsigned axis : {2u, 3u}) {
    arg.axis = static_cast<uint8_t>(axis);
    v[0] = dense(kOut, {1, 1, axis == 2 ? 1u : 784u, axis == 3 ? 1u : 96u}, DType::INT64);
    time(("ARG along " + std::to_string(axis)).c_str(), n, [&] { unit.run(memory, v, arg); });
  }
  isa::VTopk topk;
  topk.src = 1;
  v[1] = dense(0, {1, 1, 64, 1000});
  v[0] = dense(kOut, {1, 1, 64, 5}, DType::INT64);
  time("TOPK, 5 of 1000", 64000, [&] { unit.run(memory, v, topk); });

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
  v[1]->dtype = v[0]->dtype = DType::INT32;
  time("  INT32", 128 * 768, [&] { unit.run(memory, v, reduce); });
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
