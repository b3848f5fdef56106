// Streams of a card under stress: batches of work whose effect on memory is known when all of it has succeeded.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "hw/regs/gen/packets.hpp"
#include "tb/stress/card_stress.hpp"

namespace cx::stress {

namespace {

constexpr size_t kLargestBatch = 24;
constexpr uint64_t kListBytes = 4096;  // of the copy and the fill in a stream's list

}  // namespace

void CardStress::make_stream(StreamLane &lane) {
  lane.stream = device_->streams().create(static_cast<uint32_t>(random(0, 3)));
  lane.memory = device_->allocate(limits_.lane_bytes);
  lane.image.forget(0, lane.image.size());
  lane.table = device_->allocate(4 * sizeof(cx_segment));
  write_table(lane.table, lane.memory);
  lane.list.emplace(*device_);
  lane.list_range = random_range(2 * kListBytes, 64);
  lane.pattern = static_cast<uint32_t>(random_());
  const uint64_t first = lane.memory.address() + lane.list_range.at;
  lane.list->fill(first, kListBytes, lane.pattern);
  lane.list->copy_on_device(first + kListBytes, first, kListBytes);
  lane.list->launch(program_.address(), static_cast<uint32_t>(program_.size()), lane.table.address(), 4,
                    kWatchdogKcycles);
  lane.list_signal = lane.list->signal(lane.timeline, lane.signalled);
  lane.list->finish();
}

void CardStress::set_peer(CardStress &peer) { peer_ = &peer; }

void CardStress::stream_step() {
  StreamLane &lane = streams_[random(0, streams_.size() - 1)];
  if (lane.batch.size() >= kLargestBatch) return wait_for(lane);
  if (chance(10)) {
    if (lane.stream->done()) resolve(lane);
    return;
  }
  try {
    submit(lane);
  } catch (const DeviceLostError &) {
    throw;
  } catch (const DeviceFault &) {
    // The stream's own error is looked at with its batch.
    if (device_->dead()) throw;
  }
}

void CardStress::submit(StreamLane &lane) {
  static constexpr const char *names[] = {"upload", "download", "fill", "move", "launch",        "list",
                                          "peer",   "signal",   "wait", "mark", "wait for mark", "call"};
  static constexpr uint64_t kShares[] = {18, 18, 8, 10, 7, 9, 10, 5, 5, 4, 3, 3};
  uint64_t dice = random(1, 100);
  size_t kind = 0;
  while (dice > kShares[kind]) dice -= kShares[kind++];
  ++tally_.operations[std::string("stream ") + names[kind]];
  // In the batch first: what throws may have begun.
  StreamOperation &operation = lane.batch.emplace_back();
  operation.kind = static_cast<StreamKind>(kind);
  const uint64_t base = lane.memory.address();
  Stream &stream = *lane.stream;
  switch (operation.kind) {
    case StreamKind::kUpload:
    case StreamKind::kDownload: {
      const bool upload = operation.kind == StreamKind::kUpload;
      const uint64_t bytes = random_size(limits_.slot_bytes);
      (upload ? operation.written : operation.read) = random_range(bytes, 1);
      operation.data.resize(bytes);
      for (std::byte &byte : operation.data) byte = static_cast<std::byte>(upload ? random_() : 0);
      if (chance(40)) operation.registration = device_->register_host(operation.data);
      if (upload) {
        stream.upload(base + operation.written.at, operation.data);
      } else {
        stream.download(operation.data, base + operation.read.at);
      }
      break;
    }
    case StreamKind::kFill:
      operation.written = random_range(4 * random_size(limits_.slot_bytes / 4), 4);
      operation.pattern = static_cast<uint32_t>(random_());
      stream.enqueue([at = base + operation.written.at, bytes = operation.written.bytes,
                      pattern = operation.pattern](Queue &queue) { return queue.fill(at, bytes, pattern); });
      break;
    case StreamKind::kMove: {
      const uint64_t bytes = random_size(limits_.slot_bytes);
      do {
        operation.read = random_range(bytes, 1);
        operation.written = random_range(bytes, 1);
      } while (operation.read.overlaps(operation.written));
      stream.enqueue([to = base + operation.written.at, from = base + operation.read.at, bytes](Queue &queue) {
        return queue.copy_on_device(to, from, bytes);
      });
      break;
    }
    case StreamKind::kLaunch:
      operation.written = results_range();
      stream.enqueue([this, table = lane.table.address()](Queue &queue) {
        return queue.launch(program_.address(), static_cast<uint32_t>(program_.size()), table, 4, kWatchdogKcycles,
                            {.interrupt = true});
      });
      break;
    case StreamKind::kList:
      if (lane.list->running()) {
        stream.execute(*lane.list);
      } else {
        lane.list->patch_value(lane.list_signal, lane.signalled + 1);
        stream.execute(*lane.list);
        ++lane.signalled;
      }
      break;
    case StreamKind::kPeer: {
      if (peer_ == nullptr) break;
      const uint64_t bytes = random_size(limits_.slot_bytes);
      operation.read = random_range(bytes, 1);
      operation.written = {random(0, limits_.slot_bytes - bytes), bytes};
      stream.copy_peer(*peer_->device_, peer_->inbox_address(number_of(lane)) + operation.written.at,
                       base + operation.read.at, bytes);
      break;
    }
    case StreamKind::kSignal:
      stream.signal(lane.timeline, lane.signalled + 1);
      ++lane.signalled;
      break;
    case StreamKind::kWait: {
      // For a signal that has been put into a stream, so nothing waits in a circle.
      const StreamLane &other = streams_[random(0, streams_.size() - 1)];
      stream.wait(other.timeline, random(0, other.signalled));
      break;
    }
    case StreamKind::kMark:
      stream.record(lane.mark);
      operation.mark = lane.mark;
      break;
    case StreamKind::kWaitForMark:
      stream.wait(streams_[random(0, streams_.size() - 1)].mark);
      break;
    case StreamKind::kCall:
      operation.number = ++lane.calls_put;
      stream.call([this, &lane, number = operation.number] {
        if (number <= lane.last_call) order_broken_ = true;
        lane.last_call = number;
      });
      break;
  }
}

void CardStress::resolve(StreamLane &lane) {
  if (order_broken_) throw Broken("the host was called in another order than put in");
  uint32_t status = CX_STATUS_OK;
  try {
    lane.stream->check();
  } catch (const DeviceLostError &) {
    throw;
  } catch (const DeviceFault &fault) {
    status = fault.record().status;
    lane.stream->clear_error();
    ++tally_.failures["stream " + std::string(packets::status_name(status))];
    const bool to_peer = std::any_of(lane.batch.begin(), lane.batch.end(), [](const StreamOperation &operation) {
      return operation.kind == StreamKind::kPeer;
    });
    // What cannot be reached behind the other card's link is unmapped.
    std::set<uint32_t> own;
    if (to_peer && peer_ != nullptr && peer_->was_unreachable_) own.insert(CX_STATUS_IOMMU_FAULT);
    check_status(status, own, fault.what());
  }
  tally_.completed += lane.batch.size();
  mix_digest(status);
  uint64_t calls = lane.calls_resolved;
  Event earlier;
  for (StreamOperation &operation : lane.batch) {
    if (status == CX_STATUS_OK) {
      apply(lane, operation);
    } else if (operation.kind == StreamKind::kPeer) {
      lane.outbox.forget(operation.written.at, operation.written.bytes);
    } else if (operation.kind == StreamKind::kList) {
      lane.image.forget(lane.list_range.at, lane.list_range.bytes);
      lane.image.forget(results_range().at, results_range().bytes);
    } else {
      lane.image.forget(operation.written.at, operation.written.bytes);
    }
    if (operation.number != 0) calls = operation.number;
    if (status == CX_STATUS_OK && operation.kind == StreamKind::kMark) {
      if (earlier.recorded()) {
        const int64_t cycles = operation.mark.cycles_since(earlier);
        mix_digest(static_cast<uint64_t>(cycles));
        if (cycles <= 0) throw Broken("a mark in a stream is not behind the one before it");
      }
      earlier = operation.mark;
    }
    operation.registration.release();
  }
  if (status == CX_STATUS_OK) {
    if (lane.last_call != calls) throw Broken("a stream has ended without a call of the host that was put in");
    if (!lane.batch.empty()) recoveries_in_row_ = 0;
  }
  lane.calls_resolved = calls;
  lane.last_call = calls;
  lane.batch.clear();
}

void CardStress::apply(StreamLane &lane, const StreamOperation &operation) {
  const Range &to = operation.written, &from = operation.read;
  switch (operation.kind) {
    case StreamKind::kUpload:
      lane.image.write(to.at, operation.data);
      break;
    case StreamKind::kDownload:
      tally_.bytes_compared += lane.image.known_bytes(from.at, from.bytes);
      if (const auto different = lane.image.first_difference(from.at, operation.data)) {
        throw Broken(fmt::format("stream {}: byte {} of its memory is wrong ({} bytes copied from {})", number_of(lane),
                                 *different, from.bytes, from.at));
      }
      break;
    case StreamKind::kFill:
      lane.image.fill(to.at, to.bytes, operation.pattern);
      break;
    case StreamKind::kMove:
      lane.image.copy(to.at, from.at, from.bytes);
      break;
    case StreamKind::kLaunch:
      lane.image.write(to.at, std::as_bytes(std::span(output_)));
      break;
    case StreamKind::kList:
      lane.image.fill(lane.list_range.at, kListBytes, lane.pattern);
      lane.image.copy(lane.list_range.at + kListBytes, lane.list_range.at, kListBytes);
      lane.image.write(results_range().at, std::as_bytes(std::span(output_)));
      break;
    case StreamKind::kPeer:
      lane.outbox.copy_from(lane.image, from.at, to.at, to.bytes);
      break;
    default:
      break;
  }
}

void CardStress::wait_for(StreamLane &lane) {
  for (;;) {
    try {
      lane.stream->synchronize(kWaitLimitUs);
      break;
    } catch (const DeviceLostError &) {
      throw;
    } catch (const DeviceFault &fault) {
      if (lane.stream->done()) break;
      recover(fault.what());
    }
  }
  resolve(lane);
}

void CardStress::compare_inbox() {
  was_unreachable_ = false;
  if (peer_ == nullptr) return;
  for (StreamLane &lane : streams_) {
    std::vector<std::byte> data(limits_.slot_bytes);
    peer_->device_->download(data, peer_->inbox_address(number_of(lane)));
    tally_.bytes_compared += lane.outbox.known_bytes(0, data.size());
    if (const auto different = lane.outbox.first_difference(0, data)) {
      throw Broken(
          fmt::format("stream {}: byte {} of what it copied to the other card is wrong", number_of(lane), *different));
    }
    lane.outbox.write(0, data);
  }
}

}  // namespace cx::stress
