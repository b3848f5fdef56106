#include "driver/tools/trace/perfetto_writer.hpp"

#include <fcntl.h>
#include <google/protobuf/io/coded_stream.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <stdexcept>

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
/// Writes eight bytes for what takes at most five, whatever the length: lengths cannot be predicted.
inline uint8_t *put_varint(uint64_t value, uint8_t *to) {
  if (value >> 35 != 0) return CodedOutputStream::WriteVarint64ToArray(value, to);
  static constexpr uint64_t kContinued[] = {0, 0x80, 0x8080, 0x808080, 0x80808080};
  const std::size_t more = static_cast<std::size_t>(value >= 1u << 7) + static_cast<std::size_t>(value >= 1u << 14) +
                           static_cast<std::size_t>(value >= 1u << 21) + static_cast<std::size_t>(value >= 1u << 28);
  // Seven bits to a byte: halves of 28 bits, quarters of 14, eighths of 7.
  value = (value & 0x0fffffff) | (value & 0x7f0000000) << 4;
  value = (value & 0x7f00003fff) | (value & 0x0fffc000) << 2;
  value = (value & 0x7f007f007f) | (value & 0x3f803f80) << 1;
  CodedOutputStream::WriteLittleEndian64ToArray(value | kContinued[more], to);
  return to + more + 1;
}
template <int kField>
inline uint8_t *varint(uint64_t value, uint8_t *to) {
  return put_varint(value, tag<kField, kVarint>(to));
}
template <int kField>
inline uint8_t *fixed64(uint64_t value, uint8_t *to) {
  return CodedOutputStream::WriteLittleEndian64ToArray(value, tag<kField, kFixed64>(to));
}

/// Lengths of messages that are known only when they have been encoded: two bytes are left for them, of which both are
/// used, as the format allows for any number.
constexpr std::size_t kLengthBytes = 2;
inline void put_length(std::size_t bytes, uint8_t *to) {
  to[0] = static_cast<uint8_t>(bytes | 0x80);
  to[1] = static_cast<uint8_t>(bytes >> 7);
}
/// Names and tracks: most are below 2^14, and two bytes at all times are faster than as many as are needed.
inline uint8_t *put_small(uint64_t value, uint8_t *to) {
  if (value >> 14 != 0) return put_varint(value, to);
  put_length(value, to);
  return to + 2;
}

// Most bytes of what makes up an event, and of one without annotations and flows.
constexpr std::size_t kOfAnAnnotation = 16, kOfAFlow = 10, kOfAnEvent = 64;
static_assert(kOfAnEvent + 32 * (kOfAnAnnotation + kOfAFlow) < 1u << 14, "see put_length");

inline uint8_t *put_annotation(const Annotation &annotation, uint8_t *to) {
  using perfetto::DebugAnnotation;
  constexpr uint64_t kHead = TrackEvent::kDebugAnnotationsFieldNumber << 3 | kLengthDelimited;
  constexpr uint64_t kName = DebugAnnotation::kNameIidFieldNumber << 3 | kVarint;
  constexpr uint64_t kNumber = DebugAnnotation::kUintValueFieldNumber << 3 | kVarint;
  constexpr uint64_t kText = DebugAnnotation::kStringValueIidFieldNumber << 3 | kVarint;
  static_assert(kHead < 0x80 && kName < 0x80 && kNumber < 0x80 && kText >= 0x80 && kText < 1u << 14);
  // Tag, length, tag and name, tag of the value.
  const uint64_t head =
      kHead | kName << 16 | annotation.name << 24 |
      (annotation.is_text ? (kText & 0x7f) << 32 | uint64_t{0x80} << 32 | kText >> 7 << 40 : kNumber << 32);
  CodedOutputStream::WriteLittleEndian64ToArray(head, to);
  uint8_t *const end = put_varint(annotation.value, to + (annotation.is_text ? 6 : 5));
  to[1] = static_cast<uint8_t>(end - to - 2);
  return end;
}

/// What precedes the event in its packet, behind the packet's length.
inline uint8_t *put_packet_head(TraceClock clock, uint64_t time, uint8_t *to) {
  static_assert(kSequence < 0x80 && TracePacket::SEQ_NEEDS_INCREMENTAL_STATE < 0x80);
  to = tag<TracePacket::kTrustedPacketSequenceIdFieldNumber, kVarint>(to);
  *to++ = kSequence;
  to = tag<TracePacket::kSequenceFlagsFieldNumber, kVarint>(to);
  *to++ = TracePacket::SEQ_NEEDS_INCREMENTAL_STATE;
  // The card's clock is the default of the sequence.
  if (clock != TraceClock::card) {
    to = varint<TracePacket::kTimestampClockIdFieldNumber>(static_cast<uint64_t>(clock), to);
  }
  return varint<TracePacket::kTimestampFieldNumber>(time, to);
}

