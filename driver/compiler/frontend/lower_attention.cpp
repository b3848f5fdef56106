// Attention of the default domain and of com.microsoft, and rotary position embedding.
#include <cmath>
#include <limits>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TensorId product(Builder &b, TensorId x, TensorId y, bool transposed) {
  return b.emit("MatMul", {x, y}, {{"trans_b", int64_t{transposed}}});
}

// [B, S, heads * D] -> [B, heads, S, D]
TensorId split_heads(Builder &b, TensorId x, int64_t heads, const char *role) {
  const Shape shape = b.shape(x);
  if (shape.size() != 3 || heads < 1 || shape[2] % heads != 0) {
    throw InputError(std::string(role) + " of shape " + to_text(shape) + " does not split into " +
                     std::to_string(heads) + " heads");
  }
  return b.transpose(b.reshape(x, {shape[0], shape[1], heads, shape[2] / heads}), {0, 2, 1, 3});
}

// [B, heads, S, D] -> [B, S, heads * D]
TensorId join_heads(Builder &b, TensorId x) {
  const Shape shape = b.shape(x);
  return b.reshape(b.transpose(x, {0, 2, 1, 3}), {shape[0], shape[2], shape[1] * shape[3]});
}

// Past and new keys or values along the sequence.
TensorId appended(Builder &b, TensorId past, TensorId x, const char *role) {
  if (past == kNoTensor) return x;
  Shape expected = b.shape(x);
  const Shape shape = b.shape(past);
  if (shape.size() == 4) expected[2] = shape[2];
  if (shape != expected) {
    throw InputError(std::string(role) + " has shape " + to_text(shape) + ", expected " + to_text(expected) +
                     " but for the length");
  }
  return b.concat({past, x}, 2);
}

// 0 where a query may see a key, `hidden` above the diagonal: query i sees the keys up to i + offset.
TensorId causal_bias(Builder &b, Type type, int64_t queries, int64_t keys, int64_t offset, double hidden) {
  if (queries > kMaxElements / 64 / std::max<int64_t>(keys, 1))
    throw UnsupportedError("Attention", "a causal mask of this size");
  std::vector<double> values;
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < keys; ++j) values.push_back(j <= i + offset ? 0 : hidden);
  }
  return b.constant(make_constant("", type, {queries, keys}, values));
}

// A boolean mask as what is added to the scores; a number is added as it is.
TensorId mask_bias(Builder &b, TensorId mask, Type type, double hidden) {
  if (b[mask].type != Type::Bool) return b.cast(mask, type);
  return b.select(mask, b.scalar(type, 0), b.scalar(type, hidden));
}

struct Heads {
  TensorId q;  // [B, Hq, S, D]
  TensorId k;  // [B, Hkv, T, D]
  TensorId v;  // [B, Hkv, T, Dv]
};

struct Scores {
  TensorId raw;
  TensorId masked;
  TensorId capped;
  TensorId weights;
  TensorId y;  // [B, Hq, S, Dv]
};

// biases: added to the scores one after the other; each broadcasts to [B, Hq, S, T].
Scores attend(Builder &b, const Heads &heads, double scale, const Ids &biases, float softcap) {
  const Shape qs = b.shape(heads.q);
  const Shape ks = b.shape(heads.k);
  const Shape vs = b.shape(heads.v);
  const bool fits = qs.size() == 4 && ks.size() == 4 && vs.size() == 4 && ks[0] == qs[0] && vs[0] == qs[0] &&
                    ks[3] == qs[3] && vs[1] == ks[1] && vs[2] == ks[2] && ks[1] > 0 && qs[1] % ks[1] == 0;
  if (!fits) {
    throw InputError("queries " + to_text(qs) + ", keys " + to_text(ks) + " and values " + to_text(vs) +
                     " do not fit each other");
  }
  // Queries of the heads that share keys become rows of one product.
  const int64_t shared = qs[1] / ks[1];
  const TensorId rows = b.reshape(heads.q, {qs[0], ks[1], shared * qs[2], qs[3]});
  Scores s;
  s.raw = b.reshape(b.binary("mul", product(b, rows, heads.k, true), scale), {qs[0], qs[1], qs[2], ks[2]});
  s.masked = s.raw;
  for (TensorId bias : biases) {
    s.masked = b.binary("add", s.masked, bias);
    if (b.shape(s.masked) != b.shape(s.raw)) {
      throw InputError("a mask of shape " + to_text(b.shape(bias)) + " must broadcast to the scores " +
                       to_text(b.shape(s.raw)));
    }
  }
  s.capped = s.masked;
  if (softcap > 0) {
    const double cap = static_cast<double>(softcap);
    s.capped = b.binary("mul", b.unary("tanh", b.binary("div", s.masked, cap)), cap);
  }
  s.weights = b.emit("Softmax", {s.capped}, {{"axis", int64_t{3}}});
  const TensorId grouped = b.reshape(s.weights, {qs[0], ks[1], shared * qs[2], ks[2]});
  s.y = b.reshape(product(b, grouped, heads.v, false), {qs[0], qs[1], qs[2], vs[3]});
  return s;
}

