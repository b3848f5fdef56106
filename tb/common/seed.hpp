// Seeds of random tests: always logged, and taken from the environment for a repeat.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <stdexcept>
#include <string>

namespace cx::test {

/// CX_TEST_SEED if it is set, else `otherwise`. Throws std::invalid_argument for a text that is no number.
inline uint64_t logged_seed(uint64_t otherwise) {
  uint64_t seed = otherwise;
  if (const char *const text = std::getenv("CX_TEST_SEED")) {
    std::size_t used = 0;
    seed = std::stoull(text, &used, 0);
    if (used != std::string(text).size()) throw std::invalid_argument("CX_TEST_SEED is no number");
  }
  std::cerr << "seed " << seed << " (CX_TEST_SEED)\n";
  return seed;
}

/// The same for tests that take another seed on every run: of 32 bits, so that all generators can be given it.
inline uint32_t fresh_seed() { return static_cast<uint32_t>(logged_seed(std::random_device{}())); }

}  // namespace cx::test
