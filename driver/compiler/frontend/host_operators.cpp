#include "driver/compiler/frontend/host_operators.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Integers = std::vector<int64_t>;

std::size_t at(int64_t value) { return static_cast<std::size_t>(value); }

// Numbers that order as the elements do, whatever their type.
std::vector<uint64_t> order_keys(const Tensor &x) {
  constexpr uint64_t kSign = uint64_t{1} << 63;
  std::vector<uint64_t> keys;
  if (is_float(x.type)) {
    for (double value : to_doubles(x)) {
      if (value == 0) value = 0;  // -0
      uint64_t bits = 0;
      std::memcpy(&bits, &value, sizeof bits);
      keys.push_back(std::isnan(value) ? UINT64_MAX : (bits & kSign) != 0 ? ~bits : bits | kSign);
    }
  } else {
    for (const int64_t value : to_integers(x)) {
      keys.push_back(static_cast<uint64_t>(value) ^ (x.type == Type::U64 ? 0 : kSign));
    }
  }
  return keys;
}

/// x as [outer, size, inner] around an axis.
struct Slices {
  Slices(const Tensor &x, std::optional<int64_t> axis) : shape(x.shape) {
    if (!axis) shape = {elements(x.shape)};
    place = axis.value_or(0);
    if (place < 0 || place >= static_cast<int64_t>(shape.size())) {
      throw InputError("axis " + std::to_string(place) + " is out of range for " + to_text(shape));
    }
    size = shape[at(place)];
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (static_cast<int64_t>(d) < place) outer *= shape[d];
      if (static_cast<int64_t>(d) > place) inner *= shape[d];
    }
  }
  Tensor take(const Tensor &x, const Integers &indices) const {
    const std::size_t piece = at(inner) * bytes_of(x.type);
    Tensor result{"", x.type, shape, std::vector<std::byte>()};
    result.shape[at(place)] = static_cast<int64_t>(indices.size());
    std::vector<std::byte> &data = result.data.own();
    data.reserve(at(outer) * indices.size() * piece);
    for (int64_t o = 0; o < outer; ++o) {
      for (const int64_t index : indices) {
        const auto from = x.data->begin() + static_cast<std::ptrdiff_t>(at(o * size + index) * piece);
        data.insert(data.end(), from, from + static_cast<std::ptrdiff_t>(piece));
      }
    }
    return result;
  }
  Shape shape;
  int64_t place = 0, size = 0, outer = 1, inner = 1;
};

struct Box {
  float low[2], high[2];
  float area() const { return (high[0] - low[0]) * (high[1] - low[1]); }
};

Box box_of(const float *numbers, bool center_point) {
  Box box{};
  for (int d = 0; d < 2; ++d) {
    const float a = numbers[d], b = numbers[d + 2];
    box.low[d] = center_point ? a - b / 2 : std::min(a, b);
    box.high[d] = center_point ? a + b / 2 : std::max(a, b);
  }
  return box;
}

bool overlap_more(const Box &a, const Box &b, float limit) {
  float common = 1;
  for (int d = 0; d < 2; ++d) {
    const float length = std::min(a.high[d], b.high[d]) - std::max(a.low[d], b.low[d]);
    if (!(length > 0)) return false;
    common *= length;
  }
  const float both = a.area() + b.area() - common;
  return both > 0 && common / both > limit;
}

}  // namespace

Tensor non_zero(const Tensor &x) {
  const std::vector<double> values = to_doubles(x);
  std::vector<Integers> positions(x.shape.size());
  int64_t count = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] == 0) continue;
    ++count;
    auto rest = static_cast<int64_t>(i);
    for (std::size_t d = x.shape.size(); d-- > 0;) {
      positions[d].push_back(rest % x.shape[d]);
      rest /= x.shape[d];
    }
  }
  Integers flat;
  for (const Integers &list : positions) flat.insert(flat.end(), list.begin(), list.end());
  return make_constant("", Type::I64, {static_cast<int64_t>(x.shape.size()), count}, flat);
}

