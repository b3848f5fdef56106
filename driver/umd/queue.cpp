#include "driver/umd/queue.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#include "driver/umd/command_buffer.hpp"
#include "driver/umd/device.hpp"
#include "driver/umd/packet_builders.hpp"
#include "driver/umd/text.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.hpp"
#include "hw/regs/gen/queue_regs.h"

namespace cx {

namespace {

constexpr uint64_t kRecordBytes = CX_COMPLETION_BYTES;
// A fence whose packet raises an interrupt needs no polling; the slice only bounds how late an idle device is noticed.
constexpr uint64_t kInterruptSliceUs = 10'000;
constexpr uint64_t kPollSliceUs = 20;
constexpr size_t kFailuresKept = 64;

template <class Packet>
Packet packet_of(const std::byte *bytes) {
  Packet packet;
  std::memcpy(&packet, bytes, sizeof packet);
  return packet;
}

// Whether a packet reads or writes host memory in [iova, iova + bytes).
bool touches_host(const std::byte *packet, uint64_t iova, uint64_t bytes) {
  const auto touches = [&](uint64_t address, uint64_t size) { return address - iova < bytes || iova - address < size; };
  if (touches(packet_of<cx_packet_header>(packet).completion, kRecordBytes)) return true;
  switch (std::to_integer<uint8_t>(*packet)) {
    case CX_PKT_COPY: {
      const auto copy = packet_of<cx_packet_copy>(packet);
      const auto side = [&](uint64_t address, uint64_t pitch) {
        return copy.rows != 0 && touches(address, pitch * (copy.rows - 1) + copy.row_bytes);
      };
      if (copy.direction == CX_DIRECTION_HOST_TO_DEVICE) return side(copy.src, copy.src_pitch);
      return copy.direction == CX_DIRECTION_DEVICE_TO_HOST && side(copy.dst, copy.dst_pitch);
    }
    case CX_PKT_BARRIER_AND:
    case CX_PKT_BARRIER_OR: {
      static_assert(offsetof(cx_packet_barrier_and, deps) == offsetof(cx_packet_barrier_or, deps));
      const auto barrier = packet_of<cx_packet_barrier_and>(packet);
      return std::any_of(std::begin(barrier.deps), std::end(barrier.deps),
                         [&](uint64_t address) { return touches(address, sizeof address); });
    }
    case CX_PKT_SIGNAL:
      return touches(packet_of<cx_packet_signal>(packet).address, sizeof(uint64_t));
    case CX_PKT_WAIT:
      return touches(packet_of<cx_packet_wait>(packet).address, sizeof(uint64_t));
    case CX_PKT_TIMESTAMP:
      return touches(packet_of<cx_packet_timestamp>(packet).address, sizeof(uint64_t));
    case CX_PKT_EXECUTE: {
      const auto execute = packet_of<cx_packet_execute>(packet);
      return touches(execute.list, uint64_t{execute.count} * Queue::kPacketBytes);
    }
    default:
      return false;
  }
}

}  // namespace

struct Fence::State {
  Queue *queue = nullptr;  // null when it went before the packet had ended
  uint64_t index = 0;
  Queue::RawPacket packet{};
  bool has_record = false;
  bool interrupt = false;
  std::atomic<bool> done = false;  // completion and fault are final, and the queue may be gone
  bool reported = false;
  Completion completion;
  std::optional<DeviceFault::Record> fault;
  std::shared_ptr<const void> keep;  // until the packet has ended
  std::shared_ptr<State> awaited;    // what wait_for() waits for, until the packet has ended
  const HostBuffer *list = nullptr;  // of an EXECUTE packet, as long as `keep`
  std::string entry;                 // the packet of the list that failed

