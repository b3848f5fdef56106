// The 16 descriptors of an engine: what each holds and when it was last used.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace cx::compiler::backend {

template <typename T>
class DescriptorCache {
 public:
  /// The slot that holds `value`; sets `missing` if it has to be written first. The least recently used one is
  /// replaced.
  int slot(const T &value, bool &missing) {
    ++clock_;
    for (int i = 0; i < used_; ++i) {
      if (values_[static_cast<std::size_t>(i)] == value) {
        stamps_[static_cast<std::size_t>(i)] = clock_;
        missing = false;
        return i;
      }
    }
    int victim = used_;
    if (used_ < kDescriptors) {
      ++used_;
    } else {
      victim = static_cast<int>(std::min_element(stamps_.begin(), stamps_.end()) - stamps_.begin());
    }
    values_[static_cast<std::size_t>(victim)] = value;
    stamps_[static_cast<std::size_t>(victim)] = clock_;
    missing = true;
    return victim;
  }

 private:
  static constexpr int kDescriptors = 16;
  int used_ = 0;
  uint64_t clock_ = 0;
  std::array<T, kDescriptors> values_{};
  std::array<uint64_t, kDescriptors> stamps_{};
};

}  // namespace cx::compiler::backend
