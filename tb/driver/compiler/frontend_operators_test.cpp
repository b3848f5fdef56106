// Operators that ONNX's node tests do not reach, or not in all forms: imported and run by the reference evaluator,
// compared with loops written from the operators' descriptions.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <complex>
#include <functional>
#include <random>

#include "tb/driver/compiler/node_case.hpp"

using namespace cx::compiler;
using Catch::Matchers::Contains;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

using Function = std::function<double(double)>;

struct Recurrent {
  int64_t steps = 5, batch = 3, inputs = 4, hidden = 3, directions = 2;
  Numbers x, w, r, bias, h0, c0, peepholes;
  std::vector<int64_t> lengths;
  double clip = 1e30;

  double clipped(double value) const { return std::max(-clip, std::min(clip, value)); }
  // Row `row` of the gates' weights times the input of a step.
  double from_input(int64_t d, int64_t gates, int64_t row, int64_t t, int64_t b) const {
    double sum = 0;
    for (int64_t i = 0; i < inputs; ++i) {
      sum += w[static_cast<std::size_t>((d * gates * hidden + row) * inputs + i)] *
             x[static_cast<std::size_t>((t * batch + b) * inputs + i)];
    }
    return sum;
  }
  double from_state(int64_t d, int64_t gates, int64_t row, const Numbers &h) const {
    double sum = 0;
    for (int64_t i = 0; i < hidden; ++i) {
      sum += r[static_cast<std::size_t>((d * gates * hidden + row) * hidden + i)] * h[static_cast<std::size_t>(i)];
    }
    return sum;
  }
  double bias_of(int64_t d, int64_t gates, int64_t half, int64_t row) const {
    return bias[static_cast<std::size_t>((d * 2 + half) * gates * hidden + row)];
  }

  using Step = std::function<void(int64_t d, int64_t t, int64_t b, Numbers &h, Numbers &c)>;
  // Y and the last states.
  void run(const Step &step, Numbers &y, Numbers &last_h, Numbers &last_c) const {
    y.assign(static_cast<std::size_t>(steps * directions * batch * hidden), 0.0);
    last_h.assign(static_cast<std::size_t>(directions * batch * hidden), 0.0);
    last_c = last_h;
    for (int64_t d = 0; d < directions; ++d) {
      for (int64_t b = 0; b < batch; ++b) {
        const auto at = static_cast<std::size_t>((d * batch + b) * hidden);
        Numbers h(h0.begin() + static_cast<long>(at), h0.begin() + static_cast<long>(at) + hidden);
        Numbers c = h;
        if (!c0.empty()) c.assign(c0.begin() + static_cast<long>(at), c0.begin() + static_cast<long>(at) + hidden);
        const int64_t length = lengths[static_cast<std::size_t>(b)];
        for (int64_t i = 0; i < length; ++i) {
          const int64_t t = d == 1 ? length - 1 - i : i;
          step(d, t, b, h, c);
          std::copy(h.begin(), h.end(), y.begin() + static_cast<long>(((t * directions + d) * batch + b) * hidden));
        }
        std::copy(h.begin(), h.end(), last_h.begin() + static_cast<long>(at));
        std::copy(c.begin(), c.end(), last_c.begin() + static_cast<long>(at));
      }
    }
  }
};

// Inputs X, W, R, B, sequence_lens and initial states of a bidirectional operator. Lengths are fixed in the model or
// known at run time only.
Recurrent recurrent_inputs(Case &c, int64_t gates, bool cell, bool fixed_lengths) {
  Recurrent p;
  p.x = c.input("X", {p.steps, p.batch, p.inputs});
  p.w = c.input("W", {2, gates * p.hidden, p.inputs});
  p.r = c.input("R", {2, gates * p.hidden, p.hidden});
  p.bias = c.input("B", {2, 2 * gates * p.hidden});
  p.lengths = {p.steps, 2, 4};
  if (fixed_lengths) {
    auto &tensor = *c.model().proto().mutable_graph()->add_initializer();
    tensor.set_name("lengths");
    tensor.set_data_type(onnx::TensorProto::INT32);
    tensor.add_dims(p.batch);
    for (int64_t length : p.lengths) tensor.add_int32_data(static_cast<int32_t>(length));
  } else {
    c.given("lengths", {p.batch}, Numbers(p.lengths.begin(), p.lengths.end()), onnx::TensorProto::INT32);
  }
  p.h0 = c.input("h0", {2, p.batch, p.hidden});
  if (cell) p.c0 = c.input("c0", {2, p.batch, p.hidden});
  return p;
}

}  // namespace

