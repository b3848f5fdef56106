#include "driver/tools/trace/perfetto_writer.hpp"

#include <fcntl.h>
#include <google/protobuf/io/coded_stream.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "driver/include/cx/error.hpp"
#include "perfetto.pb.h"

namespace cx::tools {

namespace {

using google::protobuf::io::CodedOutputStream;
using perfetto::TracePacket;
using perfetto::TrackEvent;

constexpr uint32_t kSequence = 1;
constexpr std::size_t kPiece = 1 << 20;  // bytes that are written at once
constexpr std::size_t kSpansOfALane = 32;

// Wire types.
constexpr uint32_t kVarint = 0, kFixed64 = 1, kLengthDelimited = 2;

uint8_t *tag(int field, uint32_t type, uint8_t *to) {
  return CodedOutputStream::WriteVarint32ToArray(static_cast<uint32_t>(field) << 3 | type, to);
}
uint8_t *varint(int field, uint64_t value, uint8_t *to) {
  return CodedOutputStream::WriteVarint64ToArray(value, tag(field, kVarint, to));
}
uint8_t *fixed64(int field, uint64_t value, uint8_t *to) {
  return CodedOutputStream::WriteLittleEndian64ToArray(value, tag(field, kFixed64, to));
}
/// What comes before `bytes` bytes.
uint8_t *length(int field, std::size_t bytes, uint8_t *to) {
  return CodedOutputStream::WriteVarint64ToArray(bytes, tag(field, kLengthDelimited, to));
}

}  // namespace

struct PerfettoWriter::Packet {
  perfetto::TracePacket message;
};

PerfettoWriter::PerfettoWriter(const std::string &path) : path_(path), packet_(std::make_unique<Packet>()) {
  file_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) throw InputError(path + ": cannot be written: " + std::strerror(errno));
  buffer_.reserve(2 * kPiece);
  // Names are numbered from here on.
  packet_->message.set_sequence_flags(perfetto::TracePacket::SEQ_INCREMENTAL_STATE_CLEARED);
  packet_->message.set_first_packet_on_sequence(true);
  put();
}

PerfettoWriter::~PerfettoWriter() {
  try {
    flush();
  } catch (const InputError &) {
  }
  close(file_);
}

void PerfettoWriter::put() {
  perfetto::TracePacket &message = packet_->message;
  message.set_trusted_packet_sequence_id(kSequence);
  const std::size_t bytes = message.ByteSizeLong();
  const std::size_t at = buffer_.size();
  constexpr std::size_t kHead = 16;
  buffer_.resize(at + kHead + bytes);
  uint8_t *to = length(perfetto::Trace::kPacketFieldNumber, bytes, reinterpret_cast<uint8_t *>(buffer_.data()) + at);
  to = message.SerializeWithCachedSizesToArray(to);
  buffer_.resize(static_cast<std::size_t>(to - reinterpret_cast<uint8_t *>(buffer_.data())));
  message.Clear();
  ++packets_;
  if (buffer_.size() >= kPiece) flush();
}

void PerfettoWriter::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t wrote = write(file_, buffer_.data() + done, buffer_.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) throw InputError(path_ + ": cannot be written: " + std::strerror(errno));
    done += static_cast<std::size_t>(wrote);
  }
  bytes_ += done;
  buffer_.clear();
}

void PerfettoWriter::snapshot(uint64_t host_ns, uint64_t card_ns) {
  perfetto::ClockSnapshot &snapshot = *packet_->message.mutable_clock_snapshot();
  snapshot.set_primary_trace_clock(static_cast<uint32_t>(TraceClock::host));
  perfetto::ClockSnapshot::Clock &host = *snapshot.add_clocks(), &card = *snapshot.add_clocks();
  host.set_clock_id(static_cast<uint32_t>(TraceClock::host));
  host.set_timestamp(host_ns);
  card.set_clock_id(static_cast<uint32_t>(TraceClock::card));
  card.set_timestamp(card_ns);
  put();
}

