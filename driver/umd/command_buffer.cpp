#include "driver/umd/command_buffer.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <string>

#include "driver/umd/packet_builders.hpp"

namespace cx {

template <class Packet>
uint32_t CommandBuffer::record(const Packet &packet, bool barrier) {
  if (finished()) throw UsageError("the command buffer is finished: nothing more can be recorded");
  if (packets_.size() == kMaxPackets)
    throw UsageError("a command buffer holds " + std::to_string(kMaxPackets) + " packets at most");
  packets_.push_back(build::complete(packet, barrier).to_bytes());
  return static_cast<uint32_t>(packets_.size() - 1);
}

uint32_t CommandBuffer::copy_to_device(uint64_t dst, uint64_t src_iova, uint64_t bytes, bool barrier) {
  return record(build::copy(CX_DIRECTION_HOST_TO_DEVICE, dst, src_iova, bytes), barrier);
}

uint32_t CommandBuffer::copy_to_host(uint64_t dst_iova, uint64_t src, uint64_t bytes, bool barrier) {
  return record(build::copy(CX_DIRECTION_DEVICE_TO_HOST, dst_iova, src, bytes), barrier);
}

uint32_t CommandBuffer::copy_on_device(uint64_t dst, uint64_t src, uint64_t bytes, bool barrier) {
  return record(build::copy(CX_DIRECTION_DEVICE_TO_DEVICE, dst, src, bytes), barrier);
}

uint32_t CommandBuffer::copy_2d(uint32_t direction, uint64_t dst, uint64_t dst_pitch, uint64_t src, uint64_t src_pitch,
                                uint64_t row_bytes, uint64_t rows, bool barrier) {
  return record(build::copy_2d(direction, dst, dst_pitch, src, src_pitch, row_bytes, rows), barrier);
}

uint32_t CommandBuffer::fill(uint64_t dst, uint64_t bytes, uint32_t pattern, bool barrier) {
  return record(build::fill(dst, bytes, pattern), barrier);
}

uint32_t CommandBuffer::launch(uint64_t program, uint32_t program_bytes, uint64_t segments, uint32_t segment_count,
                               uint32_t timeout_kcycles, bool barrier, bool timing_only) {
  return record(build::launch(program, program_bytes, segments, segment_count, timeout_kcycles, timing_only), barrier);
}

uint32_t CommandBuffer::reconfigure(uint32_t sca_tiles, bool barrier) {
  return record(build::reconfigure(sca_tiles), barrier);
}

uint32_t CommandBuffer::signal(uint64_t iova, uint64_t value, uint32_t op, bool barrier) {
  return record(build::signal(iova, value, op), barrier);
}

uint32_t CommandBuffer::wait_value(uint64_t iova, uint32_t compare, uint64_t value, bool barrier) {
  return record(build::wait_value(iova, compare, value), barrier);
}

uint32_t CommandBuffer::timestamp(uint64_t iova, bool barrier) { return record(build::timestamp(iova), barrier); }

uint32_t CommandBuffer::signal(const Timeline &timeline, uint64_t value, bool barrier) {
  const uint32_t index = signal(timeline.iova(), value, CX_SIGNAL_OP_MAX, barrier);
  timelines_.insert({index, {timeline, value, true}});
  return index;
}

uint32_t CommandBuffer::wait(const Timeline &timeline, uint64_t value, bool barrier) {
  const uint32_t index = wait_value(timeline.iova(), CX_COMPARE_GE, value, barrier);
  timelines_.insert({index, {timeline, value, false}});
  return index;
}

std::vector<std::pair<Timeline, uint64_t>> CommandBuffer::signals() const {
  std::vector<std::pair<Timeline, uint64_t>> result;
  for (const auto &[index, use] : finished_->timelines) {
    if (use.signal) result.emplace_back(use.timeline, use.value);
  }
  return result;
}

bool CommandBuffer::can_run() const {
  const TimelineUses &uses = finished_->timelines;
  for (auto wait = uses.begin(); wait != uses.end(); ++wait) {
    const auto &[timeline, value, signal] = wait->second;
    if (signal || timeline.promised() >= value) continue;
    const bool own = std::any_of(uses.begin(), wait, [&wait = wait->second](const auto &earlier) {
      const TimelineUse &use = earlier.second;
      return use.signal && use.timeline.same_as(wait.timeline) && use.value >= wait.value;
    });
    if (!own) return false;
  }
  return true;
}

void CommandBuffer::set_record(uint32_t index, uint64_t iova, uint64_t value) {
  if (finished() || index >= packets_.size())
    throw UsageError("packet " + std::to_string(index) + " of the command buffer cannot be given a record");
  std::byte *packet = reinterpret_cast<std::byte *>(packets_[index].data());
  std::memcpy(packet + offsetof(cx_packet_header, completion), &iova, sizeof iova);
  std::memcpy(packet + offsetof(cx_packet_header, completion_value), &value, sizeof value);
}

void CommandBuffer::finish() {
  if (finished()) throw UsageError("the command buffer is finished already");
  if (packets_.empty()) throw UsageError("the command buffer is empty");
  const std::lock_guard lock(device_.lock());
  auto finished = std::make_shared<Finished>();
  finished->list = device_.allocate_host(packets_.size() * Queue::kPacketBytes, false);
  std::memcpy(finished->list.data(), packets_.data(), packets_.size() * Queue::kPacketBytes);
  packets::Execute execute;
  execute.list = finished->list.iova();
  execute.count = static_cast<uint32_t>(packets_.size());
  finished->execute = build::complete(execute, true).to_bytes();
  finished->timelines = std::move(timelines_);
  finished_ = std::move(finished);
  packets_ = {};
}

uint32_t CommandBuffer::size() const {
  return static_cast<uint32_t>(finished() ? finished_->list.size() / Queue::kPacketBytes : packets_.size());
}

bool CommandBuffer::running() const {
  if (!finished()) return false;
  const std::lock_guard lock(device_.lock());
  std::erase_if(finished_->runs, [](const Fence &run) { return run.done(); });
  return !finished_->runs.empty() || finished_->held.use_count() > 1;
}

std::byte *CommandBuffer::entry_for_patch(uint32_t index, std::initializer_list<uint8_t> types) {
  if (!finished()) throw UsageError("the command buffer is not finished");
  if (index >= size())
    throw UsageError("packet " + std::to_string(index) + " of a command buffer of " + std::to_string(size()));
  if (running()) throw UsageError("the command buffer runs or a stream holds a run back: nothing in it can be changed");
  std::byte *packet = finished_->list.data() + uint64_t{index} * Queue::kPacketBytes;
  if (std::find(types.begin(), types.end(), std::to_integer<uint8_t>(*packet)) == types.end())
    throw UsageError("packet " + std::to_string(index) + " of the command buffer is of another type");
  return packet;
}

void CommandBuffer::patch_launch(uint32_t index, uint64_t segments, uint32_t segment_count) {
  std::byte *packet = entry_for_patch(index, {CX_PKT_LAUNCH});
  std::memcpy(packet + offsetof(cx_packet_launch, segments), &segments, sizeof segments);
  std::memcpy(packet + offsetof(cx_packet_launch, segment_count), &segment_count, sizeof segment_count);
}

void CommandBuffer::patch_copy(uint32_t index, uint64_t dst, uint64_t src) {
  std::byte *packet = entry_for_patch(index, {CX_PKT_COPY});
  std::memcpy(packet + offsetof(cx_packet_copy, dst), &dst, sizeof dst);
  std::memcpy(packet + offsetof(cx_packet_copy, src), &src, sizeof src);
}

void CommandBuffer::patch_value(uint32_t index, uint64_t value) {
  std::byte *packet = entry_for_patch(index, {CX_PKT_SIGNAL, CX_PKT_WAIT});
  static_assert(offsetof(cx_packet_signal, value) == offsetof(cx_packet_wait, value));
  std::memcpy(packet + offsetof(cx_packet_signal, value), &value, sizeof value);
  const auto use = finished_->timelines.find(index);
  if (use != finished_->timelines.end()) use->second.value = value;
}

}  // namespace cx