TEST_CASE("LSTM in both directions with lengths, states, peepholes, clip and other activations") {
  const bool fixed = GENERATE(true, false);
  const bool coupled = GENERATE(true, false);
  Case c(14, seed());
  Recurrent p = recurrent_inputs(c, 4, true, fixed);
  p.peepholes = c.input("P", {2, 3 * p.hidden});
  p.clip = 0.5;
  auto &node = c.node("LSTM", {"X", "W", "R", "B", "lengths", "h0", "c0", "P"}, {"Y", "Y_h", "Y_c"});
  attribute(node, "direction", std::string("bidirectional"));
  attribute(node, "hidden_size", p.hidden);
  attribute(node, "clip", 0.5F);
  attribute(node, "input_forget", int64_t{coupled ? 1 : 0});
  attribute(node, "activations",
            std::vector<std::string>{"Sigmoid", "Tanh", "Softsign", "HardSigmoid", "ScaledTanh", "LeakyRelu"});
  attribute(node, "activation_alpha", std::vector<float>{0.3F, 0.9F, 0.2F});
  attribute(node, "activation_beta", std::vector<float>{0.4F, 0.8F});
  const Function f[2] = {sigmoid, [](double x) { return std::max(0.0, std::min(1.0, 0.3 * x + 0.4)); }};
  const Function g[2] = {[](double x) { return std::tanh(x); }, [](double x) { return 0.9 * std::tanh(0.8 * x); }};
  const Function h[2] = {[](double x) { return x / (1 + std::fabs(x)); }, [](double x) { return x < 0 ? 0.2 * x : x; }};
  Numbers y, last_h, last_c;
  p.run(
      [&](int64_t d, int64_t t, int64_t b, Numbers &state, Numbers &cell) {
        const Numbers before = state;
        for (int64_t i = 0; i < p.hidden; ++i) {
          const auto at = static_cast<std::size_t>(i);
          auto sum = [&](int64_t gate) {
            const int64_t row = gate * p.hidden + i;
            return p.from_input(d, 4, row, t, b) + p.from_state(d, 4, row, before) + p.bias_of(d, 4, 0, row) +
                   p.bias_of(d, 4, 1, row);
          };
          auto peep = [&](int64_t gate) {
            return p.peepholes[static_cast<std::size_t>((d * 3 + gate) * p.hidden + i)];
          };
          const double in = f[d](p.clipped(sum(0) + peep(0) * cell[at]));
          const double forget = coupled ? 1 - in : f[d](p.clipped(sum(2) + peep(2) * cell[at]));
          cell[at] = forget * cell[at] + in * g[d](p.clipped(sum(3)));
          const double out = f[d](p.clipped(sum(1) + peep(1) * cell[at]));
          state[at] = out * h[d](cell[at]);
        }
      },
      y, last_h, last_c);
  c.check("Y", {p.steps, 2, p.batch, p.hidden}, y);
  c.check("Y_h", {2, p.batch, p.hidden}, last_h);
  c.check("Y_c", {2, p.batch, p.hidden}, last_c);
}

TEST_CASE("GRU in both directions, with the reset before and after the product") {
  const bool after = GENERATE(false, true);
  Case c(14, seed());
  Recurrent p = recurrent_inputs(c, 3, false, true);
  auto &node = c.node("GRU", {"X", "W", "R", "B", "lengths", "h0"}, {"Y", "Y_h"});
  attribute(node, "direction", std::string("bidirectional"));
  attribute(node, "linear_before_reset", int64_t{after ? 1 : 0});
  Numbers y, last, unused;
  p.run(
      [&](int64_t d, int64_t t, int64_t b, Numbers &state, Numbers &) {
        const Numbers before = state;
        auto gate = [&](int64_t g, int64_t i) {
          const int64_t row = g * p.hidden + i;
          return sigmoid(p.from_input(d, 3, row, t, b) + p.from_state(d, 3, row, before) + p.bias_of(d, 3, 0, row) +
                         p.bias_of(d, 3, 1, row));
        };
        Numbers reset_state = before;
        for (int64_t i = 0; i < p.hidden; ++i) reset_state[static_cast<std::size_t>(i)] *= gate(1, i);
        for (int64_t i = 0; i < p.hidden; ++i) {
          const int64_t row = 2 * p.hidden + i;
          const double recurrent = after ? gate(1, i) * (p.from_state(d, 3, row, before) + p.bias_of(d, 3, 1, row))
                                         : p.from_state(d, 3, row, reset_state) + p.bias_of(d, 3, 1, row);
          const double candidate = std::tanh(p.from_input(d, 3, row, t, b) + recurrent + p.bias_of(d, 3, 0, row));
          const double update = gate(0, i);
          state[static_cast<std::size_t>(i)] = (1 - update) * candidate + update * before[static_cast<std::size_t>(i)];
        }
      },
      y, last, unused);
  c.check("Y", {p.steps, 2, p.batch, p.hidden}, y);
  c.check("Y_h", {2, p.batch, p.hidden}, last);
}

TEST_CASE("The input's product of a recurrent operator is one for all steps and both directions") {
  Case c(14, seed());
  const Recurrent p = recurrent_inputs(c, 3, false, true);
  auto &node = c.node("GRU", {"X", "W", "R", "B"}, {"Y"});
  attribute(node, "direction", std::string("bidirectional"));
  const TemporaryFile file(c.model().bytes());
  const Graph graph = import_onnx(file.path());
  const auto projections = std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node &n) {
    return n.op == "MatMul" && elements(graph[n.outputs[0]].shape) == p.steps * p.batch * 2 * 3 * p.hidden;
  });
  CHECK(projections == 1);
  // Two products of the state a step and direction.
  CHECK(std::count_if(graph.nodes.begin(), graph.nodes.end(), [](const Node &n) { return n.op == "MatMul"; }) ==
        1 + p.steps * 2 * 2);
}