inline uint8_t *put_type(int type, PerfettoWriter::Track track, uint8_t *to) {
  to = tag<TrackEvent::kTypeFieldNumber, kVarint>(to);
  *to++ = static_cast<uint8_t>(type);
  return put_small(track, tag<TrackEvent::kTrackUuidFieldNumber, kVarint>(to));
}

/// An event of a name.
uint8_t *put_named(PerfettoWriter::Track track, TraceClock clock, uint64_t time, int type, PerfettoWriter::Name name,
                   std::span<const Annotation> annotations, std::span<const uint64_t> flows, uint8_t *to) {
  uint8_t *const packet = tag<perfetto::Trace::kPacketFieldNumber, kLengthDelimited>(to) + kLengthBytes;
  to = put_packet_head(clock, time, packet);
  uint8_t *const event = tag<TracePacket::kTrackEventFieldNumber, kLengthDelimited>(to) + kLengthBytes;
  to = put_type(type, track, event);
  to = put_small(name, tag<TrackEvent::kNameIidFieldNumber, kVarint>(to));
  for (const Annotation &annotation : annotations) to = put_annotation(annotation, to);
  for (const uint64_t flow : flows) {
    if (flow != 0) to = fixed64<TrackEvent::kFlowIdsFieldNumber>(flow, to);
  }
  put_length(static_cast<std::size_t>(to - event), event - kLengthBytes);
  put_length(static_cast<std::size_t>(to - packet), packet - kLengthBytes);
  return to;
}

/// An event without one: an end, or the value of a counter. It takes less than 128 bytes.
template <typename Value>
uint8_t *put_short(PerfettoWriter::Track track, TraceClock clock, uint64_t time, int type, uint8_t *to, Value value) {
  static_assert(kOfAnEvent < 0x80);
  uint8_t *const packet = tag<perfetto::Trace::kPacketFieldNumber, kLengthDelimited>(to) + 1;
  to = put_packet_head(clock, time, packet);
  uint8_t *const event = tag<TracePacket::kTrackEventFieldNumber, kLengthDelimited>(to) + 1;
  to = value(put_type(type, track, event));
  event[-1] = static_cast<uint8_t>(to - event);
  packet[-1] = static_cast<uint8_t>(to - packet);
  return to;
}

uint8_t *put_end(PerfettoWriter::Track track, TraceClock clock, uint64_t time, uint8_t *to) {
  return put_short(track, clock, time, TrackEvent::TYPE_SLICE_END, to, [](uint8_t *end) { return end; });
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
  packet_->message.mutable_trace_packet_defaults()->set_timestamp_clock_id(static_cast<uint32_t>(TraceClock::card));
  put(*packet_);
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

constexpr std::size_t kPacketHead = 16;  // bytes, at most

}  // namespace

// Encodes the message, and empties it.
void PerfettoWriter::put(Packet &packet) {
  TracePacket &message = packet.message;
  message.set_trusted_packet_sequence_id(kSequence);
  const std::size_t bytes = message.ByteSizeLong();
  uint8_t *to = tag<perfetto::Trace::kPacketFieldNumber, kLengthDelimited>(room(kPacketHead + bytes));
  to = CodedOutputStream::WriteVarint64ToArray(bytes, to);
  done(message.SerializeWithCachedSizesToArray(to), 1);
  message.Clear();
}

void PerfettoWriter::put_names() {
  new_names_ = false;
  names_packet_->message.set_sequence_flags(TracePacket::SEQ_NEEDS_INCREMENTAL_STATE);
  put(*names_packet_);
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
  put(*packet_);
}

PerfettoWriter::Track PerfettoWriter::process(const std::string &name) {
  const Track track = next_track_++;
  perfetto::TrackDescriptor &descriptor = *packet_->message.mutable_track_descriptor();
  descriptor.set_uuid(track);
  descriptor.mutable_process()->set_pid(next_pid_++);
  descriptor.mutable_process()->set_process_name(name);
  descriptor.set_child_ordering(perfetto::TrackDescriptor::EXPLICIT);
  put(*packet_);
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
  put(*packet_);
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
  put(*packet_);
  return track;
}