  std::string text() const { return packets::to_string(packet) + entry; }
  void end(const Completion &outcome) {
    completion = outcome;
    if (outcome.entry != 0 && list && outcome.entry <= list->size() / Queue::kPacketBytes) {
      Queue::RawPacket failed;
      std::memcpy(failed.data(), list->data() + (outcome.entry - 1) * Queue::kPacketBytes, Queue::kPacketBytes);
      entry = ", packet " + std::to_string(outcome.entry - 1) + " of its list: " + packets::to_string(failed);
    }
    list = nullptr;
    keep.reset();
    awaited.reset();
    done = true;
  }
};

bool Fence::done() const {
  if (!state_) throw UsageError("an empty fence was asked");
  if (state_->done) return true;
  const std::lock_guard lock(state_->queue->device_.lock());
  if (!state_->done) state_->queue->harvest();
  return state_->done;
}

const Completion &Fence::wait_status(uint64_t limit_us) const {
  if (!done()) {
    Queue &queue = *state_->queue;
    queue.flush();
    queue.guard([&] {
      queue.device_.wait_until([this] { return done(); }, limit_us,
                               "queue " + std::to_string(queue.id()) + " packet " + std::to_string(state_->index) +
                                   " (" + state_->text() + ")",
                               state_->interrupt ? kInterruptSliceUs : kPollSliceUs);
    });
  }
  state_->reported = true;
  return state_->completion;
}

const Completion &Fence::wait(uint64_t limit_us) const {
  wait_status(limit_us);
  if (state_->fault)
    Device::throw_fault(*state_->fault, Device::describe(*state_->fault) + "; packet: " + state_->text());
  return state_->completion;
}

std::optional<DeviceFault::Record> Fence::fault() const {
  if (!state_) throw UsageError("an empty fence was asked");
  return state_->fault;
}

uint64_t Fence::index() const {
  if (!state_) throw UsageError("an empty fence was asked");
  return state_->index;
}

Queue::Queue(Device &device, uint32_t id, const QueueOptions &options)
    : device_(device),
      id_(id),
      options_(options),
      vector_(1 + id < device.info().msix_vectors ? 1 + id : 0),
      ring_(std::make_unique<HostBuffer>(device.allocate_host(kPacketBytes << options.log2_packets, false, "ring"))),
      records_(std::make_shared<HostBuffer>(
          device.allocate_host(kRecordBytes << options.log2_packets, true, "completion records"))) {}

Queue::~Queue() {
  for (const auto &state : pending_) {
    state->queue = nullptr;
    state->end(Completion{.status = CX_STATUS_ABORTED});
    DeviceFault::Record record;
    record.status = CX_STATUS_ABORTED;
    record.queue = static_cast<int>(id_);
    record.packet = state->index;
    state->fault = record;
  }
}

template <class Wait>
void Queue::guard(Wait &&wait) {
  try {
    wait();
  } catch (const TimeoutError &error) {
    const std::lock_guard lock(device_.lock());
    suspect_ = true;
    const std::string reason = waits_for();
    throw TimeoutError(error.what() + (reason.empty() ? "" : "; " + reason));
  } catch (const DeviceFault &) {
    // The card as a whole has stopped: fences tell for themselves.
    if (!device_.dead()) throw;
  }
}

void Queue::wait_for_slot() {
  device_.require_alive();
  auto free = [this] {
    harvest();
    return pending_.size() < capacity();
  };
  if (!free()) {
    ++stats_.full_waits;
    flush();
    guard([&] {
      device_.wait_until(free, 0,
                         "a free slot of queue " + std::to_string(id_) + ", whose ring of " +
                             std::to_string(capacity()) + " packets is full");
    });
    device_.require_alive();
  }
  // A record may be seen shortly before READ_INDEX moves; a ring that is never overfull in its terms keeps both sides'
  // view equal.
  auto consumed = [this] {
    const uint32_t index = device_.read_register(CX_MAP_QUEUE_OFFSET + CX_QUEUE_READ_INDEX(id_));
    consumed_ += static_cast<uint32_t>(index - static_cast<uint32_t>(consumed_));
    return next_ - consumed_ < capacity();
  };
  if (next_ - consumed_ >= capacity()) device_.wait_until(consumed, 0, "READ_INDEX of queue " + std::to_string(id_), 1);
}

Fence Queue::submit_bytes(const RawPacket &bytes, bool patch, const Submit &how) {
  const std::lock_guard lock(device_.lock());
  wait_for_slot();
  const uint64_t slot = next_ & (capacity() - 1);
  auto state = std::make_shared<Fence::State>();
  state->queue = this;
  state->index = next_;
  state->packet = bytes;
  state->has_record = patch;
  state->interrupt = patch && how.interrupt;
  if (patch) {
    const uint16_t vector = how.interrupt ? static_cast<uint16_t>(vector_) : static_cast<uint16_t>(CX_PKT_VECTOR_NONE);
    const uint64_t record = records_->iova() + slot * kRecordBytes;
    const uint64_t value = next_ + 1;
    std::memcpy(state->packet.data() + offsetof(cx_packet_header, vector), &vector, sizeof vector);
    std::memcpy(state->packet.data() + offsetof(cx_packet_header, completion), &record, sizeof record);
    std::memcpy(state->packet.data() + offsetof(cx_packet_header, completion_value), &value, sizeof value);
  }
  // The header word makes the slot valid and is therefore written last.
  std::byte *target = ring_->data() + slot * kPacketBytes;
  uint32_t header = 0;
  std::memcpy(&header, state->packet.data(), sizeof header);
  std::memcpy(target + sizeof header, state->packet.data() + sizeof header, kPacketBytes - sizeof header);
  std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t *>(target)).store(header, std::memory_order_release);
  ++next_;
  ++stats_.submitted;
  pending_.push_back(state);
  if (how.ring) flush();
  return Fence(state);
}