TEST_CASE("Einsum of random equations") {
  const uint32_t start = seed();
  std::mt19937 random(start);
  for (int round = 0; round < 60; ++round) {
    const std::string letters = "abcde";
    std::map<char, int64_t> sizes;
    for (char letter : letters) sizes[letter] = std::uniform_int_distribution<int64_t>(1, 4)(random);
    const int count = std::uniform_int_distribution<int>(1, 3)(random);
    std::vector<std::string> terms;
    std::string all;
    for (int i = 0; i < count; ++i) {
      std::string term;
      const int length = std::uniform_int_distribution<int>(1, 4)(random);
      for (int l = 0; l < length; ++l) term += letters[std::uniform_int_distribution<std::size_t>(0, 4)(random)];
      terms.push_back(term);
      for (char letter : term) {
        if (all.find(letter) == std::string::npos) all += letter;
      }
    }
    std::string output;
    for (char letter : all) {
      if (random() % 2 == 0) output += letter;
    }
    std::shuffle(output.begin(), output.end(), random);
    std::string equation;
    for (const auto &term : terms) equation += (equation.empty() ? "" : ", ") + term;
    equation += " -> " + output;
    Case c(12, start + static_cast<uint32_t>(round));
    std::vector<std::string> names;
    std::vector<Numbers> values;
    for (std::size_t i = 0; i < terms.size(); ++i) {
      Shape shape;
      for (char letter : terms[i]) shape.push_back(sizes[letter]);
      names.push_back("x" + std::to_string(i));
      values.push_back(c.input(names.back(), shape));
    }
    attribute(c.node("Einsum", names, {"y"}), "equation", equation);
    Shape shape;
    for (char letter : output) shape.push_back(sizes[letter]);
    Numbers expected(static_cast<std::size_t>(elements(shape)), 0.0);
    std::map<char, int64_t> at;
    auto offset = [&](const std::string &term) {
      int64_t result = 0;
      for (char letter : term) result = result * sizes[letter] + at[letter];
      return static_cast<std::size_t>(result);
    };
    std::function<void(std::size_t)> walk = [&](std::size_t depth) {
      if (depth == all.size()) {
        double product = 1;
        for (std::size_t i = 0; i < terms.size(); ++i) product *= values[i][offset(terms[i])];
        expected[offset(output)] += product;
        return;
      }
      for (int64_t i = 0; i < sizes[all[depth]]; ++i) {
        at[all[depth]] = i;
        walk(depth + 1);
      }
    };
    walk(0);
    INFO("equation " << equation);
    c.check("y", shape, expected);
  }
}

TEST_CASE("Einsum with ellipses of different rank broadcasts") {
  Case c(12, seed());
  const Numbers x = c.input("x", {2, 3, 4, 5});
  const Numbers y = c.input("y", {3, 5, 2});
  attribute(c.node("Einsum", {"x", "y"}, {"z"}), "equation", std::string("...ij,...jk->...ik"));
  Numbers expected;
  for (std::size_t a = 0; a < 2; ++a) {
    for (std::size_t b = 0; b < 3; ++b) {
      for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t k = 0; k < 2; ++k) {
          double sum = 0;
          for (std::size_t j = 0; j < 5; ++j) sum += x[((a * 3 + b) * 4 + i) * 5 + j] * y[(b * 5 + j) * 2 + k];
          expected.push_back(sum);
        }
      }
    }
  }
  c.check("z", {2, 3, 4, 2}, expected);
}

namespace {

// softmax(q k^T scale + bias) v for one head, by loops.
Numbers attention(const Numbers &q, const Numbers &k, const Numbers &v, std::size_t queries, std::size_t keys,
                  std::size_t size, double scale, const std::function<double(std::size_t, std::size_t)> &bias) {
  Numbers y;
  for (std::size_t i = 0; i < queries; ++i) {
    Numbers weights;
    double total = 0;
    for (std::size_t j = 0; j < keys; ++j) {
      double score = 0;
      for (std::size_t d = 0; d < size; ++d) score += q[i * size + d] * k[j * size + d];
      weights.push_back(std::exp(score * scale + bias(i, j)));
      total += weights.back();
    }
    for (std::size_t d = 0; d < size; ++d) {
      double sum = 0;
      for (std::size_t j = 0; j < keys; ++j) sum += weights[j] / total * v[j * size + d];
      y.push_back(sum);
    }
  }
  return y;
}

// Head h of [B, S, H, D] seen from sequence b, as [S, D].
Numbers head(const Numbers &x, std::size_t b, std::size_t h, std::size_t length, std::size_t heads, std::size_t size) {
  Numbers result;
  for (std::size_t s = 0; s < length; ++s) {
    for (std::size_t d = 0; d < size; ++d) result.push_back(x[((b * length + s) * heads + h) * size + d]);
  }
  return result;
}

}  // namespace

