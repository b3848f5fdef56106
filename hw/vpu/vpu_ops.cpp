#include "hw/vpu/vpu_ops.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "hw/common/vmath/passes.hpp"
#include "hw/common/vmath/vmath.hpp"
#include "hw/vpu/kernels.hpp"
#include "hw/vpu/operands.hpp"

namespace cx::hw::vpu {
namespace {

using num::DType;

// ---- functions ----

/// The function of vmath behind a unary function, if that is where it is.
std::optional<vmath::Unary> special(isa::Unary f) {
  switch (f) {
    case isa::Unary::EXP:
      return vmath::Unary::EXP;
    case isa::Unary::LOG:
      return vmath::Unary::LOG;
    case isa::Unary::SQRT:
      return vmath::Unary::SQRT;
    case isa::Unary::RECIP:
      return vmath::Unary::RECIP;
    case isa::Unary::SIGMOID:
      return vmath::Unary::SIGMOID;
    case isa::Unary::TANH:
      return vmath::Unary::TANH;
    case isa::Unary::ERF:
      return vmath::Unary::ERF;
    case isa::Unary::SILU:
      return vmath::Unary::SILU;
    case isa::Unary::GELU:
      return vmath::Unary::GELU;
    case isa::Unary::SOFTPLUS:
      return vmath::Unary::SOFTPLUS;
    case isa::Unary::SIN:
      return vmath::Unary::SIN;
    case isa::Unary::COS:
      return vmath::Unary::COS;
    case isa::Unary::ATAN:
      return vmath::Unary::ATAN;
    default:
      return std::nullopt;
  }
}

/// Functions that compute on integers if all operands are.
bool has_integers(isa::Unary f) {
  switch (f) {
    case isa::Unary::COPY:
    case isa::Unary::NEG:
    case isa::Unary::ABS:
    case isa::Unary::RELU:
    case isa::Unary::CLAMP:
    case isa::Unary::SIGN:
    case isa::Unary::NOT:
      return true;
    default:
      return false;
  }
}

bool compares(isa::Binary f) {
  return f == isa::Binary::EQ || f == isa::Binary::NE || f == isa::Binary::LT || f == isa::Binary::LE;
}

bool needs_integers(isa::Binary f) {
  switch (f) {
    case isa::Binary::AND:
    case isa::Binary::OR:
    case isa::Binary::XOR:
    case isa::Binary::SHL:
    case isa::Binary::SHR:
      return true;
    default:
      return false;
  }
}

void require_integer(const View &view, unsigned index, const char *role) {
  if (!num::is_integer(view.dtype)) illegal(index, label(role, index) + " must be an integer type for this function");
}

/// Bounds of an activation on integers.
struct Bounds {
  int64_t lo = 0, hi = 0;
};
Bounds integer_bounds(isa::Activation act, float lo, float hi, bool unsigned64, unsigned lo_field, unsigned hi_field) {
  if (act != isa::Activation::CLAMP) return {};
  return {whole_bound(lo, unsigned64, lo_field), whole_bound(hi, unsigned64, hi_field)};
}

void activate(isa::Activation act, bool unsigned64, int64_t *x, size_t n, const Bounds &bounds) {
  if (act == isa::Activation::NONE) return;
  const isa::Unary f = act == isa::Activation::RELU ? isa::Unary::RELU : isa::Unary::CLAMP;
  kernels().integer_unary(f, unsigned64, x, x, n, bounds.lo, bounds.hi);
}

float identity(isa::Reduce f) {
  switch (f) {
    case isa::Reduce::MAX:
      return -std::numeric_limits<float>::infinity();
    case isa::Reduce::MIN:
      return std::numeric_limits<float>::infinity();
    case isa::Reduce::PROD:
      return 1.0f;
    case isa::Reduce::SUM:
    case isa::Reduce::SUMSQ:
    case isa::Reduce::ABSSUM:
      break;
  }
  return 0.0f;
}

int64_t integer_identity(isa::Reduce f, bool unsigned64) {
  switch (f) {
    case isa::Reduce::MAX:
      return unsigned64 ? 0 : std::numeric_limits<int64_t>::min();
    case isa::Reduce::MIN:
      return unsigned64 ? -1 : std::numeric_limits<int64_t>::max();
    case isa::Reduce::PROD:
      return 1;
    case isa::Reduce::SUM:
    case isa::Reduce::SUMSQ:
    case isa::Reduce::ABSSUM:
      break;
  }
  return 0;
}

/// What joins partial results: squares and absolute values are already taken.
isa::Reduce joining(isa::Reduce f) {
  return f == isa::Reduce::SUMSQ || f == isa::Reduce::ABSSUM ? isa::Reduce::SUM : f;
}

float reduce_row(isa::Reduce f, const float *x, size_t n) {
  float partials[kPartials];
  std::fill(partials, partials + kPartials, identity(f));
  kernels().partials(f, partials, x, n);
  return kernels().join(f, partials);
}

}  // namespace

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::Inst &inst) {
  switch (isa::opcode_of(inst)) {
    case isa::Opcode::V_UNARY:
      return run(spm, views, isa::VUnary::decode(inst));
    case isa::Opcode::V_BINARY:
      return run(spm, views, isa::VBinary::decode(inst));
    case isa::Opcode::V_REDUCE:
      return run(spm, views, isa::VReduce::decode(inst));
    case isa::Opcode::V_WINDOW:
      return run(spm, views, isa::VWindow::decode(inst));
    case isa::Opcode::V_SOFTMAX:
      return run(spm, views, isa::VSoftmax::decode(inst));
    case isa::Opcode::V_SELECT:
      return run(spm, views, isa::VSelect::decode(inst));
    case isa::Opcode::V_GATHER:
      return run(spm, views, isa::VGather::decode(inst));
    case isa::Opcode::V_SCATTER:
      return run(spm, views, isa::VScatter::decode(inst));
    case isa::Opcode::V_SCAN:
      return run(spm, views, isa::VScan::decode(inst));
    case isa::Opcode::V_ARG:
      return run(spm, views, isa::VArg::decode(inst));
    case isa::Opcode::V_TOPK:
      return run(spm, views, isa::VTopk::decode(inst));
    default:
      illegal(0, "not an instruction of the vector unit");
  }
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VUnary &inst) {
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &src_view = view_of(views, inst.src, "src");
  Dims dims = dims_of(dst_view);
  std::array<Operand, 2> ops{bind_destination(spm, dst_view, inst.dst),
                             bind_source(spm, src_view, dims, inst.src, "src")};
  if (inst.func == isa::Unary::NOT) {
    require_integer(dst_view, inst.dst, "dst");
    require_integer(src_view, inst.src, "src");
  }
  const bool integers = has_integers(inst.func) && num::is_integer(dst_view.dtype) && num::is_integer(src_view.dtype);
  const bool unsigned64 = src_view.dtype == DType::UINT64;
  Bounds bounds;
  if (integers && inst.func == isa::Unary::CLAMP) {
    bounds = integer_bounds(isa::Activation::CLAMP, inst.imm0, inst.imm1, unsigned64, 8, 12);
  }
  const std::optional<vmath::Unary> function = special(inst.func);

  Work work;
  work.elements = product(dims);
  work.special_passes = vmath::special_passes(inst.func);
  work.simple_passes = work.special_passes == 0 ? 1 : 0;
  work.operations = work.elements;
  work.bytes_read = distinct_bytes(ops[1], dims);
  work.bytes_written = work.elements * static_cast<uint64_t>(ops[0].bytes);
  count_wide(work, ops);
  if (!computes_) return work;

  coalesce(dims, ops);
  reserve(a_, kChunk);
  reserve(out_, kChunk);
  reserve(raw_, kChunk * kWidest);
  const Operand &dst = ops[0];
  const Operand &src = ops[1];
  if (inst.func == isa::Unary::COPY && dst.dtype == src.dtype) {
    for_each_block(dims, ops, [&](const auto &at, uint64_t rows, uint64_t cols) {
      pack(block_of(src, at[1], rows, cols), src.bytes, raw_.data());
      unpack(block_of(dst, at[0], rows, cols), dst.bytes, raw_.data());
    });
    return work;
  }
  if (integers) {
    reserve(integers_a_, kChunk);
    reserve(integers_out_, kChunk);
    for_each_block(dims, ops, [&](const auto &at, uint64_t rows, uint64_t cols) {
      const int64_t *x = load(src.dtype, block_of(src, at[1], rows, cols), integers_a_.data(), raw_.data());
      kernels().integer_unary(inst.func, unsigned64, x, integers_out_.data(), rows * cols, bounds.lo, bounds.hi);
      store(dst.dtype, block_of(dst, at[0], rows, cols), integers_out_.data(), raw_.data());
    });
    return work;
  }
  for_each_block(dims, ops, [&](const auto &at, uint64_t rows, uint64_t cols) {
    const uint64_t n = rows * cols;
    const float *x = load(src.dtype, block_of(src, at[1], rows, cols), a_.data(), raw_.data());
    if (inst.func == isa::Unary::COPY) {
      std::memcpy(out_.data(), x, n * sizeof(float));
    } else if (function) {
      vmath::apply(*function, x, out_.data(), n);
    } else {
      kernels().unary(inst.func, x, out_.data(), n, inst.imm0, inst.imm1);
    }
    store(dst.dtype, block_of(dst, at[0], rows, cols), out_.data(), raw_.data());
  });
  return work;
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VBinary &inst) {
  const bool immediate = inst.b == kNoOperand;
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &a_view = view_of(views, inst.a, "a");
  Dims dims = dims_of(dst_view);
  std::array<Operand, 3> ops{bind_destination(spm, dst_view, inst.dst), bind_source(spm, a_view, dims, inst.a, "a"),
                             Operand{}};
  if (!immediate) ops[2] = bind_source(spm, view_of(views, inst.b, "b"), dims, inst.b, "b");
  const bool integer_sources = num::is_integer(ops[1].dtype) && (immediate || num::is_integer(ops[2].dtype));
  if (needs_integers(inst.func)) {
    require_integer(dst_view, inst.dst, "dst");
    require_integer(a_view, inst.a, "a");
    if (!immediate) require_integer(*views[inst.b], inst.b, "b");
  }
  if (!immediate && integer_sources && ops[1].dtype != ops[2].dtype) {
    illegal(inst.b, label("b", inst.b) + " must have the integer type of a");
  }
  const bool integer_result = num::is_integer(ops[0].dtype);
  const bool integers = integer_sources && (compares(inst.func) || (integer_result && inst.func != isa::Binary::PRELU));
  const bool unsigned64 = ops[1].dtype == DType::UINT64;
  int64_t integer_immediate = 0;
  Bounds bounds;
  if (integers) {
    if (immediate) integer_immediate = whole(inst.imm0, unsigned64, 8);
    if (integer_result) bounds = integer_bounds(inst.act, inst.lo, inst.hi, unsigned64, 12, 16);
  }

  Work work;
  work.elements = product(dims);
  work.special_passes = vmath::special_passes(inst.func);
  work.simple_passes = work.special_passes == 0 ? 1 : 0;
  work.operations = work.elements;
  work.bytes_read = distinct_bytes(ops[1], dims) + (immediate ? 0 : distinct_bytes(ops[2], dims));
  work.bytes_written = work.elements * static_cast<uint64_t>(ops[0].bytes);
  count_wide(work, ops);
  if (!computes_) return work;

  coalesce(dims, ops);
  reserve(a_, kChunk);
  reserve(b_, kChunk);
  reserve(out_, kChunk);
  reserve(raw_, kChunk * kWidest);
  if (integers) {
    reserve(integers_a_, kChunk);
    reserve(integers_b_, kChunk);
    reserve(integers_out_, kChunk);
    if (immediate) std::fill(integers_b_.begin(), integers_b_.begin() + kChunk, integer_immediate);
    const auto width = static_cast<unsigned>(8 * ops[1].bytes);
    for_each_block(dims, ops, [&](const auto &at, uint64_t rows, uint64_t cols) {
      const uint64_t n = rows * cols;
      int64_t *out = integers_out_.data();
      const int64_t *first = load(ops[1].dtype, block_of(ops[1], at[1], rows, cols), integers_a_.data(), raw_.data());
      const int64_t *second = integers_b_.data();
      if (!immediate) second = load(ops[2].dtype, block_of(ops[2], at[2], rows, cols), integers_b_.data(), raw_.data());
      if (inst.swap != 0) std::swap(first, second);
      kernels().integer_binary(inst.func, unsigned64, width, first, second, out, n);
      const Block block = block_of(ops[0], at[0], rows, cols);
      if (integer_result) {
        activate(inst.act, unsigned64, out, n, bounds);
        return store(ops[0].dtype, block, out, raw_.data());
      }
      for (uint64_t i = 0; i < n; ++i) out_[i] = static_cast<float>(out[i]);  // 0 or 1
      kernels().activate(inst.act, out_.data(), n, inst.lo, inst.hi);
      store(ops[0].dtype, block, out_.data(), raw_.data());
    });
    return work;
  }
  if (immediate) std::fill(b_.begin(), b_.begin() + kChunk, inst.imm0);
  for_each_block(dims, ops, [&](const auto &at, uint64_t rows, uint64_t cols) {
    const uint64_t n = rows * cols;
    const float *first = load(ops[1].dtype, block_of(ops[1], at[1], rows, cols), a_.data(), raw_.data());
    const float *second =
        immediate ? b_.data() : load(ops[2].dtype, block_of(ops[2], at[2], rows, cols), b_.data(), raw_.data());
    if (inst.swap != 0) std::swap(first, second);
    if (inst.func == isa::Binary::POW) {
      vmath::apply(vmath::Binary::POW, first, second, out_.data(), n);
    } else if (inst.func == isa::Binary::DIV) {
      vmath::apply(vmath::Binary::DIV, first, second, out_.data(), n);
    } else {
      kernels().binary(inst.func, first, second, out_.data(), n);
    }
    kernels().activate(inst.act, out_.data(), n, inst.lo, inst.hi);
    store(ops[0].dtype, block_of(ops[0], at[0], rows, cols), out_.data(), raw_.data());
  });
  return work;
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VReduce &inst) {
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &src_view = view_of(views, inst.src, "src");
  const Dims dims = dims_of(src_view);
  Dims kept = dims;
  Dims reduced{1, 1, 1, 1};
  for (unsigned d = 0; d < 4; ++d) {
    if ((inst.axes >> d & 1) != 0) std::swap(kept[d], reduced[d]);
  }
  if (dims_of(dst_view) != kept) {
    illegal(inst.dst, label("dst", inst.dst) + ": dimensions must be those of src with 1 where it is reduced");
  }
  const Operand dst = bind_destination(spm, dst_view, inst.dst);
  if (product(dims) > kMaxElements) illegal(inst.src, label("src", inst.src) + " has more than 2^32 elements");
  const Operand src = bind(spm, src_view, dims, inst.src, "src");
  const bool innermost = (inst.axes & 8) != 0;
  const bool integers = num::is_integer(dst.dtype) && num::is_integer(src.dtype);
  const bool unsigned64 = src.dtype == DType::UINT64;
  const int64_t divisor = integers ? whole(inst.div, unsigned64, 8) : 1;

  Work work;
  work.elements = product(dims);
  work.simple_passes = 1;
  work.divided_results = inst.div != 1.0f ? product(kept) : 0;
  work.trees = innermost ? 1 : 0;
  work.operations = work.elements;
  work.bytes_read = distinct_bytes(src, dims);
  work.bytes_written = product(kept) * static_cast<uint64_t>(dst.bytes);
  count_wide(work, std::array{dst, src});
  if (!computes_) return work;

  if (integers) {
    reduce_integers(inst, dst, src, kept, reduced, divisor);
    return work;
  }
  reserve(a_, kChunk);
  reserve(b_, kChunk);
  reserve(out_, kChunk);
  reserve(raw_, kChunk * kWidest);
  const auto finish = [&](const Block &block) {
    const uint64_t n = block.rows * block.cols;
    if (inst.div != 1.0f) {
      std::fill(b_.begin(), b_.begin() + static_cast<int64_t>(n), inst.div);
      vmath::apply(vmath::Binary::DIV, out_.data(), b_.data(), out_.data(), n);
    }
    store(dst.dtype, block, out_.data(), raw_.data());
  };

  if (innermost) {
    // Results of up to kChunk indices k2 are stored together. Where only the row is reduced, rows are loaded together.
    const bool rows_only = product(reduced) == reduced[3] && reduced[3] <= kChunk;
    const uint64_t rows_at_once = rows_only ? kChunk / reduced[3] : 1;
    for (uint64_t k0 = 0; k0 < kept[0]; ++k0) {
      for (uint64_t k1 = 0; k1 < kept[1]; ++k1) {
        for (uint64_t first = 0; first < kept[2]; first += kChunk) {
          const uint64_t count = std::min(kChunk, kept[2] - first);
          if (rows_only) {
            for (uint64_t k = 0; k < count; k += rows_at_once) {
              const uint64_t rows = std::min(rows_at_once, count - k);
              const float *x =
                  load(src.dtype, block_of(src, offset_of(src.strides, k0, k1, first + k, 0), rows, reduced[3]),
                       a_.data(), raw_.data());
              for (uint64_t r = 0; r < rows; ++r) out_[k + r] = reduce_row(inst.func, x + r * reduced[3], reduced[3]);
            }
          } else {
            for (uint64_t k = 0; k < count; ++k) {
              float partials[kPartials];
              std::fill(partials, partials + kPartials, identity(inst.func));
              for (uint64_t r0 = 0; r0 < reduced[0]; ++r0) {
                for (uint64_t r1 = 0; r1 < reduced[1]; ++r1) {
                  for (uint64_t r2 = 0; r2 < reduced[2]; ++r2) {
                    for (uint64_t r3 = 0; r3 < reduced[3]; r3 += kChunk) {
                      const uint64_t n = std::min(kChunk, reduced[3] - r3);
                      const int64_t at = offset_of(src.strides, k0 + r0, k1 + r1, first + k + r2, r3);
                      const float *x = load(src.dtype, block_of(src, at, 1, n), a_.data(), raw_.data());
                      kernels().partials(inst.func, partials, x, n);
                    }
                  }
                }
              }
              out_[k] = kernels().join(inst.func, partials);
            }
          }
          finish({dst.base + offset_of(dst.strides, k0, k1, first, 0), 1, count, 0, dst.strides[2]});
        }
      }
    }
    return work;
  }

  // Sums run in a row buffer over the kept inner block; rows of reduced index 2 are loaded together if it is reduced.
  const bool rows_reduced = (inst.axes & 4) != 0;
  const std::array<Operand, 2> ops{dst, src};
  for_each_block(kept, ops, [&](const auto &at, uint64_t rows, uint64_t cols) {
    const uint64_t n = rows * cols;
    std::fill(out_.begin(), out_.begin() + static_cast<int64_t>(n), identity(inst.func));
    const uint64_t step = rows_reduced ? std::max<uint64_t>(1, kChunk / cols) : 1;
    for (uint64_t r0 = 0; r0 < reduced[0]; ++r0) {
      for (uint64_t r1 = 0; r1 < reduced[1]; ++r1) {
        for (uint64_t r2 = 0; r2 < reduced[2]; r2 += step) {
          const int64_t from = at[1] + offset_of(src.strides, r0, r1, r2, 0);
          const uint64_t together = rows_reduced ? std::min(step, reduced[2] - r2) : rows;
          const float *x = load(src.dtype, block_of(src, from, together, cols), a_.data(), raw_.data());
          if (rows_reduced) {
            for (uint64_t r = 0; r < together; ++r) kernels().accumulate(inst.func, out_.data(), x + r * cols, cols);
          } else {
            kernels().accumulate(inst.func, out_.data(), x, n);
          }
        }
      }
    }
    finish(block_of(dst, at[0], rows, cols));
  });
  return work;
}

