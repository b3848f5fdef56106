// Columns of a matrix as encoder and size formulas take them.
#pragma once

#include <vector>

#include "hw/common/sparse/sparse.hpp"

namespace cx::sparse {

/// Raw values of one column, zeros with all bits 0.
std::vector<uint16_t> read_column(const MatrixView &matrix, size_t column);

/// Throws std::invalid_argument when something is out of range.
void check_arguments(const MatrixView &matrix, uint32_t group_columns, const Layout &layout);

/// Throws std::invalid_argument when a block of m rows has more than n non-zeros.
void check_structured(const std::vector<uint16_t> &values, size_t column, unsigned n, unsigned m);

/// Numbers of zeros in front of each non-zero.
std::vector<uint32_t> runs_of(const std::vector<uint16_t> &values);

/// Fields of `bits` bits that a run takes.
constexpr size_t fields_of(uint32_t run, unsigned bits) { return 1 + run / ((1u << bits) - 1); }

/// The field width for which the runs of a group's columns take the fewest bytes.
/// Throws std::invalid_argument if `wanted` (0: any) does not fit into index_bytes.
uint8_t choose_run_bits(const std::vector<std::vector<uint32_t>> &runs, uint8_t wanted);

/// Bytes of the fields of one column.
size_t index_bytes_of(const std::vector<uint32_t> &runs, unsigned bits);

inline constexpr size_t kMaxIndexBytes = 65535;

}  // namespace cx::sparse
