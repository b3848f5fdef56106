// Reads a trace by Perfetto's published format and checks what every trace must satisfy.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "perfetto.pb.h"

namespace cx::tb {

struct TraceSlice {
  uint64_t begin = 0, end = 0;  ///< ns of the trace's clock
  uint64_t track = 0;
  std::string name;
  std::map<std::string, uint64_t> numbers;
  std::map<std::string, std::string> texts;
  std::vector<uint64_t> flows;
  std::size_t place = 0;  ///< of its begin among the packets
  uint64_t number(const std::string &key) const {
    const auto found = numbers.find(key);
    return found != numbers.end() ? found->second : 0;
  }
};

struct TraceTrack {
  std::string name, group, process;  ///< the group is the parent's name, the process its parent's
  bool counter = false;
};

class TraceContents {
 public:
  std::map<uint64_t, TraceTrack> tracks;
  std::vector<TraceSlice> slices;    ///< closed ones, by the place of their begins
  std::vector<TraceSlice> instants;  ///< in the order of the file
  std::size_t counter_values = 0;
  int64_t card_origin = 0;  ///< power-on of the card, ns of the trace's clock

  /// Slices of a group of tracks whose begins lie between two places in the file; of one track, and of one process, if
  /// a name is given.
  std::vector<const TraceSlice *> of(const std::string &group, const std::string &track = {}, std::size_t from = 0,
                                     std::size_t to = SIZE_MAX, const std::string &process = {}) const {
    std::vector<const TraceSlice *> chosen;
    for (const TraceSlice &slice : slices) {
      const TraceTrack &place = tracks.at(slice.track);
      if (place.group != group || (!track.empty() && place.name != track)) continue;
      if (!process.empty() && place.process != process) continue;
      if (slice.place >= from && slice.place < to) chosen.push_back(&slice);
    }
    return chosen;
  }
  /// Place of the instant of that name.
  std::size_t place_of(const std::string &name) const {
    const auto found = std::find_if(instants.begin(), instants.end(), [&](const auto &i) { return i.name == name; });
    REQUIRE(found != instants.end());
    return found->place;
  }
};

inline uint64_t total(const std::vector<const TraceSlice *> &slices, const std::string &number) {
  uint64_t sum = 0;
  for (const TraceSlice *slice : slices) sum += slice->number(number);
  return sum;
}

/// Packets of a file of which the end may be missing: `rest` gets the bytes behind the last whole packet.
inline std::vector<perfetto::TracePacket> read_packets(const std::string &bytes, std::size_t *rest = nullptr) {
  std::vector<perfetto::TracePacket> packets;
  std::size_t at = 0;
  for (;;) {
    std::size_t next = at, length = 0;
    if (next >= bytes.size() || static_cast<uint8_t>(bytes[next++]) != 0x0a) break;
    for (unsigned shift = 0; next < bytes.size(); shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes[next++]);
      length |= std::size_t{byte & 0x7fu} << shift;
      if (byte < 0x80) break;
    }
    if (length > bytes.size() - next) break;
    perfetto::TracePacket &packet = packets.emplace_back();
    REQUIRE(packet.ParseFromArray(bytes.data() + next, static_cast<int>(length)));
    at = next + length;
  }
  if (rest != nullptr) *rest = bytes.size() - at;
  return packets;
}

