#include "driver/compiler/backend/operation.hpp"

#include <algorithm>
#include <map>
#include <numeric>

#include "driver/compiler/backend/hazards.hpp"

namespace cx::compiler::backend {

std::vector<Sources> dependences(std::span<const Operation> operations) {
  std::map<int, HazardMap> spaces;
  std::array<Sources, kEngines> known;  // last operation of each engine that is known to be complete
  for (Sources &clock : known) clock.fill(-1);
  std::vector<Sources> snapshot(operations.size());
  std::vector<Sources> result(operations.size());
  for (std::size_t i = 0; i < operations.size(); ++i) {
    const Operation &op = operations[i];
    const auto self = static_cast<std::size_t>(op.engine);
    Sources needed;
    needed.fill(-1);
    for (const Access &access : op.accesses) {
      spaces[access.space].access(access.begin, access.end, access.write, static_cast<int>(self),
                                  static_cast<int64_t>(i), needed);
    }
    result[i].fill(-1);
    // Latest first: what an operation has waited for itself often covers the other dependences.
    for (;;) {
      std::size_t best = kEngines;
      for (std::size_t e = 0; e < kEngines; ++e) {
        if (e == self || needed[e] <= known[self][e]) continue;
        if (best == kEngines || needed[e] > needed[best]) best = e;
      }
      if (best == kEngines) break;
      const auto source = static_cast<std::size_t>(needed[best]);
      result[i][best] = needed[best];
      known[self][best] = needed[best];
      for (std::size_t e = 0; e < kEngines; ++e) known[self][e] = std::max(known[self][e], snapshot[source][e]);
    }
    snapshot[i] = known[self];
    snapshot[i][self] = static_cast<int64_t>(i);
    known[self][self] = static_cast<int64_t>(i);
  }
  return result;
}

bool conflict(const Operation &a, const Operation &b) {
  for (const Access &x : a.accesses) {
    for (const Access &y : b.accesses) {
      if (x.space == y.space && (x.write || y.write) && x.begin < y.end && y.begin < x.end) return true;
    }
  }
  return false;
}

namespace {

/// Operations between a drain and the load behind it, at most: bounds the time of the search.
constexpr std::size_t kReach = 256;

/// order[drain, load] with the load of activations, and the transfers that it needs, in front of the drain. Nothing
/// changes where it needs another operation of these: it would wait for that, and the drain with it.
void bring_forward(std::span<const Operation> operations, std::vector<std::size_t> &order, std::size_t drain,
                   std::size_t load) {
  std::vector<std::size_t> sooner{order[load]}, later;  // latest first
  for (std::size_t at = load; at-- > drain;) {
    const Operation &op = operations[order[at]];
    const bool needed =
        std::any_of(sooner.begin(), sooner.end(), [&](std::size_t other) { return conflict(op, operations[other]); });
    if (needed && op.engine != isa::Engine::LOAD) return;
    (needed ? sooner : later).push_back(order[at]);
  }
  const auto middle = std::copy(sooner.rbegin(), sooner.rend(), order.begin() + static_cast<std::ptrdiff_t>(drain));
  std::copy(later.rbegin(), later.rend(), middle);
}

}  // namespace

std::vector<std::size_t> issue_order(std::span<const Operation> operations) {
  std::vector<std::size_t> order(operations.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::size_t last = 0;  // sparse operation
  bool drains = false;   // it does
  for (std::size_t i = 0; i < operations.size(); ++i) {
    if (operations[i].engine != isa::Engine::SCA) continue;
    const isa::Opcode opcode = isa::opcode_of(operations[i].inst);
    if (opcode == isa::Opcode::SP_LDA && drains && i - last <= kReach) bring_forward(operations, order, last, i);
    drains = opcode == isa::Opcode::SP_DRAIN;
    last = i;
  }
  return order;
}

uint64_t count(const std::array<uint16_t, 4> &dims) {
  return static_cast<uint64_t>(dims[0]) * dims[1] * dims[2] * dims[3];
}

}  // namespace cx::compiler::backend
