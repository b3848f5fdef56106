#include "tb/stress/card_stress.hpp"

#include <fmt/format.h>

#include <atomic>
#include <cstring>

#include "hw/regs/gen/packets.hpp"
#include "tb/driver/runtime/sample_program.hpp"

namespace cx::stress {

namespace {

constexpr uint32_t kElements = 96;
constexpr float kAddend = 2.25f;
constexpr uint64_t kResultBytes = kElements * sizeof(float);
constexpr uint32_t kRecoveriesInRow = 4;
constexpr uint32_t kGoodRounds = 3, kRounds = 200;  // of all kinds of work without a fault; tried at most
constexpr uint64_t kUnmapped = uint64_t{1} << 46;   // no host memory of ours lies there

// Faults that strike one packet, with the statuses by which it fails.
struct FaultKind {
  const char *text;
  std::set<uint32_t> statuses;
  bool once;  // at most one packet for each fault
};

const std::vector<FaultKind> &fault_kinds() {
  static const std::vector<FaultKind> kinds{
      {"iommu", {CX_STATUS_IOMMU_FAULT}, true},
      {"illegal_packet", {CX_STATUS_BAD_TYPE}, true},
      {"illegal_instruction@engine=vpu", {CX_STATUS_ILLEGAL_INSTRUCTION}, true},
      {"illegal_instruction@engine=store", {CX_STATUS_ILLEGAL_INSTRUCTION}, true},
      {"bad_address@engine=load", {CX_STATUS_SEGMENT_FAULT}, true},
      {"bad_address@engine=store,after_launches=1", {CX_STATUS_SEGMENT_FAULT}, true},
      {"engine_hang@engine=vpu", {CX_STATUS_ENGINE_HANG, CX_STATUS_TIMEOUT}, false},
      {"engine_hang@engine=load,cure=engine_reset", {CX_STATUS_ENGINE_HANG, CX_STATUS_TIMEOUT}, false},
      {"engine_hang@engine=store,cure=function_reset", {CX_STATUS_ENGINE_HANG, CX_STATUS_TIMEOUT}, false},
      {"thermal_trip@duration_us=200", {CX_STATUS_THERMAL_TRIP}, false},
      {"firmware_crash", {CX_STATUS_FIRMWARE_CRASH}, false},
      {"firmware_crash@lockup=1", {CX_STATUS_FIRMWARE_CRASH}, false},
      {"link_down@duration_us=300", {CX_STATUS_LINK_DOWN}, false},
  };
  return kinds;
}

}  // namespace

CardStress::CardStress(std::unique_ptr<Device> device, const Limits &limits, uint64_t seed)
    : device_(std::move(device)), limits_(limits), random_(seed) {
  tally_.digest = 0xcbf29ce484222325;
  const std::vector<std::byte> image = test::sample_program(device_->target().arch_hash, kElements, kAddend).image;
  program_ = device_->allocate(image.size(), ImageBuilder::kMaxAlign);
  device_->upload(program_.address(), image);
  for (uint32_t i = 0; i < kElements; ++i) {
    input_.push_back(static_cast<float>(random(0, 1000)) - 500.0f);
    output_.push_back(std::max(input_.back() + kAddend, 0.0f));
  }
  input_memory_ = device_->allocate(kResultBytes);
  device_->upload(input_memory_.address(), std::as_bytes(std::span(input_)));
  counters_ = device_->allocate_host(64 * limits_.queues);
  lanes_.reserve(limits_.queues);
  for (uint32_t i = 0; i < limits_.queues; ++i) {
    lanes_.emplace_back(limits_.lane_bytes);
    tables_.push_back(device_->allocate(4 * sizeof(cx_segment)));
    make_lane(lanes_.back());
  }
  if (limits_.streams != 0) inbox_ = device_->allocate(limits_.streams * limits_.slot_bytes);
  streams_.reserve(limits_.streams);
  for (uint32_t i = 0; i < limits_.streams; ++i) {
    make_stream(streams_.emplace_back(*device_, limits_.lane_bytes, limits_.slot_bytes));
  }
}

CardStress::~CardStress() = default;

uint64_t CardStress::random(uint64_t from, uint64_t to) { return from + random_() % (to - from + 1); }

uint64_t CardStress::random_size(uint64_t most) {
  uint64_t size = 1;
  while (size < most && chance(85)) size *= 2;
  return random(std::max<uint64_t>(size / 2, 1), std::min(size, most));
}

void CardStress::make_lane(Lane &lane) {
  QueueOptions options;
  options.log2_packets = static_cast<uint32_t>(random(3, 7));
  options.priority = static_cast<uint32_t>(random(0, 3));
  lane.queue = &device_->create_queue(options);
  lane.memory = device_->allocate(limits_.lane_bytes);
  lane.slots = device_->allocate_host(limits_.slots * limits_.slot_bytes);
  lane.slot_used.assign(limits_.slots, false);
  lane.image.forget(0, lane.image.size());
  write_table(tables_[number_of(lane)], lane.memory);
}

CardStress::Range CardStress::results_range() const { return {limits_.lane_bytes - kResultBytes, kResultBytes}; }

void CardStress::write_table(const DeviceBuffer &table, const DeviceBuffer &memory) {
  const cx_segment segments[4] = {{program_.address(), program_.size()},
                                  {0, 0},
                                  {input_memory_.address(), input_memory_.size()},
                                  {memory.address() + results_range().at, kResultBytes}};
  device_->upload(table.address(), std::as_bytes(std::span(segments)));
}

void CardStress::mix_digest(uint64_t value) {
  for (int byte = 0; byte < 8; ++byte) tally_.digest = (tally_.digest ^ (value >> (8 * byte) & 0xff)) * 0x100000001b3;
}

// ---- packets ----

template <class Work>
void CardStress::recovering(Work &&work) {
  try {
    work();
  } catch (const DeviceLostError &) {
    throw;
  } catch (const DeviceFault &fault) {
    recover(fault.what());
  }
}

void CardStress::step() {
  Lane &lane = lanes_[random(0, lanes_.size() - 1)];
  recovering([&] {
    if (limits_.faults && random(1, 400) == 1) {
      provoke();
    } else if (!streams_.empty() && chance(25)) {
      stream_step();
    } else if (chance(15)) {
      resolve(lane);
    } else {
      submit(lane);
    }
  });
}

void CardStress::submit(Lane &lane) {
  if (lane.pending.size() > 64) resolve(lane);
  const uint64_t dice = random(1, 100);
  if (dice <= 25) return submit_upload(lane);
  if (dice <= 45) return submit_download(lane);
  if (dice <= 55) return submit_fill(lane);
  if (dice <= 67) return submit_move(lane);
  if (dice <= 77) return submit_launch(lane);
  if (dice <= 83) return submit_signal(lane);
  if (dice <= 89) return submit_wait(lane);
  if (dice <= 92) return submit_illegal(lane);
  Operation operation;
  operation.kind = dice <= 96 ? Kind::kTimestamp : Kind::kNop;
  const uint64_t iova = counter_iova(number_of(lane)) + 8;
  operation.fence = operation.kind == Kind::kNop ? lane.queue->nop(how(lane, operation))
                                                 : lane.queue->timestamp(iova, how(lane, operation));
  add(lane, std::move(operation));
}

CardStress::Range CardStress::random_range(uint64_t bytes, uint64_t align) {
  return {random(0, (limits_.lane_bytes - bytes) / align) * align, bytes};
}

// Rows of one side lie in the lane with gaps between them, in half of the transfers.
CardStress::Range CardStress::shape_transfer(Operation &operation) {
  const uint64_t bytes = random_size(limits_.slot_bytes);
  operation.rows = chance(50) ? 1 : random(1, std::min<uint64_t>(bytes, 64));
  operation.row_bytes = bytes / operation.rows;
  operation.pitch = operation.row_bytes + (chance(50) ? random(0, 64) : 0);
  return random_range(operation.pitch * (operation.rows - 1) + operation.row_bytes, 1);
}

int CardStress::take_slot(Lane &lane) {
  for (size_t tries = 0; tries < 2; ++tries) {
    for (size_t slot = 0; slot < lane.slot_used.size(); ++slot) {
      if (lane.slot_used[slot]) continue;
      lane.slot_used[slot] = true;
      return static_cast<int>(slot);
    }
    resolve(lane);
  }
  return -1;
}

std::byte *CardStress::slot_data(Lane &lane, int slot) const {
  return lane.slots.data() + static_cast<uint64_t>(slot) * limits_.slot_bytes;
}

uint64_t CardStress::slot_iova(const Lane &lane, int slot) const {
  return lane.slots.iova() + static_cast<uint64_t>(slot) * limits_.slot_bytes;
}

Submit CardStress::how(const Lane &lane, const Operation &operation) {
  bool alone = true;
  for (const Operation &other : lane.pending) {
    const bool clash = other.written.overlaps(operation.read) || other.written.overlaps(operation.written) ||
                       other.read.overlaps(operation.written);
    if (clash) alone = false;
  }
  Submit how;
  how.barrier = !alone || chance(60);
  how.interrupt = chance(30);
  how.ring = chance(70);
  return how;
}

void CardStress::add(Lane &lane, Operation operation) {
  static constexpr const char *names[] = {"upload", "download", "fill",      "move", "launch",
                                          "signal", "wait",     "timestamp", "nop",  "illegal"};
  ++tally_.operations[names[static_cast<size_t>(operation.kind)]];
  lane.pending.push_back(std::move(operation));
}

void CardStress::submit_upload(Lane &lane) {
  Operation operation;
  operation.kind = Kind::kUpload;
  operation.slot = take_slot(lane);
  if (operation.slot < 0) return;
  operation.written = shape_transfer(operation);
  std::byte *data = slot_data(lane, operation.slot);
  for (uint64_t i = 0; i < operation.row_bytes * operation.rows; i += 8) {
    const uint64_t word = random_();
    std::memcpy(data + i, &word, std::min<uint64_t>(8, operation.row_bytes * operation.rows - i));
  }
  operation.fence = lane.queue->copy_2d(CX_DIRECTION_HOST_TO_DEVICE, lane.memory.address() + operation.written.at,
                                        operation.pitch, slot_iova(lane, operation.slot), operation.row_bytes,
                                        operation.row_bytes, operation.rows, how(lane, operation));
  add(lane, std::move(operation));
}

void CardStress::submit_download(Lane &lane) {
  Operation operation;
  operation.kind = Kind::kDownload;
  operation.slot = take_slot(lane);
  if (operation.slot < 0) return;
  operation.read = shape_transfer(operation);
  operation.fence = lane.queue->copy_2d(CX_DIRECTION_DEVICE_TO_HOST, slot_iova(lane, operation.slot),
                                        operation.row_bytes, lane.memory.address() + operation.read.at, operation.pitch,
                                        operation.row_bytes, operation.rows, how(lane, operation));
  add(lane, std::move(operation));
}

void CardStress::submit_fill(Lane &lane) {
  Operation operation;
  operation.kind = Kind::kFill;
  operation.written = random_range(4 * random_size(limits_.slot_bytes / 4), 4);
  operation.pattern = static_cast<uint32_t>(random_());
  operation.fence = lane.queue->fill(lane.memory.address() + operation.written.at, operation.written.bytes,
                                     operation.pattern, how(lane, operation));
  add(lane, std::move(operation));
}

void CardStress::submit_move(Lane &lane) {
  Operation operation;
  operation.kind = Kind::kMove;
  const uint64_t bytes = random_size(limits_.slot_bytes);
  do {
    operation.read = random_range(bytes, 1);
    operation.written = random_range(bytes, 1);
  } while (operation.read.overlaps(operation.written));
  operation.fence = lane.queue->copy_on_device(lane.memory.address() + operation.written.at,
                                               lane.memory.address() + operation.read.at, bytes, how(lane, operation));
  add(lane, std::move(operation));
}

void CardStress::submit_launch(Lane &lane) {
  Operation operation;
  operation.kind = Kind::kLaunch;
  operation.written = results_range();
  operation.fence = lane.queue->launch(program_.address(), static_cast<uint32_t>(program_.size()),
                                       tables_[number_of(lane)].address(), 4, kWatchdogKcycles, how(lane, operation));
  add(lane, std::move(operation));
}

void CardStress::submit_signal(Lane &lane) {
  Operation operation;
  operation.kind = Kind::kSignal;
  operation.value = ++lane.signalled;
  // In order: a signal that overtakes an earlier one would take its value back.
  operation.fence = lane.queue->signal(counter_iova(number_of(lane)), operation.value, false, {.barrier = true});
  add(lane, std::move(operation));
}

// For a signal that has been submitted: nothing can wait in a circle.
void CardStress::submit_wait(Lane &lane) {
  const size_t other = random(0, lanes_.size() - 1);
  Operation operation;
  operation.kind = Kind::kWait;
  lanes_[other].queue->flush();
  operation.fence =
      lane.queue->wait_value(counter_iova(other), CX_COMPARE_GE, lanes_[other].signalled, {.barrier = true});
  add(lane, std::move(operation));
}

void CardStress::submit_illegal(Lane &lane) {
  Operation operation;
  operation.kind = Kind::kIllegal;
  const uint64_t inside = lane.memory.address() + random_range(64, 1).at;
  // The destination is not touched but by the last, which may write before it fails.
  switch (random(0, 3)) {
    case 0: {
      packets::Nop packet;
      Queue::RawPacket bytes = packet.to_bytes();
      bytes[63] = static_cast<uint8_t>(random(1, 255));
      operation.must_fail = {CX_STATUS_RESERVED_BITS};
      operation.fence = lane.queue->submit_raw(bytes, true, how(lane, operation));
      break;
    }
    case 1: {
      packets::Nop packet;
      Queue::RawPacket bytes = packet.to_bytes();
      bytes[0] = static_cast<uint8_t>(random(CX_PKT_TYPE_MAX + 1, 255));
      operation.must_fail = {CX_STATUS_BAD_TYPE};
      operation.fence = lane.queue->submit_raw(bytes, true, how(lane, operation));
      break;
    }
    case 2:
      operation.must_fail = {CX_STATUS_BAD_ADDRESS};
      operation.fence = lane.queue->copy_on_device(kUnmapped, inside, 64, how(lane, operation));
      break;
    default:
      operation.must_fail = {CX_STATUS_IOMMU_FAULT};
      operation.written = {inside - lane.memory.address(), 64};
      operation.fence = lane.queue->copy_to_device(inside, kUnmapped, 64, how(lane, operation));
      break;
  }
  add(lane, std::move(operation));
}

// ---- faults ----

void CardStress::inject(const std::string &fault) {
  if (limits_.log) fmt::print(stderr, "{:.3f} us: {}\n", static_cast<double>(device_->time_ps()) * 1e-6, fault);
  device_->inject(fault);
}

void CardStress::provoke() {
  const uint64_t dice = random(0, fault_kinds().size() + 3);
  if (dice >= fault_kinds().size()) {
    const size_t victim = random(0, lanes_.size() + streams_.size() - 1);
    const Region &region =
        victim < lanes_.size() ? static_cast<Region &>(lanes_[victim]) : streams_[victim - lanes_.size()];
    const bool corrected = chance(50);
    if (!corrected) expected_.insert(CX_STATUS_ECC_UNCORRECTED);
    const char *kind = corrected ? "ecc_corrected" : "ecc_uncorrected";
    inject(fmt::format("{}@address={},bytes={},seed={}", kind, region.memory.address(), limits_.lane_bytes,
                       random(0, 1'000'000)));
    ++tally_.faults[kind];
    return;
  }
  const FaultKind &fault = fault_kinds()[dice];
  for (const uint32_t status : fault.statuses) {
    if (fault.once) {
      ++armed_[status];
    } else {
      expected_.insert(status);
    }
    was_unreachable_ |= status == CX_STATUS_LINK_DOWN;
  }
  inject(fault.text);
  ++tally_.faults[fault.text];
}

void CardStress::check_failure(const Operation &operation, uint32_t status) {
  ++tally_.failures[std::string(packets::status_name(status))];
  check_status(status, operation.must_fail, Device::describe(*operation.fence.fault()));
}

void CardStress::check_status(uint32_t status, const std::set<uint32_t> &own, const std::string &text) {
  if (own.count(status) != 0 || expected_.count(status) != 0) return;
  const auto armed = armed_.find(status);
  if (armed != armed_.end() && armed->second > 0) {
    --armed->second;
    return;
  }
  throw Broken(fmt::format("a packet failed with {} which nothing provoked: {}", packets::status_name(status), text));
}

void CardStress::recover(const std::string &why) {
  if (++recoveries_in_row_ > kRecoveriesInRow) throw Broken("the card does not come back: " + why);
  const Recovery recovery = device_->recover();
  if (limits_.log) {
    fmt::print(stderr, "{:.3f} us: {}: recovery by {}: {}\n", static_cast<double>(device_->time_ps()) * 1e-6, why,
               name_of(recovery.level), recovery.text);
  }
  ++tally_.recoveries[name_of(recovery.level)];
  expected_.insert({CX_STATUS_ABORTED, CX_STATUS_LINK_DOWN, CX_STATUS_FIRMWARE_CRASH});
  was_unreachable_ = true;  // during a function reset
}

// ---- outcomes ----

void CardStress::resolve(Lane &lane) {
  while (!lane.pending.empty() && lane.pending.front().fence.done()) {
    Operation operation = std::move(lane.pending.front());
    lane.pending.pop_front();
    resolve(lane, operation);
  }
}

void CardStress::resolve(Lane &lane, Operation &operation) {
  const Completion &completion = operation.fence.wait_status();
  ++tally_.completed;
  mix_digest(completion.status);
  mix_digest(completion.end);
  if (completion.status == CX_STATUS_OK) {
    recoveries_in_row_ = 0;
    if (!operation.must_fail.empty()) throw Broken("an illegal packet was executed");
    apply(lane, operation);
  } else {
    check_failure(operation, completion.status);
    if (operation.must_fail.empty() || operation.must_fail.count(CX_STATUS_IOMMU_FAULT) != 0) {
      lane.image.forget(operation.written.at, operation.written.bytes);
    }
    if (operation.kind == Kind::kSignal) {
      // What waits for it shall not wait for ever.
      std::atomic_ref<uint64_t> counter(*reinterpret_cast<uint64_t *>(counters_.data() + 64 * number_of(lane)));
      if (counter.load() < operation.value) counter.store(operation.value);
    }
  }
  if (operation.slot >= 0) lane.slot_used[static_cast<size_t>(operation.slot)] = false;
}

void CardStress::apply(Lane &lane, Operation &operation) {
  switch (operation.kind) {
    case Kind::kUpload:
      for (uint64_t row = 0; row < operation.rows; ++row) {
        const std::byte *data = slot_data(lane, operation.slot) + row * operation.row_bytes;
        lane.image.write(operation.written.at + row * operation.pitch, {data, operation.row_bytes});
      }
      break;
    case Kind::kDownload:
      check_download(lane, operation);
      break;
    case Kind::kFill:
      lane.image.fill(operation.written.at, operation.written.bytes, operation.pattern);
      break;
    case Kind::kMove:
      lane.image.copy(operation.written.at, operation.read.at, operation.read.bytes);
      break;
    case Kind::kLaunch:
      lane.image.write(operation.written.at, std::as_bytes(std::span(output_)));
      break;
    default:
      break;
  }
}

void CardStress::check_download(Lane &lane, const Operation &operation) {
  for (uint64_t row = 0; row < operation.rows; ++row) {
    const std::byte *data = slot_data(lane, operation.slot) + row * operation.row_bytes;
    const uint64_t at = operation.read.at + row * operation.pitch;
    tally_.bytes_compared += lane.image.known_bytes(at, operation.row_bytes);
    const auto different = lane.image.first_difference(at, {data, operation.row_bytes});
    if (!different) continue;
    throw Broken(fmt::format("queue {}: byte {} of its memory is wrong ({} bytes copied from {})", lane.queue->id(),
                             *different, operation.row_bytes, at));
  }
}

// ---- rest ----

void CardStress::wait_for(Lane &lane) {
  while (!lane.pending.empty()) {
    const uint64_t before = tally_.completed;
    try {
      lane.pending.front().fence.wait_status(kWaitLimitUs);
    } catch (const DeviceLostError &) {
      throw;
    } catch (const DeviceFault &fault) {
      // A SIGNAL that failed elsewhere is what this queue may wait for.
      for (Lane &other : lanes_) resolve(other);
      if (tally_.completed == before) recover(fault.what());
    }
    resolve(lane);
  }
}

// Faults that are still armed strike here.
void CardStress::spend_faults() {
  HostBuffer data = device_->allocate_host(64);
  const Lane &lane = lanes_.front();
  for (uint32_t good = 0, tries = 0; good < kGoodRounds; ++tries) {
    if (tries == kRounds) throw Broken("faults do not end");
    try {
      if (device_->dead()) device_->recover();
      device_->end_thermal_trip();
      Queue &queue = device_->queue();
      const uint64_t results = lane.memory.address() + limits_.lane_bytes - kResultBytes;
      const Fence fences[] = {queue.copy_to_device(results, data.iova(), 64), queue.nop(),
                              queue.launch(program_.address(), static_cast<uint32_t>(program_.size()),
                                           tables_[0].address(), 4, kWatchdogKcycles)};
      bool all = true;
      for (const Fence &fence : fences) all = fence.wait_status(kWaitLimitUs).status == CX_STATUS_OK && all;
      good = all ? good + 1 : 0;
      if (!all) recover("a fault struck");
    } catch (const DeviceLostError &) {
      throw;
    } catch (const DeviceFault &fault) {
      good = 0;
      recover(fault.what());
    }
    recoveries_in_row_ = 0;
  }
  lanes_.front().image.write(limits_.lane_bytes - kResultBytes, std::as_bytes(std::span(output_)));
  armed_.clear();
  expected_.clear();
}

void CardStress::compare(Region &region, const std::string &owner) {
  std::vector<std::byte> data(limits_.lane_bytes);
  for (;;) {
    try {
      device_->download(data, region.memory.address());
      break;
    } catch (const DeviceFault &fault) {
      if (fault.record().status != CX_STATUS_ECC_UNCORRECTED) throw;
      repair(region, fault.record().address);
    }
  }
  tally_.bytes_compared += region.image.known_bytes(0, data.size());
  if (const auto different = region.image.first_difference(0, data)) {
    throw Broken(fmt::format("{}: byte {} of its memory is wrong at the end", owner, *different));
  }
  region.image.write(0, data);
}

// A word that its code cannot correct is good again when it has been written whole.
void CardStress::repair(Region &region, uint64_t address) {
  const uint64_t at = (address - region.memory.address()) & ~uint64_t{7};
  if (at >= limits_.lane_bytes) throw Broken(fmt::format("a memory error at {:#x}, where none was provoked", address));
  const uint64_t word = random_();
  device_->upload(region.memory.address() + at, std::as_bytes(std::span(&word, 1)));
  region.image.write(at, std::as_bytes(std::span(&word, 1)));
  ++tally_.recoveries["word written"];
}

void CardStress::renew(Lane &lane) {
  device_->destroy_queue(*lane.queue);
  lane.memory = {};
  lane.slots = {};
  make_lane(lane);
}

void CardStress::settle() {
  for (Lane &lane : lanes_) {
    // Another queue may wait for a signal that no doorbell has announced.
    recovering([&] {
      if (!device_->dead()) lane.queue->flush();
    });
  }
  for (Lane &lane : lanes_) wait_for(lane);
  for (StreamLane &lane : streams_) wait_for(lane);
  for (const Lane &lane : lanes_) {
    if (lane.queue->outstanding() != 0) throw Broken("a queue has packets that no fence stands for");
  }
  spend_faults();
  for (Lane &lane : lanes_) compare(lane, fmt::format("queue {}", lane.queue->id()));
  for (StreamLane &lane : streams_) {
    compare(lane, fmt::format("stream {}", number_of(lane)));
    lane.mark = Event();  // a reset may have ended it
  }
  for (const DeviceEvent &event : device_->take_events()) ++tally_.events[name_of(event.kind)];
  if (chance(30)) renew(lanes_[random(0, lanes_.size() - 1)]);
  if (!streams_.empty() && chance(30)) {
    StreamLane &lane = streams_[random(0, streams_.size() - 1)];
    lane.stream.reset();
    make_stream(lane);
  }
}

}  // namespace cx::stress
