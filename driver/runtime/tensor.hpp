// Tensors in host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cx {

/// Row-major, contiguous elements.
struct HostTensor {
  std::string name;
  std::string type;  ///< "float32", "int64", ... as NumPy names it
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

/// Bytes of one element of a type named as NumPy does ("float32", "float16", "bfloat16", "int8", "bool", ...); throws
/// InputError for an unknown name.
uint64_t element_bytes(const std::string &type);

/// Elements of a shape; 1 for rank 0. Throws InputError for a negative dimension or a product above 2^62.
uint64_t element_count(const std::vector<int64_t> &shape);

std::string shape_text(const std::vector<int64_t> &shape);  ///< "[1, 3, 224, 224]"

}  // namespace cx