/// Checks names, tracks, clocks, and that slices nest and are closed (`closed`: else those that are open are left out).
inline TraceContents read_trace(const std::vector<perfetto::TracePacket> &packets, bool closed = true) {
  using perfetto::TrackEvent;
  struct Event {
    uint64_t time;
    const perfetto::TracePacket *packet;
    std::size_t place;
  };
  TraceContents contents;
  struct Sequence {
    std::map<uint64_t, std::string> names, annotation_names, texts;
    uint32_t default_clock = 6;  // Perfetto's
  };
  std::map<uint32_t, Sequence> sequences;
  std::map<uint64_t, std::vector<Event>> events;
  std::map<uint32_t, int64_t> clocks{{6, 0}};  // offset to the trace's clock
  REQUIRE(!packets.empty());
  for (std::size_t place = 0; place < packets.size(); ++place) {
    const perfetto::TracePacket &packet = packets[place];
    REQUIRE(packet.trusted_packet_sequence_id() != 0);
    const auto [place_of_sequence, first] = sequences.emplace(packet.trusted_packet_sequence_id(), Sequence());
    if (first) CHECK(packet.sequence_flags() == perfetto::TracePacket::SEQ_INCREMENTAL_STATE_CLEARED);
    Sequence &sequence = place_of_sequence->second;
    if (packet.has_clock_snapshot()) {
      REQUIRE(packet.clock_snapshot().clocks_size() == 2);
      REQUIRE(packet.clock_snapshot().primary_trace_clock() == 6);
      const auto &host = packet.clock_snapshot().clocks(0), &card = packet.clock_snapshot().clocks(1);
      contents.card_origin = static_cast<int64_t>(host.timestamp()) - static_cast<int64_t>(card.timestamp());
      REQUIRE(clocks.count(card.clock_id()) == 0);
      clocks[card.clock_id()] = static_cast<int64_t>(host.timestamp()) - static_cast<int64_t>(card.timestamp());
    }
    for (const auto &entry : packet.interned_data().event_names()) sequence.names[entry.iid()] = entry.name();
    for (const auto &entry : packet.interned_data().debug_annotation_names()) {
      sequence.annotation_names[entry.iid()] = entry.name();
    }
    for (const auto &entry : packet.interned_data().debug_annotation_string_values()) {
      sequence.texts[entry.iid()] = entry.str();
    }
    if (packet.has_trace_packet_defaults()) {
      REQUIRE(packet.sequence_flags() == perfetto::TracePacket::SEQ_INCREMENTAL_STATE_CLEARED);
      sequence.default_clock = packet.trace_packet_defaults().timestamp_clock_id();
    }
    if (packet.has_track_descriptor()) {
      const auto &descriptor = packet.track_descriptor();
      REQUIRE(contents.tracks.count(descriptor.uuid()) == 0);
      TraceTrack &track = contents.tracks[descriptor.uuid()];
      track.name = descriptor.has_process() ? descriptor.process().process_name() : descriptor.name();
      track.counter = descriptor.has_counter();
      if (descriptor.has_parent_uuid()) {
        REQUIRE(contents.tracks.count(descriptor.parent_uuid()) == 1);
        track.group = contents.tracks[descriptor.parent_uuid()].name;
        track.process = contents.tracks[descriptor.parent_uuid()].group;
      }
    }
    if (!packet.has_track_event()) continue;
    const TrackEvent &event = packet.track_event();
    REQUIRE(packet.sequence_flags() == perfetto::TracePacket::SEQ_NEEDS_INCREMENTAL_STATE);
    REQUIRE(contents.tracks.count(event.track_uuid()) == 1);
    const uint32_t clock = packet.has_timestamp_clock_id() ? packet.timestamp_clock_id() : sequence.default_clock;
    REQUIRE(clocks.count(clock) == 1);
    const auto time = static_cast<uint64_t>(static_cast<int64_t>(packet.timestamp()) + clocks[clock]);
    if (event.type() == TrackEvent::TYPE_COUNTER) {
      REQUIRE(contents.tracks[event.track_uuid()].counter);
      ++contents.counter_values;
      continue;
    }
    REQUIRE_FALSE(contents.tracks[event.track_uuid()].counter);
    events[event.track_uuid()].push_back({time, &packet, place});
  }
  const auto slice_of = [&](const Event &event) {
    TraceSlice slice;
    const TrackEvent &from = event.packet->track_event();
    slice.begin = slice.end = event.time;
    slice.track = from.track_uuid();
    slice.place = event.place;
    const Sequence &sequence = sequences.at(event.packet->trusted_packet_sequence_id());
    slice.name = sequence.names.at(from.name_iid());
    for (const auto &annotation : from.debug_annotations()) {
      const std::string &key = sequence.annotation_names.at(annotation.name_iid());
      if (annotation.has_uint_value()) slice.numbers[key] = annotation.uint_value();
      if (annotation.has_string_value_iid()) slice.texts[key] = sequence.texts.at(annotation.string_value_iid());
    }
    slice.flows.assign(from.flow_ids().begin(), from.flow_ids().end());
    // A cause that has a flow is not named again.
    for (const uint64_t flow : slice.flows) {
      if (flow != slice.number("id")) CHECK(slice.numbers.emplace("cause", flow).second);
    }
    return slice;
  };
  for (auto &[track, list] : events) {
    // As Perfetto imports: by time, at equal times as in the file.
    std::stable_sort(list.begin(), list.end(), [](const Event &a, const Event &b) { return a.time < b.time; });
    std::vector<TraceSlice> open;
    INFO("track " << contents.tracks[track].group << " / " << contents.tracks[track].name);
    for (const Event &event : list) {
      switch (event.packet->track_event().type()) {
        case TrackEvent::TYPE_SLICE_BEGIN:
          open.push_back(slice_of(event));
          break;
        case TrackEvent::TYPE_SLICE_END:
          REQUIRE(!open.empty());
          // The writer puts begin and end of a slice side by side, or, of the host's, nests them.
          if (event.place != 0 && packets[event.place - 1].has_track_event() &&
              packets[event.place - 1].track_event().track_uuid() == track &&
              packets[event.place - 1].track_event().type() == TrackEvent::TYPE_SLICE_BEGIN) {
            CHECK(open.back().place == event.place - 1);
          }
          open.back().end = event.time;
          contents.slices.push_back(std::move(open.back()));
          open.pop_back();
          break;
        default:
          contents.instants.push_back(slice_of(event));
      }
    }
    if (closed) CHECK(open.empty());
  }
  const auto by_place = [](const TraceSlice &a, const TraceSlice &b) { return a.place < b.place; };
  std::sort(contents.slices.begin(), contents.slices.end(), by_place);
  std::sort(contents.instants.begin(), contents.instants.end(), by_place);
  return contents;
}

inline std::string file_bytes(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace cx::tb
