#include "tb/driver/compiler/reference_eval.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Index = std::vector<int64_t>;

void require(bool condition, const Node &node, const std::string &what) {
  if (!condition) throw Error("reference: node '" + node.name + "' (" + node.op + "): " + what);
}

// Calls visit(index) for every index of a shape, in row-major order.
void each(const Shape &shape, const std::function<void(const Index &)> &visit) {
  const int64_t count = elements(shape);
  Index index(shape.size(), 0);
  for (int64_t i = 0; i < count; ++i) {
    visit(index);
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
}

int64_t offset(const Shape &shape, const Index &index) {
  int64_t result = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (index[d] < 0 || index[d] >= shape[d]) throw Error("reference: index out of range of " + to_text(shape));
    result = result * shape[d] + index[d];
  }
  return result;
}

double get(const Values &values, const Index &index) {
  return values.data[static_cast<std::size_t>(offset(values.shape, index))];
}

// The element that NumPy broadcasting puts at an index of a shape of the same or higher rank.
double get_broadcast(const Values &values, const Index &index) {
  Index own(index.end() - static_cast<long>(values.shape.size()), index.end());
  for (std::size_t d = 0; d < own.size(); ++d) {
    if (values.shape[d] == 1) own[d] = 0;
  }
  return get(values, own);
}

