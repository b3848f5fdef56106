#include "driver/umd/transfer.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>

#include "driver/umd/device.hpp"

namespace cx {

struct Transfer::State {
  struct Part {
    Fence fence;
    uint64_t at, bytes;
    std::byte *stage;  // null: pinned
  };
  State(Device &owner, Queue &through, bool to_device, uint64_t device_address, std::byte *memory, uint64_t size)
      : device(&owner),
        queue(&through),
        upload(to_device),
        address(device_address),
        host(memory),
        bytes(size),
        pinned(owner.pinned_address(memory, size)) {
    if (!pinned) staging = owner.take_staging();
  }

  Device *device;
  Queue *queue;
  bool upload;
  uint64_t address;  // of the device
  std::byte *host;   // only read by an upload
  uint64_t bytes;
  std::optional<uint64_t> pinned;  // DMA address
  HostBuffer staging;
  uint64_t next = 0;       // offset of the first byte that is not queued
  unsigned turn = 0;       // half of the staging memory that comes next
  std::deque<Part> parts;  // queued, oldest first
  uint64_t start = 0, end = 0;

  uint64_t half() const { return staging.size() / 2; }
  bool room() const { return next < bytes && (pinned || parts.size() < 2); }
};

Transfer::Transfer() = default;
Transfer::Transfer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Transfer::Transfer(Transfer &&other) noexcept = default;

Transfer &Transfer::operator=(Transfer &&other) noexcept {
  Transfer old(std::move(*this));
  state_ = std::move(other.state_);
  return *this;
}

Transfer::~Transfer() {
  if (!state_) return;
  try {
    for (const State::Part &part : state_->parts) {
      if (state_->queue->suspect()) return;  // a wait for it has run out of time already
      part.fence.wait_status();
    }
    if (state_->staging) state_->device->give_staging(std::move(state_->staging));
  } catch (const std::exception &) {
    // The staging memory is unmapped and freed with the state: the device cannot reach it any more.
  }
}

bool Transfer::pinned() const { return state_ && state_->pinned.has_value(); }
uint64_t Transfer::start_cycles() const { return state_ ? state_->start : 0; }
uint64_t Transfer::end_cycles() const { return state_ ? state_->end : 0; }

void Transfer::issue() {
  State &s = *state_;
  const uint64_t bytes = std::min(s.bytes - s.next, s.pinned ? kLargestCopy : s.half());
  std::byte *stage = nullptr;
  uint64_t iova = 0;
  if (s.pinned) {
    iova = *s.pinned + s.next;
  } else {
    stage = s.staging.data() + s.turn * s.half();
    iova = s.staging.iova() + s.turn * s.half();
    s.turn ^= 1;
    if (s.upload) std::memcpy(stage, s.host + s.next, bytes);
  }
  const Submit how{.interrupt = true};
  const Fence fence = s.upload ? s.queue->copy_to_device(s.address + s.next, iova, bytes, how)
                               : s.queue->copy_to_host(iova, s.address + s.next, bytes, how);
  s.parts.push_back({fence, s.next, bytes, stage});
  s.next += bytes;
}

void Transfer::retire() {
  State &s = *state_;
  const State::Part part = s.parts.front();
  s.parts.pop_front();
  Completion completion;
  try {
    completion = part.fence.wait();
  } catch (const DeviceFault &) {
    s.next = s.bytes;  // the copy ends here
    throw;
  }
  if (!s.upload && part.stage != nullptr) std::memcpy(s.host + part.at, part.stage, part.bytes);
  if (s.start == 0) s.start = completion.start;
  s.end = completion.end;
}

bool Transfer::poll() {
  if (!state_) return true;
  for (;;) {
    if (!state_->parts.empty() && state_->parts.front().fence.done()) {
      retire();
    } else if (state_->room()) {
      issue();
    } else {
      break;
    }
  }
  if (!state_->parts.empty()) return false;
  if (state_->staging) state_->device->give_staging(std::move(state_->staging));
  return true;
}

bool Transfer::stop() {
  if (!state_) return true;
  state_->next = state_->bytes;
  auto &parts = state_->parts;
  while (!parts.empty() && parts.front().fence.done()) {
    parts.front().fence.wait_status();
    parts.pop_front();
  }
  if (!parts.empty()) return false;
  if (state_->staging) state_->device->give_staging(std::move(state_->staging));
  return true;
}

void Transfer::wait(uint64_t limit_us) {
  while (!poll()) state_->parts.front().fence.wait_status(limit_us);
}

// ---- of the device ----

Transfer Device::upload_async(Queue &queue, uint64_t dst, std::span<const std::byte> src) {
  check_device_range(dst, src.size(), "upload");
  if (src.empty()) return {};
  // The state serves both directions; an upload does not write to host memory.
  auto *host = const_cast<std::byte *>(src.data());
  Transfer transfer(std::make_unique<Transfer::State>(*this, queue, true, dst, host, src.size()));
  transfer.poll();
  return transfer;
}

Transfer Device::download_async(Queue &queue, std::span<std::byte> dst, uint64_t src) {
  check_device_range(src, dst.size(), "download");
  if (dst.empty()) return {};
  Transfer transfer(std::make_unique<Transfer::State>(*this, queue, false, src, dst.data(), dst.size()));
  transfer.poll();
  return transfer;
}

void Device::upload(uint64_t dst, std::span<const std::byte> src) { upload_async(queue(), dst, src).wait(); }

void Device::download(std::span<std::byte> dst, uint64_t src) { download_async(queue(), dst, src).wait(); }

HostBuffer Device::take_staging() {
  const std::lock_guard lock(lock_);
  if (staging_.empty()) return allocate_host(options_.staging_bytes, true, "staging");
  HostBuffer buffer = std::move(staging_.back());
  staging_.pop_back();
  return buffer;
}

void Device::give_staging(HostBuffer buffer) noexcept {
  const std::lock_guard lock(lock_);
  constexpr size_t kKept = 4;
  if (staging_.size() >= kKept) return;
  try {
    staging_.push_back(std::move(buffer));
  } catch (const std::bad_alloc &) {
    // It is freed instead.
  }
}

}  // namespace cx