double scale_of(const NodeContext &n, int64_t head_size) {
  const float given = n.real("scale", 0);
  return given != 0 ? given : 1 / std::sqrt(static_cast<double>(head_size));
}

// Attention of the default domain.
Ids attention(NodeContext &n) {
  Builder &b = n.b;
  const int64_t rank = b.rank(n.input(0));
  if (rank != 3 && rank != 4)
    throw InputError("Q has shape " + to_text(b.shape(n.input(0))) + ", expected rank 3 or 4");
  if (n.has_input(6)) throw UnsupportedError("Attention", "input nonpad_kv_seqlen");
  auto heads_of = [&](std::size_t index, const char *attribute, const char *role) {
    const TensorId x = n.input(index);
    if (b.rank(x) != rank) throw InputError(std::string(role) + " must have the rank of Q");
    if (rank == 4) return x;
    if (!n.has_attribute(attribute)) {
      throw InputError(std::string("attribute '") + attribute + "' is missing, which inputs of rank 3 need");
    }
    return split_heads(b, x, n.integer(attribute, 0), role);
  };
  Heads heads{heads_of(0, "q_num_heads", "Q"), heads_of(1, "kv_num_heads", "K"), heads_of(2, "kv_num_heads", "V")};
  if (n.has_input(4) != n.has_input(5)) throw InputError("past_key and past_value must be given together");
  const int64_t fresh = b.shape(heads.k)[2];
  heads.k = appended(b, n.optional_input(4), heads.k, "past_key");
  heads.v = appended(b, n.optional_input(5), heads.v, "past_value");
  const Type type = b[heads.q].type;
  const int64_t queries = b.shape(heads.q)[2];
  const int64_t keys = b.shape(heads.k)[2];
  Ids biases;
  if (n.integer("is_causal", 0) != 0) biases.push_back(causal_bias(b, type, queries, keys, keys - fresh, -kInfinity));
  if (n.has_input(3)) {
    TensorId mask = mask_bias(b, n.input(3), type, -kInfinity);
    // A shorter mask leaves the keys beyond it out.
    const Shape shape = b.shape(mask);
    if (!shape.empty() && shape.back() != 1 && shape.back() < keys) {
      Integers pads(2 * shape.size(), 0);
      pads.back() = keys - shape.back();
      mask = b.pad(mask, pads, static_cast<float>(-kInfinity));
    }
    biases.push_back(mask);
  }
  const Scores s = attend(b, heads, scale_of(n, b.shape(heads.q)[3]), biases, n.real("softcap", 0));
  const int64_t mode = n.integer("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3) {
    throw InputError("attribute 'qk_matmul_output_mode' is " + std::to_string(mode) + ", expected 0 to 3");
  }
  const TensorId shown[] = {s.raw, s.masked, s.capped, s.weights};
  return {rank == 3 ? join_heads(b, s.y) : s.y, heads.k, heads.v, shown[mode]};
}

// What com.microsoft adds to scores of keys that a query must not see.
double filter_value(const NodeContext &n) { return n.real("mask_filter_value", -10000.0F); }

