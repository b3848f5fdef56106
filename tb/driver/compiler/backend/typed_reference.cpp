#include "tb/driver/compiler/backend/typed_reference.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <stdexcept>

#include "driver/compiler/frontend/evaluate.hpp"
#include "hw/common/num/formats.hpp"

namespace cx::tb {

using namespace compiler;

namespace {

using Index = std::vector<int64_t>;

/// A float or an integer; the tensor's type says which.
struct Number {
  double f = 0;
  int64_t i = 0;
};

bool floating(Type type) { return type == Type::F32 || type == Type::F16 || type == Type::BF16 || type == Type::F64; }
bool without_sign(Type type) {
  return type == Type::U8 || type == Type::U16 || type == Type::U32 || type == Type::U64 || type == Type::Bool;
}

Number read(Type type, const std::byte *at) {
  uint64_t bits = 0;
  std::memcpy(&bits, at, bytes_of(type));
  Number n;
  switch (type) {
    case Type::F32: {
      float value = 0;
      std::memcpy(&value, at, 4);
      n.f = value;
      return n;
    }
    case Type::F64:
      std::memcpy(&n.f, at, 8);
      return n;
    case Type::F16:
      n.f = num::decode_fp16(static_cast<uint16_t>(bits));
      return n;
    case Type::BF16:
      n.f = num::decode_bf16(static_cast<uint16_t>(bits));
      return n;
    default:
      break;
  }
  const auto unused = static_cast<unsigned>(64 - 8 * bytes_of(type));
  n.i = without_sign(type) ? static_cast<int64_t>(bits) : static_cast<int64_t>(bits << unused) >> unused;
  return n;
}

void write(Type type, Number n, std::byte *at) {
  if (type == Type::F32) {
    const auto value = static_cast<float>(n.f);
    std::memcpy(at, &value, 4);
  } else if (type == Type::F64) {
    std::memcpy(at, &n.f, 8);
  } else if (type == Type::F16 || type == Type::BF16) {
    const auto value = static_cast<float>(n.f);
    const uint16_t bits = type == Type::F16 ? num::encode_fp16(value) : num::encode_bf16(value);
    std::memcpy(at, &bits, 2);
  } else {
    std::memcpy(at, &n.i, bytes_of(type));
  }
}

/// -1, 0 or 1; 2 where a NaN has no order.
int order(Type type, Number a, Number b) {
  if (floating(type)) {
    if (std::isnan(a.f) || std::isnan(b.f)) return 2;
    return a.f < b.f ? -1 : (a.f > b.f ? 1 : 0);
  }
  if (type == Type::U64) {
    const auto x = static_cast<uint64_t>(a.i);
    const auto y = static_cast<uint64_t>(b.i);
    return x < y ? -1 : (x > y ? 1 : 0);
  }
  return a.i < b.i ? -1 : (a.i > b.i ? 1 : 0);
}

int64_t floor_mod(int64_t a, int64_t b) {
  const int64_t rest = a % b;
  return rest == 0 || (rest > 0) == (b > 0) ? rest : rest + b;
}

int64_t integer_binary(const std::string &func, Type type, int64_t a, int64_t b) {
  const auto x = static_cast<uint64_t>(a);
  const auto y = static_cast<uint64_t>(b);
  if (func == "add") return static_cast<int64_t>(x + y);
  if (func == "sub") return static_cast<int64_t>(x - y);
  if (func == "mul") return static_cast<int64_t>(x * y);
  if (func == "and") return a & b;
  if (func == "or") return a | b;
  if (func == "xor") return a ^ b;
  if (func == "max") return order(type, {0, a}, {0, b}) < 0 ? b : a;
  if (func == "min") return order(type, {0, a}, {0, b}) < 0 ? a : b;
  const auto width = static_cast<int64_t>(8 * bytes_of(type));
  if (func == "shl") return b >= width ? 0 : static_cast<int64_t>(x << y);
  if (func == "shr" && without_sign(type)) return b >= width ? 0 : static_cast<int64_t>(x >> y);
  if (func == "shr") return a >> std::min<int64_t>(b, 63);
  if (func == "pow") {
    uint64_t result = 1;
    for (int64_t n = 0; n < b; ++n) result *= x;
    return static_cast<int64_t>(result);
  }
  if (b == 0) throw std::runtime_error("division by 0");
  if (type == Type::U64) return static_cast<int64_t>(func == "div" ? x / y : x % y);
  if (b == -1) return func == "div" ? static_cast<int64_t>(0 - x) : 0;
  if (func == "div") return a / b;
  if (func == "fmod") return a % b;
  if (func == "mod") return floor_mod(a, b);
  throw std::runtime_error("integer function " + func);
}

double float_binary(const std::string &func, double a, double b) {
  if (func == "add") return a + b;
  if (func == "sub") return a - b;
  if (func == "mul") return a * b;
  if (func == "div") return a / b;
  if (func == "max") return std::max(a, b);
  if (func == "min") return std::min(a, b);
  if (func == "fmod") return std::fmod(a, b);
  if (func == "mod") return a - std::floor(a / b) * b;
  throw std::runtime_error("float function " + func);
}

struct Values {
  Type type{};
  Shape shape;
  std::vector<Number> data;