template <typename Entry>
PerfettoWriter::Name PerfettoWriter::number_of(Names &known, std::string_view text, Entry add) {
  const auto found = known.find(text);
  if (found != known.end()) return found->second;
  const Name number = known.size() + 1;
  known.emplace(text, number);
  add(*names_packet_->message.mutable_interned_data(), number);
  new_names_ = true;
  return number;
}

PerfettoWriter::Name PerfettoWriter::name(std::string_view text) {
  return number_of(names_, text, [&](perfetto::InternedData &data, Name number) {
    perfetto::EventName &entry = *data.add_event_names();
    entry.set_iid(number);
    entry.set_name(std::string(text));
  });
}

PerfettoWriter::Name PerfettoWriter::annotation_name(std::string_view text) {
  return number_of(annotation_names_, text, [&](perfetto::InternedData &data, Name number) {
    if (number >= 0x80) throw std::length_error("trace: more than 127 names of annotations");
    perfetto::DebugAnnotationName &entry = *data.add_debug_annotation_names();
    entry.set_iid(number);
    entry.set_name(std::string(text));
  });
}

PerfettoWriter::Name PerfettoWriter::text(std::string_view text) {
  return number_of(texts_, text, [&](perfetto::InternedData &data, Name number) {
    perfetto::InternedString &entry = *data.add_debug_annotation_string_values();
    entry.set_iid(number);
    entry.set_str(std::string(text));
  });
}

uint8_t *PerfettoWriter::event_room(std::size_t annotations, std::size_t flows) {
  if (new_names_) put_names();
  return room(2 * kOfAnEvent + kOfAnAnnotation * annotations + kOfAFlow * flows);
}

void PerfettoWriter::done(const uint8_t *to, uint64_t events) {
  used_ = static_cast<std::size_t>(to - buffer_.get());
  packets_ += events;
}

void PerfettoWriter::slice(Track track, TraceClock clock, uint64_t begin, uint64_t end, Name name,
                           std::span<const Annotation> annotations, std::span<const uint64_t> flows) {
  uint8_t *to = event_room(annotations.size(), flows.size());
  to = put_named(track, clock, begin, TrackEvent::TYPE_SLICE_BEGIN, name, annotations, flows, to);
  done(put_end(track, clock, end, to), 2);
}

void PerfettoWriter::begin(Track track, TraceClock clock, uint64_t time, Name name,
                           std::span<const Annotation> annotations, std::span<const uint64_t> flows) {
  uint8_t *const to = event_room(annotations.size(), flows.size());
  done(put_named(track, clock, time, TrackEvent::TYPE_SLICE_BEGIN, name, annotations, flows, to), 1);
}

void PerfettoWriter::end(Track track, TraceClock clock, uint64_t time) {
  done(put_end(track, clock, time, event_room(0, 0)), 1);
}

void PerfettoWriter::instant(Track track, TraceClock clock, uint64_t time, Name name,
                             std::span<const Annotation> annotations, std::span<const uint64_t> flows) {
  uint8_t *const to = event_room(annotations.size(), flows.size());
  done(put_named(track, clock, time, TrackEvent::TYPE_INSTANT, name, annotations, flows, to), 1);
}

void PerfettoWriter::value(Track counter, TraceClock clock, uint64_t time, double value) {
  const auto bits = std::bit_cast<uint64_t>(value);
  done(put_short(counter, clock, time, TrackEvent::TYPE_COUNTER, event_room(0, 0),
                 [bits](uint8_t *to) { return fixed64<TrackEvent::kDoubleCounterValueFieldNumber>(bits, to); }),
       1);
}

PerfettoWriter::Track Lanes::only() {
  if (lanes_.empty()) lanes_.push_back({writer_->track(parent_, name_), 0, {}});
  return lanes_.front().track;
}

inline void Lanes::forget(Lane &lane) {
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
      lane.spans.emplace_back(begin, end);
      forget(lane);
      return lane.track;
    }
    // A span between others must leave time on both sides: at the same time the file's order decides.
    const auto next = std::upper_bound(lane.spans.begin(), lane.spans.end(), std::pair(begin, ~uint64_t{0}));
    const uint64_t before = next == lane.spans.begin() ? lane.floor : std::prev(next)->second;
    if (next == lane.spans.end() || begin <= before || end >= next->first) continue;
    lane.spans.emplace(next, begin, end);
    forget(lane);
    return lane.track;
  }
  Lane &lane = lanes_.emplace_back();
  lane.track = writer_->track(parent_, name_);
  lane.spans.reserve(2 * kSpansOfALane);
  lane.spans.emplace_back(begin, end);
  return lane.track;
}

}  // namespace cx::tools
