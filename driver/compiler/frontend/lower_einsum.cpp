// Einsum as diagonals, sums, batched matrix products and one last transposition.
#include <algorithm>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

// One letter per dimension. Dimensions of an ellipsis are -1 for the last, -2 for the one before it, ...
using Label = int;
using Labels = std::vector<Label>;
constexpr Label kEllipsis = 0;

bool has(const Labels &labels, Label label) { return std::find(labels.begin(), labels.end(), label) != labels.end(); }

std::size_t position(const Labels &labels, Label label) {
  return static_cast<std::size_t>(std::find(labels.begin(), labels.end(), label) - labels.begin());
}

Labels parse_term(const std::string &term, const std::string &equation) {
  Labels labels;
  for (std::size_t i = 0; i < term.size(); ++i) {
    const char c = term[i];
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      labels.push_back(c);
    } else if (term.compare(i, 3, "...") == 0 && !has(labels, kEllipsis)) {
      labels.push_back(kEllipsis);
      i += 2;
    } else {
      throw InputError("attribute 'equation' '" + equation + "' has an unexpected '" + std::string(1, c) + "'");
    }
  }
  return labels;
}

struct Equation {
  std::vector<Labels> inputs;
  Labels output;
};

Equation parse(const std::string &text) {
  std::string compact;
  for (char c : text) {
    if (c != ' ') compact += c;
  }
  const std::size_t arrow = compact.find("->");
  Equation equation;
  const std::string left = compact.substr(0, arrow);
  for (std::size_t from = 0; from <= left.size();) {
    const std::size_t comma = std::min(left.find(',', from), left.size());
    equation.inputs.push_back(parse_term(left.substr(from, comma - from), text));
    from = comma + 1;
  }
  if (arrow != std::string::npos) {
    equation.output = parse_term(compact.substr(arrow + 2), text);
    return equation;
  }
  // Without an arrow: the ellipsis, then the letters that occur once, in alphabetical order.
  std::map<Label, int> uses;
  for (const Labels &labels : equation.inputs) {
    for (Label label : labels) ++uses[label];
  }
  for (const auto &[label, count] : uses) {
    if (label == kEllipsis || count == 1) equation.output.push_back(label);
  }
  return equation;
}

// Replaces the ellipsis by one label for each of the `count` dimensions that it stands for.
Labels spelled_out(const Labels &labels, int64_t count) {
  Labels result;
  for (Label label : labels) {
    if (label != kEllipsis) {
      result.push_back(label);
      continue;
    }
    for (int64_t d = count; d > 0; --d) result.push_back(static_cast<Label>(-d));
  }
  return result;
}

struct Operand {
  TensorId id;
  Labels labels;
};

class Contraction {
 public:
  Contraction(Builder &b, Labels output) : b_(b), output_(std::move(output)) {}

  TensorId run(std::vector<Operand> operands) {
    for (Operand &operand : operands) operand = without_repeats(operand);
    Operand result = operands[0];
    for (std::size_t i = 1; i < operands.size(); ++i) {
      Labels needed = output_;
      for (std::size_t j = i + 1; j < operands.size(); ++j) {
        needed.insert(needed.end(), operands[j].labels.begin(), operands[j].labels.end());
      }
      result = joined(result, operands[i], needed);
    }
    result = summed(result, output_);
    return arranged(result, output_);
  }

 private:
  int64_t size(const Operand &x, Label label) const { return b_.shape(x.id)[position(x.labels, label)]; }

  // A label that occurs twice in one operand stands for its diagonal.
  Operand without_repeats(Operand x) {
    for (std::size_t i = 0; i < x.labels.size(); ++i) {
      const auto later = std::find(x.labels.begin() + static_cast<long>(i) + 1, x.labels.end(), x.labels[i]);
      if (later == x.labels.end()) continue;
      const auto j = static_cast<std::size_t>(later - x.labels.begin());
      const Shape shape = b_.shape(x.id);
      if (shape[i] != shape[j]) {
        throw InputError("dimensions " + std::to_string(i) + " and " + std::to_string(j) + " of operand " +
                         to_text(shape) + " have one letter and different sizes");
      }
      if (elements(shape) == 0) throw UnsupportedError("Einsum", "the diagonal of an operand without elements");
      // Both dimensions next to each other as one of n * n, of which every (n + 1)-th element is kept.
      Integers perm;
      Shape flat;
      Labels labels;
      for (std::size_t d = 0; d < shape.size(); ++d) {
        if (d == j) continue;
        perm.push_back(static_cast<int64_t>(d));
        labels.push_back(x.labels[d]);
        flat.push_back(d == i ? shape[d] * shape[d] : shape[d]);
        if (d == i) perm.push_back(static_cast<int64_t>(j));
      }
      Integers diagonal;
      for (int64_t k = 0; k < shape[i]; ++k) diagonal.push_back(k * (shape[i] + 1));
      x.id = b_.gather(b_.reshape(b_.transpose(x.id, perm), flat), static_cast<int64_t>(i), diagonal);
      x.labels = labels;
      --i;  // the label may occur a third time
    }
    return x;
  }

  // Sums over the labels that nobody needs.
  Operand summed(Operand x, const Labels &needed) {
    Integers axes;
    Shape shape;
    Labels labels;
    for (std::size_t d = 0; d < x.labels.size(); ++d) {
      if (!has(needed, x.labels[d])) {
        axes.push_back(static_cast<int64_t>(d));
        continue;
      }
      shape.push_back(b_.shape(x.id)[d]);
      labels.push_back(x.labels[d]);
    }
    if (axes.empty()) return x;
    return {b_.reshape(b_.reduce("sum", x.id, axes), shape), labels};
  }

