#include "tb/fuzz/card.hpp"

#include <algorithm>
#include <cstring>

#include "driver/runtime/image_builder.hpp"
#include "driver/umd/shipped_files.hpp"
#include "hw/regs/gen/dev_regs.h"
#include "hw/regs/gen/isa.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/queue_regs.h"
#include "tb/driver/runtime/sample_program.hpp"
#include "tb/fuzz/fuzz.hpp"

namespace cx::fuzz {

namespace {

constexpr uint32_t kFirstQueue = 1;  // 0 is the driver's own
constexpr uint64_t kPsPerUs = 1'000'000;
// Simulated time without progress that is no hang yet.
constexpr uint64_t kWaitUs = 100;          // of a WAIT or BARRIER; then the host resets the queue
constexpr uint64_t kTransferUs = 500'000;  // of a COPY or FILL: 16 MiB in the smallest pieces
constexpr uint64_t kCommandUs = 100'000;   // of a command to the firmware
constexpr uint64_t kLaunchMarginUs = 10'000;
constexpr uint64_t kDefaultLaunchUs = 2'200'000;  // the firmware's default, 2^20 units of 1024 cycles of 2 ns

uint64_t limit_us(const packets::Bytes &packet) {
  switch (static_cast<packets::Type>(packet[0])) {
    case packets::Type::WAIT:
    case packets::Type::BARRIER_AND:
    case packets::Type::BARRIER_OR:
      return kWaitUs;
    case packets::Type::LAUNCH: {
      cx_packet_launch launch;
      std::memcpy(&launch, packet.data(), sizeof launch);
      if (launch.timeout_kcycles == 0) return kDefaultLaunchUs + kLaunchMarginUs;
      return launch.timeout_kcycles * uint64_t{1024} / 500 + kLaunchMarginUs;  // 500 MHz
    }
    default:
      return kTransferUs;
  }
}

bool waits(const packets::Bytes &packet) { return limit_us(packet) == kWaitUs; }

cx_packet_execute execute_of(const packets::Bytes &packet) {
  cx_packet_execute execute;
  std::memcpy(&execute, packet.data(), sizeof execute);
  return execute;
}

std::vector<std::byte> one_stream(uint64_t arch_hash, isa::Engine engine, const std::vector<isa::Inst> &instructions) {
  ImageBuilder builder;
  builder.add_stream(static_cast<uint32_t>(engine), instructions);
  return builder.finish(arch_hash, 4);
}

/// The programs that packets may launch: a good one, one that waits for ever, one that no engine executes, one that
/// leaves its segment.
std::vector<std::vector<std::byte>> program_images(uint64_t arch_hash) {
  isa::SemWait wait;
  wait.count = 1;
  isa::Mdesc outside;
  outside.segment = 2;
  outside.offset = 1 << 20;
  isa::Tdesc place;
  place.dtype = isa::DType::FP32;
  place.dims = {1, 1, 1, 16};
  place.strides = {64, 64, 64, 4};
  const isa::Inst end = isa::End{}.encode();
  isa::Inst illegal{};
  illegal[0] = 0xee;
  return {test::sample_program(arch_hash).image, one_stream(arch_hash, isa::Engine::VPU, {wait.encode(), end}),
          one_stream(arch_hash, isa::Engine::DMMU, {illegal, end}),
          one_stream(arch_hash, isa::Engine::LOAD, {place.encode(), outside.encode(), isa::DmaLoad{}.encode(), end})};
}

}  // namespace

Card &Card::instance() {
  static auto *card = new Card;  // never destroyed: the kernel's own static objects may be gone before
  return *card;
}

Card::Card() {
  DeviceOptions options;
  options.overrides = {"dram.mib=16", "spm.kib=64"};
  options.staging_bytes = 64 << 10;
  device_ = Device::open(chip_config("tiny"), options);
  arena_ = device_->allocate_host(kArenaBytes);
  for (HostBuffer &ring : rings_) ring = device_->allocate_host(4096, false);
  lists_ = device_->allocate_host(kListsBytes, false);
  programs_ = device_->allocate(kPrograms * kProgramBytes, ImageBuilder::kMaxAlign);
  data_ = device_->allocate(kDataBytes, 4096);
  table_ = device_->allocate(4096, 4096);
  program_bytes_.resize(programs_.size());
  const auto images = program_images(device_->target().arch_hash);
  for (std::size_t i = 0; i < images.size(); ++i) {
    require(images[i].size() <= kProgramBytes - 64, "a program does not fit its place");
    std::byte *place = program_bytes_.data() + i * kProgramBytes;
    std::copy(images[i].begin(), images[i].end(), place);
    // Its segment table lies behind it.
    const cx_segment segments[4] = {{programs_.address() + i * kProgramBytes, images[i].size()},
                                    {data_.address(), 4096},
                                    {data_.address() + 4096, 4096},
                                    {data_.address() + 8192, 4096}};
    std::memcpy(place + kProgramBytes - sizeof segments, segments, sizeof segments);
  }
  restore();
}

uint64_t Card::queue_offset(uint64_t offset) { return CX_MAP_QUEUE_OFFSET + offset; }

void Card::restore() {
  std::memset(arena_.data(), 0, arena_.size());
  std::memset(lists_.data(), 0, lists_.size());
  device_->upload(programs_.address(), program_bytes_);
}

void Card::take_interrupts() {
  while (device_->transport().take_interrupt()) {
  }
}

void Card::command(uint32_t op, uint32_t queue) {
  const uint64_t at = CX_MAP_DEV_OFFSET + CX_DEV_HOST_CMD;
  device_->write_register(at, op << CX_DEV_HOST_CMD_OP_SHIFT | queue << CX_DEV_HOST_CMD_QUEUE_SHIFT);
  // Not by wait_until(): the driver would collect the stream's faults.
  const uint64_t deadline = device_->time_ps() + kCommandUs * kPsPerUs;
  while (device_->read_register(at) != CX_DEV_HOST_CMD_OP_NONE) {
    require(device_->time_ps() < deadline, "the firmware does not serve a command of the host");
    device_->transport().advance(2 * kPsPerUs);
    take_interrupts();
  }
}

void Card::forget_faults() {
  while (device_->take_fault()) {
  }
}

void Card::put(uint64_t iova, std::span<const packets::Bytes> list) {
  std::memcpy(lists_.data() + (iova - lists()), list.data(), list.size_bytes());
}

std::size_t Card::room(uint64_t iova) const {
  if (iova % sizeof(packets::Bytes) != 0 || iova < lists() || iova >= lists() + kListsBytes) return 0;
  return (lists() + kListsBytes - iova) / sizeof(packets::Bytes);
}

std::vector<packets::Bytes> Card::list_of(const packets::Bytes &packet) const {
  if (packet[0] != CX_PKT_EXECUTE) return {packet};
  const cx_packet_execute execute = execute_of(packet);
  std::vector<packets::Bytes> list(std::min<std::size_t>(execute.count, room(execute.list)));
  if (!list.empty()) {
    std::memcpy(list.data(), lists_.data() + (execute.list - lists()), list.size() * sizeof(packets::Bytes));
  }
  // It ends with the first that is none.
  const auto end = std::find_if(list.begin(), list.end(), [](const packets::Bytes &entry) {
    uint32_t detail = 0;
    return cx_packet_validate(entry.data(), &detail) != CX_STATUS_OK;
  });
  list.erase(end, list.end());
  return list;
}

bool Card::may_wait(const packets::Bytes &packet) const {
  const auto list = list_of(packet);
  // What lies elsewhere the device may have changed since it read it.
  const bool elsewhere = packet[0] == CX_PKT_EXECUTE && room(execute_of(packet).list) == 0;
  return elsewhere || std::any_of(list.begin(), list.end(), waits);
}

uint64_t Card::longest_us(const packets::Bytes &packet) const {
  if (may_wait(packet)) return kWaitUs;
  uint64_t sum = kTransferUs;
  if (packet[0] != CX_PKT_EXECUTE) return limit_us(packet);
  for (const packets::Bytes &entry : list_of(packet)) sum += limit_us(entry);
  return sum;
}

struct Card::Running {
  const Stream &stream;
  HostBuffer &ring;
  uint32_t id;
  uint32_t written = 0, read = 0;
  bool done = false, ended_by_host = false;
  const packets::Bytes &oldest() const { return stream.packets[read]; }
};

void Card::start(Running &running) {
  const uint32_t n = running.id;
  device_->write_register(queue_offset(CX_QUEUE_BASE_LO(n)), static_cast<uint32_t>(running.ring.iova()));
  device_->write_register(queue_offset(CX_QUEUE_BASE_HI(n)), static_cast<uint32_t>(running.ring.iova() >> 32));
  device_->write_register(queue_offset(CX_QUEUE_SIZE(n)), running.stream.log2_ring);
  device_->write_register(queue_offset(CX_QUEUE_PRIORITY(n)), running.stream.priority);
  device_->write_register(queue_offset(CX_QUEUE_VECTOR(n)), 0);
  command(CX_DEV_HOST_CMD_OP_QUEUE_ENABLE, n);
}

void Card::feed(Running &running) {
  const uint32_t size = 1u << running.stream.log2_ring, before = running.written;
  while (running.written < running.stream.packets.size() && running.written - running.read < size) {
    std::byte *slot = running.ring.data() + (running.written % size) * sizeof(packets::Bytes);
    std::memcpy(slot, running.stream.packets[running.written].data(), sizeof(packets::Bytes));
    ++running.written;
    if (running.stream.each) device_->write_register(queue_offset(CX_QUEUE_DOORBELL(running.id)), running.written);
  }
  if (!running.stream.each && running.written != before) {
    device_->write_register(queue_offset(CX_QUEUE_DOORBELL(running.id)), running.written);
  }
}

std::array<Card::Outcome, 2> Card::run(const std::array<Stream, 2> &streams) {
  Running queues[2] = {{streams[0], rings_[0], kFirstQueue}, {streams[1], rings_[1], kFirstQueue + 1}};
  for (Running &queue : queues) {
    queue.done = queue.stream.packets.empty();
    if (!queue.done) start(queue);
  }
  uint64_t since = device_->time_ps();
  uint64_t slice_us = 4;
  const auto running = [&] { return !queues[0].done || !queues[1].done; };
  while (running()) {
    bool progress = false;
    for (Running &queue : queues) {
      if (queue.done) continue;
      feed(queue);
      const uint32_t read = queue_register(CX_QUEUE_READ_INDEX(queue.id));
      require(read >= queue.read && read <= queue.written, "READ_INDEX is not between the packets read and written");
      progress |= read != queue.read;
      queue.read = read;
      if (read == queue.stream.packets.size()) queue.done = true;
    }
    if (progress) {
      since = device_->time_ps();
      slice_us = 4;
      continue;
    }
    const uint64_t stood_us = (device_->time_ps() - since) / kPsPerUs;
    uint64_t allowed_us = 0;
    for (Running &queue : queues) {
      if (!queue.done) allowed_us = std::max(allowed_us, longest_us(queue.oldest()));
    }
    if (stood_us > allowed_us) {
      // Nobody will satisfy them: the host ends what waits.
      for (Running &queue : queues) {
        if (queue.done) continue;
        if (!may_wait(queue.oldest())) {
          fail("queue " + std::to_string(queue.id) + " makes no progress at packet " + std::to_string(queue.read) +
               " of type " + std::to_string(queue.oldest()[0]) + " for " + std::to_string(stood_us) + " us of " +
               std::to_string(allowed_us));
        }
        command(CX_DEV_HOST_CMD_OP_QUEUE_RESET, queue.id);
        queue.done = queue.ended_by_host = true;
      }
      continue;
    }
    device_->transport().advance(slice_us * kPsPerUs);
    take_interrupts();
    slice_us = std::min<uint64_t>(slice_us * 2, 20'000);
  }
  uint32_t broken = 0;
  std::array<Outcome, 2> outcomes;
  for (std::size_t i = 0; i < 2; ++i) {
    Running &queue = queues[i];
    outcomes[i] = {queue.read, queue.ended_by_host};
    for (uint32_t n = 0; n < queue.read; ++n) {
      uint32_t detail = 0;
      broken += cx_packet_validate(queue.stream.packets[n].data(), &detail) != CX_STATUS_OK;
    }
    if (!queue.stream.packets.empty()) {
      const uint32_t state = queue_register(CX_QUEUE_STATE(queue.id));
      require((state & CX_QUEUE_STATE_STATE_MASK) != CX_QUEUE_STATE_STATE_ERROR, "the ring itself was refused");
      command(CX_DEV_HOST_CMD_OP_QUEUE_RESET, queue.id);
    }
  }
  const auto dev = [&](uint64_t offset) { return device_->read_register(CX_MAP_DEV_OFFSET + offset); };
  const uint32_t faults = dev(CX_DEV_FAULT_COUNT), code = dev(CX_DEV_FAULT_CODE);
  require(faults >= broken, "a broken packet completed without a fault");
  require((faults == 0) == (code == 0), "the number of faults and the code of the first contradict");
  require(packets::status_name(code) != "UNKNOWN", "a fault has no known code");
  forget_faults();
  return outcomes;
}

void Card::launch(const std::vector<std::byte> &image, uint32_t timeout_kcycles) {
  const DeviceBuffer place = device_->allocate(image.size(), ImageBuilder::kMaxAlign);
  const cx_segment segments[4] = {{place.address(), image.size()},
                                  {data_.address(), 16 << 10},
                                  {data_.address() + (16 << 10), 16 << 10},
                                  {data_.address() + (32 << 10), 16 << 10}};
  device_->upload(place.address(), image);
  device_->upload(table_.address(), std::as_bytes(std::span(segments)));
  const Fence fence = device_->queue().launch(place.address(), static_cast<uint32_t>(image.size()), table_.address(), 4,
                                              timeout_kcycles, {.interrupt = true});
  const Completion &completion = fence.wait_status(timeout_kcycles * uint64_t{1024} / 500 + kLaunchMarginUs);
  require(packets::status_name(completion.status) != "UNKNOWN", "a launch ended with a status that nobody knows");
  require(completion.end >= completion.start, "a launch ended before it started");
  forget_faults();
}

void Card::require_alive() {
  try {
    device_->queue().nop({.interrupt = true}).wait(10'000);
    device_->queue().drain(10'000);
  } catch (const Error &error) {
    fail(std::string("the card does not complete a NOP: ") + error.what());
  }
  const auto fault = device_->take_fault();
  if (fault) fail("a fault was left over: " + Device::describe(*fault));
  const uint32_t status = device_->read_register(CX_MAP_DEV_OFFSET + CX_DEV_FW_STATUS) & CX_DEV_FW_STATUS_STATE_MASK;
  require(status == CX_DEV_FW_STATUS_STATE_READY, "the firmware is not READY");
}

}  // namespace cx::fuzz