// Padding masks of com.microsoft: [B] counts the keys of each sequence, [B, T], [B, S, T] and [B, 1 or H, S, T] mark
// them with 1. Returns what is added to the scores.
TensorId padding_bias(NodeContext &n, TensorId mask, Type type, int64_t batch, int64_t keys, int64_t fresh) {
  Builder &b = n.b;
  const Shape shape = b.shape(mask);
  if (!is_integer(b[mask].type)) throw InputError("the mask must hold integers");
  TensorId visible = kNoTensor;
  if (shape == Shape{batch}) {
    const TensorId positions = b.cast(b.reshape(b.counting(keys), {1, 1, 1, keys}), b[mask].type);
    visible = b.compare("lt", positions, b.reshape(mask, {batch, 1, 1, 1}));
  } else {
    Shape view;
    if (shape.size() == 2) view = {shape[0], 1, 1, shape[1]};
    if (shape.size() == 3) view = {shape[0], 1, shape[1], shape[2]};
    if (shape.size() == 4) view = shape;
    if (view.empty() || view[0] != batch || view[3] != keys) {
      throw UnsupportedError(n.op(), "a mask of shape " + to_text(shape) + " for " + std::to_string(batch) +
                                         " sequences of " + std::to_string(keys) + " keys, " + std::to_string(fresh) +
                                         " of them new");
    }
    visible = b.compare("ne", b.reshape(mask, view), b.scalar(b[mask].type, 0));
  }
  return b.select(visible, b.scalar(type, 0), b.scalar(type, filter_value(n)));
}

// com.microsoft: one input projected to queries, keys and values.
Ids projected_attention(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const TensorId w = n.input(1);
  const Shape shape = b.shape(x);
  const Shape ws = b.shape(w);
  const int64_t count = n.integer("num_heads", 0);
  if (shape.size() != 3 || ws.size() != 2 || count < 1) {
    throw InputError("input " + to_text(shape) + ", weights " + to_text(ws) + " or attribute 'num_heads' " +
                     std::to_string(count) + " is wrong");
  }
  if (n.has_input(6)) throw UnsupportedError("Attention", "input past_sequence_length");
  if (n.integer("do_rotary", 0) != 0) throw UnsupportedError("Attention", "attribute 'do_rotary'");
  Integers sizes = n.integers("qkv_hidden_sizes", {ws[1] / 3, ws[1] / 3, ws[1] / 3});
  if (sizes.size() != 3 || sizes[0] < 1 || sizes[1] < 1 || sizes[2] < 1 || sizes[0] + sizes[1] + sizes[2] != ws[1]) {
    throw InputError("attribute 'qkv_hidden_sizes' " + to_text(sizes) + " does not fit weights " + to_text(ws));
  }
  Ids operands = {x, w};
  if (n.has_input(2)) operands.push_back(n.input(2));
  const TensorId all = b.emit("MatMul", operands, {{"trans_b", int64_t{0}}});
  auto part = [&](int64_t first, int64_t length, const char *role) {
    return split_heads(b, b.slice_axis(all, 2, first, length), count, role);
  };
  Heads heads{part(0, sizes[0], "Q"), part(sizes[0], sizes[1], "K"), part(sizes[0] + sizes[1], sizes[2], "V")};
  if (n.has_input(4)) {  // [2, B, H, P, D]
    const Shape ps = b.shape(n.input(4));
    if (ps.size() != 5 || ps[0] != 2) throw InputError("past has shape " + to_text(ps) + ", expected [2, B, H, P, D]");
    const Shape half(ps.begin() + 1, ps.end());
    heads.k = appended(b, b.reshape(b.slice_axis(n.input(4), 0, 0, 1), half), heads.k, "past");
    heads.v = appended(b, b.reshape(b.slice_axis(n.input(4), 0, 1, 1), half), heads.v, "past");
  }
  const int64_t keys = b.shape(heads.k)[2];
  const Type type = b[x].type;
  Ids biases;
  if (n.has_input(3)) biases.push_back(padding_bias(n, n.input(3), type, shape[0], keys, shape[1]));
  if (n.integer("unidirectional", 0) != 0) {
    biases.push_back(causal_bias(b, type, shape[1], keys, keys - shape[1], filter_value(n)));
  }
  if (n.has_input(5)) biases.push_back(n.input(5));
  const Scores s = attend(b, heads, scale_of(n, sizes[0] / count), biases, 0);
  Ids outputs = {join_heads(b, s.y)};
  if (n.output_used(1)) {
    Shape one = b.shape(heads.k);
    if (b.shape(heads.v) != one) throw UnsupportedError("Attention", "output present of keys and values of two sizes");
    one.insert(one.begin(), 1);
    outputs.push_back(b.concat({b.reshape(heads.k, one), b.reshape(heads.v, one)}, 0));
  }
  return outputs;
}

