#include "driver/compiler/backend/operation.hpp"

#include <algorithm>
#include <map>

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

uint64_t count(const std::array<uint16_t, 4> &dims) {
  return static_cast<uint64_t>(dims[0]) * dims[1] * dims[2] * dims[3];
}

}  // namespace cx::compiler::backend
