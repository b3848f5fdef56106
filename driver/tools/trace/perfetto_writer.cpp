#include "driver/tools/trace/perfetto_writer.hpp"

#include <fcntl.h>
#include <google/protobuf/io/coded_stream.h>
#include <unistd.h>

#include <algorithm>
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
constexpr std::size_t kPiece = 64 << 10;  // bytes that are written at once
constexpr std::size_t kSpansOfALane = 32;

// Wire types.
constexpr uint32_t kVarint = 0, kFixed64 = 1, kLengthDelimited = 2;

template <int kField, uint32_t kType>
inline uint8_t *tag(uint8_t *to) {
  constexpr uint32_t kTag = static_cast<uint32_t>(kField) << 3 | kType;
  static_assert(kTag < 1u << 14);
  if constexpr (kTag < 0x80) {
    *to++ = kTag;
  } else {
    *to++ = static_cast<uint8_t>(kTag | 0x80);
    *to++ = static_cast<uint8_t>(kTag >> 7);
  }
  return to;
}
/// Writes eight bytes wherever they are enough for the number, whatever its length: lengths cannot be predicted.
inline uint8_t *put_varint(uint64_t value, uint8_t *to) {
  if (value >> 56 != 0) return CodedOutputStream::WriteVarint64ToArray(value, to);
  if (value < 0x80) {
    *to = static_cast<uint8_t>(value);
    return to + 1;
  }
  const std::size_t bytes = (static_cast<std::size_t>(std::bit_width(value)) * 9 + 64) / 64;  // bits / 7, rounded up
  // Seven bits to a byte: halves of 28 bits, quarters of 14, eighths of 7.
  value = (value & 0x0fffffff) | (value & 0x00fffffff0000000) << 4;
  value = (value & 0x00003fff00003fff) | (value & 0x0fffc0000fffc000) << 2;
  value = (value & 0x007f007f007f007f) | (value & 0x3f803f803f803f80) << 1;
  value |= 0x0080808080808080 & ((uint64_t{1} << 8 * (bytes - 1)) - 1);
  CodedOutputStream::WriteLittleEndian64ToArray(value, to);
  return to + bytes;
}
template <int kField>
inline uint8_t *varint(uint64_t value, uint8_t *to) {
  return put_varint(value, tag<kField, kVarint>(to));
}
template <int kField>
inline uint8_t *fixed64(uint64_t value, uint8_t *to) {
  return CodedOutputStream::WriteLittleEndian64ToArray(value, tag<kField, kFixed64>(to));
}

/// A message whose length is known only when it has been encoded: room is left for a length of so many bytes, all of
/// which are used, as the format allows for any number.
template <int kField>
inline uint8_t *open_message(uint8_t *to, std::size_t length_bytes) {
  return tag<kField, kLengthDelimited>(to) + length_bytes;
}
inline void close_message(uint8_t *first, const uint8_t *end, std::size_t length_bytes) {
  auto bytes = static_cast<std::size_t>(end - first);
  uint8_t *to = first - length_bytes;
  for (; to != first - 1; bytes >>= 7) *to++ = static_cast<uint8_t>(bytes | 0x80);
  *to = static_cast<uint8_t>(bytes);
}

}  // namespace

struct PerfettoWriter::Packet {
  perfetto::TracePacket message;
};

PerfettoWriter::PerfettoWriter(const std::string &path)
    : path_(path), packet_(std::make_unique<Packet>()), names_packet_(std::make_unique<Packet>()) {
  file_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) throw InputError(path + ": cannot be written: " + std::strerror(errno));
  capacity_ = kPiece;
  buffer_ = std::make_unique_for_overwrite<uint8_t[]>(capacity_);
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

// Where that many bytes can be put; they count once used_ says so.
uint8_t *PerfettoWriter::room(std::size_t bytes) {
  if (capacity_ - used_ < bytes) flush();
  if (capacity_ < bytes) {
    capacity_ = bytes;
    buffer_ = std::make_unique_for_overwrite<uint8_t[]>(capacity_);
  }
  return buffer_.get() + used_;
}