// com.microsoft: queries, keys and values already projected.
Ids multi_head_attention(NodeContext &n) {
  Builder &b = n.b;
  const TensorId query = n.input(0);
  const Shape qs = b.shape(query);
  if (qs.size() != 3 || !n.has_input(1) || !n.has_input(2)) {
    throw UnsupportedError("MultiHeadAttention",
                           "packed queries, keys and values; query, key and value of "
                           "[B, S, hidden] are supported");
  }
  const int64_t count = n.integer("num_heads", 0);
  TensorId parts[] = {query, n.input(1), n.input(2)};
  if (n.has_input(3)) {
    int64_t first = 0;
    for (TensorId &part : parts) {
      if (b.rank(part) != 3) throw UnsupportedError("MultiHeadAttention", "bias with keys or values of rank 4");
      const int64_t width = b.shape(part)[2];
      if (first + width > elements(b.shape(n.input(3))))
        throw InputError("bias is shorter than queries, keys and values");
      part = b.binary("add", part, b.slice_axis(n.input(3), 0, first, width));
      first += width;
    }
  }
  auto split = [&](TensorId x, const char *role) { return b.rank(x) == 4 ? x : split_heads(b, x, count, role); };
  Heads heads{split(parts[0], "query"), split(parts[1], "key"), split(parts[2], "value")};
  if (n.has_input(6) != n.has_input(7)) throw InputError("past_key and past_value must be given together");
  if (n.has_input(8) || n.has_input(9)) throw UnsupportedError("MultiHeadAttention", "inputs beyond past_value");
  const int64_t fresh = b.shape(heads.k)[2];
  heads.k = appended(b, n.optional_input(6), heads.k, "past_key");
  heads.v = appended(b, n.optional_input(7), heads.v, "past_value");
  const int64_t keys = b.shape(heads.k)[2];
  const Type type = b[query].type;
  Ids biases;
  if (n.has_input(4)) biases.push_back(padding_bias(n, n.input(4), type, qs[0], keys, fresh));
  if (n.integer("unidirectional", 0) != 0) {
    biases.push_back(causal_bias(b, type, qs[1], keys, keys - fresh, filter_value(n)));
  }
  if (n.has_input(5)) biases.push_back(n.input(5));
  const Scores s = attend(b, heads, scale_of(n, b.shape(heads.q)[3]), biases, 0);
  return {join_heads(b, s.y), heads.k, heads.v};
}

struct Rotation {
  TensorId x;       // [B, H, S, D] or [B, S, H * D]
  TensorId cosine;  // [P, R / 2] with positions, else [B, S, R / 2]
  TensorId sine;
  TensorId positions;  // [B, S] or [1], the first of consecutive ones; kNoTensor
};

