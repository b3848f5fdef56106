// Instructions that choose elements: by a condition, by indices, by order; and running sums.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "hw/vpu/kernels.hpp"
#include "hw/vpu/operands.hpp"
#include "hw/vpu/vpu_ops.hpp"

namespace cx::hw::vpu {
namespace {

using num::DType;
using Kind = OperandError::Kind;

void require_equal_types(const View &dst, unsigned dst_index, const View &other, unsigned index, const char *role) {
  if (other.dtype != dst.dtype) {
    illegal(index, label(role, index) + " must have the data type of " + label("dst", dst_index));
  }
}

void require_index_type(const View &view, unsigned index, const char *role) {
  if (view.dtype != DType::INT32 && view.dtype != DType::INT64) {
    illegal(index, label(role, index) + " must be INT32 or INT64");
  }
}

void require_moderate(const Dims &dims, unsigned index) {
  if (product(dims) > kMaxElements) illegal(index, label("src", index) + " has more than 2^32 elements");
}

/// Indices over `dims` as byte offsets along a dimension of `limit` elements `stride` apart. The result is an operand
/// over the same dims whose elements are int64_t in `offsets`, undefined unless `reads`. Throws INDEX for the first
/// index outside.
Operand resolve(std::span<std::byte> spm, const View &view, const Dims &dims, unsigned index, int64_t limit,
                int64_t stride, std::vector<int64_t> &offsets, std::vector<int64_t> &buffer,
                std::vector<std::byte> &raw, uint64_t &bytes, bool reads) {
  require_index_type(view, index, "idx");
  const Operand idx = bind_source(spm, view, dims, index, "idx");
  Dims own = dims;
  Operand table;
  table.bytes = sizeof(int64_t);
  int64_t step = sizeof(int64_t);
  for (int d = 3; d >= 0; --d) {
    if (idx.strides[d] == 0) own[d] = 1;
    table.strides[d] = own[d] == 1 ? 0 : step;
    step *= static_cast<int64_t>(own[d]);
  }
  if (product(own) > std::max<uint64_t>(kMaxHeld, spm.size())) {
    illegal(index, label("idx", index) + " has too many elements");
  }
  bytes = product(own) * static_cast<uint64_t>(idx.bytes);
  reserve(offsets, product(own));
  table.base = reinterpret_cast<std::byte *>(offsets.data());
  if (!reads) return table;
  reserve(buffer, kChunk);
  reserve(raw, kChunk * kWidest);
  int64_t *to = offsets.data();
  std::array<Operand, 1> ops{idx};
  coalesce(own, ops);
  for_each_block(own, ops, [&](const auto &at, uint64_t rows, uint64_t cols) {
    const int64_t *x = load(idx.dtype, block_of(ops[0], at[0], rows, cols), buffer.data(), raw.data());
    for (uint64_t i = 0; i < rows * cols; ++i) {
      if (x[i] < -limit || x[i] >= limit) {
        throw OperandError(Kind::INDEX, static_cast<uint64_t>(x[i]),
                           label("idx", index) + ": index " + std::to_string(x[i]) + " is outside a dimension of " +
                               std::to_string(limit));
      }
      *to++ = (x[i] < 0 ? x[i] + limit : x[i]) * stride;
    }
  });
  return table;
}

const int64_t *offsets_at(const Operand &table, uint64_t i0, uint64_t i1, uint64_t i2) {
  return reinterpret_cast<const int64_t *>(table.base + offset_of(table.strides, i0, i1, i2, 0));
}

/// Elements from[c * from_step + from_offsets[c]] to to[c * to_step + to_offsets[c]], one after the other; a null table
/// is all 0. table_step: entries from one element to the next.
template <size_t kBytes>
void move_row(std::byte *to, int64_t to_step, const int64_t *to_offsets, const std::byte *from, int64_t from_step,
              const int64_t *from_offsets, int64_t table_step, uint64_t n) {
  for (uint64_t c = 0; c < n; ++c) {
    const auto i = static_cast<int64_t>(c);
    std::byte *t = to + i * to_step + (to_offsets != nullptr ? to_offsets[i * table_step] : 0);
    const std::byte *f = from + i * from_step + (from_offsets != nullptr ? from_offsets[i * table_step] : 0);
    std::memcpy(t, f, kBytes);
  }
}

void move_row(int64_t bytes, std::byte *to, int64_t to_step, const int64_t *to_offsets, const std::byte *from,
              int64_t from_step, const int64_t *from_offsets, int64_t table_step, uint64_t n) {
  const auto move = bytes == 8 ? move_row<8> : bytes == 4 ? move_row<4> : bytes == 2 ? move_row<2> : move_row<1>;
  move(to, to_step, to_offsets, from, from_step, from_offsets, table_step, n);
}

/// Whether a row of the innermost dimension is one piece on both sides, under one index.
bool is_run(const Dims &dims, const Operand &a, const Operand &b, const Operand &table) {
  return dims[3] == 1 || (table.strides[3] == 0 && a.strides[3] == a.bytes && b.strides[3] == b.bytes);
}

/// Elements of FP32 of a row, one after the other; as the row kernels do, in scalars.
template <class Function>
void combine_floats(std::byte *to, int64_t to_step, const int64_t *offsets, int64_t table_step, const std::byte *from,
                    int64_t from_step, uint64_t n, Function f) {
  constexpr uint32_t kNan = num::kCanonicalNan;
  for (uint64_t c = 0; c < n; ++c) {
    const auto i = static_cast<int64_t>(c);
    std::byte *t = to + i * to_step + offsets[i * table_step];
    float a = 0;
    float b = 0;
    std::memcpy(&a, t, sizeof a);
    std::memcpy(&b, from + i * from_step, sizeof b);
    const float r = f(a, b);
    std::memcpy(t, r == r ? static_cast<const void *>(&r) : &kNan, sizeof r);
  }
}
void combine_floats(isa::Scatter f, std::byte *to, int64_t to_step, const int64_t *offsets, int64_t table_step,
                    const std::byte *from, int64_t from_step, uint64_t n) {
  const auto run = [&](auto function) {
    combine_floats(to, to_step, offsets, table_step, from, from_step, n, function);
  };
  switch (f) {
    case isa::Scatter::ADD:
      return run([](float a, float b) { return a + b; });
    case isa::Scatter::MUL:
      return run([](float a, float b) { return a * b; });
    case isa::Scatter::MAX:
      return run([](float a, float b) {
        if (a == b) return std::signbit(a) ? b : a;
        return a > b || a != a ? a : b;
      });
    case isa::Scatter::MIN:
      return run([](float a, float b) {
        if (a == b) return std::signbit(a) ? a : b;
        return a < b || a != a ? a : b;
      });
    case isa::Scatter::SET:
      break;
  }
}

isa::Binary arithmetic(isa::Scatter f) {
  switch (f) {
    case isa::Scatter::ADD:
      return isa::Binary::ADD;
    case isa::Scatter::MUL:
      return isa::Binary::MUL;
    case isa::Scatter::MAX:
      return isa::Binary::MAX;
    case isa::Scatter::MIN:
    case isa::Scatter::SET:
      break;
  }
  return isa::Binary::MIN;
}

}  // namespace

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VSelect &inst) {
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &cond_view = view_of(views, inst.cond, "cond");
  Dims dims = dims_of(dst_view);
  std::array<Operand, 4> ops{bind_destination(spm, dst_view, inst.dst),
                             bind_source(spm, cond_view, dims, inst.cond, "cond"), Operand{}, Operand{}};
  if (cond_view.dtype != DType::INT8 && cond_view.dtype != DType::UINT8) {
    illegal(inst.cond, label("cond", inst.cond) + " must be INT8 or UINT8");
  }
  const auto bytes = static_cast<size_t>(ops[0].bytes);
  reserve(raw_, kChunk * kWidest);
  reserve(raw_b_, 2 * kChunk * kWidest);
  reserve(raw_c_, kChunk);
  std::byte *buffers[2] = {raw_b_.data(), raw_b_.data() + kChunk * kWidest};

  Work work;
  work.elements = product(dims);
  work.simple_passes = 1;
  work.operations = work.elements;
  work.bytes_read = distinct_bytes(ops[1], dims);
  work.bytes_written = work.elements * bytes;
  const auto source = [&](unsigned index, float immediate, const char *role, unsigned number) {
    if (index == kNoOperand) {
      num::encode(dst_view.dtype, immediate, buffers[number]);
      for (size_t i = 1; i < kChunk; ++i) std::memcpy(buffers[number] + i * bytes, buffers[number], bytes);
      return;
    }
    const View &view = view_of(views, index, role);
    require_equal_types(dst_view, inst.dst, view, index, role);
    ops[2 + number] = bind_source(spm, view, dims, index, role);
    work.bytes_read += distinct_bytes(ops[2 + number], dims);
  };
  source(inst.a, inst.imm0, "a", 0);
  source(inst.b, inst.imm1, "b", 1);
  count_wide(work, ops);
  if (!computes_) return work;

  coalesce(dims, ops);
  for_each_block(dims, ops, [&](const auto &at, uint64_t rows, uint64_t cols) {
    // An operand that already is a row stays where it is.
    const auto row = [&](unsigned i, std::byte *buffer) -> const std::byte * {
      const Block block = block_of(ops[i], at[i], rows, cols);
      if (contiguous(block, ops[i].bytes)) return block.at;
      pack(block, ops[i].bytes, buffer);
      return buffer;
    };
    const std::byte *cond = row(1, raw_c_.data());
    const std::byte *a = ops[2].base == nullptr ? buffers[0] : row(2, buffers[0]);
    const std::byte *b = ops[3].base == nullptr ? buffers[1] : row(3, buffers[1]);
    kernels().select(bytes, reinterpret_cast<const uint8_t *>(cond), a, b, raw_.data(), rows * cols);
    unpack(block_of(ops[0], at[0], rows, cols), ops[0].bytes, raw_.data());
  });
  return work;
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VGather &inst) {
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &src_view = view_of(views, inst.src, "src");
  const View &idx_view = view_of(views, inst.idx, "idx");
  require_equal_types(dst_view, inst.dst, src_view, inst.src, "src");
  Dims dims = dims_of(dst_view);
  const Operand dst = bind_destination(spm, dst_view, inst.dst);
  Dims reach = dims;
  reach[inst.axis] = src_view.dims[inst.axis];
  Operand src = bind_source(spm, src_view, reach, inst.src, "src");
  uint64_t index_bytes = 0;
  const Operand table = resolve(spm, idx_view, dims, inst.idx, src_view.dims[inst.axis], src.strides[inst.axis],
                                offsets_, integers_a_, raw_, index_bytes, computes_);
  src.strides[inst.axis] = 0;

  Work work;
  work.elements = product(dims);
  work.simple_passes = 1;
  work.operations = work.elements;
  work.bytes_written = work.elements * static_cast<uint64_t>(dst.bytes);
  work.bytes_read = work.bytes_written + index_bytes;
  std::array<Operand, 3> ops{dst, src, table};
  count_wide(work, std::array{dst, src});
  coalesce(dims, ops);
  const bool run = is_run(dims, ops[0], ops[1], ops[2]);
  work.addresses = run ? product(dims) / dims[3] : product(dims);
  if (!computes_) return work;

  for (uint64_t i0 = 0; i0 < dims[0]; ++i0) {
    for (uint64_t i1 = 0; i1 < dims[1]; ++i1) {
      for (uint64_t i2 = 0; i2 < dims[2]; ++i2) {
        std::byte *to = dst.base + offset_of(ops[0].strides, i0, i1, i2, 0);
        const std::byte *from = src.base + offset_of(ops[1].strides, i0, i1, i2, 0);
        const int64_t *offsets = offsets_at(ops[2], i0, i1, i2);
        if (run) {
          std::memmove(to, from + *offsets, dims[3] * static_cast<uint64_t>(dst.bytes));
        } else {
          move_row(dst.bytes, to, ops[0].strides[3], nullptr, from, ops[1].strides[3], offsets,
                   ops[2].strides[3] / table.bytes, dims[3]);
        }
      }
    }
  }
  return work;
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VScatter &inst) {
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &src_view = view_of(views, inst.src, "src");
  const View &idx_view = view_of(views, inst.idx, "idx");
  require_equal_types(dst_view, inst.dst, src_view, inst.src, "src");
  Dims dims = dims_of(src_view);
  for (unsigned d = 0; d < 4; ++d) {
    if (d != inst.axis && dims[d] > dst_view.dims[d]) {
      illegal(inst.src, label("src", inst.src) + ": dimension " + std::to_string(d) + " is " + std::to_string(dims[d]) +
                            ", in dst it is " + std::to_string(dst_view.dims[d]));
    }
  }
  Operand dst = bind_destination(spm, dst_view, inst.dst);
  require_moderate(dims, inst.src);
  const Operand src = bind(spm, src_view, dims, inst.src, "src");
  uint64_t index_bytes = 0;
  const Operand table = resolve(spm, idx_view, dims, inst.idx, dst_view.dims[inst.axis], dst.strides[inst.axis],
                                offsets_, integers_a_, raw_, index_bytes, computes_);
  dst.strides[inst.axis] = 0;
  const bool set = inst.func == isa::Scatter::SET;
  const isa::Binary function = arithmetic(inst.func);
  const auto bytes = static_cast<uint64_t>(dst.bytes);

  Work work;
  work.elements = product(dims);
  work.simple_passes = set ? 1 : 2;
  work.operations = work.elements;
  work.bytes_written = work.elements * bytes;
  work.bytes_read = distinct_bytes(src, dims) + index_bytes + (set ? 0 : work.bytes_written);
  count_wide(work, std::array{dst, src});
  std::array<Operand, 3> ops{dst, src, table};
  coalesce(dims, ops);
  const bool run = is_run(dims, ops[0], ops[1], ops[2]);
  work.addresses = (set ? 1 : 2) * (run ? product(dims) / dims[3] : product(dims));
  if (!computes_) return work;

  const bool integers = num::is_integer(dst.dtype);
  const bool unsigned64 = dst.dtype == DType::UINT64;
  reserve(a_, kChunk);
  reserve(b_, kChunk);
  reserve(out_, kChunk);
  reserve(integers_b_, kChunk);
  reserve(integers_out_, kChunk);
  // n elements that lie side by side
  const auto combine = [&](std::byte *to, std::byte *from, uint64_t n) {
    const Block old{to, 1, n, 0, dst.bytes};
    const Block update{from, 1, n, 0, src.bytes};
    if (integers) {
      const int64_t *x = load(dst.dtype, old, integers_a_.data(), raw_.data());
      const int64_t *y = load(src.dtype, update, integers_b_.data(), raw_.data());
      kernels().integer_binary(function, unsigned64, 64, x, y, integers_out_.data(), n);
      store(dst.dtype, old, integers_out_.data(), raw_.data());
    } else {
      const float *x = load(dst.dtype, old, a_.data(), raw_.data());
      const float *y = load(src.dtype, update, b_.data(), raw_.data());
      kernels().binary(function, x, y, out_.data(), n);
      store(dst.dtype, old, out_.data(), raw_.data());
    }
  };
  for (uint64_t i0 = 0; i0 < dims[0]; ++i0) {
    for (uint64_t i1 = 0; i1 < dims[1]; ++i1) {
      for (uint64_t i2 = 0; i2 < dims[2]; ++i2) {
        std::byte *to = dst.base + offset_of(ops[0].strides, i0, i1, i2, 0);
        std::byte *from = src.base + offset_of(ops[1].strides, i0, i1, i2, 0);
        const int64_t *offsets = offsets_at(ops[2], i0, i1, i2);
        const int64_t table_step = ops[2].strides[3] / table.bytes;
        if (set && run) {
          std::memmove(to + *offsets, from, dims[3] * bytes);
        } else if (set) {
          move_row(dst.bytes, to, ops[0].strides[3], offsets, from, ops[1].strides[3], nullptr, table_step, dims[3]);
        } else if (run) {
          for (uint64_t c = 0; c < dims[3]; c += kChunk) {
            combine(to + *offsets + c * bytes, from + c * bytes, std::min(kChunk, dims[3] - c));
          }
        } else if (dst.dtype == DType::FP32) {
          combine_floats(inst.func, to, ops[0].strides[3], offsets, table_step, from, ops[1].strides[3], dims[3]);
        } else {
          for (uint64_t c = 0; c < dims[3]; ++c) {
            const auto i = static_cast<int64_t>(c);
            combine(to + i * ops[0].strides[3] + offsets[i * table_step], from + i * ops[1].strides[3], 1);
          }
        }
      }
    }
  }
  return work;
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VScan &inst) {
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &src_view = view_of(views, inst.src, "src");
  const Dims dims = dims_of(dst_view);
  if (dims_of(src_view) != dims) illegal(inst.src, label("src", inst.src) + " must have the dimensions of dst");
  const Operand dst = bind_destination(spm, dst_view, inst.dst);
  const Operand src = bind(spm, src_view, dims, inst.src, "src");
  const bool integers = num::is_integer(dst.dtype) && num::is_integer(src.dtype);
  const uint64_t length = dims[inst.axis];

  Work work;
  work.elements = product(dims) / length;  // every line in a lane of its own
  work.simple_passes = length;
  work.operations = product(dims);
  work.bytes_read = distinct_bytes(src, dims);
  work.bytes_written = product(dims) * static_cast<uint64_t>(dst.bytes);
  count_wide(work, std::array{dst, src});
  if (!computes_) return work;

  reserve(a_, kChunk);
  reserve(b_, kChunk);
  reserve(out_, kChunk);
  reserve(integers_a_, kChunk);
  reserve(integers_b_, kChunk);
  reserve(integers_out_, kChunk);
  reserve(raw_, kChunk * kWidest);
  const auto scan = [&](const auto &step) {
    // Pieces of a line along dims[3], or one element of each of many lines.
    const bool along = inst.axis == 3;
    Dims outer = dims;
    outer[inst.axis] = 1;
    if (!along) outer[3] = (dims[3] + kChunk - 1) / kChunk;
    const uint64_t chunk = along ? kChunk : 1;
    for (uint64_t i0 = 0; i0 < outer[0]; ++i0) {
      for (uint64_t i1 = 0; i1 < outer[1]; ++i1) {
        for (uint64_t i2 = 0; i2 < outer[2]; ++i2) {
          for (uint64_t i3 = 0; i3 < outer[3]; ++i3) {
            const uint64_t first = along ? 0 : i3 * kChunk;
            const uint64_t lanes = along ? 1 : std::min(kChunk, dims[3] - first);
            for (uint64_t done = 0; done < length; done += chunk) {
              const uint64_t n = std::min(chunk, length - done);
              const uint64_t k = inst.reverse != 0 ? length - done - n : done;
              std::array<uint64_t, 4> at{i0, i1, i2, first};
              at[inst.axis] += k;
              const uint64_t cols = along ? n : lanes;
              step(block_of(dst, offset_of(dst.strides, at[0], at[1], at[2], at[3]), 1, cols),
                   block_of(src, offset_of(src.strides, at[0], at[1], at[2], at[3]), 1, cols), lanes, done == 0);
            }
          }
        }
      }
    }
  };
  // sums: of the lanes so far. One lane runs through the block, many take one element each.
  const auto step = [&](auto *sums, auto *x, auto *out, const auto &add) {
    return [&, sums, x, out](const Block &to, const Block &from, uint64_t lanes, bool start) {
      const auto *values = load(src.dtype, from, x, raw_.data());
      if (start) std::fill(sums, sums + lanes, 0);
      const uint64_t n = from.cols;
      const bool one = inst.axis == 3;
      for (uint64_t c = 0; c < n; ++c) {
        const uint64_t i = one && inst.reverse != 0 ? n - 1 - c : c;
        auto &sum = sums[one ? 0 : i];
        const auto next = add(sum, values[i]);
        out[i] = inst.exclusive != 0 ? sum : next;
        sum = next;
      }
      store(dst.dtype, to, out, raw_.data());
    };
  };
  if (integers) {
    scan(step(integers_b_.data(), integers_a_.data(), integers_out_.data(), [](int64_t a, int64_t b) {
      return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
    }));
  } else {
    scan(step(b_.data(), a_.data(), out_.data(), [](float a, float b) { return a + b; }));
  }
  return work;
}

