// How much of the limit 1 / (1 - zeros) a sparse tile reaches with windows and queues of several sizes.
#include <fmt/core.h>

#include <iterator>
#include <vector>

#include "hw/sca/sca_timing.hpp"
#include "tb/hw/common/num_random.hpp"

namespace {

using namespace cx;

constexpr uint32_t kK = 512, kGroups = 16, kCols = 32;
constexpr uint64_t kSeed = 1;
constexpr uint32_t kWindows[] = {8, 16, 32, 64};
constexpr uint32_t kQueues[] = {2, 4, 8, 16};

struct Kind {
  const char *name;
  uint32_t zeros_per_mille;  // 0: one of eight
};
constexpr Kind kKinds[] = {{"40 % anywhere", 400},
                           {"50 % anywhere", 500},
                           {"70 % anywhere", 700},
                           {"87.5 % anywhere", 875},
                           {"87.5 %, 1:8", 0}};

/// `zeros_per_mille` of the weights are zeros, each on its own.
hw::SparseColumns weights(uint32_t zeros_per_mille) {
  test::Random random(kSeed);
  hw::SparseColumns w;
  w.k = kK;
  w.n = kGroups * kCols;
  w.starts.push_back(0);
  for (uint32_t c = 0; c < w.n; ++c) {
    for (uint32_t r = 0; r < kK; ++r) {
      if (random.between(0, 999) >= zeros_per_mille) w.rows.push_back(static_cast<uint16_t>(r));
    }
    w.starts.push_back(static_cast<uint32_t>(w.rows.size()));
  }
  w.raw.assign(w.rows.size(), 1);
  return w;
}

hw::SparseColumns one_of_eight() {
  test::Random random(kSeed);
  hw::SparseColumns w;
  w.k = kK;
  w.n = kGroups * kCols;
  for (uint32_t i = 0; i < w.n * kK / 8; ++i) {
    w.rows.push_back(static_cast<uint16_t>(i % (kK / 8) * 8 + random.between(0, 7)));
  }
  for (uint32_t c = 0; c <= w.n; ++c) w.starts.push_back(c * (kK / 8));
  w.raw.assign(w.rows.size(), 1);
  return w;
}

/// Weights for each column and cycle: 1 with one multiply-add in every cycle.
double reached(const hw::SparseColumns &w, uint32_t window, uint32_t queue) {
  const hw::ScaShape shape{32, kCols, 64, 2048, window, queue};
  const uint64_t cycles = hw::plan_multiplication(shape, w, {}).complete();
  return static_cast<double>(w.nonzeros()) / kCols / static_cast<double>(cycles);
}

}  // namespace

int main() {
  fmt::print("K = {}, {} groups of {} columns, seed {}: part of the limit 1 / (1 - zeros)\n\n| zeros |", kK, kGroups,
             kCols, kSeed);
  for (uint32_t window : kWindows) fmt::print(" W = {} |", window);
  for (uint32_t queue : kQueues) fmt::print(" W = 32, Q = {} |", queue);
  fmt::print("\n|---|");
  for (size_t i = 0; i < std::size(kWindows) + std::size(kQueues); ++i) fmt::print("---:|");
  fmt::print("\n");
  for (const Kind &kind : kKinds) {
    const hw::SparseColumns w = kind.zeros_per_mille == 0 ? one_of_eight() : weights(kind.zeros_per_mille);
    fmt::print("| {} |", kind.name);
    for (uint32_t window : kWindows) fmt::print(" {:.3f} |", reached(w, window, 4));
    for (uint32_t queue : kQueues) fmt::print(" {:.3f} |", reached(w, 32, queue));
    fmt::print("\n");
  }
  return 0;
}
