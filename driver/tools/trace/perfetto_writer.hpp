// A trace as a Perfetto file (https://ui.perfetto.dev): tracks, slices, counters, flows, written as they come.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace cx::tools {

/// Clocks of time stamps: the host's is the trace's, the card's is set against it by one snapshot.
enum class TraceClock : uint32_t { host = 6, card = 128 };

/// A value shown with a slice.
struct Annotation {
  uint64_t name = 0;   ///< of PerfettoWriter::annotation_name()
  uint64_t value = 0;  ///< a number, or what PerfettoWriter::text() gave
  bool is_text = false;
};

/// Every call of flush() leaves a file that can be read. Not safe for threads. Throws InputError when the file cannot
/// be written.
class PerfettoWriter {
 public:
  using Track = uint64_t;
  using Name = uint64_t;

  explicit PerfettoWriter(const std::string &path);
  ~PerfettoWriter();
  PerfettoWriter(const PerfettoWriter &) = delete;
  PerfettoWriter &operator=(const PerfettoWriter &) = delete;

  /// The moment at which both clocks are set against each other, ns. Once, before events of the card.
  void snapshot(uint64_t host_ns, uint64_t card_ns);

  Track process(const std::string &name);
  /// Shown among the tracks of `parent` in the order in which they are made.
  Track track(Track parent, const std::string &name);
  Track counter(Track parent, const std::string &name, const std::string &unit);

  /// Numbers for texts; they are in the file before what is written next.
  Name name(std::string_view text);
  /// At most 127 of them: throws std::length_error.
  Name annotation_name(std::string_view text);
  Name text(std::string_view text);

  /// A slice from begin to end (ns). Slices of a track must nest. flows: numbers that it shares with what it causes, or
  /// is caused by; 0 is none.
  void slice(Track track, TraceClock clock, uint64_t begin, uint64_t end, Name name,
             std::span<const Annotation> annotations = {}, std::span<const uint64_t> flows = {});
  void begin(Track track, TraceClock clock, uint64_t time, Name name, std::span<const Annotation> annotations = {},
             std::span<const uint64_t> flows = {});
  void end(Track track, TraceClock clock, uint64_t time);
  void instant(Track track, TraceClock clock, uint64_t time, Name name, std::span<const Annotation> annotations = {},
               std::span<const uint64_t> flows = {});
  void value(Track counter, TraceClock clock, uint64_t time, double value);

  void flush();
  uint64_t bytes() const { return bytes_; }
  uint64_t packets() const { return packets_; }

 private:
  struct Packet;  // of protobuf, reused

  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  using Names = std::unordered_map<std::string, Name, Hash, std::equal_to<>>;

  /// Room for an event, and for another that ends it.
  uint8_t *event_room(std::size_t annotations, std::size_t flows);
  void done(const uint8_t *to, uint64_t events);
  template <typename Entry>
  Name number_of(Names &known, std::string_view text, Entry add);
  void put(Packet &packet);
  void put_names();
  uint8_t *room(std::size_t bytes);

  std::string path_;
  int file_ = -1;
  std::unique_ptr<uint8_t[]> buffer_;
  std::size_t capacity_ = 0, used_ = 0;  // bytes of the buffer
  std::unique_ptr<Packet> packet_, names_packet_;
  bool new_names_ = false;  // in names_packet_
  uint64_t bytes_ = 0, packets_ = 0;
  uint64_t next_track_ = 1;
  int next_pid_ = 1;
  std::map<Track, int> children_;
  Names names_, annotation_names_, texts_;
};

/// Rows of one track on which spans may lie that overlap: each row is a track.
class Lanes {
 public:
  Lanes(PerfettoWriter &writer, PerfettoWriter::Track parent, std::string name)
      : writer_(&writer), parent_(parent), name_(std::move(name)) {}

  /// A row on which nothing overlaps [begin, end].
  PerfettoWriter::Track find(uint64_t begin, uint64_t end);
  /// The one row of spans that nest.
  PerfettoWriter::Track only();

 private:
  struct Lane {
    PerfettoWriter::Track track = 0;
    uint64_t floor = 0;                                // no span that is kept begins before it
    std::vector<std::pair<uint64_t, uint64_t>> spans;  // the last ones, by begin
  };
  /// The oldest spans, if there are many.
  static void forget(Lane &lane);
  PerfettoWriter *writer_;
  PerfettoWriter::Track parent_;
  std::string name_;
  std::vector<Lane> lanes_;
};

}  // namespace cx::tools
