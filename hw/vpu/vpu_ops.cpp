#include "hw/vpu/vpu_ops.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "hw/common/vmath/vmath.hpp"
#include "hw/vpu/kernels.hpp"

namespace cx::hw::vpu {
namespace {

using num::DType;
using Dims = std::array<uint64_t, 4>;
using Strides = std::array<int64_t, 4>;
using Kind = OperandError::Kind;

constexpr unsigned kNoOperand = 0xFF;
// Elements that one step of the loops loads, computes and stores; a multiple of kPartials that keeps the row buffers in
// the host's first-level cache.
constexpr uint64_t kChunk = 1024;
// Bounds that only views with broadcast or overlapping dimensions can reach: elements of a reduction, and elements that
// a window holds in line buffers or as weights (where the scratchpad is larger, its bytes).
constexpr uint64_t kMaxReduced = uint64_t{1} << 32;
constexpr uint64_t kMaxHeld = uint64_t{1} << 24;

// ---- operands ----

/// A view in place: where its elements lie in host memory.
struct Operand {
  std::byte *base = nullptr;
  DType dtype = DType::FP32;
  int64_t bytes = 4;  ///< of an element
  Strides strides{};
};

std::string label(const char *role, unsigned index) {
  return std::string(role) + " (descriptor " + std::to_string(index) + ")";
}

/// The defined, computable view `index`.
const View &view_of(const Views &views, unsigned index, const char *role) {
  if (index >= views.size() || !views[index]) {
    throw OperandError(Kind::ILLEGAL, index, label(role, index) + " is not defined");
  }
  const View &view = *views[index];
  if (!num::is_valid(view.dtype) || view.dtype == DType::INT64) {
    throw OperandError(Kind::ILLEGAL, index, label(role, index) + " has a data type without arithmetic");
  }
  return view;
}

void require_inside(std::span<std::byte> spm, int64_t base, const Dims &dims, const Strides &strides, int64_t bytes,
                    const std::string &what) {
  int64_t first = base;
  int64_t end = base + bytes;
  for (unsigned d = 0; d < 4; ++d) {
    const int64_t reach = (static_cast<int64_t>(dims[d]) - 1) * strides[d];
    (reach < 0 ? first : end) += reach;
  }
  const auto size = static_cast<int64_t>(spm.size());
  if (first < 0 || end > size) {
    const int64_t where = first < 0 ? first : std::max(first, size);
    throw OperandError(Kind::SPM, static_cast<uint64_t>(where), what + " leaves the scratchpad");
  }
}

Operand bind(std::span<std::byte> spm, const View &view, const Dims &dims, unsigned index, const char *role) {
  Operand op;
  op.dtype = view.dtype;
  op.bytes = static_cast<int64_t>(num::bytes_of(view.dtype));
  std::copy(view.strides.begin(), view.strides.end(), op.strides.begin());
  require_inside(spm, view.base, dims, op.strides, op.bytes, label(role, index));
  op.base = spm.data() + view.base;
  return op;
}

Dims dims_of(const View &view) { return {view.dims[0], view.dims[1], view.dims[2], view.dims[3]}; }

/// A destination: elements of one dimension must not fall on one another, nor can more elements than fit be distinct.
Operand bind_destination(std::span<std::byte> spm, const View &view, unsigned index) {
  for (unsigned d = 0; d < 4; ++d) {
    if (view.dims[d] > 1 && view.strides[d] == 0) {
      throw OperandError(Kind::ILLEGAL, index, label("dst", index) + " has stride 0 in dimension " + std::to_string(d));
    }
  }
  const Operand op = bind(spm, view, dims_of(view), index, "dst");
  if (view.elements() > spm.size() / num::bytes_of(view.dtype)) {
    throw OperandError(Kind::ILLEGAL, index, label("dst", index) + " has more elements than the scratchpad holds");
  }
  return op;
}

/// A source over the dims of the destination: equal dims, or stride 0.
Operand bind_source(std::span<std::byte> spm, const View &view, const Dims &dims, unsigned index, const char *role) {
  for (unsigned d = 0; d < 4; ++d) {
    if (view.dims[d] != dims[d] && view.strides[d] != 0) {
      throw OperandError(Kind::ILLEGAL, index,
                         label(role, index) + ": dimension " + std::to_string(d) + " is " +
                             std::to_string(view.dims[d]) + ", expected " + std::to_string(dims[d]) + " (or stride 0)");
    }
  }
  return bind(spm, view, dims, index, role);
}

uint64_t product(const Dims &dims) { return dims[0] * dims[1] * dims[2] * dims[3]; }

/// Bytes of the distinct elements of an operand: dimensions with stride 0 count once.
uint64_t distinct_bytes(const Operand &op, const Dims &dims) {
  uint64_t n = static_cast<uint64_t>(op.bytes);
  for (unsigned d = 0; d < 4; ++d) n *= op.strides[d] == 0 ? 1 : dims[d];
  return n;
}

// ---- loops ----

/// Merges dimensions that are one in every operand's strides; the merged dimensions move to the inner end.
template <size_t N>
void coalesce(Dims &dims, std::array<Operand, N> &ops) {
  Dims d{1, 1, 1, 1};
  std::array<Strides, N> s{};
  int top = 4;  // dims top..3 of the result are filled
  for (int i = 3; i >= 0; --i) {
    if (dims[i] == 1) continue;
    bool merge = top < 4;
    for (size_t k = 0; merge && k < N; ++k) {
      merge = ops[k].strides[i] == s[k][top] * static_cast<int64_t>(d[top]);
    }
    if (merge) {
      d[top] *= dims[i];
    } else {
      --top;
      d[top] = dims[i];
      for (size_t k = 0; k < N; ++k) s[k][top] = ops[k].strides[i];
    }
  }
  dims = d;
  for (size_t k = 0; k < N; ++k) ops[k].strides = s[k];
}

/// A block of rows * cols elements of an operand.
struct Block {
  std::byte *at;
  uint64_t rows, cols;
  int64_t row_stride, col_stride;
};

/// Covers dims with blocks of at most kChunk elements in row-major order; f(offset of each operand, rows, cols).
template <size_t N, class Function>
void for_each_block(const Dims &dims, const std::array<Operand, N> &ops, Function f) {
  const uint64_t cols = std::min(dims[3], kChunk);
  const uint64_t rows = std::max<uint64_t>(1, dims[3] > kChunk ? 1 : kChunk / dims[3]);
  std::array<int64_t, N> at{};
  for (uint64_t i0 = 0; i0 < dims[0]; ++i0) {
    for (uint64_t i1 = 0; i1 < dims[1]; ++i1) {
      for (uint64_t i2 = 0; i2 < dims[2]; i2 += rows) {
        for (uint64_t i3 = 0; i3 < dims[3]; i3 += cols) {
          for (size_t k = 0; k < N; ++k) {
            const Strides &s = ops[k].strides;
            at[k] = static_cast<int64_t>(i0) * s[0] + static_cast<int64_t>(i1) * s[1] +
                    static_cast<int64_t>(i2) * s[2] + static_cast<int64_t>(i3) * s[3];
          }
          f(at, std::min(rows, dims[2] - i2), std::min(cols, dims[3] - i3));
        }
      }
    }
  }
}

Block block_of(const Operand &op, int64_t offset, uint64_t rows, uint64_t cols) {
  return {op.base + offset, rows, cols, op.strides[2], op.strides[3]};
}

template <size_t kBytes>
void gather(const Block &b, std::byte *out) {
  for (uint64_t r = 0; r < b.rows; ++r) {
    const std::byte *row = b.at + static_cast<int64_t>(r) * b.row_stride;
    for (uint64_t c = 0; c < b.cols; ++c) {
      std::memcpy(out, row + static_cast<int64_t>(c) * b.col_stride, kBytes);
      out += kBytes;
    }
  }
}

template <size_t kBytes>
void scatter(const Block &b, const std::byte *in) {
  for (uint64_t r = 0; r < b.rows; ++r) {
    std::byte *row = b.at + static_cast<int64_t>(r) * b.row_stride;
    for (uint64_t c = 0; c < b.cols; ++c) {
      std::memcpy(row + static_cast<int64_t>(c) * b.col_stride, in, kBytes);
      in += kBytes;
    }
  }
}

bool contiguous(const Block &b, int64_t bytes) {
  return (b.cols == 1 || b.col_stride == bytes) &&
         (b.rows == 1 || b.row_stride == static_cast<int64_t>(b.cols) * bytes);
}

/// Elements of a block in row-major order, packed.
void pack(const Block &b, int64_t bytes, std::byte *out) {
  if (b.col_stride == bytes || b.cols == 1) {
    const size_t row = b.cols * static_cast<size_t>(bytes);
    if (row >= 32) {
      for (uint64_t r = 0; r < b.rows; ++r) {
        std::memcpy(out + r * row, b.at + static_cast<int64_t>(r) * b.row_stride, row);
      }
      return;
    }
  }
  if (bytes == 4) return gather<4>(b, out);
  if (bytes == 2) return gather<2>(b, out);
  return gather<1>(b, out);
}

void unpack(const Block &b, int64_t bytes, const std::byte *in) {
  if (b.col_stride == bytes || b.cols == 1) {
    const size_t row = b.cols * static_cast<size_t>(bytes);
    if (row >= 32) {
      for (uint64_t r = 0; r < b.rows; ++r) {
        std::memcpy(b.at + static_cast<int64_t>(r) * b.row_stride, in + r * row, row);
      }
      return;
    }
  }
  if (bytes == 4) return scatter<4>(b, in);
  if (bytes == 2) return scatter<2>(b, in);
  return scatter<1>(b, in);
}

bool aligned_floats(const std::byte *p) { return reinterpret_cast<uintptr_t>(p) % alignof(float) == 0; }

/// Widens a block. Returns `buffer`, or the block itself where it already is a row of floats.
/// raw: scratch of rows * cols elements.
const float *load(DType dtype, const Block &b, float *buffer, std::byte *raw) {
  const auto bytes = static_cast<int64_t>(num::bytes_of(dtype));
  const uint64_t n = b.rows * b.cols;
  if (contiguous(b, bytes)) {
    if (dtype == DType::FP32 && aligned_floats(b.at)) return reinterpret_cast<const float *>(b.at);
    num::widen(dtype, b.at, buffer, n);
    return buffer;
  }
  if (b.rows > 1 && b.row_stride == 0) {
    const float *row = load(dtype, {b.at, 1, b.cols, 0, b.col_stride}, buffer, raw);
    if (row != buffer) std::memcpy(buffer, row, b.cols * sizeof(float));
    if (b.cols == 1) {
      std::fill(buffer + 1, buffer + n, buffer[0]);
      return buffer;
    }
    for (uint64_t done = b.cols; done < n; done *= 2) {
      std::memcpy(buffer + done, buffer, std::min(done, n - done) * sizeof(float));
    }
    return buffer;
  }
  if (b.cols > 1 && b.col_stride == 0) {
    // One value a row; widened into the end of the buffer, from where they spread without overtaking themselves.
    float *values = buffer + n - b.rows;
    const float *row = load(dtype, {b.at, 1, b.rows, 0, b.row_stride}, values, raw);
    for (uint64_t r = 0; r < b.rows; ++r) {
      const float value = row[r];
      std::fill(buffer + r * b.cols, buffer + (r + 1) * b.cols, value);
    }
    return buffer;
  }
  if (dtype == DType::FP32) {
    pack(b, bytes, reinterpret_cast<std::byte *>(buffer));
    return buffer;
  }
  pack(b, bytes, raw);
  num::widen(dtype, raw, buffer, n);
  return buffer;
}

/// Narrows rows * cols packed values into a block. values is overwritten.
void store(DType dtype, const Block &b, float *values, std::byte *raw) {
  const auto bytes = static_cast<int64_t>(num::bytes_of(dtype));
  const uint64_t n = b.rows * b.cols;
  if (dtype == DType::FP32) {
    if (contiguous(b, bytes) && aligned_floats(b.at)) {
      return kernels().canonicalise(values, reinterpret_cast<float *>(b.at), n);
    }
    kernels().canonicalise(values, values, n);
    return unpack(b, bytes, reinterpret_cast<const std::byte *>(values));
  }
  if (contiguous(b, bytes)) return num::narrow(dtype, values, b.at, n);
  num::narrow(dtype, values, raw, n);
  unpack(b, bytes, raw);
}

void reserve(std::vector<float> &v, uint64_t n) {
  if (v.size() < n) v.resize(n);
}
void reserve(std::vector<std::byte> &v, uint64_t n) {
  if (v.size() < n) v.resize(n);
}

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
    default:
      return std::nullopt;
  }
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

/// What joins partial results: squares and absolute values are already taken.
isa::Reduce joining(isa::Reduce f) {
  return f == isa::Reduce::SUMSQ || f == isa::Reduce::ABSSUM ? isa::Reduce::SUM : f;
}

/// Pairwise: i with i + 8, i + 4, i + 2, i + 1.
float join_partials(isa::Reduce f, float *partials) {
  for (size_t n = kPartials / 2; n > 0; n /= 2) kernels().accumulate(joining(f), partials, partials + n, n);
  return partials[0];
}

float reduce_row(isa::Reduce f, const float *x, size_t n) {
  float partials[kPartials];
  std::fill(partials, partials + kPartials, identity(f));
  kernels().partials(f, partials, x, n);
  return join_partials(f, partials);
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
    default:
      throw OperandError(Kind::ILLEGAL, 0, "not an instruction of the vector unit");
  }
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VUnary &inst) {
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &src_view = view_of(views, inst.src, "src");
  Dims dims = dims_of(dst_view);
  std::array<Operand, 2> ops{bind_destination(spm, dst_view, inst.dst),
                             bind_source(spm, src_view, dims, inst.src, "src")};
  const std::optional<vmath::Unary> function = special(inst.func);

  Work work;
  work.elements = product(dims);
  (function || inst.func == isa::Unary::HARD_SWISH ? work.special_passes : work.simple_passes) = 1;
  work.operations = work.elements;
  work.bytes_read = distinct_bytes(ops[1], dims);
  work.bytes_written = work.elements * static_cast<uint64_t>(ops[0].bytes);

  coalesce(dims, ops);
  reserve(a_, kChunk);
  reserve(out_, kChunk);
  reserve(raw_, kChunk * sizeof(float));
  const Operand &dst = ops[0];
  const Operand &src = ops[1];
  if (inst.func == isa::Unary::COPY && dst.dtype == src.dtype) {
    for_each_block(dims, ops, [&](const auto &at, uint64_t rows, uint64_t cols) {
      pack(block_of(src, at[1], rows, cols), src.bytes, raw_.data());
      unpack(block_of(dst, at[0], rows, cols), dst.bytes, raw_.data());
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

  Work work;
  work.elements = product(dims);
  work.special_passes = inst.func == isa::Binary::POW ? 2 : inst.func == isa::Binary::DIV ? 1 : 0;
  work.simple_passes = work.special_passes == 0 ? 1 : 0;
  work.operations = work.elements;
  work.bytes_read = distinct_bytes(ops[1], dims) + (immediate ? 0 : distinct_bytes(ops[2], dims));
  work.bytes_written = work.elements * static_cast<uint64_t>(ops[0].bytes);

  coalesce(dims, ops);
  reserve(a_, kChunk);
  reserve(b_, kChunk);
  reserve(out_, kChunk);
  reserve(raw_, kChunk * sizeof(float));
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
    throw OperandError(Kind::ILLEGAL, inst.dst,
                       label("dst", inst.dst) + ": dimensions must be those of src with 1 where it is reduced");
  }
  const Operand dst = bind_destination(spm, dst_view, inst.dst);
  if (product(dims) > kMaxReduced) {
    throw OperandError(Kind::ILLEGAL, inst.src, label("src", inst.src) + " has more than 2^32 elements");
  }
  const Operand src = bind(spm, src_view, dims, inst.src, "src");
  const bool innermost = (inst.axes & 8) != 0;

  Work work;
  work.elements = product(dims);
  work.simple_passes = 1;
  work.divided_results = inst.div != 1.0f ? product(kept) : 0;
  work.trees = innermost ? 1 : 0;
  work.operations = work.elements;
  work.bytes_read = distinct_bytes(src, dims);
  work.bytes_written = product(kept) * static_cast<uint64_t>(dst.bytes);

  reserve(a_, kChunk);
  reserve(b_, kChunk);
  reserve(out_, kChunk);
  reserve(raw_, kChunk * sizeof(float));
  const auto offset = [](const Strides &s, uint64_t i0, uint64_t i1, uint64_t i2, uint64_t i3) {
    return static_cast<int64_t>(i0) * s[0] + static_cast<int64_t>(i1) * s[1] + static_cast<int64_t>(i2) * s[2] +
           static_cast<int64_t>(i3) * s[3];
  };
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
                  load(src.dtype, block_of(src, offset(src.strides, k0, k1, first + k, 0), rows, reduced[3]), a_.data(),
                       raw_.data());
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
                      const int64_t at = offset(src.strides, k0 + r0, k1 + r1, first + k + r2, r3);
                      const float *x = load(src.dtype, block_of(src, at, 1, n), a_.data(), raw_.data());
                      kernels().partials(inst.func, partials, x, n);
                    }
                  }
                }
              }
              out_[k] = join_partials(inst.func, partials);
            }
          }
          finish({dst.base + offset(dst.strides, k0, k1, first, 0), 1, count, 0, dst.strides[2]});
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
          const int64_t from = at[1] + offset(src.strides, r0, r1, r2, 0);
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
      throw OperandError(Kind::ILLEGAL, inst.src,
                         label("src", inst.src) + ": dimension " + std::to_string(d) + " is " +
                             std::to_string(src_view.dims[d]) + ", expected " + std::to_string(dims[d]) +
                             " (or stride 0)");
    }
  }
  // Rows and columns that the windows span.
  const uint64_t reach_y = (dims[1] - 1) * inst.stride_y + (kernel_y - 1) * inst.dil_y + 1;
  const uint64_t reach_x = (dims[2] - 1) * inst.stride_x + (kernel_x - 1) * inst.dil_x + 1;
  const Operand src = bind(spm, src_view, {dims[0], reach_y, reach_x, channels}, inst.src, "src");

  if (mac != (inst.w != kNoOperand)) throw OperandError(Kind::ILLEGAL, 4, "w belongs to MAC, and to MAC only");
  if (!mac && inst.bias != kNoOperand) throw OperandError(Kind::ILLEGAL, 5, "bias belongs to MAC only");
  Operand w;
  const Dims w_dims{1, kernel_y, kernel_x, channels};
  if (mac) {
    const View &w_view = view_of(views, inst.w, "w");
    if (dims_of(w_view) != w_dims) {
      throw OperandError(Kind::ILLEGAL, inst.w,
                         label("w", inst.w) + ": dimensions must be 1, kernel_y, kernel_x and the channels of dst");
    }
    w = bind(spm, w_view, w_dims, inst.w, "w");
  }
  const bool with_bias = inst.bias != kNoOperand;
  Operand bias;
  const Dims bias_dims{1, 1, 1, channels};
  if (with_bias) {
    const View &bias_view = view_of(views, inst.bias, "bias");
    if (bias_view.dtype != DType::FP32) {
      throw OperandError(Kind::ILLEGAL, inst.bias, label("bias", inst.bias) + " must be FP32");
    }
    bias = bind_source(spm, bias_view, bias_dims, inst.bias, "bias");
  }

  const uint64_t taps = kernel_y * kernel_x;
  // Rows of src that are not rows of floats as they lie are widened into line buffers, one for each row that a window
  // spans; neighbouring windows find their rows there. A broadcast row or column is kept once.
  const bool direct = src.dtype == DType::FP32 && (channels == 1 || src.strides[3] == 4) && src.strides[2] % 4 == 0 &&
                      src.strides[1] % 4 == 0 && src.strides[0] % 4 == 0 && aligned_floats(src.base);
  const uint64_t line_pixels = src.strides[2] == 0 ? 1 : reach_x;
  const uint64_t line_floats = line_pixels * channels;
  const uint64_t line_count = direct ? 0 : (kernel_y - 1) * inst.dil_y + 1;
  const uint64_t pixels_at_once = std::max<uint64_t>(1, kChunk / channels);
  const uint64_t most_held = std::max<uint64_t>(kMaxHeld, spm.size());
  if (line_count * line_floats > most_held) {
    throw OperandError(Kind::ILLEGAL, inst.src, label("src", inst.src) + ": windows span too many elements");
  }
  if (mac && taps * channels > most_held) {
    throw OperandError(Kind::ILLEGAL, inst.w, label("w", inst.w) + " has too many elements");
  }

  Work work;
  work.elements = product(dims);
  work.simple_passes = static_cast<uint32_t>(taps);
  work.operations = work.elements * taps;
  const Dims touched{dims[0], std::min(reach_y, dims[1] * kernel_y), std::min(reach_x, dims[2] * kernel_x), channels};
  work.bytes_read = distinct_bytes(src, touched) + (mac ? distinct_bytes(w, w_dims) : 0) +
                    (with_bias ? distinct_bytes(bias, bias_dims) : 0);
  work.bytes_written = work.elements * static_cast<uint64_t>(dst.bytes);

  if (mac) {
    reserve(weights_, taps * channels);
    reserve(raw_, std::max<uint64_t>(kernel_x * channels, kChunk) * sizeof(float));
    for (uint64_t i = 0; i < kernel_y; ++i) {
      float *row = weights_.data() + i * kernel_x * channels;
      const Block block = block_of(w, static_cast<int64_t>(i) * w.strides[1], kernel_x, channels);
      const float *loaded = load(w.dtype, block, row, raw_.data());
      if (loaded != row) std::memcpy(row, loaded, kernel_x * channels * sizeof(float));
    }
  }
  if (with_bias) {
    reserve(bias_, channels);
    reserve(raw_, channels * sizeof(float));
    const float *loaded = load(bias.dtype, block_of(bias, 0, 1, channels), bias_.data(), raw_.data());
    if (loaded != bias_.data()) std::memcpy(bias_.data(), loaded, channels * sizeof(float));
  }

  reserve(lines_, line_count * line_floats);
  reserve(raw_, std::max(line_floats, pixels_at_once * channels) * sizeof(float));
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

  // Whole rows, several where they are short.
  const uint64_t length = dims[3];
  const uint64_t rows_at_once = std::max<uint64_t>(1, kChunk / length);
  const uint64_t room = std::max(kChunk, length);
  reserve(a_, room);
  reserve(b_, room);
  reserve(out_, room);
  reserve(raw_, room * sizeof(float));
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