namespace {

std::size_t encoded_bytes(perfetto::TracePacket &message) {
  message.set_trusted_packet_sequence_id(kSequence);
  return message.ByteSizeLong();
}

/// The packet of a message whose size was asked for, which is emptied.
uint8_t *encode(perfetto::TracePacket &message, std::size_t bytes, uint8_t *to) {
  to = tag<perfetto::Trace::kPacketFieldNumber, kLengthDelimited>(to);
  to = CodedOutputStream::WriteVarint64ToArray(bytes, to);
  to = message.SerializeWithCachedSizesToArray(to);
  message.Clear();
  return to;
}

constexpr std::size_t kPacketHead = 16;  // bytes, at most

}  // namespace

void PerfettoWriter::put() {
  const std::size_t bytes = encoded_bytes(packet_->message);
  used_ = static_cast<std::size_t>(encode(packet_->message, bytes, room(kPacketHead + bytes)) - buffer_.get());
  ++packets_;
}

void PerfettoWriter::put_names() {
  new_names_ = false;
  perfetto::TracePacket &message = names_packet_->message;
  message.set_sequence_flags(perfetto::TracePacket::SEQ_NEEDS_INCREMENTAL_STATE);
  const std::size_t bytes = encoded_bytes(message);
  used_ = static_cast<std::size_t>(encode(message, bytes, room(kPacketHead + bytes)) - buffer_.get());
  ++packets_;
}

