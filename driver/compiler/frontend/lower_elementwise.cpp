// Elementwise operators.
#include <cmath>
#include <limits>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Lowering unary(const std::string &func) {
  return [func](NodeContext &n) { return Ids{n.b.unary(func, n.input(0))}; };
}

// The second operand. Before opset 7 it was laid along the first one's dimensions from `axis` on, if `broadcast` was
// set.
TensorId second(NodeContext &n) {
  Builder &b = n.b;
  const TensorId y = n.input(1);
  if (n.opset >= 7 || n.integer("broadcast", 0) == 0 || !n.has_attribute("axis")) return y;
  Shape shape = b.shape(y);
  const int64_t rank = b.rank(n.input(0));
  const int64_t axis = NodeContext::axis(n.integer("axis", 0), rank);
  if (axis + b.rank(y) > rank)
    throw InputError("operand of shape " + to_text(shape) + " does not fit axis " + std::to_string(axis));
  shape.resize(static_cast<std::size_t>(rank - axis), 1);
  return b.reshape(y, shape);
}

Lowering binary(const std::string &func) {
  return [func](NodeContext &n) { return Ids{n.b.binary(func, n.input(0), second(n))}; };
}

// Max, Min, Sum and Mean of any number of operands.
TensorId chain(NodeContext &n, const std::string &func) {
  const Ids operands = n.all_inputs();
  TensorId result = operands[0];
  for (std::size_t i = 1; i < operands.size(); ++i) result = n.b.binary(func, result, operands[i]);
  return result;
}

Lowering variadic(const std::string &func) {
  return [func](NodeContext &n) { return Ids{chain(n, func)}; };
}

Ids mean(NodeContext &n) { return {n.b.binary("div", chain(n, "add"), static_cast<double>(n.input_count()))}; }

Ids leaky_relu(NodeContext &n) { return {n.b.unary("leaky_relu", n.input(0), n.real("alpha", 0.01F))}; }

Ids hard_sigmoid(NodeContext &n) {
  return {n.b.unary("hard_sigmoid", n.input(0), n.real("alpha", 0.2F), n.real("beta", 0.5F))};
}

// A bound given as an input: constant bounds go into the instruction, others become Max and Min.
struct Bound {
  TensorId tensor = kNoTensor;
  float value = 0;
};

Bound bound(NodeContext &n, std::size_t index, float fallback) {
  if (!n.has_input(index)) return {kNoTensor, fallback};
  const Tensor &tensor = n.b[n.input(index)];
  if (elements(tensor.shape) != 1) {
    throw InputError("bound '" + printable(tensor.name) + "' has shape " + to_text(tensor.shape) +
                     ", expected a scalar");
  }
  if (tensor.type != n.b[n.input(0)].type) {
    throw InputError("bound '" + printable(tensor.name) + "' is " + name_of(tensor.type) + ", the input is not");
  }
  // FP32 holds every bound of the types that clamp() computes in, except large integers.
  if (tensor.is_constant() && tensor.type == Type::F32) return {kNoTensor, to_floats(tensor)[0]};
  return {n.b.reshape(n.input(index), {}), 0};
}

Ids clip(NodeContext &n) {
  const TensorId x = n.input(0);
  if (n.opset < 11) {
    const float lowest = std::numeric_limits<float>::lowest();
    const float low = n.real("min", lowest);
    const float high = n.real("max", -lowest);
    return {n.b.unary("clamp", x, low == lowest ? -kInfinity : low, high == -lowest ? kInfinity : high)};
  }
  const Bound low = bound(n, 1, -kInfinity);
  const Bound high = bound(n, 2, kInfinity);
  if (low.tensor == kNoTensor && high.tensor == kNoTensor) {
    if (!n.has_input(1) && !n.has_input(2)) return {x};
    return {n.b.unary("clamp", x, low.value, high.value)};
  }
  TensorId result = x;
  if (low.tensor != kNoTensor) {
    result = n.b.binary("max", result, low.tensor);
  } else if (n.has_input(1)) {
    result = n.b.unary("clamp", result, low.value, kInfinity);
  }
  if (high.tensor != kNoTensor) return {n.b.binary("min", result, high.tensor)};
  return {n.has_input(2) ? n.b.unary("clamp", result, -kInfinity, high.value) : result};
}

// gamma * (max(x, 0) + alpha * (exp(min(x / scale, 0)) - 1)): Elu, Selu and Celu.
TensorId exponential_linear(NodeContext &n, float alpha, float gamma, float scale) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  TensorId negative = b.unary("clamp", x, -kInfinity, 0);
  if (scale != 1) negative = b.binary("div", negative, scale);
  negative = b.unary("affine", b.unary("exp", negative), alpha, -alpha);
  const TensorId sum = b.binary("add", b.unary("relu", x), negative);
  return gamma == 1 ? sum : b.binary("mul", sum, gamma);
}

