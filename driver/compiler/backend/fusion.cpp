#include "driver/compiler/backend/fusion.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <functional>
#include <queue>
#include <set>

#include "driver/compiler/backend/constants.hpp"
#include "driver/compiler/calibration.hpp"
#include "driver/compiler/frontend/elements.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

constexpr std::size_t kMaxNodes = 24;

GroupKind kind_of(const Node &node) {
  if (node.op == "Conv") return GroupKind::convolution;
  if (node.op == "MatMul") return GroupKind::matmul;
  if (node.op == "Pool") return GroupKind::pool;
  if (node.op == "Reduce") return GroupKind::reduce;
  if (node.op == "Softmax") return GroupKind::softmax;
  if (node.op == "TakeAlong") return GroupKind::take_along;
  if (node.op == "ScatterAlong") return GroupKind::scatter_along;
  if (node.op == "Scan") return GroupKind::scan;
  if (node.op == "ArgReduce") return GroupKind::arg_reduce;
  if (node.op == "TopK") return GroupKind::top_k;
  for (const char *name : {"Unary", "Binary", "Cast", "Select"}) {
    if (node.op == name) return GroupKind::elementwise;
  }
  for (const char *move : {"Transpose", "Reshape", "Concat", "Slice", "Gather", "Expand", "Pad", "Copy"}) {
    if (node.op == move) return GroupKind::move;
  }
  throw UnsupportedError(node.op, "node " + node.name + ": the compiler has no device code for " + node.op);
}

template <typename T>
T function_by_name(const Node &node, unsigned count) {
  const std::string wanted = node.text("func", "");
  for (unsigned i = 0; i < count; ++i) {
    std::string name(isa::to_string(static_cast<T>(i)));
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    if (name == wanted) return static_cast<T>(i);
  }
  throw UnsupportedError(node.op, "node " + node.name + ": the device has no function " + wanted);
}

/// A constant of one element that an instruction can hold: a float, or an integer that is exact as one.
std::optional<float> immediate(const Tensor &tensor) {
  if (!tensor.is_constant() || elements(tensor.shape) != 1) return std::nullopt;
  const float value = constant_as_floats(tensor).at(0);
  constexpr float kExact = 16777216;  // below 2^24 every whole number is
  if (!is_float(tensor.type) && !(std::fabs(value) < kExact)) return std::nullopt;
  return value;
}

void make_compare_with_zero(Step &step, isa::Binary func, TensorId x) {
  step.kind = StepKind::binary;
  step.binary = func;
  step.a = x;
  step.imm0 = 0;
}

void fill_cast(const Graph &graph, const Node &node, Step &step) {
  const Type from = graph[node.inputs[0]].type;
  const Type to = graph[step.result].type;
  step.a = node.inputs[0];
  if (to == Type::Bool && from != Type::Bool) {
    make_compare_with_zero(step, isa::Binary::NE, step.a);
  } else {
    // A store to integers would round to nearest.
    step.unary = is_float(from) && !is_float(to) ? isa::Unary::TRUNC : isa::Unary::COPY;
  }
}

/// Clamp between whole numbers; a bound that is infinite is none.
void fill_integer_clamp(Step &step) {
  step.imm0 = std::ceil(step.imm0);
  step.imm1 = std::floor(step.imm1);
  const bool low = std::isfinite(step.imm0);
  const bool high = std::isfinite(step.imm1);
  if (low && high) return;
  if (!low && !high) {
    step.unary = isa::Unary::COPY;
    return;
  }
  step.kind = StepKind::binary;
  step.binary = low ? isa::Binary::MAX : isa::Binary::MIN;
  step.imm0 = low ? step.imm0 : step.imm1;
}

