// RNN, GRU and LSTM: the input's product with the weights for all steps at once, then the steps one after the other.
#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Every step becomes nodes of its own.
constexpr int64_t kMostSteps = 4096;

struct Activation {
  std::string name;
  float alpha = 0;
  float beta = 0;
};

// Which parameters an activation takes from the lists, and their values where the lists are at an end.
struct ActivationRule {
  bool has_alpha = false;
  bool has_beta = false;
  float alpha = 0;
  float beta = 0;
};

const std::map<std::string, ActivationRule> &activation_rules() {
  static const std::map<std::string, ActivationRule> rules = {{"relu", {}},
                                                              {"tanh", {}},
                                                              {"sigmoid", {}},
                                                              {"softsign", {}},
                                                              {"softplus", {}},
                                                              {"affine", {true, true, 1, 0}},
                                                              {"leakyrelu", {true, false, 0.01F, 0}},
                                                              {"thresholdedrelu", {true, false, 1, 0}},
                                                              {"scaledtanh", {true, true, 1, 1}},
                                                              {"hardsigmoid", {true, true, 0.2F, 0.5F}},
                                                              {"elu", {true, false, 1, 0}}};
  return rules;
}

TensorId activate(Builder &b, const Activation &f, TensorId x) {
  if (f.name == "affine") return b.unary("affine", x, f.alpha, f.beta);
  if (f.name == "leakyrelu") return b.unary("leaky_relu", x, f.alpha);
  if (f.name == "hardsigmoid") return b.unary("hard_sigmoid", x, f.alpha, f.beta);
  if (f.name == "scaledtanh") return b.binary("mul", b.unary("tanh", b.binary("mul", x, f.beta)), f.alpha);
  if (f.name == "softsign") return b.binary("div", x, b.binary("add", b.unary("abs", x), 1.0));
  if (f.name == "thresholdedrelu") {
    const Type type = b[x].type;
    return b.select(b.compare("gt", x, b.scalar(type, f.alpha)), x, b.scalar(type, 0));
  }
  if (f.name == "elu") {
    const TensorId negative = b.unary("affine", b.unary("exp", b.unary("clamp", x, -kInfinity, 0)), f.alpha, -f.alpha);
    return b.binary("add", b.unary("relu", x), negative);
  }
  return b.unary(f.name, x);  // relu, tanh, sigmoid, softplus
}

// What the three operators have in common. `gates` counts the blocks of H rows in W and R.
class Recurrence {
 public:
  Recurrence(NodeContext &n, int64_t gates, const std::vector<std::string> &default_activations)
      : n_(n), b_(n.b), gates_(gates) {
    read_layout();
    read_operands();
    read_activations(default_activations);
    if (n.has_attribute("clip")) {
      clip_ = n.real("clip", 0);
      if (!(clip_ >= 0)) throw InputError("attribute 'clip' is " + std::to_string(clip_) + ", expected 0 or more");
    }
  }

  Builder &b() { return b_; }
  int64_t hidden() const { return hidden_; }
  const Activation &activation(int64_t direction, std::size_t index) const {
    return activations_[static_cast<std::size_t>(direction) * per_direction_ + index];
  }

  TensorId clipped(TensorId x) { return clip_ > 0 ? b_.unary("clamp", x, -clip_, clip_) : x; }
  TensorId gate(TensorId x, int64_t first, int64_t count) {
    return b_.slice_axis(x, b_.rank(x) - 1, first * hidden_, count * hidden_);
  }

  // Rows `direction` of an operand, without that dimension.
  TensorId of_direction(TensorId x, int64_t direction) {
    const Shape shape = b_.shape(x);
    return b_.reshape(b_.slice_axis(x, 0, direction, 1), Shape(shape.begin() + 1, shape.end()));
  }

