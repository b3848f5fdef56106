// cx run --trace and cx device --trace: what the card and the host do, in a file for ui.perfetto.dev.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "driver/runtime/program.hpp"
#include "driver/tools/trace/perfetto_writer.hpp"
#include "driver/umd/energy.hpp"
#include "driver/umd/host_trace.hpp"
#include "hw/regs/gen/trace.h"

namespace cx::tools {

/// Functions of the firmware in this build, rising by address.
struct FirmwareFunctions {
  std::vector<uint32_t> addresses;
  std::vector<std::string> names;
};
/// Found once; any thread.
const FirmwareFunctions &firmware_functions();

/// Traces the cards of this process (those that are open and those that open) and, where wanted, the host, from its
/// construction until finish(). Times of all cards are one. One at a time.
class TraceFile final : public HostTrace {
 public:
  struct Summary {
    uint64_t records = 0;  ///< of the card
    uint64_t packets = 0;  ///< of the file
    uint64_t bytes = 0;
  };
  /// Samples of counters begin at this interval.
  static constexpr uint64_t kSamplePs = 1'000'000;

  /// Throws InputError when the file cannot be written, UsageError when something is traced already.
  TraceFile(const std::string &path, bool host);
  ~TraceFile() override;

  /// Instructions of that card (InprocTransport::trace_number()) are of this program from here on: they get the names
  /// of their nodes.
  void set_program(const Program &program, uint32_t card = 0);

  /// Number of the card that was opened last; 0 without one.
  static uint32_t newest_card();
  /// The one of this process; nullptr without.
  static TraceFile *current();
  /// Until untap() the card's records of these kinds (a sum of bits, 0 all) go to `to` as well. Throws UsageError when
  /// there is a tap already.
  void tap(uint32_t card, uint64_t kinds, std::vector<cx_trace_record> &to);
  /// What the card has recorded so far is there then. Throws UsageError without a tap.
  void untap();

  /// Ends tracing; the file is complete. Throws InputError when it could not be written.
  Summary finish();
  /// The same as far as it goes while other threads run on: what is known is in the file.
  void interrupted();

  void begin(const char *name, const std::string &detail, const uint64_t *device_ps) override;
  void end(const char *name, const uint64_t *device_ps) override;

 private:
  using Track = PerfettoWriter::Track;
  struct HostThread {
    Track wall = 0, simulated = 0;
    std::vector<std::pair<std::string, bool>> open;  // names, and whether they are in simulated time too
    uint64_t reached_ns = 0;                         // of simulated time: a card may stand behind another
  };

  /// A counter and what it shows; its track is made when it has a value.
  struct Counter {
    Track track = 0;
    double value = -1;
  };
  /// What is the same for all records of a kind.
  struct Kind {
    bool shown = false, instant = false, causes = false;
    std::vector<PerfettoWriter::Name> values;
    std::vector<PerfettoWriter::Name> names;  // by name_key(); 0: not known yet
  };
  static constexpr std::size_t kRates = 7;
  /// Rows of a kind on a card.
  struct Rows {
    Track group = 0;
    std::vector<std::optional<Lanes>> lanes;  // by unit
  };
  struct Card {
    Track counters = 0;
    std::array<Rows, CX_TRACE_KINDS + 1> rows;
    std::array<Counter, kRates> rates;
    std::array<Counter, kEnergyDomains + 1> domains;  // the last: domains that this build does not know
    Counter power, junction;
    uint64_t sample_begin = 0;
    double sample_watts = 0;
    /// Texts of the nodes of instructions, by engine and index; 0 is none.
    std::vector<std::vector<PerfettoWriter::Name>> nodes;
  };

  static void receive(void *context, uint32_t card, const cx_trace_record *records, std::size_t count);
  void note_units(uint32_t card);
  Card &card_of(uint32_t number);
  void format(std::stop_token stop);
  void format_first(std::unique_lock<std::mutex> &lock);
  void flush_card();
  void drain();
  void take(uint32_t card, std::span<const cx_trace_record> records, uint64_t received_ns);
  void take(uint32_t number, Card &card, const cx_trace_record &record);
  PerfettoWriter::Name name_of(Kind &kind, const cx_trace_record &record);
  PerfettoWriter::Name make_name(const cx_trace_record &record);
  Track track_of(uint32_t number, Rows &rows, const cx_trace_record &record, uint64_t begin, uint64_t end);
  std::string unit_name(uint32_t card, const cx_trace_record &record);
  void sample(Card &card, const cx_trace_record &record);
  void set_counter(const Card &card, Counter &counter, const char *name, const char *unit, uint64_t time, double value);
  HostThread &host_thread();
  void reach(uint64_t card_ps);
  uint64_t host_ns() const;
  void close_open(uint64_t now);
  void stop();

  /// Pieces of records between the thread that drives the card and the one that formats them.
  struct Piece {
    uint32_t card = 0;
    std::vector<cx_trace_record> records;
    uint64_t received_ns = 0;  // of the host's clock
  };
  static constexpr std::size_t kMostPieces = 64;
  static constexpr uint64_t kFewRecords = 16384;
  std::mutex queue_mutex_;
  std::condition_variable_any queue_changed_;
  std::deque<Piece> queue_;  // the first stays while it is formatted
  std::vector<Piece> spare_;
  uint64_t queued_ = 0, formatted_ = 0;  // pieces
  bool formatting_ = false;              // somebody has the first piece
  int flushing_ = 0;                     // threads that format themselves what they are flushing
  uint64_t received_ = 0;                // records
  bool at_once_ = false;                 // records are formatted where they come
  std::mutex names_mutex_;
  std::vector<std::map<std::pair<uint16_t, uint16_t>, std::string>> unit_names_;  // by card
  std::vector<cx_trace_record> *tap_ = nullptr;
  uint32_t tapped_card_ = 0;
  uint64_t tapped_kinds_ = 0;

  std::mutex mutex_;  // guards what follows; never taken before queue_mutex_
  PerfettoWriter writer_;
  bool host_, on_ = false;
  std::string failure_;  // of a write; the rest is dropped
  uint64_t records_ = 0;
  const FirmwareFunctions &functions_;
  Track host_process_ = 0, clock_track_ = 0;
  std::deque<Card> cards_;
  std::array<Kind, CX_TRACE_KINDS + 1> kinds_;
  PerfettoWriter::Name id_name_, cause_name_, node_name_, detail_name_, number_name_;
  std::array<Annotation, CX_TRACE_VALUES + 5> annotations_;  // of the record that is being taken
  bool snapshot_ = false;
  uint64_t card_reached_ns_ = 0;
  std::map<std::thread::id, HostThread> threads_;
  std::jthread formatter_;
};

/// While it lives, SIGINT and SIGTERM end the process only after `file` has been completed as far as it goes and `then`
/// was called. Construct it before there are other threads.
class TraceSignals {
 public:
  explicit TraceSignals(std::function<void()> then = {});
  ~TraceSignals();
  TraceSignals(const TraceSignals &) = delete;
  TraceSignals &operator=(const TraceSignals &) = delete;

  void watch(TraceFile *file);

 private:
  void wait();

  std::mutex mutex_;
  TraceFile *file_ = nullptr;
  std::function<void()> then_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace cx::tools