// Rotates pairs of the first R elements of every head: neighbours if interleaved, else element i and i + R / 2.
TensorId rotated(NodeContext &n, const Rotation &r, int64_t heads) {
  Builder &b = n.b;
  const Shape shape = b.shape(r.x);
  TensorId x = r.x;
  if (shape.size() == 3) {
    if (heads < 1) throw InputError("attribute 'num_heads' is missing, which an input of rank 3 needs");
    x = split_heads(b, x, heads, "the input");
  }
  if (b.rank(x) != 4) throw InputError("input " + to_text(shape) + " must have rank 3 or 4");
  const Shape xs = b.shape(x);
  const int64_t given = n.integer("rotary_embedding_dim", 0);
  const int64_t size = given == 0 ? xs[3] : given;
  if (size < 2 || size % 2 != 0 || size > xs[3]) {
    throw InputError("attribute 'rotary_embedding_dim' is " + std::to_string(size) +
                     ", expected an even number up to " + std::to_string(xs[3]));
  }
  const int64_t half = size / 2;
  auto at_positions = [&](TensorId cache, const char *role) {
    const Shape cs = b.shape(cache);
    if (r.positions == kNoTensor) {
      if (cs != Shape{xs[0], xs[2], half}) {
        throw InputError(std::string(role) + " has shape " + to_text(cs) + ", expected " +
                         to_text(Shape{xs[0], xs[2], half}));
      }
      return b.reshape(cache, {xs[0], 1, xs[2], half});
    }
    if (cs.size() != 2 || cs[1] != half) {
      throw InputError(std::string(role) + " has shape " + to_text(cs) + ", expected [positions, " +
                       std::to_string(half) + "]");
    }
    TensorId positions = r.positions;
    if (b.shape(positions) == Shape{1}) {
      const TensorId steps = b.cast(b.reshape(b.counting(xs[2]), {1, xs[2]}), b[positions].type);
      positions = b.expand(b.binary("add", steps, positions), {xs[0], xs[2]});
    }
    if (b.shape(positions) != Shape{xs[0], xs[2]}) {
      throw InputError("position_ids has shape " + to_text(b.shape(positions)) + ", expected " +
                       to_text(Shape{xs[0], xs[2]}));
    }
    const TensorId rows = b.take_along(cache, b.reshape(positions, {xs[0] * xs[2], 1}), 0);
    return b.reshape(rows, {xs[0], 1, xs[2], half});
  };
  TensorId cosine = at_positions(r.cosine, "cos_cache");
  TensorId sine = at_positions(r.sine, "sin_cache");
  const TensorId turning = b.slice_axis(x, 3, 0, size);
  const bool interleaved = n.integer("interleaved", 0) != 0;
  TensorId first = kNoTensor;
  TensorId second = kNoTensor;
  if (interleaved) {
    const TensorId pairs = b.reshape(turning, {xs[0], xs[1], xs[2], half, 2});
    first = b.reshape(b.slice_axis(pairs, 4, 0, 1), {xs[0], xs[1], xs[2], half});
    second = b.reshape(b.slice_axis(pairs, 4, 1, 1), {xs[0], xs[1], xs[2], half});
  } else {
    first = b.slice_axis(turning, 3, 0, half);
    second = b.slice_axis(turning, 3, half, half);
  }
  const TensorId real = b.binary("sub", b.binary("mul", first, cosine), b.binary("mul", second, sine));
  const TensorId imaginary = b.binary("add", b.binary("mul", first, sine), b.binary("mul", second, cosine));
  TensorId y = kNoTensor;
  if (interleaved) {
    const Shape apart = {xs[0], xs[1], xs[2], half, 1};
    y = b.reshape(b.concat({b.reshape(real, apart), b.reshape(imaginary, apart)}, 4), {xs[0], xs[1], xs[2], size});
  } else {
    y = b.concat({real, imaginary}, 3);
  }
  if (size < xs[3]) y = b.concat({y, b.slice_axis(x, 3, size, xs[3] - size)}, 3);
  return shape.size() == 3 ? join_heads(b, y) : y;
}

Ids rotary_embedding(NodeContext &n) {
  return {rotated(n, {n.input(0), n.input(1), n.input(2), n.optional_input(3)}, n.integer("num_heads", 0))};
}

// com.microsoft has the positions before the caches and takes the head's size from them.
Ids rotary_embedding_microsoft(NodeContext &n) {
  if (n.real("scale", 1) != 1) throw UnsupportedError("RotaryEmbedding", "attribute 'scale'");
  if (n.integer("is_packed_batching", 0) != 0)
    throw UnsupportedError("RotaryEmbedding", "attribute 'is_packed_batching'");
  int64_t heads = n.integer("num_heads", 0);
  const Shape shape = n.b.shape(n.input(0));
  const Shape cache = n.b.shape(n.input(2));
  if (heads == 0 && shape.size() == 3 && cache.size() == 2 && cache[1] > 0) heads = shape[2] / (2 * cache[1]);
  return {rotated(n, {n.input(0), n.input(2), n.input(3), n.input(1)}, heads)};
}

}  // namespace

void register_attention(LoweringTable &table) {
  const std::string microsoft = "com.microsoft.";
  table["Attention"] = attention;
  table["RotaryEmbedding"] = rotary_embedding;
  table[microsoft + "Attention"] = projected_attention;
  table[microsoft + "MultiHeadAttention"] = multi_head_attention;
  table[microsoft + "RotaryEmbedding"] = rotary_embedding_microsoft;
}

}  // namespace cx::compiler