  // R of some gates as [H, count * H]; made once for all steps.
  TensorId recurrent_weights(int64_t direction, int64_t first, int64_t count) {
    TensorId &weights = parts_.try_emplace({r_, direction, first}, kNoTensor).first->second;
    if (weights == kNoTensor) weights = b_.transpose(part(r_, direction, first, count), {1, 0});
    return weights;
  }
  // The half of B that belongs to R, of one gate: [H]. kNoTensor without B.
  TensorId recurrent_bias(int64_t direction, int64_t gate_index) {
    return bias_ == kNoTensor ? kNoTensor : vector_of_gate(bias_, direction, gates_ + gate_index);
  }
  // Entry `gate_index` of an operand with several vectors of H per direction; made once for all steps.
  TensorId vector_of_gate(TensorId x, int64_t direction, int64_t gate_index) {
    TensorId &vector = parts_.try_emplace({x, direction, gate_index}, kNoTensor).first->second;
    if (vector == kNoTensor) vector = part(x, direction, gate_index, 1);
    return vector;
  }
  TensorId product(TensorId a, TensorId w, TensorId bias = kNoTensor) {
    Ids operands = {a, w};
    if (bias != kNoTensor) operands.push_back(bias);
    return b_.emit("MatMul", operands, {{"trans_b", int64_t{0}}});
  }

  // An operand with one vector per direction, or kNoTensor.
  TensorId per_direction(std::size_t index, const std::string &role, int64_t length) {
    const TensorId x = n_.optional_input(index);
    if (x != kNoTensor) expect(x, role, {directions_, length});
    return x;
  }

  // x of all steps times W with the bias that joins it: [T, B, D * gates * H]. Gates from `separate` on leave R's
  // half of the bias out.
  TensorId project(int64_t separate) {
    const TensorId w = b_.transpose(b_.reshape(w_, {directions_ * gates_ * hidden_, inputs_}), {1, 0});
    TensorId bias = kNoTensor;
    if (bias_ != kNoTensor) {
      const TensorId halves = b_.reshape(bias_, {directions_, 2, gates_, hidden_});
      const TensorId own = b_.slice_axis(halves, 1, 0, 1);
      const TensorId other = b_.slice_axis(halves, 1, 1, 1);
      TensorId joint = b_.binary("add", own, other);
      if (separate < gates_) {
        joint =
            b_.concat({b_.slice_axis(joint, 2, 0, separate), b_.slice_axis(own, 2, separate, gates_ - separate)}, 2);
      }
      bias = b_.reshape(joint, {directions_ * gates_ * hidden_});
    }
    return product(x_, w, bias);
  }

  // One step: the projection of its input [B, gates * H] and the states before it; returns the states after it, the
  // hidden one first.
  using Step = std::function<Ids(int64_t direction, TensorId x, const Ids &states)>;

  // Runs all steps of all directions. Initial states are operands 5 and 6.
  Ids run(int64_t separate, std::size_t state_count, const Step &step) {
    const TensorId projected = project(separate);
    const int64_t width = gates_ * hidden_;
    std::vector<Ids> outputs(static_cast<std::size_t>(directions_));
    std::vector<Ids> last(state_count);
    for (int64_t d = 0; d < directions_; ++d) {
      const bool reverse = reverse_ || d == 1;
      Ids states;
      for (std::size_t s = 0; s < state_count; ++s) states.push_back(initial_state(5 + s, d));
      Ids &steps = outputs[static_cast<std::size_t>(d)];
      steps.assign(static_cast<std::size_t>(steps_), kNoTensor);
      for (int64_t i = 0; i < steps_; ++i) {
        const int64_t t = reverse ? steps_ - 1 - i : i;
        const TensorId row = b_.reshape(b_.slice_axis(projected, 0, t, 1), {batch_, directions_ * width});
        const Ids next = step(d, b_.slice_axis(row, 1, d * width, width), states);
        steps[static_cast<std::size_t>(t)] = masked(t, next[0], kNoTensor);
        for (std::size_t s = 0; s < state_count; ++s) states[s] = masked(t, next[s], states[s]);
      }
      for (std::size_t s = 0; s < state_count; ++s) last[s].push_back(states[s]);
    }
    Ids results = {n_.output_used(0) ? sequence(outputs) : kNoTensor};
    for (const Ids &parts : last) results.push_back(final_state(parts));
    return results;
  }