double nan_max(double a, double b) { return std::isnan(a) ? a : (std::isnan(b) ? b : (a > b ? a : b)); }
double nan_min(double a, double b) { return -nan_max(-a, -b); }
double clamp(double x, double low, double high) { return std::isnan(x) ? x : nan_min(nan_max(x, low), high); }
double logistic(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

double unary(const Node &node, double x) {
  const std::string func = node.text("func", "");
  const double alpha = node.real("alpha", 0);
  const double beta = node.real("beta", 0);
  if (func == "neg") return -x;
  if (func == "abs") return std::fabs(x);
  if (func == "relu") return clamp(x, 0, INFINITY);
  if (func == "leaky_relu") return x < 0 ? alpha * x : x;
  if (func == "clamp") return clamp(x, alpha, beta);
  if (func == "affine") return x * alpha + beta;
  if (func == "exp") return std::exp(x);
  if (func == "log") return std::log(x);
  if (func == "sqrt") return std::sqrt(x);
  if (func == "recip") return 1 / x;
  if (func == "sigmoid") return logistic(x);
  if (func == "tanh") return std::tanh(x);
  if (func == "erf") return std::erf(x);
  if (func == "hard_sigmoid") return clamp(alpha * x + beta, 0, 1);
  if (func == "floor") return std::floor(x);
  if (func == "ceil") return std::ceil(x);
  if (func == "round") return std::rint(x);
  if (func == "sign") return x > 0 ? 1 : (x < 0 ? -1 : x);
  if (func == "hard_swish") return x * clamp(x + 3, 0, 6) / 6;
  if (func == "silu") return x * logistic(x);
  if (func == "gelu") return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  if (func == "softplus") return x > 30 ? x : std::log1p(std::exp(x));
  if (func == "sin") return std::sin(x);
  if (func == "cos") return std::cos(x);
  if (func == "trunc") return std::trunc(x);
  if (func == "atan") return std::atan(x);
  if (func == "is_nan") return std::isnan(x);
  if (func == "is_inf") return std::isinf(x) && (alpha == 0 || alpha * x > 0);
  throw Error("reference: unary function '" + func + "'");
}

double binary(const std::string &func, double a, double b) {
  if (func == "add") return a + b;
  if (func == "sub") return a - b;
  if (func == "mul") return a * b;
  if (func == "div") return a / b;
  if (func == "max") return nan_max(a, b);
  if (func == "min") return nan_min(a, b);
  if (func == "pow") return std::pow(a, b);
  if (func == "prelu") return a < 0 ? a * b : a;
  if (func == "mod") return a - std::floor(a / b) * b;
  if (func == "fmod") return std::fmod(a, b);
  if (func == "eq") return a == b;
  if (func == "ne") return a != b;
  if (func == "lt") return a < b;
  if (func == "le") return a <= b;
  throw Error("reference: binary function '" + func + "'");
}

int bits_of(Type type) { return static_cast<int>(bytes_of(type)) * 8; }
bool is_signed(Type type) { return type == Type::I8 || type == Type::I16 || type == Type::I32 || type == Type::I64; }

// The value that an integer type holds after arithmetic without limits: modulo two to the number of bits.
double wrapped(Type type, double value) {
  if (type == Type::Bool) return value != 0;
  const double range = std::ldexp(1.0, bits_of(type));
  if (value < (is_signed(type) ? range / 2 : range) && value >= (is_signed(type) ? -range / 2 : 0)) return value;
  double rest = std::fmod(value, range);
  if (rest < 0) rest += range;
  return is_signed(type) && rest >= range / 2 ? rest - range : rest;
}

double integer_power(double base, double exponent) {
  if (exponent < 0) return base == 1 ? 1 : (base == -1 ? (std::fmod(exponent, 2) == 0 ? 1 : -1) : 0);
  return std::pow(base, exponent);
}

double bitwise(const std::string &func, double a, double b) {
  // Two's complement in 64 bits; the caller cuts the result to its type.
  const auto x = a < 0 ? static_cast<uint64_t>(static_cast<int64_t>(a)) : static_cast<uint64_t>(a);
  const auto y = b < 0 ? static_cast<uint64_t>(static_cast<int64_t>(b)) : static_cast<uint64_t>(b);
  const uint64_t bits = func == "and" ? (x & y) : func == "or" ? (x | y) : (x ^ y);
  return a < 0 || b < 0 ? static_cast<double>(static_cast<int64_t>(bits)) : static_cast<double>(bits);
}

// Operands and result of one integer type, without its limits.
double integer_binary(const std::string &func, double a, double b) {
  if (func == "div") return std::trunc(a / b);
  if (func == "pow") return integer_power(a, b);
  if (func == "and" || func == "or" || func == "xor") return bitwise(func, a, b);
  if (func == "shl") return a * std::ldexp(1.0, static_cast<int>(b));
  if (func == "shr") return std::floor(a / std::ldexp(1.0, static_cast<int>(b)));
  return binary(func, a, b);
}

double saturated(Type type, double value) {
  if (std::isnan(value)) return 0;
  const double top = std::ldexp(1.0, bits_of(type) - (is_signed(type) ? 1 : 0));
  const double bottom = is_signed(type) ? -top : 0;
  // The largest value of 64-bit types is no double; nothing nearer exists.
  return std::trunc(clamp(value, bottom, bits_of(type) == 64 ? top : top - 1));
}

class Evaluator {
 public:
  /// operand: the type of the first operand; output: that of the result.
  Evaluator(const Node &node, std::vector<const Values *> inputs, Type operand, const Tensor &output)
      : node_(node), inputs_(std::move(inputs)), operand_(operand), type_(output.type), result_{output.shape, {}} {}

  Values run() {
    static const std::map<std::string, void (Evaluator::*)()> table = {
        {"Conv", &Evaluator::conv},          {"MatMul", &Evaluator::matmul},
        {"Pool", &Evaluator::pool},          {"Reduce", &Evaluator::reduce},
        {"Softmax", &Evaluator::softmax},    {"Unary", &Evaluator::unary_node},
        {"Binary", &Evaluator::binary_node}, {"Transpose", &Evaluator::transpose},
        {"Reshape", &Evaluator::same},       {"Copy", &Evaluator::same},
        {"Cast", &Evaluator::cast},          {"Concat", &Evaluator::concat},
        {"Select", &Evaluator::select},      {"TakeAlong", &Evaluator::take_along},
        {"Scan", &Evaluator::scan},          {"ScatterAlong", &Evaluator::scatter_along},
        {"TopK", &Evaluator::top_k},         {"ArgReduce", &Evaluator::arg_reduce},
        {"Slice", &Evaluator::slice},        {"Gather", &Evaluator::gather},
        {"Expand", &Evaluator::expand},      {"Pad", &Evaluator::pad}};
    auto entry = table.find(node_.op);
    require(entry != table.end(), node_, "operator is not in docs/compiler.md");
    (this->*entry->second)();
    require(static_cast<int64_t>(result_.data.size()) == elements(result_.shape), node_, "result has another size");
    return std::move(result_);
  }

 private:
  const Values &in(std::size_t i) const {
    require(i < inputs_.size() && inputs_[i] != nullptr, node_, "operand is missing");
    return *inputs_[i];
  }

  void fill(const std::function<double(const Index &)> &value) {
    result_.data.clear();
    each(result_.shape, [&](const Index &index) { result_.data.push_back(value(index)); });
  }

  std::vector<int64_t> attribute(const std::string &key, std::size_t length) const {
    std::vector<int64_t> values = node_.integers(key);
    require(values.size() == length, node_, "attribute " + key);
    return values;
  }

  // Source position of kernel element k in window o, or -1 in the padding.
  int64_t source(std::size_t d, int64_t o, int64_t k) const {
    const int64_t at = o * attribute("strides", 2)[d] + k * attribute("dilations", 2)[d] - attribute("pads", 4)[d];
    return at >= 0 && at < in(0).shape[d + 2] ? at : -1;
  }

  void check_windows(const std::vector<int64_t> &kernel) const {
    for (std::size_t d = 0; d < 2; ++d) {
      const auto pads = attribute("pads", 4);
      const int64_t room =
          in(0).shape[d + 2] + pads[d] + pads[d + 2] - (kernel[d] - 1) * attribute("dilations", 2)[d] - 1;
      require(room >= 0 && room / attribute("strides", 2)[d] + 1 == result_.shape[d + 2], node_, "output size");
    }
  }

  // A sum of products of channel n, scaled and with its bias.
  double finished(double sum, int64_t n) const {
    if (inputs_.size() > 3 && inputs_[3] != nullptr) sum *= get(in(3), {n});
    if (inputs_.size() > 2 && inputs_[2] != nullptr) sum += get(in(2), {n});
    return sum;
  }

  void conv() {
    const Values &x = in(0);
    const Values &w = in(1);
    const auto pad = static_cast<double>(node_.integer("pad_value", 0));
    const int64_t group = node_.integer("group", 0);
    require(x.shape.size() == 4 && w.shape.size() == 4 && group > 0 && w.shape[0] % group == 0, node_, "operands");
    require(x.shape[1] == w.shape[1] * group && result_.shape[1] == w.shape[0], node_, "channels");
    check_windows({w.shape[2], w.shape[3]});
    // Positions are worked out once per window row and column: models would take minutes otherwise.
    std::vector<std::vector<int64_t>> rows, columns;
    for (int64_t o = 0; o < result_.shape[2]; ++o) {
      rows.emplace_back();
      for (int64_t k = 0; k < w.shape[2]; ++k) rows.back().push_back(source(0, o, k));
    }
    for (int64_t o = 0; o < result_.shape[3]; ++o) {
      columns.emplace_back();
      for (int64_t k = 0; k < w.shape[3]; ++k) columns.back().push_back(source(1, o, k));
    }
    fill([&](const Index &o) {
      const int64_t first = o[1] / (w.shape[0] / group) * w.shape[1];
      double sum = 0;
      for (int64_t c = 0; c < w.shape[1]; ++c) {
        for (int64_t ky = 0; ky < w.shape[2]; ++ky) {
          const int64_t y = rows[static_cast<std::size_t>(o[2])][static_cast<std::size_t>(ky)];
          if (y < 0 && pad == 0) continue;
          const double *line = &x.data[static_cast<std::size_t>(
              ((o[0] * x.shape[1] + first + c) * x.shape[2] + std::max<int64_t>(y, 0)) * x.shape[3])];
          const double *kernel =
              &w.data[static_cast<std::size_t>(((o[1] * w.shape[1] + c) * w.shape[2] + ky) * w.shape[3])];
          for (int64_t kx = 0; kx < w.shape[3]; ++kx) {
            const int64_t at = columns[static_cast<std::size_t>(o[3])][static_cast<std::size_t>(kx)];
            if (at >= 0 && y >= 0) {
              sum += line[at] * kernel[kx];
            } else if (pad != 0) {
              sum += pad * kernel[kx];
            }
          }
        }
      }
      return finished(sum, o[1]);
    });
  }

  void pool() {
    const auto kernel = attribute("kernel", 2);
    const std::string kind = node_.text("kind", "");
    require(kind == "max" || kind == "avg" || kind == "sum", node_, "kind");
    require(node_.integer("count_include_pad", 0) == 1, node_, "count_include_pad");
    check_windows(kernel);
    fill([&](const Index &o) {
      double total = kind == "max" ? -INFINITY : 0;
      for (int64_t ky = 0; ky < kernel[0]; ++ky) {
        for (int64_t kx = 0; kx < kernel[1]; ++kx) {
          const int64_t y = source(0, o[2], ky);
          const int64_t x = source(1, o[3], kx);
          if (y < 0 || x < 0) continue;
          const double value = get(in(0), {o[0], o[1], y, x});
          total = kind == "max" ? nan_max(total, value) : total + value;
        }
      }
      return kind == "avg" ? total / static_cast<double>(kernel[0] * kernel[1]) : total;
    });
  }

  void matmul() {
    const Values &a = in(0);
    const Values &b = in(1);
    const bool trans_b = node_.integer("trans_b", -1) == 1;
    const int64_t depth = a.shape.back();
    const std::size_t rank = result_.shape.size();
    fill([&](const Index &o) {
      Index ia = o;
      Index ib = o;
      double sum = 0;
      for (int64_t k = 0; k < depth; ++k) {
        ia[rank - 1] = k;
        ib[rank - 2] = trans_b ? o[rank - 1] : k;
        ib[rank - 1] = trans_b ? k : o[rank - 1];
        sum += get_matrix(a, ia) * get_matrix(b, ib);
      }
      return finished(sum, o[rank - 1]);
    });
  }

  // Broadcasts leading dimensions only: a matrix dimension of size 1 must not hide a wrong inner dimension.
  static double get_matrix(const Values &values, const Index &index) {
    Index own(index.end() - static_cast<long>(values.shape.size()), index.end());
    for (std::size_t d = 0; d + 2 < own.size(); ++d) {
      if (values.shape[d] == 1) own[d] = 0;
    }
    return get(values, own);
  }

  void reduce() {
    const std::string kind = node_.text("kind", "");
    const auto axes = node_.integers("axes");
    require(node_.integer("keepdims", 0) == 1, node_, "keepdims");
    Shape expected = in(0).shape;
    double count = 1;
    for (int64_t axis : axes) {
      count *= static_cast<double>(expected.at(static_cast<std::size_t>(axis)));
      expected[static_cast<std::size_t>(axis)] = 1;
    }
    require(expected == result_.shape, node_, "output shape");
    const double start = kind == "max" ? -INFINITY : (kind == "min" ? INFINITY : (kind == "prod" ? 1 : 0));
    result_.data.assign(static_cast<std::size_t>(elements(result_.shape)), start);
    each(in(0).shape, [&](const Index &index) {
      Index target = index;
      for (int64_t axis : axes) target[static_cast<std::size_t>(axis)] = 0;
      double &total = result_.data[static_cast<std::size_t>(offset(result_.shape, target))];
      const double value = get(in(0), index);
      if (kind == "sum" || kind == "mean") {
        total += value;
      } else if (kind == "max") {
        total = nan_max(total, value);
      } else if (kind == "min") {
        total = nan_min(total, value);
      } else if (kind == "prod") {
        total *= value;
      } else if (kind == "sumsq") {
        total += value * value;
      } else {
        require(kind == "abssum", node_, "kind");
        total += std::fabs(value);
      }
    });
    if (kind == "mean") {
      for (double &total : result_.data) total /= count;
    }
    if (integers()) {
      for (double &total : result_.data) total = wrapped(type_, total);
    }
  }

  void softmax() {
    const auto axis = static_cast<std::size_t>(node_.integer("axis", -1));
    require(axis < result_.shape.size(), node_, "axis");
    fill([&](const Index &o) {
      Index index = o;
      double maximum = -INFINITY;
      for (index[axis] = 0; index[axis] < result_.shape[axis]; ++index[axis])
        maximum = nan_max(maximum, get(in(0), index));
      double sum = 0;
      for (index[axis] = 0; index[axis] < result_.shape[axis]; ++index[axis])
        sum += std::exp(get(in(0), index) - maximum);
      return std::exp(get(in(0), o) - maximum) / sum;
    });
  }

  bool integers() const { return is_integer(operand_) || operand_ == Type::Bool; }

  void unary_node() {
    require(in(0).shape == result_.shape, node_, "output shape");
    if (node_.text("func", "") == "not") {
      require(integers(), node_, "operand type");
      fill([&](const Index &o) {
        const double x = get(in(0), o);
        return operand_ == Type::Bool ? (x == 0 ? 1.0 : 0.0) : wrapped(type_, -x - 1);
      });
      return;
    }
    fill([&](const Index &o) {
      const double result = unary(node_, get(in(0), o));
      return is_integer(type_) ? wrapped(type_, result) : result;
    });
  }

  void binary_node() {
    const std::string func = node_.text("func", "");
    fill([&](const Index &o) {
      const double a = get_broadcast(in(0), o);
      const double b = get_broadcast(in(1), o);
      return integers() ? wrapped(type_, integer_binary(func, a, b)) : binary(func, a, b);
    });
  }

  void cast() {
    fill([&](const Index &o) {
      const double x = get(in(0), o);
      if (type_ == Type::Bool) return x != 0 ? 1.0 : 0.0;
      // Floats take x as it is; evaluate_reference() rounds it to the result's type.
      if (!is_integer(type_)) return x;
      return integers() ? wrapped(type_, x) : saturated(type_, x);
    });
  }

  void select() {
    fill([&](const Index &o) {
      return get_broadcast(in(0), o) != 0 ? get_broadcast(in(1), o) : get_broadcast(in(2), o);
    });
  }

  std::size_t axis() const {
    const auto value = static_cast<std::size_t>(node_.integer("axis", -1));
    require(value < in(0).shape.size(), node_, "axis");
    return value;
  }

  int64_t checked(double index, int64_t size) const {
    const double resolved = index < 0 ? index + static_cast<double>(size) : index;
    require(resolved >= 0 && resolved < static_cast<double>(size), node_, "index out of range");
    return static_cast<int64_t>(resolved);
  }

  void take_along() {
    require(in(0).shape.size() == result_.shape.size() && in(1).shape.size() == result_.shape.size(), node_, "ranks");
    fill([&](const Index &o) {
      Index index = o;
      index[axis()] = checked(get_broadcast(in(1), o), in(0).shape[axis()]);
      for (std::size_t d = 0; d < index.size(); ++d) {
        if (d != axis() && in(0).shape[d] == 1) index[d] = 0;
      }
      return get(in(0), index);
    });
  }

  void scatter_along() {
    const std::string func = node_.text("func", "");
    result_.data = in(0).data;
    each(in(2).shape, [&](const Index &u) {
      Index index = u;
      index[axis()] = checked(get_broadcast(in(1), u), result_.shape[axis()]);
      double &target = result_.data[static_cast<std::size_t>(offset(result_.shape, index))];
      const double update = get(in(2), u);
      if (func == "set") {
        target = update;
      } else {
        target = integers() ? wrapped(type_, integer_binary(func, target, update)) : binary(func, target, update);
      }
    });
  }

  void scan() {
    require(node_.text("kind", "") == "sum", node_, "kind");
    const bool exclusive = node_.integer("exclusive", -1) == 1;
    const bool reverse = node_.integer("reverse", -1) == 1;
    const int64_t length = result_.shape[axis()];
    fill([&](const Index &o) {
      Index index = o;
      double sum = 0;
      const int64_t first = reverse ? o[axis()] + (exclusive ? 1 : 0) : 0;
      const int64_t last = reverse ? length - 1 : o[axis()] - (exclusive ? 1 : 0);
      for (index[axis()] = first; index[axis()] <= last; ++index[axis()]) sum += get(in(0), index);
      return integers() ? wrapped(type_, sum) : sum;
    });
  }

  // Position of each element in the order of its lane: how many others come before it.
  void top_k() {
    const bool largest = node_.integer("largest", -1) == 1;
    const int64_t length = in(0).shape[axis()];
    require(node_.integer("k", -1) == result_.shape[axis()], node_, "k");
    fill([&](const Index &o) {
      Index a = o;
      Index b = o;
      for (a[axis()] = 0; a[axis()] < length; ++a[axis()]) {
        const double value = get(in(0), a);
        int64_t before = 0;
        for (b[axis()] = 0; b[axis()] < length; ++b[axis()]) {
          const double other = get(in(0), b);
          if (largest ? other > value : other < value) ++before;
          if (other == value && b[axis()] < a[axis()]) ++before;
        }
        if (before == o[axis()]) return static_cast<double>(a[axis()]);
      }
      throw Error("reference: no element of this rank (NaN?)");
    });
  }

  void arg_reduce() {
    const std::string kind = node_.text("kind", "");
    const bool last = node_.integer("last", -1) == 1;
    require(kind == "max" || kind == "min", node_, "kind");
    fill([&](const Index &o) {
      Index index = o;
      int64_t best = 0;
      double extreme = 0;
      for (index[axis()] = 0; index[axis()] < in(0).shape[axis()]; ++index[axis()]) {
        const double value = get(in(0), index);
        const bool better = kind == "max" ? value > extreme : value < extreme;
        if (index[axis()] == 0 || better || (last && value == extreme)) {
          best = index[axis()];
          extreme = value;
        }
      }
      return static_cast<double>(best);
    });
  }

  void same() { result_.data = in(0).data; }

  void transpose() {
    const auto perm = attribute("perm", result_.shape.size());
    fill([&](const Index &o) {
      Index index(o.size());
      for (std::size_t d = 0; d < o.size(); ++d) index[static_cast<std::size_t>(perm[d])] = o[d];
      return get(in(0), index);
    });
  }

  void concat() {
    const auto axis = static_cast<std::size_t>(node_.integer("axis", -1));
    fill([&](const Index &o) {
      Index index = o;
      std::size_t part = 0;
      while (index.at(axis) >= in(part).shape[axis]) index[axis] -= in(part++).shape[axis];
      return get(in(part), index);
    });
  }

  void slice() {
    const auto starts = attribute("starts", result_.shape.size());
    const auto steps = attribute("steps", result_.shape.size());
    fill([&](const Index &o) {
      Index index(o.size());
      for (std::size_t d = 0; d < o.size(); ++d) index[d] = starts[d] + o[d] * steps[d];
      return get(in(0), index);
    });
  }

  void gather() {
    const auto axis = static_cast<std::size_t>(node_.integer("axis", -1));
    const auto indices = node_.integers("indices");
    fill([&](const Index &o) {
      Index index = o;
      index[axis] = indices.at(static_cast<std::size_t>(o[axis]));
      return get(in(0), index);
    });
  }

  void expand() {
    require(in(0).shape.size() == result_.shape.size(), node_, "rank");
    fill([&](const Index &o) { return get_broadcast(in(0), o); });
  }

  void pad() {
    const std::size_t rank = result_.shape.size();
    const auto pads = attribute("pads", 2 * rank);
    fill([&](const Index &o) {
      Index index(rank);
      for (std::size_t d = 0; d < rank; ++d) {
        index[d] = o[d] - pads[d];
        if (index[d] < 0 || index[d] >= in(0).shape[d]) return static_cast<double>(node_.real("value", NAN));
      }
      return get(in(0), index);
    });
  }

  const Node &node_;
  std::vector<const Values *> inputs_;
  const Type operand_;
  const Type type_;
  Values result_;
};

// Rounds a node's result to its type, as a store does.
void round_to(Type type, std::vector<double> &data) {
  if (type == Type::F32) {
    for (double &value : data) value = static_cast<float>(value);
  } else if (type == Type::F16 || type == Type::BF16) {
    const auto count = static_cast<int64_t>(data.size());
    data = to_doubles(make_constant("", type, {count}, data));
  }
}

}  // namespace

