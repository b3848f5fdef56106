#include "hw/trace/host_words.hpp"

namespace cx::hw {

HostWords &HostWords::all() {
  static HostWords words;
  return words;
}

void HostWords::watch() {
  const std::lock_guard lock(mutex_);
  ++watchers_;
}

void HostWords::unwatch() {
  const std::lock_guard lock(mutex_);
  if (watchers_ != 0 && --watchers_ == 0) words_.clear();
}

void HostWords::wrote(const std::byte *memory, std::uint64_t value, std::uint64_t packet) {
  const std::lock_guard lock(mutex_);
  if (watchers_ != 0) words_[memory] = {value, packet};
}

std::uint64_t HostWords::writer(const std::byte *memory, std::uint64_t value) const {
  const std::lock_guard lock(mutex_);
  const auto found = words_.find(memory);
  return found != words_.end() && found->second.value == value ? found->second.packet : 0;
}

}  // namespace cx::hw
