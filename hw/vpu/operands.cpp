#include "hw/vpu/operands.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "hw/vpu/kernels.hpp"

namespace cx::hw::vpu {

using num::DType;
using Kind = OperandError::Kind;

void illegal(uint64_t where, const std::string &text) { throw OperandError(Kind::ILLEGAL, where, text); }

std::string label(const char *role, unsigned index) {
  return std::string(role) + " (descriptor " + std::to_string(index) + ")";
}

const View &view_of(const Views &views, unsigned index, const char *role) {
  if (index >= views.size() || !views[index]) illegal(index, label(role, index) + " is not defined");
  const View &view = *views[index];
  if (!num::is_valid(view.dtype)) illegal(index, label(role, index) + " has an unknown data type");
  return view;
}

namespace {

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

}  // namespace

Operand bind(std::span<std::byte> spm, const View &view, const Dims &dims, unsigned index, const char *role) {
  Operand op;
  op.dtype = view.dtype;
  op.bytes = static_cast<int64_t>(num::bytes_of(view.dtype));
  std::copy(view.strides.begin(), view.strides.end(), op.strides.begin());
  require_inside(spm, view.base, dims, op.strides, op.bytes, label(role, index));
  op.base = spm.data() + view.base;
  return op;
}

Operand bind_destination(std::span<std::byte> spm, const View &view, unsigned index) {
  for (unsigned d = 0; d < 4; ++d) {
    if (view.dims[d] > 1 && view.strides[d] == 0) {
      illegal(index, label("dst", index) + " has stride 0 in dimension " + std::to_string(d));
    }
  }
  const Operand op = bind(spm, view, dims_of(view), index, "dst");
  if (view.elements() > spm.size() / num::bytes_of(view.dtype)) {
    illegal(index, label("dst", index) + " has more elements than the scratchpad holds");
  }
  return op;
}

Operand bind_source(std::span<std::byte> spm, const View &view, const Dims &dims, unsigned index, const char *role) {
  for (unsigned d = 0; d < 4; ++d) {
    if (view.dims[d] != dims[d] && view.strides[d] != 0) {
      illegal(index, label(role, index) + ": dimension " + std::to_string(d) + " is " + std::to_string(view.dims[d]) +
                         ", expected " + std::to_string(dims[d]) + " (or stride 0)");
    }
  }
  return bind(spm, view, dims, index, role);
}

uint64_t distinct_bytes(const Operand &op, const Dims &dims) {
  uint64_t n = static_cast<uint64_t>(op.bytes);
  for (unsigned d = 0; d < 4; ++d) n *= op.strides[d] == 0 ? 1 : dims[d];
  return n;
}

int64_t whole_bound(float value, bool unsigned64, unsigned field) {
  if (std::isnan(value) || (std::isfinite(value) && value != std::trunc(value))) {
    illegal(field, "an immediate of an integer operation must be a whole number");
  }
  if (unsigned64) {
    if (value <= 0.0f) return 0;
    return static_cast<int64_t>(value >= 0x1p64f ? ~uint64_t{0} : static_cast<uint64_t>(value));
  }
  if (value <= -0x1p63f) return std::numeric_limits<int64_t>::min();
  return value >= 0x1p63f ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(value);
}

int64_t whole(float value, bool unsigned64, unsigned field) {
  if (unsigned64 ? value < 0.0f || value >= 0x1p64f : value < -0x1p63f || value >= 0x1p63f) {
    illegal(field, "an immediate of an integer operation must lie in the range of the type's 64 bits");
  }
  return whole_bound(value, unsigned64, field);
}

// ---- blocks ----

namespace {

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

void widen(DType dtype, const std::byte *from, float *to, uint64_t n) { num::widen(dtype, from, to, n); }
void widen(DType dtype, const std::byte *from, int64_t *to, uint64_t n) { kernels().extend(dtype, from, to, n); }

/// Whether elements lie in memory as load() returns them.
bool native(DType dtype, const float *) { return dtype == DType::FP32; }
bool native(DType dtype, const int64_t *) { return dtype == DType::INT64 || dtype == DType::UINT64; }

template <class T>
const T *load_as(DType dtype, const Block &b, T *buffer, std::byte *raw) {
  const auto bytes = static_cast<int64_t>(num::bytes_of(dtype));
  const uint64_t n = b.rows * b.cols;
  if (contiguous(b, bytes)) {
    if (native(dtype, buffer) && aligned<T>(b.at)) return reinterpret_cast<const T *>(b.at);
    widen(dtype, b.at, buffer, n);
    return buffer;
  }
  if (b.rows > 1 && b.row_stride == 0) {
    const T *row = load_as(dtype, {b.at, 1, b.cols, 0, b.col_stride}, buffer, raw);
    if (row != buffer) std::memcpy(buffer, row, b.cols * sizeof(T));
    if (b.cols == 1) {
      std::fill(buffer + 1, buffer + n, buffer[0]);
      return buffer;
    }
    for (uint64_t done = b.cols; done < n; done *= 2) {
      std::memcpy(buffer + done, buffer, std::min(done, n - done) * sizeof(T));
    }
    return buffer;
  }
  if (b.cols > 1 && b.col_stride == 0) {
    // One value a row; widened into the end of the buffer, from where they spread without overtaking themselves.
    T *values = buffer + n - b.rows;
    const T *row = load_as(dtype, {b.at, 1, b.rows, 0, b.row_stride}, values, raw);
    for (uint64_t r = 0; r < b.rows; ++r) {
      const T value = row[r];
      std::fill(buffer + r * b.cols, buffer + (r + 1) * b.cols, value);
    }
    return buffer;
  }
  if (native(dtype, buffer)) {
    pack(b, bytes, reinterpret_cast<std::byte *>(buffer));
    return buffer;
  }
  pack(b, bytes, raw);
  widen(dtype, raw, buffer, n);
  return buffer;
}

}  // namespace

bool contiguous(const Block &b, int64_t bytes) {
  return (b.cols == 1 || b.col_stride == bytes) &&
         (b.rows == 1 || b.row_stride == static_cast<int64_t>(b.cols) * bytes);
}

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
  if (bytes == 8) return gather<8>(b, out);
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
  if (bytes == 8) return scatter<8>(b, in);
  if (bytes == 4) return scatter<4>(b, in);
  if (bytes == 2) return scatter<2>(b, in);
  return scatter<1>(b, in);
}