void fill_unary(const Graph &graph, const Node &node, Step &step) {
  step.a = node.inputs[0];
  const Type type = graph[step.a].type;
  step.unary = function_by_name<isa::Unary>(node, isa::kUnaryCount);
  step.imm0 = node.real("alpha", 0);
  step.imm1 = node.real("beta", 0);
  if (is_float(type)) {
    if (step.unary == isa::Unary::NOT) {
      throw UnsupportedError(node.op, "node " + node.name + ": not of " + name_of(type));
    }
    return;
  }
  switch (step.unary) {
    case isa::Unary::COPY:
    case isa::Unary::NEG:
    case isa::Unary::ABS:
    case isa::Unary::RELU:
    case isa::Unary::SIGN:
    case isa::Unary::IS_NAN:
    case isa::Unary::IS_INF:
      return;
    case isa::Unary::NOT:
      // Bool is a byte of 0 or 1, of which the complement is not the negation.
      if (type == Type::Bool) make_compare_with_zero(step, isa::Binary::EQ, step.a);
      return;
    case isa::Unary::CLAMP:
      fill_integer_clamp(step);
      return;
    case isa::Unary::FLOOR:
    case isa::Unary::CEIL:
    case isa::Unary::ROUND:
    case isa::Unary::TRUNC:
      step.unary = isa::Unary::COPY;
      return;
    default:
      throw UnsupportedError(
          node.op, "node " + node.name + ": the device has no " + node.text("func", "") + " of " + name_of(type));
  }
}

void fill_binary(const Graph &graph, const Node &node, Step &step) {
  step.kind = StepKind::binary;
  step.binary = function_by_name<isa::Binary>(node, isa::kBinaryCount);
  step.a = node.inputs[0];
  step.b = node.inputs[1];
  if (const std::optional<float> value = immediate(graph[step.b])) {
    step.imm0 = *value;
    step.b = kNoTensor;
  } else if (const std::optional<float> first = immediate(graph[step.a])) {
    step.imm0 = *first;
    step.a = step.b;
    step.b = kNoTensor;
    step.swap = true;
  }
}

void fill_select(const Graph &graph, const Node &node, Step &step) {
  step.kind = StepKind::select;
  step.cond = node.inputs[0];
  const auto operand = [&](TensorId id, float &scalar) {
    const std::optional<float> value = immediate(graph[id]);
    if (!value) return id;
    scalar = *value;
    return kNoTensor;
  };
  step.a = operand(node.inputs[1], step.imm0);
  step.b = operand(node.inputs[2], step.imm1);
}

Step step_of(const Graph &graph, int index) {
  const Node &node = graph.nodes[static_cast<std::size_t>(index)];
  Step step;
  step.node = index;
  step.result = node.outputs[0];
  if (node.op == "Cast") {
    fill_cast(graph, node, step);
  } else if (node.op == "Unary") {
    fill_unary(graph, node, step);
  } else if (node.op == "Select") {
    fill_select(graph, node, step);
  } else {
    fill_binary(graph, node, step);
  }
  return step;
}