template <class Packet>
Fence Queue::submit(const Packet &packet, const Submit &how) {
  const std::lock_guard lock(device_.lock());
  ++stats_.encoded;
  return submit_bytes(build::complete(packet, how.barrier).to_bytes(), true, how);
}

Fence Queue::submit_raw(const RawPacket &packet, bool patch_completion, const Submit &how) {
  return submit_bytes(packet, patch_completion, how);
}

void Queue::keep(const Fence &fence, std::shared_ptr<const void> what) {
  if (!fence.state_->done) fence.state_->keep = std::move(what);
}

void Queue::flush() {
  const std::lock_guard lock(device_.lock());
  if (rung_ == next_) return;
  rung_ = next_;
  ++stats_.doorbells;
  device_.write_register(CX_MAP_QUEUE_OFFSET + CX_QUEUE_DOORBELL(id_), static_cast<uint32_t>(next_));
}

void Queue::harvest(bool ask) {
  while (!pending_.empty()) {
    const std::shared_ptr<Fence::State> state = pending_.front();
    Completion completion;
    if (state->has_record) {
      std::byte *record = records_->data() + (state->index & (capacity() - 1)) * kRecordBytes;
      const uint64_t value =
          std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t *>(record)).load(std::memory_order_acquire);
      if (value != state->index + 1) return;
      cx_completion seen;
      std::memcpy(&seen, record, sizeof seen);
      completion = {seen.start, seen.end, seen.status, seen.detail, seen.entry};
    } else {
      if (rung_ <= state->index || !ask) return;
      const uint32_t index = device_.read_register(CX_MAP_QUEUE_OFFSET + CX_QUEUE_READ_INDEX(id_));
      consumed_ += static_cast<uint32_t>(index - static_cast<uint32_t>(consumed_));
      if (consumed_ <= state->index) return;
    }
    pending_.pop_front();
    suspect_ = false;
    finish(state, completion);
  }
}

void Queue::finish(const std::shared_ptr<Fence::State> &state, const Completion &outcome) {
  Completion completion = outcome;
  if (const auto awaited = state->awaited; awaited && completion.status == CX_STATUS_OK) {
    // The device tells the end of that packet and not how it was.
    if (!awaited->done) awaited->queue->harvest(false);
    if (awaited->done && awaited->completion.status == CX_STATUS_ABORTED) completion.status = CX_STATUS_ABORTED;
  }
  state->completion = completion;
  try {
    find_fault(*state);
  } catch (const DeviceFault &) {
    // The card stopped while its registers were read: the packet has ended all the same. Where it failed is lost.
  }
  if (!state->fault && (completion.status != CX_STATUS_OK || (!state->has_record && device_.dead()))) {
    DeviceFault::Record record;
    record.status = completion.status != CX_STATUS_OK ? completion.status : uint32_t{CX_STATUS_ABORTED};
    record.queue = static_cast<int>(id_);
    record.packet = state->index;
    if (record.status >= CX_STATUS_ILLEGAL_INSTRUCTION) record.pc = completion.detail;
    state->fault = record;
    state->completion.status = record.status;
  }
  ++stats_.completed;
  if (state->fault) {
    ++stats_.failed;
    std::erase_if(failed_, [](const auto &failed) { return failed->reported; });
    if (failed_.size() < kFailuresKept) failed_.push_back(state);
  }
  state->end(state->completion);
}

void Queue::find_fault(Fence::State &state) {
  if (state.completion.status == CX_STATUS_OK && state.has_record) return;
  if (!device_.dead()) device_.collect_fault();
  // The device captures only the first of several faults in full.
  state.fault = device_.claim_fault(id_, state.index);
  if (!state.fault) return;
  if (!state.has_record) state.completion.status = state.fault->status;
  const uint32_t status = state.completion.status;
  if ((status == CX_STATUS_TIMEOUT || status == CX_STATUS_ENGINE_HANG) && !device_.dead()) {
    state.fault->engines = device_.hang_of(id_, state.index);
  }
}