void PerfettoWriter::flush() {
  std::size_t done = 0;
  while (done < used_) {
    const ssize_t wrote = write(file_, buffer_.get() + done, used_ - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) throw InputError(path_ + ": cannot be written: " + std::strerror(errno));
    done += static_cast<std::size_t>(wrote);
  }
  bytes_ += done;
  used_ = 0;
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

PerfettoWriter::Name PerfettoWriter::new_name(std::map<std::string, Name, std::less<>> &known, std::string_view text,
                                              bool annotation) {
  const Name name = known.size() + 1;
  known.emplace(text, name);
  perfetto::InternedData &data = *names_packet_->message.mutable_interned_data();
  const auto set = [&](auto *entry) {
    entry->set_iid(name);
    entry->set_name(std::string(text));
  };
  if (annotation) {
    set(data.add_debug_annotation_names());
  } else {
    set(data.add_event_names());
  }
  new_names_ = true;
  return name;
}

PerfettoWriter::Name PerfettoWriter::name(std::string_view text) {
  const auto known = names_.find(text);
  return known != names_.end() ? known->second : new_name(names_, text, false);
}

PerfettoWriter::Name PerfettoWriter::annotation_name(std::string_view text) {
  const auto known = annotation_names_.find(text);
  return known != annotation_names_.end() ? known->second : new_name(annotation_names_, text, true);
}

void PerfettoWriter::event(Track track, TraceClock clock, uint64_t time, int type, Name name,
                           std::span<const Annotation> annotations, std::span<const uint64_t> flows,
                           const double *value) {
  if (new_names_) put_names();
  // Events are most of a file: they are encoded field by field, without a message object.
  constexpr std::size_t kFixed = 104, kOfAnAnnotation = 48, kOfAFlow = 16;
  std::size_t most = kFixed + kOfAFlow * flows.size() + kOfAnAnnotation * annotations.size();
  for (const Annotation &annotation : annotations) most += annotation.text.size();
  const std::size_t length_bytes = most < 1u << 14 ? 2 : 4;
  uint8_t *to = open_message<perfetto::Trace::kPacketFieldNumber>(room(most), length_bytes);
  uint8_t *const packet = to;
  to = varint<TracePacket::kTimestampFieldNumber>(time, to);
  static_assert(kSequence < 0x80 && TracePacket::SEQ_NEEDS_INCREMENTAL_STATE < 0x80);
  to = tag<TracePacket::kTrustedPacketSequenceIdFieldNumber, kVarint>(to);
  *to++ = kSequence;
  to = tag<TracePacket::kSequenceFlagsFieldNumber, kVarint>(to);
  *to++ = TracePacket::SEQ_NEEDS_INCREMENTAL_STATE;
  if (clock != TraceClock::host) {
    to = varint<TracePacket::kTimestampClockIdFieldNumber>(static_cast<uint64_t>(clock), to);
  }
  to = open_message<TracePacket::kTrackEventFieldNumber>(to, length_bytes);
  uint8_t *const event = to;
  for (const Annotation &annotation : annotations) {
    to = tag<TrackEvent::kDebugAnnotationsFieldNumber, kLengthDelimited>(to);
    if (annotation.text.empty()) {
      uint8_t *const length = to++;  // a name and a number take less than 128 bytes
      to = varint<perfetto::DebugAnnotation::kNameIidFieldNumber>(annotation.name, to);
      to = varint<perfetto::DebugAnnotation::kUintValueFieldNumber>(annotation.number, to);
      *length = static_cast<uint8_t>(to - length - 1);
    } else {
      to += length_bytes;
      uint8_t *const first = to;
      to = varint<perfetto::DebugAnnotation::kNameIidFieldNumber>(annotation.name, to);
      to = tag<perfetto::DebugAnnotation::kStringValueFieldNumber, kLengthDelimited>(to);
      to = CodedOutputStream::WriteVarint64ToArray(annotation.text.size(), to);
      to = std::copy(annotation.text.begin(), annotation.text.end(), to);
      close_message(first, to, length_bytes);
    }
  }
  to = varint<TrackEvent::kTypeFieldNumber>(static_cast<uint64_t>(type), to);
  if (name != 0) to = varint<TrackEvent::kNameIidFieldNumber>(name, to);
  to = varint<TrackEvent::kTrackUuidFieldNumber>(track, to);
  if (value != nullptr) to = fixed64<TrackEvent::kDoubleCounterValueFieldNumber>(std::bit_cast<uint64_t>(*value), to);
  for (const uint64_t flow : flows) {
    if (flow != 0) to = fixed64<TrackEvent::kFlowIdsFieldNumber>(flow, to);
  }
  close_message(event, to, length_bytes);
  close_message(packet, to, length_bytes);
  used_ = static_cast<std::size_t>(to - buffer_.get());
  ++packets_;
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

void Lanes::insert(Lane &lane, std::vector<std::pair<uint64_t, uint64_t>>::iterator at, uint64_t begin, uint64_t end) {
  lane.spans.insert(at, {begin, end});
  // Many are forgotten at once, so that few are moved.
  if (lane.spans.size() < 2 * kSpansOfALane) return;
  lane.floor = lane.spans[kSpansOfALane - 1].second + 1;
  lane.spans.erase(lane.spans.begin(), lane.spans.begin() + kSpansOfALane);
}

PerfettoWriter::Track Lanes::find(uint64_t begin, uint64_t end) {
  for (Lane &lane : lanes_) {
    if (begin < lane.floor) continue;
    // Most follow on what there is.
    if (begin >= lane.spans.back().second) {
      insert(lane, lane.spans.end(), begin, end);
      return lane.track;
    }
    // A span between others must leave time on both sides: at the same time the file's order decides.
    const auto next = std::upper_bound(lane.spans.begin(), lane.spans.end(), std::pair(begin, ~uint64_t{0}));
    const uint64_t before = next == lane.spans.begin() ? lane.floor : std::prev(next)->second;
    if (next == lane.spans.end() || begin <= before || end >= next->first) continue;
    insert(lane, next, begin, end);
    return lane.track;
  }
  Lane &lane = lanes_.emplace_back();
  lane.track = writer_->track(parent_, name_);
  lane.spans.reserve(2 * kSpansOfALane);
  lane.spans.emplace_back(begin, end);
  return lane.track;
}

}  // namespace cx::tools