const float *load(DType dtype, const Block &b, float *buffer, std::byte *raw) { return load_as(dtype, b, buffer, raw); }
const int64_t *load(DType dtype, const Block &b, int64_t *buffer, std::byte *raw) {
  return load_as(dtype, b, buffer, raw);
}

void store(DType dtype, const Block &b, float *values, std::byte *raw) {
  const auto bytes = static_cast<int64_t>(num::bytes_of(dtype));
  const uint64_t n = b.rows * b.cols;
  if (dtype == DType::FP32) {
    if (contiguous(b, bytes) && aligned<float>(b.at)) {
      return kernels().canonicalise(values, reinterpret_cast<float *>(b.at), n);
    }
    kernels().canonicalise(values, values, n);
    return unpack(b, bytes, reinterpret_cast<const std::byte *>(values));
  }
  if (contiguous(b, bytes)) return num::narrow(dtype, values, b.at, n);
  num::narrow(dtype, values, raw, n);
  unpack(b, bytes, raw);
}

void store(DType dtype, const Block &b, int64_t *values, std::byte *raw) {
  const auto bytes = static_cast<int64_t>(num::bytes_of(dtype));
  const uint64_t n = b.rows * b.cols;
  if (contiguous(b, bytes)) return kernels().truncate(static_cast<size_t>(bytes), values, b.at, n);
  if (bytes == 8) return unpack(b, bytes, reinterpret_cast<const std::byte *>(values));
  kernels().truncate(static_cast<size_t>(bytes), values, raw, n);
  unpack(b, bytes, raw);
}

}  // namespace cx::hw::vpu