bool Queue::refers_to(uint64_t iova, uint64_t bytes) {
  harvest();
  const auto touches = [&](const void *packets, size_t size) {
    for (size_t at = 0; at < size; at += kPacketBytes) {
      if (touches_host(static_cast<const std::byte *>(packets) + at, iova, bytes)) return true;
    }
    return false;
  };
  return std::any_of(pending_.begin(), pending_.end(), [&](const auto &state) {
    return touches(state->packet.data(), kPacketBytes) ||
           (state->list && touches(state->list->data(), state->list->size()));
  });
}

uint64_t Queue::outstanding() {
  const std::lock_guard lock(device_.lock());
  harvest();
  return pending_.size();
}

void Queue::drain(uint64_t limit_us) {
  Fence last;
  {
    const std::lock_guard lock(device_.lock());
    if (!pending_.empty()) last.state_ = pending_.back();
    flush();
  }
  if (last.valid()) {
    guard([&] {
      device_.wait_until([&] { return last.done(); }, limit_us, "queue " + std::to_string(id_) + " to drain",
                         last.state_->interrupt ? kInterruptSliceUs : kPollSliceUs);
    });
  }
  Fence first;
  {
    const std::lock_guard lock(device_.lock());
    std::erase_if(failed_, [](const auto &failed) { return failed->reported; });
    if (failed_.empty()) return;
    first.state_ = failed_.front();
    failed_.clear();
  }
  first.wait();
}

// ---- faults ----

uint64_t Queue::abandon(uint32_t status) {
  harvest(false);
  const uint64_t count = pending_.size();
  while (!pending_.empty()) {
    const std::shared_ptr<Fence::State> state = pending_.front();
    pending_.pop_front();
    if (state->has_record) {
      // Nobody else writes it any more, and other queues may wait for it.
      std::byte *record = records_->data() + (state->index & (capacity() - 1)) * kRecordBytes;
      std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t *>(record))
          .store(state->index + 1, std::memory_order_release);
    }
    Completion completion;
    completion.status = status;
    DeviceFault::Record record;
    record.status = status;
    record.queue = static_cast<int>(id_);
    record.packet = state->index;
    state->fault = record;
    state->end(completion);
    ++stats_.completed;
    ++stats_.failed;
    if (failed_.size() < kFailuresKept) failed_.push_back(state);
  }
  return count;
}

void Queue::restart() {
  next_ = rung_ = consumed_ = 0;
  suspect_ = false;
  std::memset(ring_->data(), 0, ring_->size());
  // Packets of other queues that wait for one of before keep its record as it is.
  records_ = std::make_shared<HostBuffer>(device_.allocate_host(records_->size(), true, "completion records"));
}

std::string Queue::waits_for() {
  if (pending_.empty()) return "";
  const Fence::State &oldest = *pending_.front();
  std::string text =
      "queue " + std::to_string(id_) + " stands at packet " + std::to_string(oldest.index) + " (" + oldest.text() + ")";
  const auto memory = [&](uint64_t iova) {
    const auto value = device_.host_value(iova);
    return "host memory at " + hex(iova) + (value ? " holds " + std::to_string(*value) : " is none of the driver's");
  };
  const uint8_t type = oldest.packet[0];
  if (type == CX_PKT_WAIT) {
    cx_packet_wait packet;
    std::memcpy(&packet, oldest.packet.data(), sizeof packet);
    text += ", " + memory(packet.address);
  } else if (type == CX_PKT_BARRIER_AND || type == CX_PKT_BARRIER_OR) {
    std::array<uint64_t, 4> addresses{};
    std::memcpy(addresses.data(), oldest.packet.data() + offsetof(cx_packet_barrier_and, deps), sizeof addresses);
    for (const uint64_t address : addresses) {
      if (address != 0) text += ", " + memory(address);
    }
  } else if (type == CX_PKT_LAUNCH) {
    const std::string engines = describe(device_.engine_states());
    text += engines.empty() ? ", no engine is busy" : ", " + engines;
  }
  const uint32_t state = device_.read_register(CX_MAP_QUEUE_OFFSET + CX_QUEUE_STATE(id_));
  if ((state & CX_QUEUE_STATE_STATE_MASK) == CX_QUEUE_STATE_STATE_ERROR) {
    text += ", the ring is in state ERROR (" +
            std::string(packets::status_name((state & CX_QUEUE_STATE_ERROR_MASK) >> CX_QUEUE_STATE_ERROR_SHIFT)) + ")";
  }
  return text;
}

// ---- packets ----

