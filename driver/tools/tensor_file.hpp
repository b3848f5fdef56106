// Tensors in files: NumPy .npy and .npz, ONNX TensorProto .pb.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "driver/runtime/tensor.hpp"

namespace cx::tools {

/// One tensor from a .npy or .pb file, or the only member of a .npz. Fortran order and big-endian files are refused.
/// Throws InputError naming the file and what was expected.
HostTensor load_tensor(const std::filesystem::path &path);

/// All members of a .npz by name.
std::map<std::string, HostTensor> load_npz(const std::filesystem::path &path);

/// By extension: .npy or .pb. bfloat16 is written as uint16 in .npy.
void save_tensor(const HostTensor &tensor, const std::filesystem::path &path);

/// Tensors PREFIX_0.pb, PREFIX_1.pb, ... of a test_data_set folder.
std::vector<HostTensor> load_data_set(const std::filesystem::path &folder, const std::string &prefix);

/// Tensors of one .pb file that holds a tensor, a sequence of tensors or an optional of either; none if the optional is
/// empty.
enum class Holds { tensor, sequence, optional };
std::vector<HostTensor> load_items(const std::filesystem::path &path, Holds holds);

/// Elements that differ by more than atol + rtol * |expected| + largest_tol * (largest finite |expected| of the
/// tensor). NaN equals NaN; infinities must agree.
struct Comparison {
  uint64_t elements = 0;
  uint64_t mismatches = 0;
  double max_absolute = 0;
  double max_relative = 0;      ///< where |expected| is above atol
  double largest = 0;           ///< of the finite |expected|
  uint64_t first_mismatch = 0;  ///< index, where there is one
  std::string problem;          ///< type or shape differs; empty otherwise
  bool passed() const { return problem.empty() && mismatches == 0; }
};
Comparison compare(const HostTensor &actual, const HostTensor &expected, double rtol, double atol,
                   double largest_tol = 0);

/// Whether the largest element of every row along the last dimension is at the same place, in a tensor of one type and
/// shape. Where the expected row has equal ones, any of them will do.
bool same_top(const HostTensor &actual, const HostTensor &expected);

}  // namespace cx::tools
