#pragma once

#include <catch2/catch.hpp>

namespace cx::tb {

template <typename Body>
void repeat_typed(uint32_t first_seed, int count, Body body) {
  for (uint32_t seed = first_seed; seed < first_seed + static_cast<uint32_t>(count); ++seed) {
    INFO("seed " << seed);
    GraphMaker maker(seed);
    try {
      body(maker);
    } catch (const std::exception &error) {
      FAIL(error.what());
    }
  }
}

}  // namespace cx::tb
