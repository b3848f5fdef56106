// Sparse matrices of the Deep Learning Matrix Collection (.smtx): places of non-zeros without their values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace cx::tools {

/// A file has three lines: "rows, columns, non-zeros"; rows + 1 offsets into the third line; the columns of the
/// non-zeros, row by row.
struct SparsePattern {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<int64_t> offsets;  ///< rows + 1
  std::vector<int64_t> indices;  ///< ascending inside a row

  int64_t nonzeros() const { return static_cast<int64_t>(indices.size()); }
  double sparsity() const { return 1 - static_cast<double>(nonzeros()) / static_cast<double>(rows * columns); }
};

/// Rows and columns are 1 to 2^31 - 1, their product at most 2^31. Throws InputError "NAME:LINE: ..." for anything
/// else: numbers that are none, counts that disagree, offsets that fall, columns out of range or twice in a row, more
/// lines.
SparsePattern parse_smtx(const std::string &text, const std::string &name);
SparsePattern load_smtx(const std::filesystem::path &path);

}  // namespace cx::tools
