#include "hw/dmmu/tile_workers.hpp"

#include <algorithm>
#include <cstdlib>

namespace cx::hw {

TileWorkers::~TileWorkers() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  begin_.notify_all();
  for (std::thread &thread : threads_) thread.join();
}

void TileWorkers::start() {
  started_ = true;
  unsigned long wanted = std::max(1u, std::thread::hardware_concurrency());
  if (const char *text = std::getenv("CX_THREADS")) wanted = std::clamp(std::strtoul(text, nullptr, 10), 1ul, 256ul);
  for (unsigned long t = 1; t < wanted; ++t) threads_.emplace_back([this] { work(); });
}

void TileWorkers::run(size_t count, const std::function<void(size_t)> &job) {
  if (count > 1 && !started_) start();
  if (count <= 1 || threads_.empty()) {
    std::exception_ptr first;
    for (size_t i = 0; i < count; ++i) {
      try {
        job(i);
      } catch (...) {
        if (!first) first = std::current_exception();
      }
    }
    if (first) std::rethrow_exception(first);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    job_ = &job;
    count_ = count;
    next_ = 0;
    errors_.assign(count, nullptr);
  }
  begin_.notify_all();
  take_jobs();
  std::unique_lock lock(mutex_);
  end_.wait(lock, [this] { return active_ == 0; });
  job_ = nullptr;
  for (const std::exception_ptr &error : errors_) {
    if (error) std::rethrow_exception(error);
  }
}

void TileWorkers::take_jobs() {
  std::unique_lock lock(mutex_);
  while (next_ < count_) {
    const size_t mine = next_++;
    ++active_;
    lock.unlock();
    std::exception_ptr error;
    try {
      (*job_)(mine);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    errors_[mine] = error;
    if (--active_ == 0) end_.notify_all();
  }
}

void TileWorkers::work() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      begin_.wait(lock, [this] { return stopping_ || next_ < count_; });
      if (stopping_) return;
    }
    take_jobs();
  }
}

}  // namespace cx::hw
