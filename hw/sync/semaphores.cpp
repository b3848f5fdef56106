#include "hw/sync/semaphores.hpp"

#include <algorithm>
#include <stdexcept>

namespace cx::hw {

Semaphores::Semaphores(sc_core::sc_module_name name, unsigned count) : sc_module(name) {
  if (count < 1 || count > 256) throw std::invalid_argument("semaphores: the count must be 1 to 256");
  values_.resize(count);
  last_posts_.resize(count);
  for (unsigned i = 0; i < count; ++i) events_.emplace_back(("posted_" + std::to_string(i)).c_str());
}

bool Semaphores::post(unsigned sem, std::uint16_t amount, std::uint64_t record) {
  std::uint16_t &value = values_.at(sem);
  if (std::uint32_t{value} + amount > kMaxValue) return false;
  if (amount == 0) return true;
  value = static_cast<std::uint16_t>(value + amount);
  last_posts_[sem] = record;
  events_[sem].notify(sc_core::SC_ZERO_TIME);
  return true;
}

bool Semaphores::try_take(unsigned sem, std::uint16_t amount) {
  std::uint16_t &value = values_.at(sem);
  if (value < amount) return false;
  value = static_cast<std::uint16_t>(value - amount);
  return true;
}

void Semaphores::clear_all() { std::fill(values_.begin(), values_.end(), std::uint16_t{0}); }

std::string Semaphores::dump() const {
  std::string text;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (values_[i] == 0) continue;
    if (!text.empty()) text += ' ';
    text += std::to_string(i) + '=' + std::to_string(values_[i]);
  }
  return text.empty() ? "all zero" : text;
}

}  // namespace cx::hw