TEST_CASE("Attention with shared key heads, a causal mask, past keys and values") {
  Case c(23, seed());
  const std::size_t batch = 2, queries = 3, past = 2, heads = 4, shared = 2, size = 5;
  const Numbers q = c.input("q", {2, 3, 20});
  const Numbers k = c.input("k", {2, 3, 10});
  const Numbers v = c.input("v", {2, 3, 10});
  const Numbers mask = c.input("mask", {3, 5});
  const Numbers past_k = c.input("pk", {2, 2, 2, 5});
  const Numbers past_v = c.input("pv", {2, 2, 2, 5});
  auto &node = c.node("Attention", {"q", "k", "v", "mask", "pk", "pv"}, {"y", "present_k"});
  attribute(node, "q_num_heads", int64_t{4});
  attribute(node, "kv_num_heads", int64_t{2});
  attribute(node, "is_causal", int64_t{1});
  Numbers expected(batch * queries * heads * size);
  Numbers present;
  for (std::size_t b = 0; b < batch; ++b) {
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t kv = h / (heads / shared);
      auto joined = [&](const Numbers &before, const Numbers &fresh) {
        const auto from = before.begin() + static_cast<long>((b * shared + kv) * past * size);
        Numbers all(from, from + static_cast<long>(past * size));
        const Numbers rest = head(fresh, b, kv, queries, shared, size);
        all.insert(all.end(), rest.begin(), rest.end());
        return all;
      };
      const Numbers keys = joined(past_k, k);
      if (h % (heads / shared) == 0) present.insert(present.end(), keys.begin(), keys.end());
      const Numbers y = attention(head(q, b, h, queries, heads, size), keys, joined(past_v, v), queries, past + queries,
                                  size, 1 / std::sqrt(5.0), [&](std::size_t i, std::size_t j) {
                                    return j > i + past ? -INFINITY : mask[i * (past + queries) + j];
                                  });
      for (std::size_t s = 0; s < queries; ++s) {
        for (std::size_t d = 0; d < size; ++d) {
          expected[((b * queries + s) * heads + h) * size + d] = y[s * size + d];
        }
      }
    }
  }
  c.check("y", {2, 3, 20}, expected);
  c.check("present_k", {2, 2, 5, 5}, present);
}

TEST_CASE("Attention of com.microsoft projects, and hides the keys beyond each sequence's length") {
  Case c(17, seed());
  const std::size_t batch = 2, length = 4, inputs = 6, heads = 2, size = 3;
  const Numbers x = c.input("x", {2, 4, 6});
  const Numbers w = c.input("w", {6, 18});
  const Numbers bias = c.input("bias", {18});
  const Numbers lengths = c.given("lengths", {2}, {3, 4}, onnx::TensorProto::INT32);
  attribute(c.node("Attention", {"x", "w", "bias", "lengths"}, {"y"}, "com.microsoft"), "num_heads", int64_t{2});
  Numbers parts[3];
  for (std::size_t row = 0; row < batch * length; ++row) {
    for (std::size_t n = 0; n < 18; ++n) {
      double sum = bias[n];
      for (std::size_t i = 0; i < inputs; ++i) sum += x[row * inputs + i] * w[i * 18 + n];
      parts[n / 6].push_back(sum);
    }
  }
  Numbers expected(batch * length * heads * size);
  for (std::size_t b = 0; b < batch; ++b) {
    for (std::size_t h = 0; h < heads; ++h) {
      const Numbers y =
          attention(head(parts[0], b, h, length, heads, size), head(parts[1], b, h, length, heads, size),
                    head(parts[2], b, h, length, heads, size), length, length, size, 1 / std::sqrt(3.0),
                    [&](std::size_t, std::size_t j) { return static_cast<double>(j) < lengths[b] ? 0.0 : -10000.0; });
      for (std::size_t s = 0; s < length; ++s) {
        for (std::size_t d = 0; d < size; ++d) expected[((b * length + s) * heads + h) * size + d] = y[s * size + d];
      }
    }
  }
  c.check("y", {2, 4, 6}, expected);
}

TEST_CASE("Rotary embedding of part of a head, halves or neighbours, at positions known at run time") {
  const bool interleaved = GENERATE(false, true);
  Case c(23, seed());
  const std::size_t batch = 2, heads = 2, length = 3, size = 6, half = 2;
  const Numbers x = c.input("x", {2, 2, 3, 6});
  const Numbers cosine = c.input("cos", {8, 2});
  const Numbers sine = c.input("sin", {8, 2});
  const Numbers positions = c.given("positions", {2, 3}, {0, 4, 7, 2, 2, 1}, onnx::TensorProto::INT64);
  auto &node = c.node("RotaryEmbedding", {"x", "cos", "sin", "positions"}, {"y"});
  attribute(node, "rotary_embedding_dim", int64_t{4});
  attribute(node, "interleaved", int64_t{interleaved ? 1 : 0});
  Numbers expected = x;
  for (std::size_t b = 0; b < batch; ++b) {
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t s = 0; s < length; ++s) {
        const auto row = static_cast<std::size_t>(positions[b * length + s]);
        const std::size_t base = ((b * heads + h) * length + s) * size;
        for (std::size_t i = 0; i < half; ++i) {
          const std::size_t one = base + (interleaved ? 2 * i : i);
          const std::size_t two = interleaved ? one + 1 : one + half;
          const std::complex<double> turned =
              std::complex<double>(x[one], x[two]) * std::complex<double>(cosine[row * half + i], sine[row * half + i]);
          expected[one] = turned.real();
          expected[two] = turned.imag();
        }
      }
    }
  }
  c.check("y", {2, 2, 3, 6}, expected);
}

namespace {

void integers(onnx::NodeProto &node, const std::string &name, const std::vector<int64_t> &values) {
  auto &entry = *node.add_attribute();
  entry.set_name(name);
  entry.set_type(onnx::AttributeProto::INTS);
  for (int64_t value : values) entry.add_ints(value);
}

}  // namespace