Fence Queue::copy_2d(uint32_t direction, uint64_t dst, uint64_t dst_pitch, uint64_t src, uint64_t src_pitch,
                     uint64_t row_bytes, uint64_t rows, const Submit &how) {
  return submit(build::copy_2d(direction, dst, dst_pitch, src, src_pitch, row_bytes, rows), how);
}

Fence Queue::copy_to_device(uint64_t dst, uint64_t src_iova, uint64_t bytes, const Submit &how) {
  return submit(build::copy(CX_DIRECTION_HOST_TO_DEVICE, dst, src_iova, bytes), how);
}

Fence Queue::copy_to_host(uint64_t dst_iova, uint64_t src, uint64_t bytes, const Submit &how) {
  return submit(build::copy(CX_DIRECTION_DEVICE_TO_HOST, dst_iova, src, bytes), how);
}

Fence Queue::copy_on_device(uint64_t dst, uint64_t src, uint64_t bytes, const Submit &how) {
  return submit(build::copy(CX_DIRECTION_DEVICE_TO_DEVICE, dst, src, bytes), how);
}

Fence Queue::fill(uint64_t dst, uint64_t bytes, uint32_t pattern, const Submit &how) {
  return submit(build::fill(dst, bytes, pattern), how);
}

Fence Queue::launch(uint64_t program, uint32_t program_bytes, uint64_t segments, uint32_t segment_count,
                    uint32_t timeout_kcycles, const Submit &how, bool timing_only) {
  return submit(build::launch(program, program_bytes, segments, segment_count, timeout_kcycles, timing_only), how);
}

Fence Queue::reconfigure(uint32_t sca_tiles, const Submit &how) { return submit(build::reconfigure(sca_tiles), how); }

Fence Queue::signal(uint64_t iova, uint64_t value, bool add, const Submit &how) {
  return submit(build::signal(iova, value, add ? CX_SIGNAL_OP_ADD : CX_SIGNAL_OP_SET), how);
}

Fence Queue::signal_max(uint64_t iova, uint64_t value, const Submit &how) {
  return submit(build::signal(iova, value, CX_SIGNAL_OP_MAX), how);
}

Fence Queue::wait_value(uint64_t iova, uint32_t compare, uint64_t value, const Submit &how) {
  return submit(build::wait_value(iova, compare, value), how);
}

Fence Queue::barrier(const std::array<uint64_t, 4> &iovas, bool any, const Submit &how) {
  if (any) {
    packets::BarrierOr packet;
    packet.deps = iovas;
    return submit(packet, how);
  }
  packets::BarrierAnd packet;
  packet.deps = iovas;
  return submit(packet, how);
}

Fence Queue::timestamp(uint64_t iova, const Submit &how) { return submit(build::timestamp(iova), how); }

Fence Queue::nop(const Submit &how) { return submit(packets::Nop{}, how); }

Fence Queue::wait_for(const Fence &fence, const Submit &how) {
  const std::lock_guard lock(device_.lock());
  if (fence.done()) {
    const Fence end = nop(how);
    end.state_->awaited = fence.state_;
    return end;
  }
  Queue &other = *fence.state_->queue;
  if (&other.device_ != &device_) throw UsageError("a queue cannot wait for a packet of another device");
  if (!fence.state_->has_record) throw UsageError("a queue cannot wait for a packet without a completion record");
  other.flush();
  // Later packets of that slot leave larger values.
  const uint64_t record = other.records_->iova() + (fence.index() & (other.capacity() - 1)) * kRecordBytes;
  const Fence wait = wait_value(record, CX_COMPARE_GE, fence.index() + 1, how);
  keep(wait, other.records_);
  wait.state_->awaited = fence.state_;
  return wait;
}

Fence Queue::execute(const CommandBuffer &commands, const Submit &how) {
  if (!commands.finished()) throw UsageError("the command buffer is not finished");
  if (&commands.device_ != &device_) throw UsageError("the command buffer belongs to another device");
  const std::lock_guard lock(device_.lock());
  CommandBuffer::Finished &finished = *commands.finished_;
  RawPacket packet = finished.execute;
  if (!how.barrier) packet[offsetof(cx_packet_header, flags)] &= static_cast<uint8_t>(~CX_PKT_FLAGS_BARRIER_MASK);
  const Fence run = submit_bytes(packet, true, how);
  keep(run, commands.finished_);
  run.state_->list = &finished.list;
  std::erase_if(finished.runs, [](const Fence &earlier) { return earlier.state_->done.load(); });
  finished.runs.push_back(run);
  for (const auto &[timeline, value] : commands.signals()) timeline.promise(value);
  return run;
}

}  // namespace cx