/// Assigns nodes to groups one by one; a group is a set of nodes, in order.
class Grouper {
 public:
  explicit Grouper(const Graph &graph)
      : graph_(graph), group_of_(graph.nodes.size(), -1), producer_(graph.tensors.size(), -1) {
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
      for (TensorId out : graph.nodes[n].outputs) producer_[static_cast<std::size_t>(out)] = static_cast<int>(n);
    }
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) place(static_cast<int>(n));
  }

  /// Member nodes of the groups in the order in which the groups were made, which is topological but for groups that
  /// were joined later: those wait.
  std::vector<std::vector<int>> in_order() const {
    std::vector<std::vector<int>> result;
    std::vector<std::vector<int>> successors(groups_.size());
    std::vector<std::size_t> waits(groups_.size());
    std::priority_queue<int, std::vector<int>, std::greater<>> ready;
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      waits[g] = groups_[g].needs.size();
      for (int need : groups_[g].needs) successors[static_cast<std::size_t>(need)].push_back(static_cast<int>(g));
      if (waits[g] == 0) ready.push(static_cast<int>(g));
    }
    while (!ready.empty()) {
      const auto g = static_cast<std::size_t>(ready.top());
      ready.pop();
      result.push_back(groups_[g].members);
      for (int next : successors[g]) {
        if (--waits[static_cast<std::size_t>(next)] == 0) ready.push(next);
      }
    }
    return result;
  }

  /// The same in a topological order in which a group's operands come late, the one with the longest way to it first:
  /// what the others need of one engine runs while the long way keeps another one busy.
  std::vector<std::vector<int>> late() const {
    const std::size_t count = groups_.size();
    std::vector<std::vector<int>> needs(count);
    std::vector<bool> needed(count, false);
    for (std::size_t g = 0; g < count; ++g) {
      needs[g].assign(groups_[g].needs.begin(), groups_[g].needs.end());
      for (int n : needs[g]) needed[static_cast<std::size_t>(n)] = true;
    }
    std::vector<int> way(count, -1);  // groups on the longest way to this one
    std::vector<std::vector<int>> result;
    // Depth first, twice: the first visit finds the ways, the second one follows them.
    const auto visit = [&](std::size_t root, std::vector<bool> &seen, const auto &leave) {
      std::vector<std::pair<std::size_t, std::size_t>> stack{{root, 0}};
      if (seen[root]) return;
      seen[root] = true;
      while (!stack.empty()) {
        auto &[group, next] = stack.back();
        if (next == needs[group].size()) {
          leave(group);
          stack.pop_back();
          continue;
        }
        const auto operand = static_cast<std::size_t>(needs[group][next++]);
        if (seen[operand]) continue;
        seen[operand] = true;
        stack.emplace_back(operand, 0);
      }
    };
    std::vector<bool> seen(count, false);
    for (std::size_t g = 0; g < count; ++g) {
      visit(g, seen, [&](std::size_t group) {
        way[group] = 0;
        for (int n : needs[group]) way[group] = std::max(way[group], way[static_cast<std::size_t>(n)] + 1);
      });
    }
    for (std::vector<int> &operands : needs) {
      std::stable_sort(operands.begin(), operands.end(), [&](int a, int b) {
        return way[static_cast<std::size_t>(a)] > way[static_cast<std::size_t>(b)];
      });
    }
    seen.assign(count, false);
    for (std::size_t g = 0; g < count; ++g) {
      if (!needed[g]) visit(g, seen, [&](std::size_t group) { result.push_back(groups_[group].members); });
    }
    return result;
  }

 private:
  struct Members {
    std::vector<int> members;
    std::set<int> needs;  ///< groups
  };

  const Node &node(int index) const { return graph_.nodes[static_cast<std::size_t>(index)]; }
  const Members &group(int index) const { return groups_[static_cast<std::size_t>(index)]; }
  int producer_group(TensorId id) const {
    if (id == kNoTensor) return -1;
    const int producer = producer_[static_cast<std::size_t>(id)];
    return producer < 0 ? -1 : group_of_[static_cast<std::size_t>(producer)];
  }
  const Shape &shape_of(int index) const { return graph_[node(group(index).members.front()).outputs[0]].shape; }

  /// Whether one of `from` needs a value of `ancestor`. True as well where that takes long to find out.
  bool depend_on(std::vector<int> from, int ancestor) const {
    // What needs a group has a node behind the group's first one.
    const int first = group(ancestor).members.front();
    std::set<int> seen(from.begin(), from.end());
    while (!from.empty()) {
      const int here = from.back();
      from.pop_back();
      if (here == ancestor) return true;
      if (group(here).members.back() < first) continue;
      if (seen.size() > kMostVisits) return true;
      for (int need : group(here).needs) {
        if (seen.insert(need).second) from.push_back(need);
      }
    }
    return false;
  }

  bool can_join(int index, int to) const {
    const std::vector<int> &members = group(to).members;
    if (members.size() >= kMaxNodes || kind_of(node(members.front())) == GroupKind::move) return false;
    if (shape_of(to) != graph_[node(index).outputs[0]].shape) return false;
    std::vector<int> others;
    for (TensorId id : node(index).inputs) {
      const int from = producer_group(id);
      if (from >= 0 && from != to) others.push_back(from);
    }
    return !depend_on(std::move(others), to);
  }

  void place(int index) {
    int best = -1;
    if (kind_of(node(index)) == GroupKind::elementwise) {
      std::set<int, std::greater<>> candidates;
      for (TensorId id : node(index).inputs) candidates.insert(producer_group(id));
      for (int candidate : candidates) {
        if (candidate < 0 || !can_join(index, candidate)) continue;
        best = candidate;
        break;
      }
    }
    if (best < 0) {
      best = static_cast<int>(groups_.size());
      groups_.emplace_back();
    }
    Members &joined = groups_[static_cast<std::size_t>(best)];
    joined.members.push_back(index);
    for (TensorId id : node(index).inputs) {
      const int from = producer_group(id);
      if (from >= 0 && from != best) joined.needs.insert(from);
    }
    group_of_[static_cast<std::size_t>(index)] = best;
  }

  /// Groups that a search for a dependence looks at: what lies further apart is not fused.
  static constexpr std::size_t kMostVisits = 512;

  const Graph &graph_;
  std::vector<int> group_of_;
  std::vector<int> producer_;
  std::vector<Members> groups_;
};