TEST_CASE("ConvTranspose whose kernel is as large as its strides, and next to that") {
  struct Form {
    int64_t kernel_y, kernel_x, stride_y, stride_x, pad, extra;
  };
  const Form form =
      GENERATE(Form{2, 2, 2, 2, 0, 0}, Form{3, 2, 3, 2, 0, 0}, Form{1, 4, 1, 4, 0, 0}, Form{1, 1, 1, 1, 0, 0},
               Form{2, 2, 2, 2, 1, 0}, Form{2, 2, 2, 2, 0, 1}, Form{3, 3, 2, 2, 0, 0}, Form{2, 3, 3, 3, 0, 0});
  const bool biased = GENERATE(true, false);
  constexpr int64_t kImages = 2, kIn = 5, kOut = 3, kHeight = 4, kWidth = 6;
  Case c(13, seed());
  const Numbers x = c.input("x", {kImages, kIn, kHeight, kWidth});
  const Numbers w = c.input("w", {kIn, kOut, form.kernel_y, form.kernel_x});
  const Numbers bias = biased ? c.input("bias", {kOut}) : Numbers(kOut, 0.0);
  std::vector<std::string> operands{"x", "w"};
  if (biased) operands.emplace_back("bias");
  auto &node = c.node("ConvTranspose", operands, {"y"});
  integers(node, "strides", {form.stride_y, form.stride_x});
  integers(node, "pads", {form.pad, form.pad, form.pad, form.pad});
  integers(node, "output_padding", {form.extra, form.extra});
  const int64_t height = form.stride_y * (kHeight - 1) + form.kernel_y - 2 * form.pad + form.extra;
  const int64_t width = form.stride_x * (kWidth - 1) + form.kernel_x - 2 * form.pad + form.extra;
  Numbers expected(static_cast<std::size_t>(kImages * kOut * height * width));
  for (int64_t i = 0; i < kImages * kOut; ++i) {
    for (int64_t at = 0; at < height * width; ++at) {
      expected[static_cast<std::size_t>(i * height * width + at)] = bias[static_cast<std::size_t>(i % kOut)];
    }
  }
  // Every element of the input adds its kernel to the result.
  for (int64_t at = 0; at < kImages * kIn * kOut * kHeight * kWidth * form.kernel_y * form.kernel_x; ++at) {
    int64_t rest = at;
    const auto next = [&](int64_t size) {
      const int64_t index = rest % size;
      rest /= size;
      return index;
    };
    const int64_t kx = next(form.kernel_x), ky = next(form.kernel_y), px = next(kWidth), py = next(kHeight);
    const int64_t out = next(kOut), in = next(kIn), image = rest;
    const int64_t row = py * form.stride_y + ky - form.pad;
    const int64_t column = px * form.stride_x + kx - form.pad;
    if (row < 0 || row >= height || column < 0 || column >= width) continue;
    expected[static_cast<std::size_t>(((image * kOut + out) * height + row) * width + column)] +=
        x[static_cast<std::size_t>(((image * kIn + in) * kHeight + py) * kWidth + px)] *
        w[static_cast<std::size_t>(((in * kOut + out) * form.kernel_y + ky) * form.kernel_x + kx)];
  }
  c.check("y", {kImages, kOut, height, width}, expected);
}

TEST_CASE("GroupNormalization takes scales of groups up to opset 20 and of channels from 21 on") {
  const int opset = GENERATE(18, 21);
  Case c(opset, seed());
  const Numbers x = c.input("x", {2, 6, 4});
  const Numbers scale = c.input("scale", {opset == 18 ? 3 : 6});
  const Numbers bias = c.input("bias", {opset == 18 ? 3 : 6});
  attribute(c.node("GroupNormalization", {"x", "scale", "bias"}, {"y"}), "num_groups", int64_t{3});
  Numbers expected(x.size());
  for (std::size_t group = 0; group < 6; ++group) {
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < 8; ++i) mean += x[group * 8 + i] / 8;
    for (std::size_t i = 0; i < 8; ++i) variance += (x[group * 8 + i] - mean) * (x[group * 8 + i] - mean) / 8;
    for (std::size_t i = 0; i < 8; ++i) {
      const std::size_t at = opset == 18 ? group % 3 : group % 3 * 2 + i / 4;
      expected[group * 8 + i] = (x[group * 8 + i] - mean) / std::sqrt(variance + 1e-5) * scale[at] + bias[at];
    }
  }
  c.check("y", {2, 6, 4}, expected);
}

TEST_CASE("Root mean square normalisation alone and after a sum") {
  const bool skip = GENERATE(false, true);
  Case c(23, seed());
  Numbers x = c.input("x", {2, 3, 4});
  const Numbers scale = c.input("scale", {4});
  std::string sum_name;
  if (skip) {
    const Numbers other = c.input("skip", {2, 3, 4});
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += other[i];
    c.node("SkipSimplifiedLayerNormalization", {"x", "skip", "scale"}, {"y", "", "", "sum"}, "com.microsoft");
    c.check("sum", {2, 3, 4}, x);
  } else {
    c.node("RMSNormalization", {"x", "scale"}, {"y"});
  }
  Numbers expected;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double squares = 0;
    for (std::size_t j = 0; j < 4; ++j) squares += x[i / 4 * 4 + j] * x[i / 4 * 4 + j] / 4;
    expected.push_back(x[i] / std::sqrt(squares + 1e-5) * scale[i % 4]);
  }
  c.check("y", {2, 3, 4}, expected);
}

