// Functions that are spelled out: what their composition costs in accuracy, each step rounded to FP32.
#include <catch2/catch.hpp>
#include <cmath>
#include <iostream>
#include <random>

#include "driver/compiler/frontend/frontend.hpp"
#include "tb/driver/compiler/onnx_model.hpp"
#include "tb/driver/compiler/reference_eval.hpp"

using namespace cx::compiler;

namespace {

struct Function {
  const char *op;
  double (*exact)(double);
  double low, high;  // of the logarithm to base 10 of |x|, or of |x - offset|
  double offset;
  bool negative;  // x may be
};

}  // namespace

TEST_CASE("Spelled-out functions stay within 2e-6 of the exact ones, relative") {
  const Function functions[] = {{"Sinh", std::sinh, -30, 1.9, 0, true},   {"Cosh", std::cosh, -30, 1.9, 0, true},
                                {"Tanh", std::tanh, -30, 30, 0, true},    {"Asinh", std::asinh, -30, 38, 0, true},
                                {"Acosh", std::acosh, -6, 38, 1, false},  {"Atanh", std::atanh, -30, -1e-6, 0, true},
                                {"Asin", std::asin, -30, -1e-6, 0, true}, {"Acos", std::acos, -30, -1e-6, 0, true},
                                {"Atan", std::atan, -30, 38, 0, true}};
  const unsigned seed = 5;
  std::cout << "function seed " << seed << '\n';
  std::mt19937_64 random(seed);
  constexpr int64_t kCount = 2000;
  for (const Function &function : functions) {
    std::uniform_real_distribution<double> exponent(function.low, function.high);
    Values x{{kCount}, {}};
    for (int64_t i = 0; i < kCount; ++i) {
      const double size = std::pow(10.0, exponent(random));
      const double signed_size = function.negative && random() % 2 == 0 ? -size : size;
      x.data.push_back(static_cast<double>(static_cast<float>(function.offset + signed_size)));
    }
    OnnxModel model;
    model.input("x", {kCount});
    model.node(function.op, {"x"}, {"y"});
    model.output("y");
    const TemporaryFile file(model.bytes());
    const Values y = evaluate_reference(import_onnx(file.path()), {{"x", x}}).at("y");
    double worst = 0;
    for (std::size_t i = 0; i < y.data.size(); ++i) {
      const double exact = function.exact(x.data[i]);
      INFO(function.op << "(" << x.data[i] << ") = " << y.data[i] << ", exactly " << exact);
      const double error = exact == 0 ? std::fabs(y.data[i]) : std::fabs(y.data[i] - exact) / std::fabs(exact);
      CHECK(error <= 2e-6);
      worst = std::max(worst, error);
    }
    std::cout << function.op << ": largest relative error " << worst << '\n';
  }
}

TEST_CASE("Spelled-out functions at and beyond the ends of their domain") {
  auto at = [](const std::string &op, double x) {
    OnnxModel model;
    model.input("x", {1});
    model.node(op, {"x"}, {"y"});
    model.output("y");
    const TemporaryFile file(model.bytes());
    return evaluate_reference(import_onnx(file.path()), {{"x", {{1}, {x}}}}).at("y").data.at(0);
  };
  CHECK(std::isnan(at("Acosh", 0.5)));
  CHECK(at("Acosh", 1) == 0);
  CHECK(std::isnan(at("Asin", 1.5)));
  CHECK(at("Asin", 1) == Approx(M_PI / 2));
  CHECK(at("Acos", -1) == Approx(M_PI));
  CHECK(at("Acos", 1) == 0);
  CHECK(at("Atanh", 1) == INFINITY);
  CHECK(at("Atanh", -1) == -INFINITY);
  CHECK(at("Sinh", 100) == INFINITY);
  CHECK(at("Sinh", -100) == -INFINITY);
  CHECK(at("Cosh", -100) == INFINITY);
  CHECK(at("Asinh", INFINITY) == INFINITY);
  CHECK(std::isnan(at("Sinh", std::nan(""))));
}

namespace {

onnx::AttributeProto &attribute(onnx::NodeProto &node, const std::string &name,
                                onnx::AttributeProto::AttributeType type) {
  auto &result = *node.add_attribute();
  result.set_name(name);
  result.set_type(type);
  return result;
}

std::vector<double> resized(const std::string &mode) {
  OnnxModel model(18);
  model.input("x", {1, 1, 4, 4});
  model.constant("scales", {4}, {1, 1, 0.6F, 0.6F});
  auto &node = model.node("Resize", {"x", "", "scales"}, {"y"});
  attribute(node, "mode", onnx::AttributeProto::STRING).set_s(mode);
  attribute(node, "antialias", onnx::AttributeProto::INT).set_i(1);
  model.output("y");
  const TemporaryFile file(model.bytes());
  Values x{{1, 1, 4, 4}, {}};
  for (int i = 1; i <= 16; ++i) x.data.push_back(i);
  return evaluate_reference(import_onnx(file.path()), {{"x", x}}).at("y").data;
}

}  // namespace

TEST_CASE("Resize without aliasing gives the values of ONNX's operator document") {
  const double linear[] = {2.875, 4.5, 9.375, 11};
  const double cubic[] = {2.5180721, 4.2858863, 9.589329, 11.357142};
  const auto by_lines = resized("linear");
  const auto by_cubes = resized("cubic");
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(by_lines.at(i) == Approx(linear[i]).epsilon(1e-5));
    CHECK(by_cubes.at(i) == Approx(cubic[i]).epsilon(1e-5));
  }
}

TEST_CASE("AffineGrid maps places by a matrix for each picture") {
  for (const bool align : {false, true}) {
    OnnxModel model(20);
    model.input("theta", {2, 2, 3});
    model.integers("size", {2, 1, 3, 4});
    auto &node = model.node("AffineGrid", {"theta", "size"}, {"y"});
    attribute(node, "align_corners", onnx::AttributeProto::INT).set_i(align ? 1 : 0);
    model.output("y");
    const TemporaryFile file(model.bytes());
    const Values theta{{2, 2, 3}, {1, 0.5, -0.25, 0, 2, 1, 0.5, 0, 0, -1, 1, 0.125}};
    const Values y = evaluate_reference(import_onnx(file.path()), {{"theta", theta}}).at("y");
    REQUIRE(y.shape == Shape{2, 3, 4, 2});
    std::size_t at = 0;
    for (std::size_t n = 0; n < 2; ++n) {
      for (int row = 0; row < 3; ++row) {
        for (int column = 0; column < 4; ++column) {
          const double v = align ? row - 1.0 : (2 * row + 1) / 3.0 - 1;
          const double u = align ? 2 * column / 3.0 - 1 : (2 * column + 1) / 4.0 - 1;
          for (std::size_t k = 0; k < 2; ++k) {
            const double *m = &theta.data[n * 6 + k * 3];
            CHECK(y.data[at++] == Approx(m[0] * u + m[1] * v + m[2]).margin(1e-6));
          }
        }
      }
    }
  }
}