/// Sums of integers do not depend on their order: rows over dims[3], reduced in themselves or added up.
void VectorUnit::reduce_integers(const isa::VReduce &inst, const Operand &dst, const Operand &src, const Dims &kept,
                                 const Dims &reduced, int64_t divisor) {
  const bool unsigned64 = src.dtype == DType::UINT64;
  const isa::Reduce join = joining(inst.func);
  const int64_t start = integer_identity(inst.func, unsigned64);
  const bool innermost = (inst.axes & 8) != 0;
  reserve(integers_a_, kChunk);
  reserve(integers_b_, kChunk);
  reserve(integers_out_, kChunk);
  reserve(raw_, kChunk * kWidest);
  std::fill(integers_b_.begin(), integers_b_.begin() + kChunk, divisor);
  const uint64_t length = innermost ? reduced[3] : kept[3];
  int64_t *acc = integers_out_.data();
  for (uint64_t k0 = 0; k0 < kept[0]; ++k0) {
    for (uint64_t k1 = 0; k1 < kept[1]; ++k1) {
      for (uint64_t k2 = 0; k2 < kept[2]; ++k2) {
        for (uint64_t first = 0; first < kept[3]; first += kChunk) {
          const uint64_t lanes = std::min(kChunk, length - first);
          std::fill(acc, acc + lanes, start);
          for (uint64_t r0 = 0; r0 < reduced[0]; ++r0) {
            for (uint64_t r1 = 0; r1 < reduced[1]; ++r1) {
              for (uint64_t r2 = 0; r2 < reduced[2]; ++r2) {
                for (uint64_t r3 = first; r3 < (innermost ? length : first + lanes); r3 += lanes) {
                  const uint64_t n = std::min(lanes, length - r3);
                  const int64_t at = offset_of(src.strides, k0 + r0, k1 + r1, k2 + r2, r3);
                  const int64_t *x = load(src.dtype, block_of(src, at, 1, n), integers_a_.data(), raw_.data());
                  kernels().integer_accumulate(inst.func, unsigned64, acc, x, n);
                }
              }
            }
          }
          uint64_t results = lanes;
          if (innermost) {
            for (results = 1; results * 2 <= lanes; results *= 2) {
            }
            if (lanes > results) kernels().integer_accumulate(join, unsigned64, acc, acc + results, lanes - results);
            for (results /= 2; results > 0; results /= 2) {
              kernels().integer_accumulate(join, unsigned64, acc, acc + results, results);
            }
            results = 1;
          }
          if (divisor != 1) {
            kernels().integer_binary(isa::Binary::DIV, unsigned64, 64, acc, integers_b_.data(), acc, results);
          }
          store(dst.dtype, block_of(dst, offset_of(dst.strides, k0, k1, k2, first), 1, results), acc, raw_.data());
        }
      }
    }
  }
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VWindow &inst) {
  const bool mac = inst.func == isa::Window::MAC;
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &src_view = view_of(views, inst.src, "src");
  const Dims dims = dims_of(dst_view);
  const Operand dst = bind_destination(spm, dst_view, inst.dst);
  const uint64_t kernel_y = inst.kernel_y;
  const uint64_t kernel_x = inst.kernel_x;
  const uint64_t channels = dims[3];
  for (unsigned d : {0u, 3u}) {
    if (src_view.dims[d] != dims[d] && src_view.strides[d] != 0) {
      illegal(inst.src, label("src", inst.src) + ": dimension " + std::to_string(d) + " is " +
                            std::to_string(src_view.dims[d]) + ", expected " + std::to_string(dims[d]) +
                            " (or stride 0)");
    }
  }
  // Rows and columns that the windows span.
  const uint64_t reach_y = (dims[1] - 1) * inst.stride_y + (kernel_y - 1) * inst.dil_y + 1;
  const uint64_t reach_x = (dims[2] - 1) * inst.stride_x + (kernel_x - 1) * inst.dil_x + 1;
  const Operand src = bind(spm, src_view, {dims[0], reach_y, reach_x, channels}, inst.src, "src");

  if (mac != (inst.w != kNoOperand)) illegal(4, "w belongs to MAC, and to MAC only");
  if (!mac && inst.bias != kNoOperand) illegal(5, "bias belongs to MAC only");
  Operand w;
  const Dims w_dims{1, kernel_y, kernel_x, channels};
  if (mac) {
    const View &w_view = view_of(views, inst.w, "w");
    if (dims_of(w_view) != w_dims) {
      illegal(inst.w, label("w", inst.w) + ": dimensions must be 1, kernel_y, kernel_x and the channels of dst");
    }
    w = bind(spm, w_view, w_dims, inst.w, "w");
  }
  const bool with_bias = inst.bias != kNoOperand;
  Operand bias;
  const Dims bias_dims{1, 1, 1, channels};
  if (with_bias) {
    const View &bias_view = view_of(views, inst.bias, "bias");
    if (bias_view.dtype != DType::FP32) {
      illegal(inst.bias, label("bias", inst.bias) + " must be FP32");
    }
    bias = bind_source(spm, bias_view, bias_dims, inst.bias, "bias");
  }

  const uint64_t taps = kernel_y * kernel_x;
  const bool integers = inst.func == isa::Window::MAX && num::is_integer(dst.dtype) && num::is_integer(src.dtype);
  const bool unsigned64 = src.dtype == DType::UINT64;
  const Bounds bounds = integers ? integer_bounds(inst.act, inst.lo, inst.hi, unsigned64, 20, 24) : Bounds{};
  // Rows of src that are not rows of floats as they lie are widened into line buffers, one for each row that a window
  // spans; neighbouring windows find their rows there. A broadcast row or column is kept once.
  const bool direct = src.dtype == DType::FP32 && (channels == 1 || src.strides[3] == 4) && src.strides[2] % 4 == 0 &&
                      src.strides[1] % 4 == 0 && src.strides[0] % 4 == 0 && aligned<float>(src.base);
  const uint64_t line_pixels = src.strides[2] == 0 ? 1 : reach_x;
  const uint64_t line_floats = line_pixels * channels;
  const uint64_t line_count = direct ? 0 : (kernel_y - 1) * inst.dil_y + 1;
  const uint64_t pixels_at_once = std::max<uint64_t>(1, kChunk / channels);
  const uint64_t most_held = std::max<uint64_t>(kMaxHeld, spm.size());
  if (line_count * line_floats > most_held) {
    illegal(inst.src, label("src", inst.src) + ": windows span too many elements");
  }
  if (mac && taps * channels > most_held) {
    illegal(inst.w, label("w", inst.w) + " has too many elements");
  }

  Work work;
  work.elements = product(dims);
  work.simple_passes = static_cast<uint32_t>(taps);
  work.operations = work.elements * taps;
  const Dims touched{dims[0], std::min(reach_y, dims[1] * kernel_y), std::min(reach_x, dims[2] * kernel_x), channels};
  work.bytes_read = distinct_bytes(src, touched) + (mac ? distinct_bytes(w, w_dims) : 0) +
                    (with_bias ? distinct_bytes(bias, bias_dims) : 0);
  work.bytes_written = work.elements * static_cast<uint64_t>(dst.bytes);
  count_wide(work, std::array{dst, src, w});
  if (!computes_) return work;

  // FP32 has every integer of 16 bits: only other ones need 64.
  if (integers && (dst.dtype != src.dtype || src.bytes > 2)) {
    reserve(integers_a_, kChunk);
    reserve(integers_out_, kChunk);
    reserve(raw_, kChunk * kWidest);
    for (uint64_t batch = 0; batch < dims[0]; ++batch) {
      for (uint64_t y = 0; y < dims[1]; ++y) {
        for (uint64_t x = 0; x < dims[2]; ++x) {
          for (uint64_t c = 0; c < channels; c += kChunk) {
            const uint64_t n = std::min(kChunk, channels - c);
            int64_t *acc = integers_out_.data();
            std::fill(acc, acc + n, integer_identity(isa::Reduce::MAX, unsigned64));
            for (uint64_t i = 0; i < kernel_y; ++i) {
              for (uint64_t j = 0; j < kernel_x; ++j) {
                const int64_t at = offset_of(src.strides, batch, y * inst.stride_y + i * inst.dil_y,
                                             x * inst.stride_x + j * inst.dil_x, c);
                const int64_t *tap = load(src.dtype, block_of(src, at, 1, n), integers_a_.data(), raw_.data());
                kernels().integer_accumulate(isa::Reduce::MAX, unsigned64, acc, tap, n);
              }
            }
            activate(inst.act, unsigned64, acc, n, bounds);
            store(dst.dtype, block_of(dst, offset_of(dst.strides, batch, y, x, c), 1, n), acc, raw_.data());
          }
        }
      }
    }
    return work;
  }

  if (mac) {
    reserve(weights_, taps * channels);
    reserve(raw_, std::max<uint64_t>(kernel_x * channels, kChunk) * kWidest);
    for (uint64_t i = 0; i < kernel_y; ++i) {
      float *row = weights_.data() + i * kernel_x * channels;
      const Block block = block_of(w, static_cast<int64_t>(i) * w.strides[1], kernel_x, channels);
      const float *loaded = load(w.dtype, block, row, raw_.data());
      if (loaded != row) std::memcpy(row, loaded, kernel_x * channels * sizeof(float));
    }
  }
  if (with_bias) {
    reserve(bias_, channels);
    reserve(raw_, channels * kWidest);
    const float *loaded = load(bias.dtype, block_of(bias, 0, 1, channels), bias_.data(), raw_.data());
    if (loaded != bias_.data()) std::memcpy(bias_.data(), loaded, channels * sizeof(float));
  }

  reserve(lines_, line_count * line_floats);
  reserve(raw_, std::max(line_floats, pixels_at_once * channels) * kWidest);
  reserve(out_, pixels_at_once * channels);
  std::vector<int64_t> held(line_count, -1);
  std::vector<const float *> row_start(kernel_y);
  std::vector<const float *> tap(taps);
  const int64_t pixel_step = direct ? src.strides[2] / 4 : (src.strides[2] == 0 ? 0 : static_cast<int64_t>(channels));

  for (uint64_t batch = 0; batch < dims[0]; ++batch) {
    std::fill(held.begin(), held.end(), -1);
    for (uint64_t y = 0; y < dims[1]; ++y) {
      for (uint64_t i = 0; i < kernel_y; ++i) {
        const uint64_t row = y * inst.stride_y + i * inst.dil_y;
        const int64_t at = static_cast<int64_t>(batch) * src.strides[0] + static_cast<int64_t>(row) * src.strides[1];
        if (direct) {
          row_start[i] = reinterpret_cast<const float *>(src.base + at);
          continue;
        }
        const uint64_t slot = row % line_count;
        float *line = lines_.data() + slot * line_floats;
        if (held[slot] != static_cast<int64_t>(row)) {
          const float *loaded = load(src.dtype, block_of(src, at, line_pixels, channels), line, raw_.data());
          if (loaded != line) std::memcpy(line, loaded, line_floats * sizeof(float));
          held[slot] = static_cast<int64_t>(row);
        }
        row_start[i] = line;
      }
      for (uint64_t x = 0; x < dims[2]; x += pixels_at_once) {
        const uint64_t pixels = std::min(pixels_at_once, dims[2] - x);
        for (uint64_t p = 0; p < pixels; ++p) {
          const float **next = tap.data();
          for (uint64_t i = 0; i < kernel_y; ++i) {
            for (uint64_t j = 0; j < kernel_x; ++j) {
              *next++ = row_start[i] + static_cast<int64_t>((x + p) * inst.stride_x + j * inst.dil_x) * pixel_step;
            }
          }
          kernels().window(inst.func, tap.data(), taps, weights_.data(), out_.data() + p * channels, channels);
        }
        const uint64_t n = pixels * channels;
        if (inst.func == isa::Window::SUM) {
          kernels().unary(isa::Unary::AFFINE, out_.data(), out_.data(), n, inst.imm0, -0.0f);
        }
        if (with_bias) {
          for (uint64_t p = 0; p < pixels; ++p) {
            float *pixel = out_.data() + p * channels;
            kernels().binary(isa::Binary::ADD, pixel, bias_.data(), pixel, channels);
          }
        }
        kernels().activate(inst.act, out_.data(), n, inst.lo, inst.hi);
        const int64_t to = static_cast<int64_t>(batch) * dst.strides[0] + static_cast<int64_t>(y) * dst.strides[1] +
                           static_cast<int64_t>(x) * dst.strides[2];
        store(dst.dtype, block_of(dst, to, pixels, channels), out_.data(), raw_.data());
      }
    }
  }
  return work;
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VSoftmax &inst) {
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &src_view = view_of(views, inst.src, "src");
  const Dims dims = dims_of(dst_view);
  const std::array<Operand, 2> ops{bind_destination(spm, dst_view, inst.dst),
                                   bind_source(spm, src_view, dims, inst.src, "src")};

  Work work;
  work.elements = product(dims);
  work.simple_passes = 1;
  work.special_passes = 2;
  work.trees = 2;
  work.operations = 4 * work.elements;
  work.bytes_read = distinct_bytes(ops[1], dims);
  work.bytes_written = work.elements * static_cast<uint64_t>(ops[0].bytes);
  count_wide(work, ops);
  if (!computes_) return work;

  // Whole rows, several where they are short.
  const uint64_t length = dims[3];
  const uint64_t rows_at_once = std::max<uint64_t>(1, kChunk / length);
  const uint64_t room = std::max(kChunk, length);
  reserve(a_, room);
  reserve(b_, room);
  reserve(out_, room);
  reserve(raw_, room * kWidest);
  for (uint64_t i0 = 0; i0 < dims[0]; ++i0) {
    for (uint64_t i1 = 0; i1 < dims[1]; ++i1) {
      for (uint64_t i2 = 0; i2 < dims[2]; i2 += rows_at_once) {
        const uint64_t rows = std::min(rows_at_once, dims[2] - i2);
        const auto block = [&](const Operand &op) {
          return block_of(op,
                          static_cast<int64_t>(i0) * op.strides[0] + static_cast<int64_t>(i1) * op.strides[1] +
                              static_cast<int64_t>(i2) * op.strides[2],
                          rows, length);
        };
        const float *x = load(ops[1].dtype, block(ops[1]), a_.data(), raw_.data());
        for (uint64_t r = 0; r < rows; ++r) {
          const float *row = x + r * length;
          const float largest = reduce_row(isa::Reduce::MAX, row, length);
          // x * 1 + -max is x - max with its one rounding.
          kernels().unary(isa::Unary::AFFINE, row, out_.data() + r * length, length, 1.0f, -largest);
        }
        vmath::apply(vmath::Unary::EXP, out_.data(), out_.data(), rows * length);
        for (uint64_t r = 0; r < rows; ++r) {
          const float sum = reduce_row(isa::Reduce::SUM, out_.data() + r * length, length);
          std::fill(b_.data() + r * length, b_.data() + (r + 1) * length, sum);
        }
        vmath::apply(vmath::Binary::DIV, out_.data(), b_.data(), out_.data(), rows * length);
        store(ops[0].dtype, block(ops[0]), out_.data(), raw_.data());
      }
    }
  }
  return work;
}

}  // namespace cx::hw::vpu
