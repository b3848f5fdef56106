// Words of host memory that cards of this process have written while they are traced.
#ifndef HW_TRACE_HOST_WORDS_HPP
#define HW_TRACE_HOST_WORDS_HPP

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace cx::hw {

// One for all cards: what one signals another may wait for. Memory is known by where it lies in this process. Any
// thread.
class HostWords {
 public:
  static HostWords &all();

  // Nothing is kept unless somebody watches.
  void watch();
  void unwatch();

  // The packet of that id has left `value` at `memory`.
  void wrote(const std::byte *memory, std::uint64_t value, std::uint64_t packet);
  // Who left it there; 0: nobody that is known, or the word has been written by others since.
  std::uint64_t writer(const std::byte *memory, std::uint64_t value) const;

 private:
  struct Word {
    std::uint64_t value, packet;
  };
  mutable std::mutex mutex_;
  unsigned watchers_ = 0;
  std::unordered_map<const std::byte *, Word> words_;
};

}  // namespace cx::hw

#endif