PerfettoWriter::Track PerfettoWriter::process(const std::string &name) {
  const Track track = next_track_++;
  perfetto::TrackDescriptor &descriptor = *packet_->message.mutable_track_descriptor();
  descriptor.set_uuid(track);
  descriptor.mutable_process()->set_pid(next_pid_++);
  descriptor.mutable_process()->set_process_name(name);
  descriptor.set_child_ordering(perfetto::TrackDescriptor::EXPLICIT);
  put();
  return track;
}

PerfettoWriter::Track PerfettoWriter::track(Track parent, const std::string &name) {
  const Track track = next_track_++;
  perfetto::TrackDescriptor &descriptor = *packet_->message.mutable_track_descriptor();
  descriptor.set_uuid(track);
  descriptor.set_parent_uuid(parent);
  descriptor.set_name(name);
  descriptor.set_child_ordering(perfetto::TrackDescriptor::EXPLICIT);
  descriptor.set_sibling_order_rank(children_[parent]++);
  put();
  return track;
}

PerfettoWriter::Track PerfettoWriter::counter(Track parent, const std::string &name, const std::string &unit) {
  const Track track = next_track_++;
  perfetto::TrackDescriptor &descriptor = *packet_->message.mutable_track_descriptor();
  descriptor.set_uuid(track);
  descriptor.set_parent_uuid(parent);
  descriptor.set_name(name);
  descriptor.mutable_counter()->set_unit_name(unit);
  descriptor.set_sibling_order_rank(children_[parent]++);
  put();
  return track;
}

PerfettoWriter::Name PerfettoWriter::name(std::string_view text) {
  const auto known = names_.find(text);
  if (known != names_.end()) return known->second;
  const Name name = names_.size() + 1;
  names_.emplace(text, name);
  perfetto::EventName &entry = *packet_->message.mutable_interned_data()->add_event_names();
  entry.set_iid(name);
  entry.set_name(std::string(text));
  packet_->message.set_sequence_flags(perfetto::TracePacket::SEQ_NEEDS_INCREMENTAL_STATE);
  put();
  return name;
}

PerfettoWriter::Name PerfettoWriter::annotation_name(std::string_view text) {
  const auto known = annotation_names_.find(text);
  if (known != annotation_names_.end()) return known->second;
  const Name name = annotation_names_.size() + 1;
  annotation_names_.emplace(text, name);
  perfetto::DebugAnnotationName &entry = *packet_->message.mutable_interned_data()->add_debug_annotation_names();
  entry.set_iid(name);
  entry.set_name(std::string(text));
  packet_->message.set_sequence_flags(perfetto::TracePacket::SEQ_NEEDS_INCREMENTAL_STATE);
  put();
  return name;
}