 private:
  TensorId part(TensorId x, int64_t direction, int64_t first, int64_t count) {
    return b_.slice_axis(of_direction(x, direction), 0, first * hidden_, count * hidden_);
  }

  void expect(TensorId x, const std::string &role, const Shape &shape) {
    if (b_.shape(x) != shape) {
      throw InputError(role + " has shape " + to_text(b_.shape(x)) + ", expected " + to_text(shape));
    }
  }

  void read_layout() {
    const std::string direction = n_.text("direction", "forward");
    if (direction != "forward" && direction != "reverse" && direction != "bidirectional") {
      throw InputError("attribute 'direction' is '" + direction + "', expected forward, reverse or bidirectional");
    }
    reverse_ = direction == "reverse";
    directions_ = direction == "bidirectional" ? 2 : 1;
    const int64_t layout = n_.integer("layout", 0);
    if (layout != 0 && layout != 1) {
      throw InputError("attribute 'layout' is " + std::to_string(layout) + ", expected 0 or 1");
    }
    batch_first_ = layout == 1;
  }

  void read_operands() {
    x_ = n_.input(0);
    w_ = n_.input(1);
    r_ = n_.input(2);
    if (b_.rank(x_) != 3) throw InputError("X has shape " + to_text(b_.shape(x_)) + ", expected three dimensions");
    if (b_.rank(r_) != 3) throw InputError("R has shape " + to_text(b_.shape(r_)) + ", expected three dimensions");
    if (batch_first_) x_ = b_.transpose(x_, {1, 0, 2});
    const Shape xs = b_.shape(x_);
    steps_ = xs[0];
    batch_ = xs[1];
    inputs_ = xs[2];
    hidden_ = b_.shape(r_)[2];
    if (steps_ > kMostSteps) {
      throw UnsupportedError(n_.op(), "sequences of " + std::to_string(steps_) + " steps; at most " +
                                          std::to_string(kMostSteps) + " are unrolled");
    }
    if (const int64_t size = n_.integer("hidden_size", hidden_); size != hidden_) {
      throw InputError("attribute 'hidden_size' is " + std::to_string(size) + ", R has " + std::to_string(hidden_));
    }
    expect(w_, "W", {directions_, gates_ * hidden_, inputs_});
    expect(r_, "R", {directions_, gates_ * hidden_, hidden_});
    bias_ = per_direction(3, "B", 2 * gates_ * hidden_);
    lengths_ = n_.optional_input(4);
    if (lengths_ == kNoTensor) return;
    expect(lengths_, "sequence_lens", {batch_});
    if (!is_integer(b_[lengths_].type)) throw InputError("sequence_lens must hold integers");
    if (!b_.is_constant(lengths_)) return;
    known_lengths_ = to_integers(b_[lengths_]);
    for (int64_t length : known_lengths_) {
      if (length < 0 || length > steps_) {
        throw InputError("sequence_lens holds " + std::to_string(length) + ", the input has " + std::to_string(steps_) +
                         " steps");
      }
    }
  }

