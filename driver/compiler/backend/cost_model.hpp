// What operations cost: cycles of the engines that run them, before any of it is encoded.
//
// The model takes the operations of a group, or of a whole program, as kernels emit them, and goes through them in the
// order of time. Sizes and code of a candidate and its estimate therefore cannot differ. Cycles of
// - a transfer of b bytes in r runs: kSetup + max(r, b / L, D). D is what DRAM takes, at the rate of sequential reads:
//   each channel serves its part of the bursts after all requests before, of loads, stores and instruction fetches
//   alike. Then the next one may start;
//   it is complete a latency later.
// - weights of k rows: max(k / pack, bytes / P); the shadow bank has to be free, which the pass before leaves its n
//   columns after its last row.
// - a pass of m rows a tile, weight stationary: max(m, bytes / P); its sums are there R + n + 1 later. Output
//   stationary with t steps: max(t, bytes / P) + R, and R + n later.
// - a drain: parameters + 4 + max(m, bytes / P), after all sums are there; the next pass waits for its rows.
// - k vectors of activations of the SCA: max(k, bytes / P). Its products take what their weights take in the slowest
//   tile, as the emitter was told, or bytes / P; a drain of n columns of a tile max(n, bytes / P).
// - an instruction of the VPU: max(startup + steps * passes + 4 * trees, bytes read / P, startup + bytes written / P),
//   steps = ceil(elements / lanes), passes of special functions count kSpecialCycles.
// P is the width of the scratchpad's port, L that of links and datapaths, R the rows of a tile. An operation starts
// when its engine takes it and what it depends on is complete: double buffering, and loads that run ahead, come out of
// that. The front end takes a cycle for every descriptor, wait and post, and fetches blocks of 16 instructions from
// DRAM.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "driver/compiler/backend/operation.hpp"
#include "driver/umd/target.hpp"

namespace cx::compiler::backend {

struct Estimate {
  int64_t cycles = 0;  ///< from the first issue to the last completion
  /// By Operation::node: by how much the node moves the end on, from the latest completion of the nodes before it to
  /// its own. These add up to `cycles`. Nodes without operations have 0.
  std::vector<int64_t> by_node;
  /// From the first issue until an engine could take another operation.
  std::array<int64_t, kEngines> free{};
  /// By operation: cycles for which it takes its engine.
  std::vector<int64_t> taken;
};

class CostModel {
 public:
  explicit CostModel(const Target &target);

  /// Of operations in program order that start on an idle device.
  Estimate estimate(std::span<const Operation> operations) const;

 private:
  Target target_;
};

}  // namespace cx::compiler::backend