/// Keys of n elements of a row: the first in the order has the largest.
const int64_t *VectorUnit::keys(const Operand &src, int64_t offset, uint64_t n, bool smallest) {
  const Block block = block_of(src, offset, 1, n);
  reserve(raw_, n * kWidest);
  reserve(integers_b_, n);
  if (num::is_integer(src.dtype)) {
    reserve(integers_a_, n);
    const int64_t *x = load(src.dtype, block, integers_a_.data(), raw_.data());
    kernels().keys_of_integers(x, src.dtype == DType::UINT64, smallest, integers_b_.data(), n);
  } else {
    reserve(a_, n);
    const float *x = load(src.dtype, block, a_.data(), raw_.data());
    kernels().keys_of_floats(x, smallest, integers_b_.data(), n);
  }
  return integers_b_.data();
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VArg &inst) {
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &src_view = view_of(views, inst.src, "src");
  require_index_type(dst_view, inst.dst, "dst");
  const Dims dims = dims_of(src_view);
  Dims kept = dims;
  kept[inst.axis] = 1;
  if (dims_of(dst_view) != kept) {
    illegal(inst.dst, label("dst", inst.dst) + ": dimensions must be those of src with 1 at axis");
  }
  const Operand dst = bind_destination(spm, dst_view, inst.dst);
  require_moderate(dims, inst.src);
  const Operand src = bind(spm, src_view, dims, inst.src, "src");
  const uint64_t length = dims[inst.axis];
  const bool along = inst.axis == 3;

  Work work;
  work.elements = product(dims);
  work.simple_passes = 1;
  work.trees = along ? 1 : 0;
  work.operations = work.elements;
  work.bytes_read = distinct_bytes(src, dims);
  work.bytes_written = product(kept) * static_cast<uint64_t>(dst.bytes);
  count_wide(work, std::array{src});
  if (!computes_) return work;

  const bool smallest = inst.order == isa::Order::SMALLEST;
  const bool last = inst.last != 0;
  reserve(best_, kChunk);
  reserve(integers_out_, kChunk);
  int64_t *best = best_.data();
  int64_t *where = integers_out_.data();
  for (uint64_t i0 = 0; i0 < kept[0]; ++i0) {
    for (uint64_t i1 = 0; i1 < kept[1]; ++i1) {
      for (uint64_t i2 = 0; i2 < kept[2]; ++i2) {
        for (uint64_t first = 0; first < kept[3]; first += kChunk) {
          const uint64_t lanes = std::min(kChunk, kept[3] - first);
          std::fill(best, best + lanes, std::numeric_limits<int64_t>::min());
          std::fill(where, where + lanes, last ? static_cast<int64_t>(length) - 1 : 0);
          const uint64_t chunk = along ? kChunk : 1;
          for (uint64_t k = 0; k < length; k += chunk) {
            std::array<uint64_t, 4> at{i0, i1, i2, first};
            at[inst.axis] += k;
            const uint64_t n = along ? std::min(chunk, length - k) : lanes;
            const int64_t *x = keys(src, offset_of(src.strides, at[0], at[1], at[2], at[3]), n, smallest);
            if (!along) {
              kernels().extreme(x, static_cast<int64_t>(k), last, best, where, n);
              continue;
            }
            for (uint64_t c = 0; c < n; ++c) {
              if (last ? x[c] >= *best : x[c] > *best) {
                *best = x[c];
                *where = static_cast<int64_t>(k + c);
              }
            }
          }
          store(dst.dtype, block_of(dst, offset_of(dst.strides, i0, i1, i2, first), 1, lanes), where, raw_.data());
        }
      }
    }
  }
  return work;
}

