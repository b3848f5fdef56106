// What the arithmetic of an engine did, as counts that energy is computed from. Counts only grow; resets leave them.
#ifndef HW_POWER_ACTIVITY_HPP
#define HW_POWER_ACTIVITY_HPP

#include <array>
#include <cstdint>

namespace cx::hw {

// Of the dense and of the sparse unit, all tiles together.
struct MatrixActivity {
  static constexpr unsigned kFormats = 6;  // num::DType FP32 to INT8

  std::array<std::uint64_t, kFormats> products{};  // multiplications done, by the activation's format
  std::uint64_t float_sums = 0;                    // additions of products, and of chains' ends to accumulators
  std::uint64_t integer_sums = 0;
  std::uint64_t gated = 0;              // steps (of a processing element, of a lane) that a zero activation kept still
  std::uint64_t accumulator_words = 0;  // 32-bit words read or written
  std::uint64_t drained = 0;            // elements through the drain stage, and sums that block scales multiply

  // Sparse only.
  std::uint64_t decoded = 0;        // weights that streams held, in each tile that got them
  std::uint64_t selected_bits = 0;  // bits of activations that lanes chose from the window
  std::uint64_t buffer_bits = 0;    // bits written to and read from the activation banks

  bool operator==(const MatrixActivity &) const = default;
};

// Of the vector unit, in elements times passes.
struct VectorActivity {
  std::uint64_t simple = 0;
  std::uint64_t special = 0;

  bool operator==(const VectorActivity &) const = default;
};

}  // namespace cx::hw

#endif