bool takes_activation(const Group &group) {
  return group.kind == GroupKind::convolution || group.kind == GroupKind::matmul || group.kind == GroupKind::pool;
}

std::optional<Activation> as_activation(const Graph &graph, const Step &step) {
  if (step.kind != StepKind::unary || !is_float(graph[step.result].type)) return std::nullopt;
  if (step.unary == isa::Unary::RELU) return Activation{isa::Activation::RELU, 0, 0};
  if (step.unary == isa::Unary::CLAMP) return Activation{isa::Activation::CLAMP, step.imm0, step.imm1};
  return std::nullopt;
}

/// The scalar that a step multiplies with, exactly as if it were a product.
std::optional<float> as_factor(const Step &step) {
  if (step.kind != StepKind::binary || step.b != kNoTensor || !std::isfinite(step.imm0)) return std::nullopt;
  if (step.binary == isa::Binary::MUL) return step.imm0;
  // The reciprocal of a power of two is exact.
  int exponent = 0;
  const bool power = std::fabs(std::frexp(step.imm0, &exponent)) == 0.5F;
  if (step.binary == isa::Binary::DIV && !step.swap && power && std::abs(exponent) < 100) return 1 / step.imm0;
  return std::nullopt;
}

/// The constant that a step adds to the channels of a product: its only dimension above 1 is the channels'.
TensorId as_bias(const Graph &graph, const Group &group, const Step &step) {
  if (step.kind != StepKind::binary || step.binary != isa::Binary::ADD || step.b == kNoTensor) return kNoTensor;
  const TensorId other = step.a == group.anchor_result ? step.b : step.a;
  if (other == group.anchor_result || !graph[other].is_constant() || graph[other].type != Type::F32) return kNoTensor;
  const Shape &shape = graph[other].shape;
  const std::size_t rank = group.shape.size();
  const std::size_t channel = group.kind == GroupKind::convolution ? 1 : rank - 1;
  if (shape.size() > rank || channel < rank - shape.size()) return kNoTensor;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const std::size_t of_result = rank - shape.size() + d;
    if (shape[d] != (of_result == channel ? group.shape[channel] : 1)) return kNoTensor;
  }
  return other;
}

/// Lets the drain of a product scale its sums and add a constant for each channel, where these are their only uses.
void merge_affine(const Graph &graph, const std::vector<std::vector<int>> &consumers, Group &group, bool scales) {
  const Node &node = graph.nodes[static_cast<std::size_t>(group.nodes.front())];
  if (!is_dmmu_product(graph, node) || graph[group.anchor_result].type != Type::F32) return;
  if (graph[node.inputs[0]].type == Type::I8) return;  // has a scale of its own, and exact sums to keep
  bool has_bias = node.inputs.size() > 2 && node.inputs[2] != kNoTensor;
  bool has_scale = !scales;
  while (!group.steps.empty()) {
    const Step &step = group.steps.front();
    const bool takes = step.a == group.anchor_result || step.b == group.anchor_result;
    const auto anchor = static_cast<std::size_t>(group.anchor_result);
    if (!takes || consumers[anchor].size() != 1 || graph.is_output(group.anchor_result)) return;
    if (step.act.kind != isa::Activation::NONE) return;
    const std::optional<float> factor = as_factor(step);
    const TensorId bias = as_bias(graph, group, step);
    if (factor && !has_scale && !has_bias) {
      group.anchor_scale = *factor;
      has_scale = true;
    } else if (bias != kNoTensor && !has_bias) {
      group.anchor_bias = bias;
      has_bias = true;
    } else {
      return;
    }
    group.anchor_result = step.result;
    group.steps.erase(group.steps.begin());
  }
}