Work VectorUnit::run(std::span<std::byte> spm, const Views &views, const isa::VTopk &inst) {
  const View &dst_view = view_of(views, inst.dst, "dst");
  const View &src_view = view_of(views, inst.src, "src");
  require_index_type(dst_view, inst.dst, "dst");
  const Dims dims = dims_of(src_view);
  const Dims taken = dims_of(dst_view);
  const uint64_t k = taken[3];
  const uint64_t length = dims[3];
  if (taken[0] != dims[0] || taken[1] != dims[1] || taken[2] != dims[2] || k > length) {
    illegal(inst.dst, label("dst", inst.dst) + ": dimensions must be those of src, the last at most as large");
  }
  const Operand dst = bind_destination(spm, dst_view, inst.dst);
  require_moderate(dims, inst.src);
  const Operand src = bind(spm, src_view, dims, inst.src, "src");

  Work work;
  work.elements = k;  // the lanes hold the best so far; the elements of src come by one at a time
  work.simple_passes = product(dims);
  work.operations = product(dims);
  work.bytes_read = distinct_bytes(src, dims);
  work.bytes_written = product(taken) * static_cast<uint64_t>(dst.bytes);
  count_wide(work, std::array{src});
  if (!computes_) return work;

  const bool smallest = inst.order == isa::Order::SMALLEST;
  reserve(integers_out_, k);
  reserve(ranks_, length);
  for (uint64_t i0 = 0; i0 < dims[0]; ++i0) {
    for (uint64_t i1 = 0; i1 < dims[1]; ++i1) {
      for (uint64_t i2 = 0; i2 < dims[2]; ++i2) {
        const int64_t *x = keys(src, offset_of(src.strides, i0, i1, i2, 0), length, smallest);
        const auto ranks = ranks_.begin();
        const auto end = ranks + static_cast<ptrdiff_t>(length);
        std::iota(ranks, end, 0u);
        const auto before = [x](uint32_t a, uint32_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; };
        std::partial_sort(ranks, ranks + static_cast<ptrdiff_t>(k), end, before);
        std::copy(ranks, ranks + static_cast<ptrdiff_t>(k), integers_out_.begin());
        store(dst.dtype, block_of(dst, offset_of(dst.strides, i0, i1, i2, 0), 1, k), integers_out_.data(), raw_.data());
      }
    }
  }
  return work;
}

}  // namespace cx::hw::vpu