TEST_CASE("Discrete Fourier transforms: real and complex, forward and back, padded and one-sided") {
  const int parts = GENERATE(1, 2);
  const bool inverse = GENERATE(false, true);
  const int64_t length = GENERATE(int64_t{5}, int64_t{8});  // 6 samples: cut off or padded
  Case c(17, seed());
  const Numbers x = c.input("x", {2, 6, 3, parts});
  auto &tensor = *c.model().proto().mutable_graph()->add_initializer();
  tensor.set_name("length");
  tensor.set_data_type(onnx::TensorProto::INT64);
  tensor.add_int64_data(length);
  const bool onesided = !inverse && parts == 1;
  auto &node = c.node("DFT", {"x", "length"}, {"y"});
  attribute(node, "axis", int64_t{1});
  attribute(node, "inverse", int64_t{inverse ? 1 : 0});
  attribute(node, "onesided", int64_t{onesided ? 1 : 0});
  const int64_t bins = onesided ? length / 2 + 1 : length;
  Numbers expected;
  for (std::size_t b = 0; b < 2; ++b) {
    for (int64_t k = 0; k < bins; ++k) {
      for (std::size_t i = 0; i < 3; ++i) {
        std::complex<double> sum = 0;
        for (int64_t t = 0; t < std::min<int64_t>(length, 6); ++t) {
          const std::size_t at = ((b * 6 + static_cast<std::size_t>(t)) * 3 + i) * static_cast<std::size_t>(parts);
          const std::complex<double> value(x[at], parts == 2 ? x[at + 1] : 0);
          const double angle = 2 * M_PI * static_cast<double>(k * t) / static_cast<double>(length);
          sum += value * std::polar(1.0, inverse ? angle : -angle);
        }
        if (inverse) sum /= static_cast<double>(length);
        expected.push_back(sum.real());
        expected.push_back(sum.imag());
      }
    }
  }
  c.check("y", {2, bins, 3, 2}, expected);
}

namespace {

void int_list(onnx::NodeProto &node, const std::string &name, const std::vector<int64_t> &values) {
  auto &entry = *node.add_attribute();
  entry.set_name(name);
  entry.set_type(onnx::AttributeProto::INTS);
  for (int64_t value : values) entry.add_ints(value);
}

}  // namespace

TEST_CASE("TfIdfVectorizer counts and weighs n-grams of integers, with items skipped") {
  const std::string mode = GENERATE("TF", "IDF", "TFIDF");
  const int64_t shortest = GENERATE(int64_t{1}, int64_t{2});
  const int64_t longest = GENERATE(int64_t{2}, int64_t{3});
  const int64_t skips = GENERATE(int64_t{0}, int64_t{3});
  const bool wide = GENERATE(false, true);  // int64
  Case c(9, seed());
  std::uniform_int_distribution<int> draw(-1, 2);
  const int rows = 3;
  const int length = 7;
  Numbers x;
  for (int i = 0; i < rows * length; ++i) x.push_back(draw(c.random()));
  c.given("x", {rows, length}, x, wide ? onnx::TensorProto::INT64 : onnx::TensorProto::INT32);
  // Each n-gram once, in any order; columns 0 to 9 with gaps.
  const std::vector<std::vector<int64_t>> grams = {{2}, {-1}, {0, 0}, {1, 2}, {2, -1}, {0, 1, 0}, {1, 1, 1}};
  std::vector<int64_t> columns = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::shuffle(columns.begin(), columns.end(), c.random());
  columns.resize(grams.size());
  std::vector<int64_t> items;
  for (const auto &gram : grams) items.insert(items.end(), gram.begin(), gram.end());
  std::vector<float> weights;
  for (std::size_t g = 0; g < grams.size(); ++g) weights.push_back(0.5F + static_cast<float>(g));
  auto &node = c.node("TfIdfVectorizer", {"x"}, {"y"});
  attribute(node, "mode", mode);
  attribute(node, "min_gram_length", shortest);
  attribute(node, "max_gram_length", longest);
  attribute(node, "max_skip_count", skips);
  int_list(node, "ngram_counts", {0, 2, 8});
  int_list(node, "ngram_indexes", columns);
  int_list(node, "pool_int64s", items);
  attribute(node, "weights", weights);
  const int64_t width = *std::max_element(columns.begin(), columns.end()) + 1;
  Numbers expected(static_cast<std::size_t>(rows * width), 0.0);
  for (int row = 0; row < rows; ++row) {
    for (std::size_t g = 0; g < grams.size(); ++g) {
      const int size = static_cast<int>(grams[g].size());
      if (size < shortest || size > longest) continue;
      int count = 0;
      for (int step = 1; step <= (size == 1 ? 1 : skips + 1); ++step) {
        for (int start = 0; start + (size - 1) * step < length; ++start) {
          bool same = true;
          for (int k = 0; k < size; ++k) {
            same = same && x[static_cast<std::size_t>(row * length + start + k * step)] ==
                               static_cast<double>(grams[g][static_cast<std::size_t>(k)]);
          }
          count += same ? 1 : 0;
        }
      }
      const double weight = static_cast<double>(weights[g]);
      expected[static_cast<std::size_t>(row * width + columns[g])] = mode == "TF"    ? count
                                                                     : mode == "IDF" ? (count > 0 ? weight : 0)
                                                                                     : count * weight;
    }
  }
  c.check("y", {rows, width}, expected);
}