UniqueResult unique(const Tensor &x, std::optional<int64_t> axis, bool sorted) {
  const Slices slices(x, axis);
  const std::vector<uint64_t> keys = order_keys(x);
  std::vector<std::vector<uint64_t>> lines(at(slices.size));
  for (int64_t o = 0; o < slices.outer; ++o) {
    for (int64_t s = 0; s < slices.size; ++s) {
      const auto from = keys.begin() + (o * slices.size + s) * slices.inner;
      lines[at(s)].insert(lines[at(s)].end(), from, from + slices.inner);
    }
  }
  Integers order(at(slices.size));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return lines[at(a)] < lines[at(b)]; });
  UniqueResult result;
  Integers group(at(slices.size), 0);  // of each slice, in sorted order
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || lines[at(order[i])] != lines[at(order[i - 1])]) result.first.push_back(order[i]);
    group[at(order[i])] = static_cast<int64_t>(result.first.size()) - 1;
  }
  Integers place(result.first.size());  // of each group in the result
  std::iota(place.begin(), place.end(), 0);
  if (!sorted) {
    Integers by_first = place;
    std::sort(by_first.begin(), by_first.end(),
              [&](int64_t a, int64_t b) { return result.first[at(a)] < result.first[at(b)]; });
    for (std::size_t i = 0; i < by_first.size(); ++i) place[at(by_first[i])] = static_cast<int64_t>(i);
    std::sort(result.first.begin(), result.first.end());
  }
  result.counts.resize(result.first.size(), 0);
  for (const int64_t g : group) {
    result.inverse.push_back(place[at(g)]);
    ++result.counts[at(place[at(g)])];
  }
  result.values = slices.take(x, result.first);
  return result;
}

Tensor compress(const Tensor &x, const Tensor &condition, std::optional<int64_t> axis) {
  if (condition.type != Type::Bool || condition.shape.size() != 1) {
    throw InputError("the condition must be a list of bool");
  }
  const Slices slices(x, axis);
  const Integers flags = to_integers(condition);
  if (static_cast<int64_t>(flags.size()) > slices.size) throw InputError("the condition is longer than the axis");
  Integers kept;
  for (std::size_t i = 0; i < flags.size(); ++i) {
    if (flags[i] != 0) kept.push_back(static_cast<int64_t>(i));
  }
  return slices.take(x, kept);
}

Tensor non_max_suppression(const Tensor &boxes, const Tensor &scores, const SuppressionLimits &limits) {
  const Shape &b = boxes.shape, &s = scores.shape;
  if (boxes.type != Type::F32 || scores.type != Type::F32) throw InputError("boxes and scores must be float32");
  if (b.size() != 3 || s.size() != 3 || b[2] != 4 || b[0] != s[0] || b[1] != s[2]) {
    throw InputError("boxes " + to_text(b) + " and scores " + to_text(s) +
                     " do not fit: expected [batches, boxes, 4] and [batches, classes, boxes]");
  }
  if (!(limits.overlap >= 0 && limits.overlap <= 1)) throw InputError("iou_threshold must lie in [0, 1]");
  const std::vector<float> corners = to_floats(boxes), weights = to_floats(scores);
  Integers flat;
  for (int64_t batch = 0; batch < b[0]; ++batch) {
    for (int64_t label = 0; label < s[1]; ++label) {
      const float *line = weights.data() + (batch * s[1] + label) * b[1];
      Integers order;
      for (int64_t i = 0; i < b[1]; ++i) {
        if (!std::isnan(line[i]) && (!limits.score || line[i] > *limits.score)) order.push_back(i);
      }
      std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t k) { return line[i] > line[k]; });
      std::vector<Box> chosen;
      for (const int64_t index : order) {
        if (static_cast<int64_t>(chosen.size()) >= limits.boxes_per_class) break;
        const Box box = box_of(corners.data() + (batch * b[1] + index) * 4, limits.center_point_box);
        const auto hides = [&](const Box &other) { return overlap_more(box, other, limits.overlap); };
        if (std::any_of(chosen.begin(), chosen.end(), hides)) continue;
        chosen.push_back(box);
        flat.insert(flat.end(), {batch, label, index});
      }
    }
  }
  const auto count = static_cast<int64_t>(flat.size()) / 3;
  return make_constant("", Type::I64, {count, 3}, flat);
}

}  // namespace cx::compiler