  void read_activations(const std::vector<std::string> &defaults) {
    per_direction_ = defaults.size();
    std::vector<std::string> names;
    if (const auto *given = n_.attribute("activations")) {
      names.assign(given->strings().begin(), given->strings().end());
    } else {
      for (int64_t d = 0; d < directions_; ++d) names.insert(names.end(), defaults.begin(), defaults.end());
    }
    const std::size_t expected = per_direction_ * static_cast<std::size_t>(directions_);
    if (names.size() != expected) {
      throw InputError("attribute 'activations' has " + std::to_string(names.size()) + " entries, expected " +
                       std::to_string(expected));
    }
    std::vector<float> alphas = floats("activation_alpha");
    std::vector<float> betas = floats("activation_beta");
    std::size_t next_alpha = 0;
    std::size_t next_beta = 0;
    for (const std::string &given : names) {
      std::string name = given;
      for (char &c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      const auto rule = activation_rules().find(name);
      if (rule == activation_rules().end()) throw UnsupportedError(n_.op(), "activation '" + given + "'");
      Activation activation{name, rule->second.alpha, rule->second.beta};
      if (rule->second.has_alpha && next_alpha < alphas.size()) activation.alpha = alphas[next_alpha++];
      if (rule->second.has_beta && next_beta < betas.size()) activation.beta = betas[next_beta++];
      activations_.push_back(std::move(activation));
    }
  }

  std::vector<float> floats(const std::string &name) const {
    const auto *given = n_.attribute(name);
    if (given == nullptr) return {};
    return {given->floats().begin(), given->floats().end()};
  }

  TensorId zeros(const Shape &shape) { return b_.expand(b_.scalar(b_[x_].type, 0), shape); }

  TensorId initial_state(std::size_t index, int64_t direction) {
    TensorId state = n_.optional_input(index);
    if (state == kNoTensor) return zeros({batch_, hidden_});
    if (b_.rank(state) == 3 && batch_first_) state = b_.transpose(state, {1, 0, 2});
    expect(state, index == 5 ? "initial_h" : "initial_c", {directions_, batch_, hidden_});
    return of_direction(state, direction);
  }

  // `value` in the rows of the batch whose sequence has step t, `otherwise` (zeros if absent) in the others.
  TensorId masked(int64_t t, TensorId value, TensorId otherwise) {
    if (lengths_ == kNoTensor) return value;
    if (otherwise == kNoTensor) otherwise = zeros({batch_, hidden_});
    if (!b_.is_constant(lengths_)) {
      const TensorId lengths = b_.reshape(lengths_, {batch_, 1});
      const TensorId step = b_.scalar(b_[lengths_].type, static_cast<double>(t));
      return b_.select(b_.compare("lt", step, lengths), value, otherwise);
    }
    Integers mask;
    for (int64_t length : known_lengths_) mask.push_back(t < length ? 1 : 0);
    if (std::count(mask.begin(), mask.end(), 1) == batch_) return value;
    if (std::count(mask.begin(), mask.end(), 0) == batch_) return otherwise;
    return b_.select(b_.constant(make_constant("", Type::Bool, {batch_, 1}, mask)), value, otherwise);
  }

  // [T, D, B, H], or [B, T, D, H] if the batch comes first.
  TensorId sequence(const std::vector<Ids> &outputs) {
    if (steps_ == 0) {
      return zeros(batch_first_ ? Shape{batch_, 0, directions_, hidden_} : Shape{0, directions_, batch_, hidden_});
    }
    Ids parts;
    for (int64_t t = 0; t < steps_; ++t) {
      for (const Ids &steps : outputs) {
        parts.push_back(b_.reshape(steps[static_cast<std::size_t>(t)], {1, batch_, hidden_}));
      }
    }
    const TensorId all = b_.reshape(b_.concat(parts, 0), {steps_, directions_, batch_, hidden_});
    return batch_first_ ? b_.transpose(all, {2, 0, 1, 3}) : all;
  }

  // [D, B, H], or [B, D, H] if the batch comes first.
  TensorId final_state(const Ids &states) {
    Ids parts;
    for (TensorId state : states) parts.push_back(b_.reshape(state, {1, batch_, hidden_}));
    const TensorId all = b_.concat(parts, 0);
    return batch_first_ ? b_.transpose(all, {1, 0, 2}) : all;
  }

  NodeContext &n_;
  Builder &b_;
  const int64_t gates_;
  bool reverse_ = false;
  bool batch_first_ = false;
  int64_t directions_ = 1;
  int64_t steps_ = 0;
  int64_t batch_ = 0;
  int64_t inputs_ = 0;
  int64_t hidden_ = 0;
  float clip_ = 0;
  TensorId x_ = kNoTensor;  // [T, B, I]
  TensorId w_ = kNoTensor;
  TensorId r_ = kNoTensor;
  TensorId bias_ = kNoTensor;
  TensorId lengths_ = kNoTensor;
  Integers known_lengths_;
  std::size_t per_direction_ = 0;
  std::vector<Activation> activations_;
  std::map<std::array<int64_t, 3>, TensorId> parts_;
};

Ids rnn(NodeContext &n) {
  Recurrence r(n, 1, {"tanh"});
  Builder &b = n.b;
  return r.run(1, 1, [&](int64_t d, TensorId x, const Ids &states) {
    const TensorId sum = b.binary("add", r.product(states[0], r.recurrent_weights(d, 0, 1)), x);
    return Ids{activate(b, r.activation(d, 0), r.clipped(sum))};
  });
}

// Gates: update, reset, hidden.
Ids gru(NodeContext &n) {
  Recurrence r(n, 3, {"sigmoid", "tanh"});
  Builder &b = n.b;
  const bool linear_first = n.integer("linear_before_reset", 0) != 0;
  return r.run(linear_first ? 2 : 3, 1, [&](int64_t d, TensorId x, const Ids &states) {
    const TensorId h = states[0];
    const TensorId sums = b.binary("add", r.product(h, r.recurrent_weights(d, 0, 2)), r.gate(x, 0, 2));
    const TensorId gates = activate(b, r.activation(d, 0), r.clipped(sums));
    const TensorId update = r.gate(gates, 0, 1);
    const TensorId reset = r.gate(gates, 1, 1);
    const TensorId weights = r.recurrent_weights(d, 2, 1);
    const TensorId recurrent = linear_first ? b.binary("mul", reset, r.product(h, weights, r.recurrent_bias(d, 2)))
                                            : r.product(b.binary("mul", reset, h), weights);
    const TensorId sum = b.binary("add", recurrent, r.gate(x, 2, 1));
    const TensorId candidate = activate(b, r.activation(d, 1), r.clipped(sum));
    const TensorId kept = b.binary("mul", update, h);
    const TensorId taken = b.binary("mul", b.unary("affine", update, -1, 1), candidate);
    return Ids{b.binary("add", taken, kept)};
  });
}

// Gates: input, output, forget, cell.
Ids lstm(NodeContext &n) {
  Recurrence r(n, 4, {"sigmoid", "tanh", "tanh"});
  Builder &b = n.b;
  const bool coupled = n.integer("input_forget", 0) != 0;
  const TensorId peepholes = r.per_direction(7, "P", 3 * r.hidden());
  return r.run(4, 2, [&](int64_t d, TensorId x, const Ids &states) {
    const TensorId cell = states[1];
    const TensorId sums = b.binary("add", r.product(states[0], r.recurrent_weights(d, 0, 4)), x);
    const Activation &f = r.activation(d, 0);
    const TensorId candidate = activate(b, r.activation(d, 1), r.clipped(r.gate(sums, 3, 1)));
    auto peeping = [&](int64_t gate, TensorId state) {
      const TensorId weights = r.vector_of_gate(peepholes, d, gate);
      const TensorId sum = b.binary("add", r.gate(sums, gate, 1), b.binary("mul", state, weights));
      return activate(b, f, r.clipped(sum));
    };
    TensorId input = kNoTensor;
    TensorId forget = kNoTensor;
    TensorId output = kNoTensor;
    if (peepholes == kNoTensor) {
      const TensorId gates = activate(b, f, r.clipped(r.gate(sums, 0, 3)));
      input = r.gate(gates, 0, 1);
      output = r.gate(gates, 1, 1);
      forget = r.gate(gates, 2, 1);
    } else {
      input = peeping(0, cell);
      forget = peeping(2, cell);
    }
    if (coupled) forget = b.unary("affine", input, -1, 1);
    const TensorId next = b.binary("add", b.binary("mul", forget, cell), b.binary("mul", input, candidate));
    if (peepholes != kNoTensor) output = peeping(1, next);
    // The clip bounds what the gates see, not the cell: ONNX Runtime reads the standard so.
    return Ids{b.binary("mul", output, activate(b, r.activation(d, 2), next)), next};
  });
}

}  // namespace

void register_recurrent(LoweringTable &table) {
  table["RNN"] = rnn;
  table["GRU"] = gru;
  table["LSTM"] = lstm;
}

}  // namespace cx::compiler
