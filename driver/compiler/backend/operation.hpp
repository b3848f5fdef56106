// A data instruction in program order: what it does, and the bytes that it touches.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "driver/compiler/backend/views.hpp"

namespace cx::compiler::backend {

/// Engines that programs use, by their number.
constexpr int kEngines = 5;

/// A scratchpad descriptor.
struct Descriptor {
  Dtype dtype{};
  uint32_t base = 0;
  std::array<uint16_t, 4> dims{1, 1, 1, 1};
  std::array<int32_t, 4> strides{0, 0, 0, 0};
  bool operator==(const Descriptor &) const = default;
};

/// Where the elements of a transfer lie in a segment.
struct MemDescriptor {
  uint8_t segment = 0;
  uint64_t offset = 0;
  std::array<int32_t, 4> strides{0, 0, 0, 0};
  bool operator==(const MemDescriptor &) const = default;
};

/// Bytes [begin, end) of an address space.
struct Access {
  int space = 0;  ///< 0 scratchpad, 1 + n segment n
  int64_t begin = 0;
  int64_t end = 0;
  bool write = false;
};

struct Operand {
  uint8_t at = 0;  ///< byte of the instruction that names the descriptor
  Descriptor view;
};

struct Operation {
  isa::Engine engine{};
  int node = 0;      ///< number of the node that it belongs to
  isa::Inst inst{};  ///< without the numbers of descriptors
  std::vector<Operand> operands;
  std::optional<std::pair<uint8_t, MemDescriptor>> memory;  ///< and the byte of the instruction that names it
  std::vector<Access> accesses;
  int64_t work = 0;                    ///< of a sparse multiplication: cycles that its weights take in the slowest tile
  std::array<bool, kEngines> waits{};  ///< for the next post of the engine
  std::array<bool, kEngines> posts{};  ///< to the engine
};

/// For every operation the latest one of each engine that has to be complete before it starts; -1 for none, and for
/// what follows from others.
using Sources = std::array<int64_t, kEngines>;
std::vector<Sources> dependences(std::span<const Operation> operations);

/// The operations touch bytes in common, and one of them writes these.
bool conflict(const Operation &a, const Operation &b);

/// An order of the operations, by their numbers, that means the same. The sparse tiles take commands in order, and a
/// drain waits for the product before it: the next load of activations goes in front of the drain, with the transfers
/// that it needs, unless it needs results of other engines from there on.
std::vector<std::size_t> issue_order(std::span<const Operation> operations);

/// Elements of a view.
uint64_t count(const std::array<uint16_t, 4> &dims);

}  // namespace cx::compiler::backend