Ids elu(NodeContext &n) { return {exponential_linear(n, n.real("alpha", 1), 1, 1)}; }

Ids selu(NodeContext &n) {
  return {exponential_linear(n, n.real("alpha", 1.67326319217681884765625F),
                             n.real("gamma", 1.05070102214813232421875F), 1)};
}

Ids celu(NodeContext &n) {
  const float alpha = n.real("alpha", 1);
  return {exponential_linear(n, alpha, 1, alpha)};
}

Ids softsign(NodeContext &n) {
  const TensorId x = n.input(0);
  return {n.b.binary("div", x, n.b.binary("add", n.b.unary("abs", x), 1.0))};
}

Ids mish(NodeContext &n) {
  const TensorId x = n.input(0);
  return {n.b.binary("mul", x, n.b.unary("tanh", n.b.unary("softplus", x)))};
}

Ids gelu(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const std::string approximate = n.text("approximate", "none");
  if (approximate == "none") return {b.unary("gelu", x)};
  if (approximate != "tanh") throw InputError("attribute approximate is '" + approximate + "'");
  // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
  const TensorId cube = b.binary("mul", b.binary("mul", x, x), x);
  const TensorId inner = b.binary("mul", b.binary("add", x, b.binary("mul", cube, 0.044715)), std::sqrt(2 / M_PI));
  return {b.binary("mul", b.binary("mul", x, 0.5), b.binary("add", b.unary("tanh", inner), 1.0))};
}

Ids tangent(NodeContext &n) {
  const TensorId x = n.input(0);
  return {n.b.binary("div", n.b.unary("sin", x), n.b.unary("cos", x))};
}

Ids power(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  TensorId exponent = second(n);
  const Type type = b[x].type;
  const Tensor &e = b[exponent];
  const bool one_value = e.is_constant() && elements(e.shape) == 1 && broadcast(b.shape(x), e.shape) == b.shape(x);
  if (one_value && type == Type::F32) {
    // Powers of which every step is a correctly rounded operation; others need the power function.
    const double value = to_doubles(e)[0];
    if (value == 1) return {x};
    if (value == 2) return {b.binary("mul", x, x)};
    if (value == 3) return {b.binary("mul", b.binary("mul", x, x), x)};
    if (value == 0.5) return {b.unary("sqrt", x)};
    if (value == -1) return {b.unary("recip", x)};
  }
  if (is_integer(type) && is_float(e.type)) {
    return {b.cast(b.binary("pow", b.cast(x, Type::F32), b.cast(exponent, Type::F32)), type)};
  }
  exponent = b.cast(exponent, type);
  return {b.binary("pow", x, exponent)};
}

Ids prelu(NodeContext &n) {
  const TensorId x = n.input(0);
  TensorId slope = n.input(1);
  // Before opset 7 a list of slopes went along the channels.
  if (n.opset < 7 && n.b.rank(slope) == 1 && n.b.rank(x) > 2) {
    Shape along(static_cast<std::size_t>(n.b.rank(x)) - 1, 1);
    along[0] = n.b.shape(slope)[0];
    slope = n.b.reshape(slope, along);
  }
  if (broadcast(n.b.shape(x), n.b.shape(slope)) != n.b.shape(x)) {
    throw InputError("slope of shape " + to_text(n.b.shape(slope)) + " must broadcast to " + to_text(n.b.shape(x)));
  }
  return {n.b.binary("prelu", x, slope)};
}

Ids modulo(NodeContext &n) { return {n.b.binary(n.integer("fmod", 0) != 0 ? "fmod" : "mod", n.input(0), n.input(1))}; }

Ids where(NodeContext &n) { return {n.b.select(n.input(0), n.input(1), n.input(2))}; }

Lowering comparison(const std::string &func) {
  return [func](NodeContext &n) { return Ids{n.b.compare(func, n.input(0), second(n))}; };
}

// Bool and integers: every bit turned.
Ids logical_not(NodeContext &n) { return {n.b.unary("not", n.input(0))}; }

Ids bit_shift(NodeContext &n) {
  const std::string direction = n.text("direction", "");
  if (direction != "LEFT" && direction != "RIGHT") throw InputError("attribute direction is '" + direction + "'");
  return {n.b.binary(direction == "LEFT" ? "shl" : "shr", n.input(0), n.input(1))};
}

Ids is_nan(NodeContext &n) { return {n.b.compare("ne", n.input(0), n.input(0))}; }

