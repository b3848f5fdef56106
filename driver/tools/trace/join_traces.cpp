#include "driver/tools/trace/join_traces.hpp"

#include <fcntl.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "driver/include/cx/error.hpp"
#include "driver/tools/trace/perfetto_writer.hpp"
#include "perfetto.pb.h"

namespace cx::tools {

namespace {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;
using google::protobuf::io::FileInputStream;
using google::protobuf::io::FileOutputStream;
using perfetto::TracePacket;

constexpr uint32_t kPacketTag = perfetto::Trace::kPacketFieldNumber << 3 | 2;
constexpr auto kCardClock = static_cast<uint32_t>(TraceClock::card);

struct File {
  int number = -1;
  explicit File(int opened) : number(opened) {}
  File(const File &) = delete;
  File &operator=(const File &) = delete;
  ~File() {
    if (number >= 0) close(number);
  }
};

[[noreturn]] void fail(const std::string &path, const std::string &what) { throw InputError(path + ": " + what); }

/// Numbers of parts that follow on those of the parts before.
class Numbers {
 public:
  uint64_t operator()(uint64_t number) {
    if (number == 0) return 0;
    most_ = std::max(most_, base_ + number);
    return base_ + number;
  }
  void next_part() { base_ = most_; }

 private:
  uint64_t base_ = 0, most_ = 0;
};

/// Makes what parts number by themselves different in all of them.
class Renumber {
 public:
  void next_part(const std::string &path) {
    path_ = path;
    ++part_;
    for (Numbers *numbers : {&tracks_, &pids_, &ids_}) numbers->next_part();
    id_names_.clear();
  }

  void operator()(TracePacket &packet) {
    if (packet.trusted_packet_sequence_id() != 1) fail(path_, "is not a trace of one card");
    packet.set_trusted_packet_sequence_id(part_);
    if (packet.has_timestamp_clock_id()) packet.set_timestamp_clock_id(clock(packet.timestamp_clock_id()));
    if (packet.has_trace_packet_defaults()) {
      auto &defaults = *packet.mutable_trace_packet_defaults();
      if (defaults.has_timestamp_clock_id()) defaults.set_timestamp_clock_id(clock(defaults.timestamp_clock_id()));
    }
    if (packet.has_clock_snapshot()) {
      for (auto &entry : *packet.mutable_clock_snapshot()->mutable_clocks())
        entry.set_clock_id(clock(entry.clock_id()));
    }
    for (const auto &entry : packet.interned_data().debug_annotation_names()) {
      if (entry.name() == "id" || entry.name() == "cause") id_names_.insert(entry.iid());
    }
    if (packet.has_track_descriptor()) descriptor(*packet.mutable_track_descriptor());
    if (packet.has_track_event()) event(*packet.mutable_track_event());
  }

 private:
  void descriptor(perfetto::TrackDescriptor &track) {
    track.set_uuid(tracks_(track.uuid()));
    if (track.has_parent_uuid()) track.set_parent_uuid(tracks_(track.parent_uuid()));
    if (!track.has_process()) return;
    auto &process = *track.mutable_process();
    process.set_pid(static_cast<int32_t>(pids_(static_cast<uint64_t>(process.pid()))));
    const std::string name = process.process_name(), card = "card";
    if (!name.starts_with(card + ",")) fail(path_, "has tracks of '" + name + "': is not a trace of one card");
    if (part_ != 1) process.set_process_name(card + " " + std::to_string(part_) + name.substr(card.size()));
  }
  void event(perfetto::TrackEvent &event) {
    event.set_track_uuid(tracks_(event.track_uuid()));
    for (auto &flow : *event.mutable_flow_ids()) flow = ids_(flow);
    for (auto &annotation : *event.mutable_debug_annotations()) {
      if (id_names_.count(annotation.name_iid()) != 0) annotation.set_uint_value(ids_(annotation.uint_value()));
    }
  }
  uint32_t clock(uint32_t id) const { return id == kCardClock ? kCardClock + part_ - 1 : id; }

  std::string path_;
  uint32_t part_ = 0;  // from 1
  Numbers tracks_, pids_, ids_;
  std::set<uint64_t> id_names_;  // annotations that are numbers of records
};

/// Calls `use` for each packet. False: the end of the last one is missing.
template <typename Use>
bool each_packet(const std::string &path, Use use) {
  const File file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.number < 0) fail(path, std::string("cannot be read: ") + std::strerror(errno));
  const uint64_t size = std::filesystem::file_size(path);
  FileInputStream stream(file.number);
  TracePacket packet;
  for (uint64_t at = 0;;) {
    CodedInputStream input(&stream);
    const uint32_t tag = input.ReadTag();
    if (tag == 0) return at == size;
    uint32_t length = 0;
    if (tag != kPacketTag) fail(path, "is not a trace");
    if (!input.ReadVarint32(&length)) return false;
    if (at + static_cast<uint64_t>(input.CurrentPosition()) + length > size) return false;
    const auto limit = input.PushLimit(static_cast<int>(length));
    packet.Clear();
    if (!packet.ParseFromCodedStream(&input) || input.BytesUntilLimit() != 0) fail(path, "is not a trace");
    input.PopLimit(limit);
    at += static_cast<uint64_t>(input.CurrentPosition());
    use(packet);
  }
}

}  // namespace

JoinedTraces join_traces(std::span<const std::string> parts, const std::string &path) {
  const File file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file.number < 0) fail(path, std::string("cannot be written: ") + std::strerror(errno));
  FileOutputStream stream(file.number);
  JoinedTraces joined;
  const auto check = [&](bool written) {
    if (!written) fail(path, std::string("cannot be written: ") + std::strerror(stream.GetErrno()));
  };
  Renumber renumber;
  for (const std::string &part : parts) {
    renumber.next_part(part);
    const bool whole = each_packet(part, [&](TracePacket &packet) {
      renumber(packet);
      CodedOutputStream output(&stream);
      output.WriteTag(kPacketTag);
      output.WriteVarint32(static_cast<uint32_t>(packet.ByteSizeLong()));
      packet.SerializeWithCachedSizes(&output);
      check(!output.HadError());
      ++joined.packets;
    });
    if (!whole) joined.cut.push_back(part);
  }
  check(stream.Flush());
  joined.bytes = static_cast<uint64_t>(stream.ByteCount());
  return joined;
}

}  // namespace cx::tools
