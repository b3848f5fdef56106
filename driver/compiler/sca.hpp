// What a compilation says about the sparse computing accelerator (SCA), and what became of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "hw/common/sparse/sparse.hpp"

namespace cx::compiler {

/// Which products with constant weights run on the SCA.
enum class ScaUse {
  automatic,  ///< those that it finishes earlier by the compiler's estimate
  always,     ///< all that it can multiply and that fit the scratchpad
  never,
};

/// "auto", "always", "never". The second throws UsageError for another text.
const char *name_of(ScaUse use);
ScaUse sca_use_from(const std::string &text);

struct ScaOptions {
  ScaUse use = ScaUse::automatic;
  /// How weights are stored. Absent: for each tensor in what takes the fewest bytes. With n:m every weight tensor that
  /// the SCA could multiply must have the pattern, wherever it then runs.
  std::optional<sparse::Layout> format;
};

/// "bitmap", "run-length", "N:M" (at most 8 of at most 16), "block:HxW". Throws UsageError for another text.
sparse::Layout sca_format_from(const std::string &text);

/// Where the convolution or matrix product of a group runs, and why.
struct ProductChoice {
  std::string engine;  ///< "sca", "dmmu", or "vpu" (depthwise); empty: the group has none
  std::string reason;  ///< why not on the SCA; empty if it is
  std::string format;  ///< of the compressed weights; empty if they were not looked at
  uint64_t weights = 0;
  uint64_t zeros = 0;  ///< of them, as elements of the product's type
  uint64_t dense_bytes = 0;
  uint64_t stream_bytes = 0;  ///< compressed
  uint64_t dense_cycles = 0;  ///< estimate; 0 where none was made
  uint64_t sca_cycles = 0;    ///< likewise
  uint64_t macs_skipped = 0;  ///< multiply-accumulates with zeros, which the SCA leaves out; 0 on other engines

  int64_t bytes_saved() const {
    return engine == "sca" ? static_cast<int64_t>(dense_bytes) - static_cast<int64_t>(stream_bytes) : 0;
  }
};

}  // namespace cx::compiler