Values values_of(const Tensor &constant) { return {constant.shape, to_doubles(constant)}; }

std::map<std::string, Values> evaluate_reference(const Graph &graph, const std::map<std::string, Values> &inputs,
                                                 bool round_to_fp32) {
  std::vector<Values> values(graph.tensors.size());
  for (std::size_t i = 0; i < graph.tensors.size(); ++i) {
    if (graph.tensors[i].is_constant()) values[i] = values_of(graph.tensors[i]);
  }
  for (TensorId id : graph.inputs) {
    auto given = inputs.find(graph[id].name);
    if (given == inputs.end()) throw Error("reference: input '" + graph[id].name + "' is missing");
    if (given->second.shape != graph[id].shape)
      throw Error("reference: input '" + graph[id].name + "' has another shape");
    values[static_cast<std::size_t>(id)] = given->second;
  }
  for (const Node &node : graph.nodes) {
    std::vector<const Values *> operands;
    for (TensorId id : node.inputs)
      operands.push_back(id == kNoTensor ? nullptr : &values[static_cast<std::size_t>(id)]);
    const Tensor &output = graph[node.outputs.at(0)];
    const Type operand = graph[node.inputs.at(0)].type;
    Values result = Evaluator(node, std::move(operands), operand, output).run();
    if (round_to_fp32) round_to(output.type, result.data);
    values[static_cast<std::size_t>(node.outputs[0])] = std::move(result);
  }
  std::map<std::string, Values> outputs;
  for (TensorId id : graph.outputs) outputs[graph[id].name] = values[static_cast<std::size_t>(id)];
  return outputs;
}

}  // namespace cx::compiler
