// Counting semaphores that join the engines' instruction streams.
#ifndef HW_SYNC_SEMAPHORES_HPP
#define HW_SYNC_SEMAPHORES_HPP

#include <cstdint>
#include <deque>
#include <string>
#include <systemc>
#include <vector>

namespace cx::hw {

class Semaphores : public sc_core::sc_module {
 public:
  static constexpr std::uint32_t kMaxValue = 0xffff;

  // 1 to 256 semaphores (config semaphores.count), all zero. Throws std::invalid_argument otherwise.
  Semaphores(sc_core::sc_module_name name, unsigned count);

  unsigned count() const { return static_cast<unsigned>(values_.size()); }

  // Present value. `sem` must be below count() here and in the functions that follow (std::out_of_range).
  std::uint16_t value(unsigned sem) const { return values_.at(sem); }

  // Adds `amount` and wakes the waiters. False, and nothing changed, if the value would go above kMaxValue. `record`:
  // id of the trace record of what the post stands for.
  [[nodiscard]] bool post(unsigned sem, std::uint16_t amount, std::uint64_t record = 0);
  // Of the last post to `sem`.
  std::uint64_t last_post(unsigned sem) const { return last_posts_.at(sem); }

  // Subtracts `amount` if the value is at least that.
  [[nodiscard]] bool try_take(unsigned sem, std::uint16_t amount);

  // Notified after every post to `sem` that raised its value.
  const sc_core::sc_event &posted(unsigned sem) const { return events_.at(sem); }

  // All to zero. Waiters go on waiting.
  void clear_all();

  // The semaphores that are not zero, as "3=1 7=2"; "all zero" otherwise. For watchdog reports.
  std::string dump() const;

 private:
  std::vector<std::uint16_t> values_;
  std::vector<std::uint64_t> last_posts_;
  std::deque<sc_core::sc_event> events_;
};

}  // namespace cx::hw

#endif
