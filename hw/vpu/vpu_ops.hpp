// What the vector unit's instructions do to the scratchpad, without time. hw/isa/isa.yaml describes the instructions;
// README.md adds what it leaves open (order at the edges, signed zeros, checks).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "hw/common/num/formats.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx::hw::vpu {

/// A strided view of the scratchpad. dims[3] is innermost; strides in bytes.
struct View {
  num::DType dtype = num::DType::FP32;
  uint32_t base = 0;
  std::array<uint32_t, 4> dims{1, 1, 1, 1};
  std::array<int32_t, 4> strides{0, 0, 0, 0};

  uint64_t elements() const { return uint64_t{dims[0]} * dims[1] * dims[2] * dims[3]; }
};

/// The engine's descriptors; nothing where TDESC has not been executed.
using Views = std::array<std::optional<View>, 16>;

/// An instruction that cannot be executed. Nothing was written.
struct OperandError : std::runtime_error {
  enum class Kind : uint8_t {
    ILLEGAL,  ///< where: descriptor index, or byte offset of the field for an operand that must not be given
    SPM,      ///< where: first offset outside the scratchpad (two's complement below 0)
    INDEX,    ///< where: an index outside its dimension, in two's complement
  };
  OperandError(Kind k, uint64_t w, const std::string &text) : std::runtime_error(text), kind(k), where(w) {}
  Kind kind;
  uint64_t where;
};

/// How much an instruction did; the timing rule prices it.
struct Work {
  uint64_t elements = 0;         ///< elements that go through the lanes
  uint64_t simple_passes = 0;    ///< passes over them at one cycle for each lanes-wide step
  uint64_t special_passes = 0;   ///< passes at the cost of a special function
  uint64_t addresses = 0;        ///< accesses by index: one a cycle, beside the passes
  uint64_t divided_results = 0;  ///< results of a reduction that go through the divider
  uint32_t trees = 0;            ///< times that 16 partial results are combined
  uint64_t operations = 0;       ///< counter OPS
  uint64_t bytes_read = 0;       ///< broadcast elements count once
  uint64_t bytes_written = 0;
};

struct Operand;

/// Executes instructions. Holds scratch memory only: no state passes from one instruction to the next.
///
/// A destination may be exactly an operand (same base, dtype and strides) but those of V_GATHER, V_SCATTER, V_ARG and
/// V_TOPK; other overlaps of a destination with an operand have no defined result.
class VectorUnit {
 public:
  /// False: instructions are checked and their work is counted, but nothing is read or written. Indices are not
  /// checked.
  void set_computes(bool computes) { computes_ = computes; }

  /// inst is an instruction of the vector unit and passes isa::validate(); other opcodes throw OperandError (ILLEGAL),
  /// as do undefined or unsuitable operands.
  Work run(std::span<std::byte> spm, const Views &views, const isa::Inst &inst);

  Work run(std::span<std::byte> spm, const Views &views, const isa::VUnary &inst);
  Work run(std::span<std::byte> spm, const Views &views, const isa::VBinary &inst);
  Work run(std::span<std::byte> spm, const Views &views, const isa::VReduce &inst);
  Work run(std::span<std::byte> spm, const Views &views, const isa::VWindow &inst);
  Work run(std::span<std::byte> spm, const Views &views, const isa::VSoftmax &inst);
  Work run(std::span<std::byte> spm, const Views &views, const isa::VSelect &inst);
  Work run(std::span<std::byte> spm, const Views &views, const isa::VGather &inst);
  Work run(std::span<std::byte> spm, const Views &views, const isa::VScatter &inst);
  Work run(std::span<std::byte> spm, const Views &views, const isa::VScan &inst);
  Work run(std::span<std::byte> spm, const Views &views, const isa::VArg &inst);
  Work run(std::span<std::byte> spm, const Views &views, const isa::VTopk &inst);

 private:
  void reduce_integers(const isa::VReduce &inst, const Operand &dst, const Operand &src,
                       const std::array<uint64_t, 4> &kept, const std::array<uint64_t, 4> &reduced, int64_t divisor);
  const int64_t *keys(const Operand &src, int64_t offset, uint64_t n, bool smallest);

  bool computes_ = true;

  std::vector<float> a_, b_, out_, lines_, weights_, bias_;
  std::vector<int64_t> integers_a_, integers_b_, integers_out_, offsets_, best_;
  std::vector<uint32_t> ranks_;
  std::vector<std::byte> raw_, raw_b_, raw_c_;
};

}  // namespace cx::hw::vpu
