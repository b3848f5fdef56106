// What every fuzz target has: the entry of libFuzzer, and inputs to start from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

extern "C" {
/// One input. Returns; a failure ends the process by abort(), so that libFuzzer and the replay program keep the input.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/// libFuzzer's, or that of replay.cpp: changes bytes at random and returns the new size, at most max_size.
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
/// A target's own, which knows the structure of its input.
__attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
}

namespace cx::fuzz {

using Bytes = std::vector<uint8_t>;

/// Inputs to start from, as they lie in tb/fuzz/seeds/<target>; the replay program writes them with --write-seeds.
std::vector<Bytes> seeds();

[[noreturn]] inline void fail(const std::string &what) {
  std::fprintf(stderr, "fuzz: %s\n", what.c_str());
  std::abort();
}

inline void require(bool good, const char *what) {
  if (!good) fail(what);
}

/// Takes an input apart; behind its end everything is 0.
class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return at_ >= bytes_.size(); }
  std::size_t left() const { return bytes_.size() - at_; }
  template <class T>
  T get() {
    T value{};
    const std::size_t count = std::min(sizeof value, left());
    std::memcpy(&value, bytes_.data() + at_, count);
    at_ += count;
    return value;
  }
  std::span<const uint8_t> take(std::size_t count) {
    const auto part = bytes_.subspan(at_, std::min(count, left()));
    at_ += part.size();
    return part;
  }

 private:
  std::span<const uint8_t> bytes_;
  std::size_t at_ = 0;
};

/// Random choices of a mutator.
class Choice {
 public:
  explicit Choice(unsigned seed) : random_(seed) {}
  uint64_t below(uint64_t end) { return random_() % end; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  uint64_t bits() { return random_(); }
  template <class T>
  const T &of(const std::vector<T> &list) {
    return list[below(list.size())];
  }

 private:
  std::mt19937_64 random_;
};

/// Copies a mutated input back into libFuzzer's buffer.
inline std::size_t give(const Bytes &bytes, uint8_t *data, std::size_t max_size) {
  const std::size_t size = std::min(bytes.size(), max_size);
  if (size != 0) std::memcpy(data, bytes.data(), size);
  return size;
}

}  // namespace cx::fuzz