TEST_CASE("Wrong attributes of TfIdfVectorizer are named") {
  Case c(9, 1);
  c.given("x", {4}, {1, 2, 3, 4}, onnx::TensorProto::INT32);
  auto &node = c.node("TfIdfVectorizer", {"x"}, {"y"});
  const auto make = [&](const std::string &mode, const std::vector<int64_t> &counts,
                        const std::vector<int64_t> &columns, const std::vector<int64_t> &items) {
    attribute(node, "mode", mode);
    attribute(node, "max_gram_length", int64_t{2});
    int_list(node, "ngram_counts", counts);
    int_list(node, "ngram_indexes", columns);
    int_list(node, "pool_int64s", items);
    return c.message();
  };
  SECTION("mode") {
    CHECK_THAT(make("BM25", {0, 1}, {0, 1}, {5, 1, 2}), Contains("TfIdfVectorizer") && Contains("'BM25'"));
  }
  SECTION("an n-gram more than columns") {
    CHECK_THAT(make("TF", {0, 1}, {0}, {5, 1, 2}), Contains("the_node") && Contains("ngram_indexes has 1"));
  }
  SECTION("a column more than n-grams") {
    CHECK_THAT(make("TF", {0, 1}, {0, 1, 2}, {5, 1, 2}), Contains("ngram_indexes has 3"));
  }
  SECTION("half an n-gram") { CHECK_THAT(make("TF", {0, 1}, {0, 1}, {5, 1}), Contains("length 2 the places 1 to 2")); }
  SECTION("places that go back") { CHECK_THAT(make("TF", {2, 0}, {0, 1}, {5, 1}), Contains("ngram_counts")); }
  SECTION("no pool of the longest") { CHECK_THAT(make("TF", {0}, {0}, {5}), Contains("max_gram_length 2")); }
  SECTION("one column twice") { CHECK_THAT(make("TF", {0, 1}, {3, 3}, {5, 1, 2}), Contains("into one place")); }
  SECTION("negative column") { CHECK_THAT(make("TF", {0, 1}, {0, -1}, {5, 1, 2}), Contains("negative")); }
  SECTION("too wide") { CHECK_THAT(make("TF", {0, 1}, {0, int64_t{1} << 40}, {5, 1, 2}), Contains("TfIdfVectorizer")); }
  SECTION("beyond int32") {
    CHECK_THAT(make("TF", {0, 1}, {0, 1}, {int64_t{1} << 31, 1, 2}), Contains("pool_int64s holds 2147483648"));
  }
  SECTION("weights") {
    attribute(node, "weights", std::vector<float>{1});
    CHECK_THAT(make("IDF", {0, 1}, {0, 1}, {5, 1, 2}), Contains("weights has 1 elements for 2"));
  }
  SECTION("text") {
    attribute(node, "pool_strings", std::vector<std::string>{"a"});
    CHECK_THAT(make("TF", {0, 1}, {0, 1}, {5, 1, 2}), Contains("text is not computed"));
  }
}

TEST_CASE("Activations and optimisers of other domains") {
  SECTION("QuickGelu") {
    Case c(17, seed());
    const Numbers x = c.input("x", {3, 5});
    c.node("QuickGelu", {"x"}, {"y"}, "com.microsoft");
    Numbers expected;
    for (double value : x) expected.push_back(value * sigmoid(1.702 * value));
    c.check("y", {3, 5}, expected);
  }
  SECTION("FastGelu with bias") {
    Case c(17, seed());
    const Numbers x = c.input("x", {3, 5});
    const Numbers bias = c.input("bias", {5});
    c.node("FastGelu", {"x", "bias"}, {"y"}, "com.microsoft");
    Numbers expected;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double v = x[i] + bias[i % 5];
      expected.push_back(0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))));
    }
    c.check("y", {3, 5}, expected);
  }
  SECTION("Adam after some updates") {
    Case c(17, seed());
    const Numbers x = c.input("x", {4});
    const Numbers g = c.input("g", {4});
    const Numbers v = c.input("v", {4});
    const Numbers h = c.input("h", {4}, 0, 1);
    c.given("r", {}, {0.1}, onnx::TensorProto::FLOAT);
    c.given("t", {}, {3}, onnx::TensorProto::INT64);
    c.node("Adam", {"r", "t", "x", "g", "v", "h"}, {"x_new", "v_new", "h_new"}, "ai.onnx.preview.training");
    Numbers expected;
    for (std::size_t i = 0; i < 4; ++i) {
      const double momentum = 0.9 * v[i] + 0.1 * g[i];
      const double squares = 0.999 * h[i] + 0.001 * g[i] * g[i];
      const double rate = 0.1 * std::sqrt(1 - std::pow(0.999, 3)) / (1 - std::pow(0.9, 3));
      expected.push_back(x[i] - rate * momentum / (std::sqrt(squares) + 1e-6));
    }
    c.check("x_new", {4}, expected);
  }
}

