// A queue that takes no memory while it is empty: clusters have a million of them.
#ifndef HW_CLUSTER_FIFO_HPP
#define HW_CLUSTER_FIFO_HPP

#include <cstddef>
#include <vector>

namespace cx::hw::net {

template <class Item>
class Fifo {
 public:
  bool empty() const { return head_ == items_.size(); }
  std::size_t size() const { return items_.size() - head_; }
  Item &front() { return items_[head_]; }
  const Item &front() const { return items_[head_]; }
  const Item &operator[](std::size_t i) const { return items_[head_ + i]; }
  void push_back(const Item &item) { items_.push_back(item); }
  void pop_front() {
    if (++head_ == items_.size()) {
      items_.clear();
      head_ = 0;
    } else if (head_ > 32 && head_ * 2 > items_.size()) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
  }
  auto begin() const { return items_.begin() + static_cast<std::ptrdiff_t>(head_); }
  auto end() const { return items_.end(); }

 private:
  std::vector<Item> items_;
  std::size_t head_ = 0;
};

}  // namespace cx::hw::net

#endif