void PerfettoWriter::event(Track track, TraceClock clock, uint64_t time, int type, Name name,
                           std::span<const Annotation> annotations, std::span<const uint64_t> flows,
                           const double *value) {
  // Events are most of a file: they are encoded field by field, without a message object.
  std::size_t room = 128 + 16 * flows.size();
  for (const Annotation &annotation : annotations) room += 48 + annotation.text.size();
  event_.resize(room);
  uint8_t *to = event_.data();
  for (const Annotation &annotation : annotations) {
    std::array<uint8_t, 48> head;
    uint8_t *at = varint(perfetto::DebugAnnotation::kNameIidFieldNumber, annotation.name, head.data());
    if (annotation.text.empty()) {
      at = varint(perfetto::DebugAnnotation::kUintValueFieldNumber, annotation.number, at);
    } else {
      at = length(perfetto::DebugAnnotation::kStringValueFieldNumber, annotation.text.size(), at);
    }
    const auto bytes = static_cast<std::size_t>(at - head.data());
    to = length(TrackEvent::kDebugAnnotationsFieldNumber, bytes + annotation.text.size(), to);
    to = std::copy(head.data(), at, to);
    to = std::copy(annotation.text.begin(), annotation.text.end(), to);
  }
  to = varint(TrackEvent::kTypeFieldNumber, static_cast<uint64_t>(type), to);
  if (name != 0) to = varint(TrackEvent::kNameIidFieldNumber, name, to);
  to = varint(TrackEvent::kTrackUuidFieldNumber, track, to);
  if (value != nullptr) {
    to = fixed64(TrackEvent::kDoubleCounterValueFieldNumber, std::bit_cast<uint64_t>(*value), to);
  }
  for (const uint64_t flow : flows) {
    if (flow != 0) to = fixed64(TrackEvent::kFlowIdsFieldNumber, flow, to);
  }
  const auto bytes = static_cast<std::size_t>(to - event_.data());

  std::array<uint8_t, 64> head, tail;
  uint8_t *head_end = varint(TracePacket::kTimestampFieldNumber, time, head.data());
  head_end = varint(TracePacket::kTrustedPacketSequenceIdFieldNumber, kSequence, head_end);
  head_end = length(TracePacket::kTrackEventFieldNumber, bytes, head_end);
  uint8_t *tail_end =
      varint(TracePacket::kSequenceFlagsFieldNumber, TracePacket::SEQ_NEEDS_INCREMENTAL_STATE, tail.data());
  if (clock != TraceClock::host) {
    tail_end = varint(TracePacket::kTimestampClockIdFieldNumber, static_cast<uint64_t>(clock), tail_end);
  }
  const auto head_bytes = static_cast<std::size_t>(head_end - head.data());
  const auto tail_bytes = static_cast<std::size_t>(tail_end - tail.data());
  std::array<uint8_t, 16> packet;
  const uint8_t *packet_end =
      length(perfetto::Trace::kPacketFieldNumber, head_bytes + bytes + tail_bytes, packet.data());
  const auto append = [this](const uint8_t *from, const uint8_t *end) {
    buffer_.append(reinterpret_cast<const char *>(from), static_cast<std::size_t>(end - from));
  };
  append(packet.data(), packet_end);
  append(head.data(), head_end);
  append(event_.data(), to);
  append(tail.data(), tail_end);
  ++packets_;
  if (buffer_.size() >= kPiece) flush();
}

void PerfettoWriter::slice(Track track, TraceClock clock, uint64_t begin_ns, uint64_t end_ns, Name name,
                           std::span<const Annotation> annotations, std::span<const uint64_t> flows) {
  begin(track, clock, begin_ns, name, annotations, flows);
  end(track, clock, end_ns);
}

void PerfettoWriter::begin(Track track, TraceClock clock, uint64_t time, Name name,
                           std::span<const Annotation> annotations, std::span<const uint64_t> flows) {
  event(track, clock, time, TrackEvent::TYPE_SLICE_BEGIN, name, annotations, flows, nullptr);
}

void PerfettoWriter::end(Track track, TraceClock clock, uint64_t time) {
  event(track, clock, time, TrackEvent::TYPE_SLICE_END, 0, {}, {}, nullptr);
}

void PerfettoWriter::instant(Track track, TraceClock clock, uint64_t time, Name name,
                             std::span<const Annotation> annotations, std::span<const uint64_t> flows) {
  event(track, clock, time, TrackEvent::TYPE_INSTANT, name, annotations, flows, nullptr);
}

void PerfettoWriter::value(Track counter, TraceClock clock, uint64_t time, double value) {
  event(counter, clock, time, TrackEvent::TYPE_COUNTER, 0, {}, {}, &value);
}

PerfettoWriter::Track Lanes::only() {
  if (lanes_.empty()) lanes_.push_back({writer_->track(parent_, name_), 0, {}});
  return lanes_.front().track;
}

PerfettoWriter::Track Lanes::find(uint64_t begin, uint64_t end) {
  for (Lane &lane : lanes_) {
    if (begin < lane.floor) continue;
    // A span between others must leave time on both sides: at the same time the file's order decides.
    const auto next = std::upper_bound(lane.spans.begin(), lane.spans.end(), std::pair(begin, ~uint64_t{0}));
    const bool last = next == lane.spans.end();
    const uint64_t before = next == lane.spans.begin() ? lane.floor : std::prev(next)->second;
    if (last ? begin < before : begin <= before || end >= next->first) continue;
    lane.spans.insert(next, {begin, end});
    if (lane.spans.size() > kSpansOfALane) {
      lane.floor = lane.spans.front().second + 1;
      lane.spans.erase(lane.spans.begin());
    }
    return lane.track;
  }
  lanes_.push_back({writer_->track(parent_, name_), 0, {{begin, end}}});
  return lanes_.back().track;
}

}  // namespace cx::tools