TEST_CASE("Wrong attributes and operands are named with node and operator") {
  Case c(14, 1);
  SECTION("direction") {
    recurrent_inputs(c, 4, true, true);
    attribute(c.node("LSTM", {"X", "W", "R"}, {"Y"}), "direction", std::string("sideways"));
    CHECK_THAT(c.message(), Contains("the_node") && Contains("LSTM") && Contains("direction") && Contains("sideways"));
  }
  SECTION("activation") {
    recurrent_inputs(c, 3, false, true);
    auto &node = c.node("GRU", {"X", "W", "R"}, {"Y"});
    attribute(node, "direction", std::string("bidirectional"));
    attribute(node, "activations", std::vector<std::string>{"Sigmoid", "Cube", "Sigmoid", "Tanh"});
    CHECK_THAT(c.message(), Contains("the_node") && Contains("GRU") && Contains("'Cube'"));
  }
  SECTION("number of activations") {
    recurrent_inputs(c, 3, false, true);
    auto &node = c.node("GRU", {"X", "W", "R"}, {"Y"});
    attribute(node, "direction", std::string("bidirectional"));
    attribute(node, "activations", std::vector<std::string>{"Sigmoid"});
    CHECK_THAT(c.message(), Contains("GRU") && Contains("activations") && Contains("expected 4"));
  }
  SECTION("weights") {
    c.input("X", {2, 1, 3});
    c.input("W", {1, 8, 4});
    c.input("R", {1, 8, 2});
    c.node("LSTM", {"X", "W", "R"}, {"Y"});
    CHECK_THAT(c.message(), Contains("LSTM") && Contains("W has shape [1, 8, 4], expected [1, 8, 3]"));
  }
  SECTION("lengths") {
    recurrent_inputs(c, 3, false, true);
    c.model().proto().mutable_graph()->mutable_initializer(0)->set_int32_data(0, 9);
    attribute(c.node("GRU", {"X", "W", "R", "", "lengths"}, {"Y"}), "direction", std::string("bidirectional"));
    CHECK_THAT(c.message(), Contains("GRU") && Contains("sequence_lens holds 9"));
  }
  SECTION("equation") {
    c.input("x", {2, 3});
    const std::string equation = GENERATE("ij,jk->ik", "ijk->i", "i2->i", "ij->ik", "");
    attribute(c.node("Einsum", {"x"}, {"y"}), "equation", equation);
    CHECK_THAT(c.message(), Contains("the_node") && Contains("Einsum") && Contains("equation"));
  }
  SECTION("diagonal in the result") {
    c.input("x", {2});
    attribute(c.node("Einsum", {"x"}, {"y"}), "equation", std::string("i->ii"));
    CHECK_THAT(c.message(), Contains("Einsum") && Contains("occurs twice in the result"));
  }
  SECTION("sizes of a letter") {
    c.input("x", {2, 3});
    c.input("y", {4, 2});
    attribute(c.node("Einsum", {"x", "y"}, {"z"}), "equation", std::string("ij,jk->ik"));
    CHECK_THAT(c.message(), Contains("Einsum") && Contains("size 3") && Contains("4"));
  }
  SECTION("LRN") {
    c.input("x", {1, 3, 2, 2});
    c.node("LRN", {"x"}, {"y"});
    CHECK_THAT(c.message(), Contains("LRN") && Contains("'size'"));
  }
  SECTION("groups") {
    c.input("x", {1, 4, 2});
    c.input("s", {3});
    attribute(c.node("GroupNormalization", {"x", "s", "s"}, {"y"}), "num_groups", int64_t{3});
    CHECK_THAT(c.message(), Contains("GroupNormalization") && Contains("num_groups"));
  }
  SECTION("reduction") {
    c.input("x", {2, 3});
    c.given("t", {2}, {0, 1}, onnx::TensorProto::INT64);
    attribute(c.node("SoftmaxCrossEntropyLoss", {"x", "t"}, {"y"}), "reduction", std::string("most"));
    CHECK_THAT(c.message(), Contains("SoftmaxCrossEntropyLoss") && Contains("reduction") && Contains("most"));
  }
  SECTION("target") {
    c.input("x", {2, 3});
    c.given("t", {3}, {0, 1, 2}, onnx::TensorProto::INT64);
    c.node("NegativeLogLikelihoodLoss", {"x", "t"}, {"y"});
    CHECK_THAT(c.message(), Contains("NegativeLogLikelihoodLoss") && Contains("target") && Contains("[2]"));
  }
  SECTION("signal") {
    c.input("x", {2, 8, 3});
    c.node("DFT", {"x"}, {"y"});
    CHECK_THAT(c.message(), Contains("DFT") && Contains("[2, 8, 3]"));
  }
  SECTION("heads") {
    c.input("x", {1, 2, 10});
    attribute(c.node("MultiHeadAttention", {"x", "x", "x"}, {"y"}, "com.microsoft"), "num_heads", int64_t{3});
    CHECK_THAT(c.message(), Contains("MultiHeadAttention") && Contains("3 heads"));
  }
  SECTION("momentum") {
    c.input("r", {});
    c.given("t", {}, {0}, onnx::TensorProto::INT64);
    c.input("x", {2});
    attribute(c.node("Momentum", {"r", "t", "x", "x", "x"}, {"y"}, "ai.onnx.preview.training"), "mode",
              std::string("heavy"));
    CHECK_THAT(c.message(), Contains("Momentum") && Contains("mode") && Contains("heavy"));
  }
  SECTION("another domain") {
    c.input("x", {2});
    c.node("Gradient", {"x"}, {"y"}, "ai.onnx.preview.training");
    CHECK_THAT(c.message(), Contains("Gradient") && Contains("ai.onnx.preview.training"));
  }
}
