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