/// Lets the operation that makes a value apply the relu or clamp that is its only use.
void merge_activations(const Graph &graph, const std::vector<std::vector<int>> &consumers, Group &group) {
  const auto only_used_here = [&](TensorId id) {
    return consumers[static_cast<std::size_t>(id)].size() == 1 && !graph.is_output(id);
  };
  std::vector<Step> kept;
  for (const Step &step : group.steps) {
    const std::optional<Activation> act = as_activation(graph, step);
    if (act && only_used_here(step.a)) {
      if (step.a == group.anchor_result && takes_activation(group) && group.anchor_act.kind == isa::Activation::NONE) {
        group.anchor_act = *act;
        group.anchor_result = step.result;
        continue;
      }
      const auto maker = std::find_if(kept.begin(), kept.end(), [&](const Step &s) { return s.result == step.a; });
      if (maker != kept.end() && maker->kind == StepKind::binary && maker->act.kind == isa::Activation::NONE) {
        maker->act = *act;
        maker->result = step.result;
        continue;
      }
    }
    kept.push_back(step);
  }
  group.steps = kept;
}

/// Windows and softmax take floats, products also int8.
void require_arithmetic(const Graph &graph, const Node &node) {
  switch (kind_of(node)) {
    case GroupKind::convolution:
    case GroupKind::matmul:
      if (graph[node.inputs[0]].type == Type::I8) return;
      break;
    case GroupKind::pool:
    case GroupKind::softmax:
      break;
    default:
      return;
  }
  for (TensorId id : node.inputs) {
    if (id == kNoTensor || is_float(graph[id].type)) continue;
    throw UnsupportedError(node.op, "node " + node.name + " (" + node.op + "): the device has no " + node.op + " of " +
                                        name_of(graph[id].type));
  }
}

Group make_group(const Graph &graph, const std::vector<std::vector<int>> &consumers, const std::vector<int> &nodes,
                 bool scales) {
  Group group;
  const Node &first = graph.nodes[static_cast<std::size_t>(nodes.front())];
  group.kind = kind_of(first);
  group.name = first.name;
  group.nodes = nodes;
  group.shape = graph[first.outputs[0]].shape;
  const bool anchored = group.kind != GroupKind::elementwise;
  if (anchored) group.anchor_result = first.outputs[0];
  for (std::size_t i = anchored ? 1 : 0; i < nodes.size(); ++i) group.steps.push_back(step_of(graph, nodes[i]));
  if (anchored) merge_affine(graph, consumers, group, scales);
  merge_activations(graph, consumers, group);
  const auto needed_outside = [&](TensorId id) {
    if (graph.is_output(id)) return true;
    for (int consumer : consumers[static_cast<std::size_t>(id)]) {
      if (std::find(nodes.begin(), nodes.end(), consumer) == nodes.end()) return true;
    }
    return false;
  };
  if (anchored && needed_outside(group.anchor_result)) group.outputs.push_back(group.anchor_result);
  for (const Step &step : group.steps) {
    if (needed_outside(step.result)) group.outputs.push_back(step.result);
  }
  return group;
}

}  // namespace

std::vector<Group> fuse(const Graph &graph, bool scales, bool keep_order) {
  for (const Node &node : graph.nodes) require_arithmetic(graph, node);
  std::vector<Group> groups;
  const std::vector<std::vector<int>> consumers = graph.consumers();
  const Grouper grouper(graph);
  for (const std::vector<int> &nodes : keep_order ? grouper.in_order() : grouper.late()) {
    groups.push_back(make_group(graph, consumers, nodes, scales));
  }
  return groups;
}

}  // namespace cx::compiler::backend