  Number at(const Index &index) const {
    // NumPy's broadcasting.
    std::size_t place = 0;
    const std::size_t missing = index.size() - shape.size();
    for (std::size_t d = 0; d < shape.size(); ++d) {
      place =
          place * static_cast<std::size_t>(shape[d]) + static_cast<std::size_t>(shape[d] == 1 ? 0 : index[missing + d]);
    }
    return data.at(place);
  }
};

void each(const Shape &shape, const std::function<void(const Index &, std::size_t)> &visit) {
  Index index(shape.size(), 0);
  const auto count = static_cast<std::size_t>(elements(shape));
  for (std::size_t n = 0; n < count; ++n) {
    visit(index, n);
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
}

class Operator {
 public:
  Operator(const Node &node, std::vector<Values> in, Type type, const Shape &shape)
      : node_(node), in_(std::move(in)), out_{type, shape, std::vector<Number>(static_cast<size_t>(elements(shape)))} {}

  Values run() {
    const std::string &op = node_.op;
    if (op == "Unary") {
      fill([&](const Index &at) { return unary(in_[0].at(at)); });
    } else if (op == "Binary") {
      fill([&](const Index &at) { return binary(in_[0].at(at), in_[1].at(at)); });
    } else if (op == "Cast") {
      fill([&](const Index &at) { return cast(in_[0].at(at)); });
    } else if (op == "Select") {
      fill([&](const Index &at) { return in_[0].at(at).i != 0 ? in_[1].at(at) : in_[2].at(at); });
    } else if (op == "Reduce") {
      reduce();
    } else {
      along_axis(op);
    }
    return std::move(out_);
  }

 private:
  template <typename F>
  void fill(F f) {
    each(out_.shape, [&](const Index &at, std::size_t n) { out_.data[n] = f(at); });
  }

  Number unary(Number x) const {
    const std::string func = node_.text("func", "");
    const Type type = in_[0].type;
    const float alpha = node_.real("alpha", 0);
    if (func == "is_nan") return {0, floating(type) && std::isnan(x.f) ? 1 : 0};
    if (func == "is_inf") return {0, floating(type) && std::isinf(x.f) && (alpha == 0 || (alpha > 0) == (x.f > 0))};
    if (floating(type)) {
      if (func == "trunc") return {std::trunc(x.f), 0};
      if (func == "atan") return {std::atan(x.f), 0};
      if (func == "neg") return {-x.f, 0};
      if (func == "relu") return {std::max(x.f, 0.0), 0};
      throw std::runtime_error("float function " + func);
    }
    const bool negative = !without_sign(type) && x.i < 0;
    if (func == "not") return {0, type == Type::Bool ? 1 - x.i : ~x.i};
    if (func == "neg") return {0, static_cast<int64_t>(0 - static_cast<uint64_t>(x.i))};
    if (func == "abs") return {0, negative ? static_cast<int64_t>(0 - static_cast<uint64_t>(x.i)) : x.i};
    if (func == "relu") return {0, negative ? 0 : x.i};
    if (func == "sign") return {0, negative ? -1 : (x.i != 0 ? 1 : 0)};
    if (func == "floor" || func == "round") return x;
    if (func == "clamp") {
      const float beta = node_.real("beta", 0);
      if (std::isfinite(alpha) && order(type, x, {0, static_cast<int64_t>(alpha)}) < 0)
        x.i = static_cast<int64_t>(alpha);
      if (std::isfinite(beta) && order(type, x, {0, static_cast<int64_t>(beta)}) > 0) x.i = static_cast<int64_t>(beta);
      return x;
    }
    throw std::runtime_error("integer function " + func);
  }

  Number binary(Number a, Number b) const {
    const std::string func = node_.text("func", "");
    const Type type = in_[0].type;
    const int sign = order(type, a, b);
    if (func == "eq") return {0, sign == 0};
    if (func == "ne") return {0, sign != 0};
    if (func == "lt") return {0, sign == -1};
    if (func == "le") return {0, sign == -1 || sign == 0};
    if (floating(type)) return {float_binary(func, a.f, b.f), 0};
    return {0, integer_binary(func, type, a.i, b.i)};
  }

  Number cast(Number x) const {
    const Type from = in_[0].type;
    const Type to = out_.type;
    if (to == Type::Bool) return {0, floating(from) ? x.f != 0 : x.i != 0};
    if (floating(from) && floating(to)) return x;
    if (floating(to)) {
      return {from == Type::U64 ? static_cast<double>(static_cast<float>(static_cast<uint64_t>(x.i)))
                                : static_cast<double>(static_cast<float>(x.i)),
              0};
    }
    if (!floating(from)) return x;
    if (std::isnan(x.f)) return {};
    const int bits = static_cast<int>(8 * bytes_of(to));
    const double beyond = std::ldexp(1.0, without_sign(to) ? bits : bits - 1);
    const double low = without_sign(to) ? 0 : -beyond;
    const double whole = std::trunc(x.f);
    if (whole < low) return {0, to == Type::I64 ? INT64_MIN : static_cast<int64_t>(low)};
    if (whole < beyond) {
      return {0, to == Type::U64 ? static_cast<int64_t>(static_cast<uint64_t>(whole)) : static_cast<int64_t>(whole)};
    }
    return {0, without_sign(to) ? -1 : static_cast<int64_t>((uint64_t{1} << (bits - 1)) - 1)};
  }

  void reduce() {
    const std::string kind = node_.text("kind", "");
    const auto axes = node_.integers("axes");
    const Values &x = in_[0];
    std::vector<int64_t> counts(out_.data.size(), 0);
    each(x.shape, [&](const Index &at, std::size_t n) {
      std::size_t place = 0;
      for (std::size_t d = 0; d < at.size(); ++d) {
        place =
            place * static_cast<std::size_t>(out_.shape[d]) + static_cast<std::size_t>(out_.shape[d] == 1 ? 0 : at[d]);
      }
      int64_t value = x.data[n].i;
      if (kind == "abssum") value = std::abs(value);
      if (kind == "sumsq") value = static_cast<int64_t>(static_cast<uint64_t>(value) * static_cast<uint64_t>(value));
      int64_t &total = out_.data[place].i;
      if (counts[place]++ == 0) {
        total = value;
      } else if (kind == "max" || kind == "min" || kind == "prod") {
        total = integer_binary(kind == "prod" ? "mul" : kind, x.type, total, value);
      } else {
        total = integer_binary("add", x.type, total, value);
      }
    });
    // A sum wraps before the mean divides.
    for (std::size_t n = 0; kind == "mean" && n < counts.size(); ++n) {
      std::byte bytes[8] = {};
      write(x.type, out_.data[n], bytes);
      out_.data[n].i = integer_binary("div", x.type, read(x.type, bytes).i, counts[n]);
    }
  }

  void along_axis(const std::string &op) {
    const auto axis = static_cast<std::size_t>(node_.integer("axis", 0));
    const Values &x = in_[0];
    const int64_t size = x.shape[axis];
    const auto resolved = [&](Number index) {
      const int64_t i = index.i < 0 ? index.i + size : index.i;
      if (i < 0 || i >= size) throw std::runtime_error("index out of range");
      return i;
    };
    if (op == "TakeAlong") {
      fill([&](const Index &at) {
        Index from = at;
        from[axis] = resolved(in_[1].at(at));
        return x.at(from);
      });
    } else if (op == "ScatterAlong") {
      scatter(axis, resolved);
    } else {
      Shape heads = x.shape;
      heads[axis] = 1;
      each(heads, [&](const Index &head, std::size_t) { line(op, axis, head); });
    }
  }

  Number &out_at(const Index &at) {
    std::size_t place = 0;
    for (std::size_t d = 0; d < at.size(); ++d) {
      place = place * static_cast<std::size_t>(out_.shape[d]) + static_cast<std::size_t>(at[d]);
    }
    return out_.data.at(place);
  }

  template <typename Resolve>
  void scatter(std::size_t axis, Resolve resolved) {
    const std::string func = node_.text("func", "");
    out_.data = in_[0].data;
    each(in_[2].shape, [&](const Index &at, std::size_t n) {
      Index to = at;
      to[axis] = resolved(in_[1].at(at));
      Number &target = out_at(to);
      const Number update = in_[2].data[n];
      if (func == "set") {
        target = update;
      } else if (floating(out_.type)) {
        target.f = static_cast<float>(float_binary(func, target.f, update.f));
      } else {
        target.i = integer_binary(func, out_.type, target.i, update.i);
        std::byte bytes[8] = {};
        write(out_.type, target, bytes);
        target = read(out_.type, bytes);
      }
    });
  }

  void line(const std::string &op, std::size_t axis, Index at) {
    const Values &x = in_[0];
    const int64_t size = x.shape[axis];
    const auto value = [&](int64_t i) {
      at[axis] = i;
      return x.at(at);
    };
    if (op == "Scan") {
      Number total;
      for (int64_t n = 0; n < size; ++n) {
        const int64_t i = node_.integer("reverse", 0) != 0 ? size - 1 - n : n;
        const Number before = total;
        const Number here = value(i);
        total.f = static_cast<float>(total.f + here.f);
        total.i = static_cast<int64_t>(static_cast<uint64_t>(total.i) + static_cast<uint64_t>(here.i));
        at[axis] = i;
        out_at(at) = node_.integer("exclusive", 0) != 0 ? before : total;
      }
      return;
    }
    const bool largest = op == "TopK" ? node_.integer("largest", 1) != 0 : node_.text("kind", "") == "max";
    const bool last = op == "ArgReduce" && node_.integer("last", 0) != 0;
    std::vector<int64_t> ranks(static_cast<std::size_t>(size));
    std::iota(ranks.begin(), ranks.end(), 0);
    std::sort(ranks.begin(), ranks.end(), [&](int64_t a, int64_t b) {
      const int sign = order(x.type, value(a), value(b));
      if (sign == 0) return last ? a > b : a < b;
      return (sign > 0) == largest;
    });
    for (int64_t n = 0; n < out_.shape[axis]; ++n) {
      at[axis] = n;
      out_at(at).i = ranks[static_cast<std::size_t>(n)];
    }
  }

  const Node &node_;
  std::vector<Values> in_;
  Values out_;
};

Values values_of(const Tensor &tensor) {
  Values values{tensor.type, tensor.shape, {}};
  const std::size_t size = bytes_of(tensor.type);
  for (std::size_t at = 0; at < tensor.data->size(); at += size) {
    values.data.push_back(read(tensor.type, tensor.data->data() + at));
  }
  return values;
}

bool known(const Graph &graph, const Node &node) {
  const Type type = graph[node.inputs[0]].type;
  for (const char *op : {"Cast", "Select", "TakeAlong", "ScatterAlong", "Scan", "ArgReduce", "TopK"}) {
    if (node.op == op) return true;
  }
  if (node.op == "Reduce" || node.op == "Binary") {
    const bool compares = graph[node.outputs[0]].type == Type::Bool;
    const std::string func = node.text("func", "");
    return !floating(type) || compares || func == "mod" || func == "fmod" || (node.op == "Binary" && type != Type::F32);
  }
  if (node.op != "Unary") return false;
  const std::string func = node.text("func", "");
  return !floating(type) || func == "trunc" || func == "atan" || func == "is_nan" || func == "is_inf";
}

}  // namespace

std::vector<Tensor> evaluate_typed(const Graph &graph, const std::map<TensorId, Tensor> &inputs) {
  std::vector<Tensor> values = graph.tensors;
  for (const auto &[id, tensor] : inputs) values[static_cast<std::size_t>(id)] = tensor;
  for (const Node &node : graph.nodes) {
    Tensor &out = values[static_cast<std::size_t>(node.outputs[0])];
    if (!known(graph, node)) {
      std::vector<const Tensor *> operands;
      for (TensorId id : node.inputs) {
        operands.push_back(id == kNoTensor ? nullptr : &values[static_cast<std::size_t>(id)]);
      }
      out.data = evaluate(node, operands, out.type, out.shape).data;
      continue;
    }
    std::vector<Values> operands;
    for (TensorId id : node.inputs) operands.push_back(values_of(values[static_cast<std::size_t>(id)]));
    const Values result = Operator(node, std::move(operands), out.type, out.shape).run();
    const std::size_t size = bytes_of(out.type);
    std::vector<std::byte> bytes(result.data.size() * size);
    for (std::size_t n = 0; n < result.data.size(); ++n) write(out.type, result.data[n], bytes.data() + n * size);
    out.data = bytes;
  }
  return values;
}

}  // namespace cx::tb