Ids is_inf(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const bool positive = n.integer("detect_positive", 1) != 0;
  const bool negative = n.integer("detect_negative", 1) != 0;
  if (!positive && !negative) return {b.expand(b.scalar(Type::Bool, 0), b.shape(x))};
  const TensorId value = positive && negative ? b.unary("abs", x) : x;
  return {b.compare("eq", value, b.scalar(b[x].type, positive ? kInfinity : -kInfinity))};
}

Ids thresholded_relu(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const TensorId above = b.compare("gt", x, b.scalar(b[x].type, n.real("alpha", 1)));
  return {b.select(above, x, b.scalar(b[x].type, 0))};
}

// x + bias below -lambd, x - bias above lambd, 0 between.
Ids shrink(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Type type = b[x].type;
  const double bias = n.real("bias", 0);
  const double threshold = n.real("lambd", 0.5F);
  const TensorId raised = bias == 0 ? x : b.binary("add", x, bias);
  const TensorId lowered = bias == 0 ? x : b.binary("sub", x, bias);
  const TensorId positive = b.select(b.compare("gt", x, b.scalar(type, threshold)), lowered, b.scalar(type, 0));
  return {b.select(b.compare("lt", x, b.scalar(type, -threshold)), raised, positive)};
}

Ids dropout(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  if (n.opset >= 12 && n.has_input(2)) {
    const bool training = to_integers(n.constant_input(2, "training_mode"))[0] != 0;
    const double ratio = n.has_input(1) ? to_doubles(n.constant_input(1, "ratio")).at(0) : 0.5;
    if (training && ratio != 0)
      throw UnsupportedError("Dropout", "training mode drops at random, which inference does not");
  }
  if (!n.output_used(1)) return {x};
  // Nothing is dropped: the mask is all ones.
  const Type type = n.opset >= 10 ? Type::Bool : b[x].type;
  return {x, b.expand(b.scalar(type, 1), b.shape(x))};
}

}  // namespace

void register_elementwise(LoweringTable &table) {
  for (const auto &[name, func] : std::map<std::string, std::string>{{"Relu", "relu"},
                                                                     {"Exp", "exp"},
                                                                     {"Log", "log"},
                                                                     {"Sqrt", "sqrt"},
                                                                     {"Sigmoid", "sigmoid"},
                                                                     {"Tanh", "tanh"},
                                                                     {"Erf", "erf"},
                                                                     {"Abs", "abs"},
                                                                     {"Neg", "neg"},
                                                                     {"Floor", "floor"},
                                                                     {"Ceil", "ceil"},
                                                                     {"Round", "round"},
                                                                     {"Sign", "sign"},
                                                                     {"Sin", "sin"},
                                                                     {"Cos", "cos"},
                                                                     {"Reciprocal", "recip"},
                                                                     {"Softplus", "softplus"},
                                                                     {"HardSwish", "hard_swish"}}) {
    table[name] = unary(func);
  }
  for (const auto &[name, func] : std::map<std::string, std::string>{{"Add", "add"},
                                                                     {"Sub", "sub"},
                                                                     {"Mul", "mul"},
                                                                     {"Div", "div"},
                                                                     {"And", "and"},
                                                                     {"Or", "or"},
                                                                     {"Xor", "xor"},
                                                                     {"BitwiseAnd", "and"},
                                                                     {"BitwiseOr", "or"},
                                                                     {"BitwiseXor", "xor"}}) {
    table[name] = binary(func);
  }
  for (const auto &[name, func] : std::map<std::string, std::string>{
           {"Equal", "eq"}, {"Less", "lt"}, {"LessOrEqual", "le"}, {"Greater", "gt"}, {"GreaterOrEqual", "ge"}}) {
    table[name] = comparison(func);
  }
  table["Not"] = logical_not;
  table["BitwiseNot"] = logical_not;
  table["BitShift"] = bit_shift;
  table["IsNaN"] = is_nan;
  table["IsInf"] = is_inf;
  table["ThresholdedRelu"] = thresholded_relu;
  table["Shrink"] = shrink;
  table["Max"] = variadic("max");
  table["Min"] = variadic("min");
  table["Sum"] = variadic("add");
  table["Mean"] = mean;
  table["LeakyRelu"] = leaky_relu;
  table["HardSigmoid"] = hard_sigmoid;
  table["Clip"] = clip;
  table["Elu"] = elu;
  table["Selu"] = selu;
  table["Celu"] = celu;
  table["Softsign"] = softsign;
  table["Mish"] = mish;
  table["Gelu"] = gelu;
  table["com.microsoft.Gelu"] = gelu;
  table["Tan"] = tangent;
  table["Pow"] = power;
  table["PRelu"] = prelu;
  table["Mod"] = modulo;
  table["Where"] = where;
  table["Dropout"] = dropout;
}

}  // namespace cx::compiler