  TensorId arranged(const Operand &x, const Labels &order) {
    Integers perm;
    for (Label label : order) perm.push_back(static_cast<int64_t>(position(x.labels, label)));
    return b_.transpose(x.id, perm);
  }

  // x with its dimensions in the order of `groups`, all dimensions of a group that is `flat` as one; a label that
  // x does not have is a dimension of 1.
  struct Group {
    Labels labels;
    bool flat = false;
  };
  TensorId grouped(const Operand &x, const std::vector<Group> &groups) {
    Labels order;
    Shape shape;
    for (const Group &group : groups) {
      int64_t together = 1;
      for (Label label : group.labels) {
        const int64_t own = has(x.labels, label) ? size(x, label) : 1;
        if (has(x.labels, label)) order.push_back(label);
        if (!group.flat) shape.push_back(own);
        together *= own;
      }
      if (group.flat) shape.push_back(together);
    }
    return b_.reshape(arranged(x, order), shape);
  }

  Operand joined(Operand x, Operand y, const Labels &needed) {
    auto with = [&](const Labels &more) {
      Labels all = needed;
      all.insert(all.end(), more.begin(), more.end());
      return all;
    };
    x = summed(x, with(y.labels));
    y = summed(y, with(x.labels));
    Group batch, sums, only_x{{}, true}, only_y{{}, true};
    for (Label label : x.labels) {
      if (!has(y.labels, label)) {
        only_x.labels.push_back(label);
        continue;
      }
      (has(needed, label) ? batch : sums).labels.push_back(label);
      const int64_t in_x = size(x, label);
      const int64_t in_y = size(y, label);
      if (in_x != in_y && in_x != 1 && in_y != 1) {
        throw InputError("a dimension of equal label has size " + std::to_string(in_x) + " in one operand and " +
                         std::to_string(in_y) + " in another");
      }
      if (in_x != in_y && !has(needed, label)) widen(in_x == 1 ? x : y, label, std::max(in_x, in_y));
    }
    for (Label label : y.labels) {
      if (!has(x.labels, label)) only_y.labels.push_back(label);
    }
    Operand result;
    Shape shape;
    for (const Labels *labels : {&batch.labels, &only_x.labels, &only_y.labels}) {
      for (Label label : *labels) {
        result.labels.push_back(label);
        const int64_t in_x = has(x.labels, label) ? size(x, label) : 1;
        shape.push_back(has(y.labels, label) ? std::max(in_x, size(y, label)) : in_x);
        // An empty dimension wins over one that is broadcast.
        if (has(x.labels, label) && in_x == 0) shape.back() = 0;
        if (has(y.labels, label) && size(y, label) == 0) shape.back() = 0;
      }
    }
    sums.flat = true;
    const bool floats = is_float(b_[x.id].type);
    if (sums.labels.empty() || !floats) {
      // An outer or elementwise product; what is summed lies last.
      const TensorId a = grouped(x, {batch, only_x, {{}, true}, sums});
      const TensorId c = grouped(y, {batch, {{}, true}, only_y, sums});
      TensorId product = b_.binary("mul", a, c);
      if (!sums.labels.empty()) product = b_.reduce("sum", product, {b_.rank(product) - 1});
      result.id = b_.reshape(product, shape);
      return result;
    }
    const TensorId a = grouped(x, {batch, only_x, sums});
    const TensorId c = grouped(y, {batch, sums, only_y});
    result.id = b_.reshape(b_.emit("MatMul", {a, c}, {{"trans_b", int64_t{0}}}), shape);
    return result;
  }

  void widen(Operand &x, Label label, int64_t to) {
    Shape shape = b_.shape(x.id);
    shape[position(x.labels, label)] = to;
    x.id = b_.expand(x.id, shape);
  }

  Builder &b_;
  const Labels output_;
};

Ids einsum(NodeContext &n) {
  Builder &b = n.b;
  const std::string text = n.text("equation", "");
  if (text.empty()) throw InputError("attribute 'equation' is missing");
  const Ids inputs = n.all_inputs();
  Equation equation = parse(text);
  if (equation.inputs.size() != inputs.size()) {
    throw InputError("attribute 'equation' '" + text + "' has " + std::to_string(equation.inputs.size()) +
                     " operands, the node has " + std::to_string(inputs.size()));
  }
  std::vector<Operand> operands;
  int64_t ellipsis = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Labels &labels = equation.inputs[i];
    const int64_t open = b.rank(inputs[i]) - static_cast<int64_t>(labels.size()) + (has(labels, kEllipsis) ? 1 : 0);
    if (open < 0 || (open > 0 && !has(labels, kEllipsis))) {
      throw InputError("attribute 'equation' '" + text + "' does not fit the rank of operand " + std::to_string(i) +
                       " " + to_text(b.shape(inputs[i])));
    }
    ellipsis = std::max(ellipsis, open);
    operands.push_back({inputs[i], spelled_out(labels, open)});
  }
  const Labels output = spelled_out(equation.output, ellipsis);
  for (Label label : output) {
    if (std::count(output.begin(), output.end(), label) > 1) {
      throw UnsupportedError("Einsum", "a letter that occurs twice in the result, as in '" + text + "'");
    }
    const bool known = std::any_of(operands.begin(), operands.end(),
                                   [label](const Operand &operand) { return has(operand.labels, label); });
    if (!known) throw InputError("attribute 'equation' '" + text + "' has a letter in the result that no operand has");
  }
  return {Contraction(b, output).run(std::move(operands))};
}

}  // namespace

void register_einsum(LoweringTable &table) { table["Einsum"] = einsum; }

}  // namespace cx::compiler
