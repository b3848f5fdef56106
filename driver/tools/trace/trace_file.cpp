#include "driver/tools/trace/trace_file.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <iterator>
#include <string_view>

#include "driver/include/cx/error.hpp"
#include "driver/transport/inproc.hpp"
#include "driver/umd/counters.hpp"
#include "driver/umd/device.hpp"
#include "firmware/image.h"
#include "hw/common/port/cx_port.h"
#include "hw/regs/gen/isa.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.hpp"

namespace cx::tools {

namespace {

/// Groups of tracks in the order in which they are shown, and the kinds of records in them.
struct Group {
  const char *name;
  std::vector<uint16_t> kinds;
};
const std::vector<Group> &groups() {
  static const std::vector<Group> all = {
      {"queues", {CX_TRACE_PACKET, CX_TRACE_DOORBELL}},
      {"firmware", {CX_TRACE_FUNCTION, CX_TRACE_SLEEP, CX_TRACE_LINE}},
      {"engines", {CX_TRACE_STREAM, CX_TRACE_INSTRUCTION, CX_TRACE_WAIT}},
      {"system DMA", {CX_TRACE_TRANSFER}},
      {"PCIe", {CX_TRACE_PCIE, CX_TRACE_INTERRUPT}},
      {"network on chip", {CX_TRACE_LINK}},
      {"DRAM", {CX_TRACE_DRAM}},
      {"counters", {CX_TRACE_TRAFFIC, CX_TRACE_ENERGY, CX_TRACE_TEMPERATURE, CX_TRACE_MARK}}};
  return all;
}

constexpr const char *kLines[] = {"doorbell", "sdma", "load", "store", "dmmu", "vpu", "sca", "host"};
constexpr uint32_t kLineNumbers[] = {CX_IRQ_DOORBELL, CX_IRQ_SDMA, CX_IRQ_LOAD, CX_IRQ_STORE,
                                     CX_IRQ_DMMU,     CX_IRQ_VPU,  CX_IRQ_SCA,  CX_IRQ_HOST};

uint64_t ns(uint64_t ps) { return ps / 1000; }

bool is_instant(uint16_t kind) { return kind == CX_TRACE_LINE || kind == CX_TRACE_DOORBELL || kind == CX_TRACE_MARK; }

std::atomic<TraceFile *> current_file{nullptr};

// Of a card in this process as its records have it.
uint64_t time_in_trace(const Device &device) {
  const auto *card = dynamic_cast<const InprocTransport *>(&const_cast<Device &>(device).transport());
  return card != nullptr ? card->trace_time_ps() : device.time_ps();
}

uint64_t steady_ns() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

}  // namespace

const FirmwareFunctions &firmware_functions() {
  static const FirmwareFunctions all = [] {
    FirmwareFunctions functions;
    // Lines of address, type and name.
    for (std::string_view rest = cx_firmware_symbols; !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      const std::size_t type = line.find(' ') + 1, name = type + 2;
      if (type == 0 || name >= line.size() || (line[type] != 't' && line[type] != 'T') || line[name] == '.') continue;
      uint32_t value = 0;
      std::from_chars(line.data(), line.data() + type, value, 16);
      if (!functions.addresses.empty() && functions.addresses.back() == value) continue;
      functions.addresses.push_back(value);
      functions.names.emplace_back(line.substr(name));
    }
    return functions;
  }();
  return all;
}

TraceFile::TraceFile(const std::string &path, bool host)
    : writer_(path), host_(host), functions_(firmware_functions()) {
  if (host_) host_process_ = writer_.process("host");
  card_of(0);
  for (const cx_trace_kind &from : cx_trace_kinds) {
    Kind &kind = kinds_.at(from.number);
    kind.shown = from.number != CX_TRACE_ENERGY && from.number != CX_TRACE_TEMPERATURE;
    kind.instant = is_instant(from.number);
    kind.causes = from.number == CX_TRACE_PACKET || from.number == CX_TRACE_STREAM ||
                  from.number == CX_TRACE_INSTRUCTION || from.number == CX_TRACE_TRANSFER;
    if (!kind.shown) continue;
    for (unsigned i = 0; i < from.value_count; ++i) {
      kind.values.push_back(writer_.annotation_name(from.values[i]));
    }
  }
  id_name_ = writer_.annotation_name("id");
  cause_name_ = writer_.annotation_name("cause");
  node_name_ = writer_.annotation_name("node");
  detail_name_ = writer_.annotation_name("of");
  number_name_ = writer_.annotation_name("number");
  cx_port_trace_options options{};
  options.records = receive;
  options.context = this;
  options.sample_ps = kSamplePs;
  options.functions = functions_.addresses.data();
  options.function_count = functions_.addresses.size();
  options.every_card = 1;
  if (cx_port_trace_start(&options) != CX_PORT_OK) throw UsageError("trace: something is traced already");
  on_ = true;
  at_once_ = std::thread::hardware_concurrency() == 1;
  current_file = this;
  if (!host_) return;
  host_trace_time = time_in_trace;
  cx::host_trace = this;
}

uint32_t TraceFile::newest_card() {
  const uint32_t card = cx_port_trace_card(nullptr);
  return card != CX_PORT_NOT_TRACED ? card : 0;
}

TraceFile *TraceFile::current() { return current_file; }

void TraceFile::tap(uint32_t card, uint64_t kinds, std::vector<cx_trace_record> &to) {
  flush_card();  // what there is already is not meant
  const std::lock_guard lock(queue_mutex_);
  if (tap_ != nullptr) throw UsageError("trace: something is traced already");
  tap_ = &to;
  tapped_card_ = card;
  tapped_kinds_ = kinds != 0 ? kinds : ~uint64_t{0};
}

void TraceFile::untap() {
  flush_card();
  const std::lock_guard lock(queue_mutex_);
  if (tap_ == nullptr) throw UsageError("trace: nothing is traced");
  tap_ = nullptr;
}

TraceFile::Card &TraceFile::card_of(uint32_t number) {
  while (cards_.size() <= number) {
    Card &card = cards_.emplace_back();
    const std::string which = cards_.size() == 1 ? "" : " " + std::to_string(cards_.size());
    const Track process = writer_.process("card" + which + ", simulated time");
    for (const Group &group : groups()) {
      const Track track = writer_.track(process, group.name);
      for (const uint16_t kind : group.kinds) card.rows.at(kind).group = track;
      card.counters = track;
    }
  }
  return cards_[number];
}

TraceFile::~TraceFile() { stop(); }

void TraceFile::stop() {
  if (!on_) return;
  on_ = false;
  current_file = nullptr;
  if (host_) {
    cx::host_trace = nullptr;
    host_trace_time = nullptr;
  }
  flush_card();
  {
    const std::lock_guard lock(queue_mutex_);
    at_once_ = true;
  }
  drain();  // what came in between
  cx_port_trace_stop();
}

TraceFile::Summary TraceFile::finish() {
  stop();
  const std::lock_guard lock(mutex_);
  close_open(host_ns());
  writer_.flush();
  if (!failure_.empty()) throw InputError(failure_);
  return {records_, writer_.packets(), writer_.bytes()};
}

void TraceFile::interrupted() {
  flush_card();
  const std::lock_guard lock(mutex_);
  try {
    close_open(host_ns());
    writer_.flush();
  } catch (const InputError &) {
    // The process ends; nothing is left to be told.
  }
  failure_ = "interrupted";  // the file stays as it is
}

void TraceFile::set_program(const Program &program, uint32_t number) {
  flush_card();
  const std::lock_guard lock(mutex_);
  Card &card = card_of(number);
  card.nodes.assign(kEngines, {});
  for (const DebugEntry &entry : program.debug) {
    if (entry.engine >= kEngines) continue;
    auto &nodes = card.nodes[entry.engine];
    nodes.resize(std::max<std::size_t>(nodes.size(), std::size_t{entry.first} + entry.count));
    if (!entry.node.empty()) std::fill_n(nodes.begin() + entry.first, entry.count, writer_.text(entry.node));
  }
}

// ---- the card ----

void TraceFile::receive(void *context, uint32_t card, const cx_trace_record *records, std::size_t count) {
  auto &file = *static_cast<TraceFile *>(context);
  std::unique_lock lock(file.queue_mutex_);
  file.note_units(card);
  if (file.tap_ != nullptr && card == file.tapped_card_) {
    std::copy_if(records, records + count, std::back_inserter(*file.tap_),
                 [&](const cx_trace_record &record) { return (file.tapped_kinds_ >> record.kind & 1) != 0; });
  }
  file.received_ += count;
  // A thread for few records would cost more than they do.
  if (file.at_once_ || file.received_ < kFewRecords) {
    lock.unlock();
    file.take(card, {records, count}, file.host_ns());
    return;
  }
  file.queue_changed_.wait(lock, [&] { return file.queue_.size() < kMostPieces; });
  Piece piece;
  if (!file.spare_.empty()) {
    piece = std::move(file.spare_.back());
    file.spare_.pop_back();
  }
  piece.card = card;
  piece.records.assign(records, records + count);
  piece.received_ns = file.host_ns();
  file.queue_.push_back(std::move(piece));
  ++file.queued_;
  if (file.flushing_ != 0) return;
  if (!file.formatter_.joinable()) {
    file.formatter_ = std::jthread([&file](std::stop_token stop) { file.format(std::move(stop)); });
  }
  file.queue_changed_.notify_all();
}

// While a card is traced it tells the names of its channels and links.
void TraceFile::note_units(uint32_t card) {
  const std::lock_guard lock(names_mutex_);
  if (unit_names_.size() <= card) unit_names_.resize(card + 1);
  auto &names = unit_names_[card];
  if (!names.empty()) return;
  for (const unsigned kind : {unsigned{CX_TRACE_DRAM}, unsigned{CX_TRACE_LINK}}) {
    char text[64];
    for (uint16_t unit = 0; cx_port_trace_unit(card, kind, unit, text, sizeof text) == CX_PORT_OK; ++unit) {
      names.emplace(std::pair(static_cast<uint16_t>(kind), unit), text);
    }
  }
}

// The card goes on while what it did is written.
void TraceFile::format(std::stop_token stop) {
  std::unique_lock lock(queue_mutex_);
  while (queue_changed_.wait(lock, stop, [this] { return !queue_.empty() && !formatting_; })) format_first(lock);
}

// By whoever finds it; the lock is let go meanwhile.
void TraceFile::format_first(std::unique_lock<std::mutex> &lock) {
  formatting_ = true;
  const Piece &piece = queue_.front();
  lock.unlock();
  take(piece.card, piece.records, piece.received_ns);
  lock.lock();
  spare_.push_back(std::move(queue_.front()));
  queue_.pop_front();
  ++formatted_;
  formatting_ = false;
  queue_changed_.notify_all();
}

// What the card has recorded is formatted, by this thread as far as nobody does it already.
void TraceFile::flush_card() {
  {
    const std::lock_guard lock(queue_mutex_);
    ++flushing_;
  }
  cx_port_trace_flush();
  drain();
  const std::lock_guard lock(queue_mutex_);
  --flushing_;
}

// Until what has come so far is formatted.
void TraceFile::drain() {
  std::unique_lock lock(queue_mutex_);
  for (const uint64_t until = queued_; formatted_ < until;) {
    if (formatting_) {
      queue_changed_.wait(lock, [&] { return !formatting_; });
    } else {
      format_first(lock);
    }
  }
}

void TraceFile::take(uint32_t number, std::span<const cx_trace_record> records, uint64_t received_ns) {
  const std::lock_guard lock(mutex_);
  if (!failure_.empty()) return;
  try {
    Card &card = card_of(number);
    for (const cx_trace_record &record : records) take(number, card, record);
    if (host_ && !records.empty()) {
      const uint64_t card_us = card_reached_ns_ / 1000;
      if (clock_track_ == 0) clock_track_ = writer_.counter(host_process_, "card's clock", "us");
      writer_.value(clock_track_, TraceClock::host, received_ns, static_cast<double>(card_us));
    }
    writer_.flush();
  } catch (const InputError &error) {
    failure_ = error.what();
  }
}

std::string TraceFile::unit_name(uint32_t card, const cx_trace_record &record) {
  const auto engine = [&] {
    return std::string(record.unit < kEngines ? kEngineNames[record.unit] : "engine " + std::to_string(record.unit));
  };
  switch (record.kind) {
    case CX_TRACE_PACKET:
    case CX_TRACE_DOORBELL:
      return "queue " + std::to_string(record.unit) + (record.kind == CX_TRACE_DOORBELL ? " doorbell" : "");
    case CX_TRACE_STREAM:
      return engine() + " stream";
    case CX_TRACE_INSTRUCTION:
      return engine();
    case CX_TRACE_WAIT:
      return engine() + " waits";
    case CX_TRACE_TRANSFER:
      return "channel " + std::to_string(record.unit);
    case CX_TRACE_PCIE:
      return record.unit == 0 ? "to the card" : record.unit == 1 ? "to the host" : "the host's accesses";
    case CX_TRACE_FUNCTION:
      return "functions";
    case CX_TRACE_SLEEP:
      return "sleep";
    case CX_TRACE_INTERRUPT:
      return "interrupts";
    case CX_TRACE_LINE:
      return "interrupt lines";
    case CX_TRACE_TRAFFIC:
      return "samples";
    case CX_TRACE_MARK:
      return "marks";
    default: {
      const std::lock_guard lock(names_mutex_);
      const auto &names = unit_names_.at(card);
      const auto known = names.find({record.kind, record.unit});
      return known != names.end() ? known->second : "unit " + std::to_string(record.unit);
    }
  }
}

namespace {

/// Records of a kind that have the same key have the same name.
uint32_t name_key(const cx_trace_record &record) {
  switch (record.kind) {
    case CX_TRACE_INTERRUPT:
    case CX_TRACE_LINE:
      return record.unit;
    case CX_TRACE_DRAM:
      return (record.values[CX_TRACE_DRAM_READ] != 0 ? 1 : 0) | (record.values[CX_TRACE_DRAM_WRITTEN] != 0 ? 2 : 0);
    default:
      return record.what;
  }
}

}  // namespace

PerfettoWriter::Name TraceFile::name_of(Kind &kind, const cx_trace_record &record) {
  constexpr uint32_t kMostKept = 4096;
  const uint32_t key = name_key(record);
  if (key >= kMostKept) return make_name(record);
  if (key >= kind.names.size()) kind.names.resize(key + 1);
  PerfettoWriter::Name &name = kind.names[key];
  if (name == 0) name = make_name(record);
  return name;
}

PerfettoWriter::Name TraceFile::make_name(const cx_trace_record &record) {
  const auto unknown = [&](const char *kind) { return writer_.name(kind + std::to_string(record.what)); };
  switch (record.kind) {
    case CX_TRACE_PACKET:
      return writer_.name(packets::type_name(static_cast<uint8_t>(record.what)));
    case CX_TRACE_INSTRUCTION:
      return writer_.name(isa::to_string(static_cast<isa::Opcode>(record.what)));
    case CX_TRACE_WAIT:
      return unknown("semaphore ");
    case CX_TRACE_TRANSFER: {
      static constexpr const char *kNames[] = {"device to device", "host to device", "device to host", "", "fill"};
      return writer_.name(record.what < std::size(kNames) ? kNames[record.what] : "transfer");
    }
    case CX_TRACE_FUNCTION:
      return record.what < functions_.names.size() ? writer_.name(functions_.names[record.what])
                                                   : writer_.name("unknown function");
    case CX_TRACE_DRAM: {
      const bool read = record.values[CX_TRACE_DRAM_READ] != 0, written = record.values[CX_TRACE_DRAM_WRITTEN] != 0;
      return writer_.name(read && written ? "reads and writes" : written ? "writes" : "reads");
    }
    case CX_TRACE_INTERRUPT:
      return writer_.name("vector " + std::to_string(record.unit));
    case CX_TRACE_LINE: {
      const auto *line = std::find(std::begin(kLineNumbers), std::end(kLineNumbers), record.unit);
      return line != std::end(kLineNumbers) ? writer_.name(kLines[line - std::begin(kLineNumbers)])
                                            : writer_.name("line " + std::to_string(record.unit));
    }
    case CX_TRACE_MARK:
      return unknown("mark ");
    default:
      for (const cx_trace_kind &kind : cx_trace_kinds) {
        if (kind.number == record.kind) return writer_.name(kind.name);
      }
      return writer_.name("unknown");
  }
}

TraceFile::Track TraceFile::track_of(uint32_t number, Rows &rows, const cx_trace_record &record, uint64_t begin,
                                     uint64_t end) {
  const bool one_row = record.kind == CX_TRACE_INTERRUPT || record.kind == CX_TRACE_LINE;
  const std::size_t unit = one_row ? 0 : record.unit;
  if (unit >= rows.lanes.size()) rows.lanes.resize(unit + 1);
  std::optional<Lanes> &lanes = rows.lanes[unit];
  if (!lanes) lanes.emplace(writer_, rows.group, unit_name(number, record));
  // Functions nest: they lie on one row whatever the order in which they end.
  return record.kind == CX_TRACE_FUNCTION ? lanes->only() : lanes->find(begin, end);
}

void TraceFile::take(uint32_t number, Card &card, const cx_trace_record &record) {
  ++records_;
  const uint64_t begin = ns(record.begin), end = ns(record.end);
  reach(record.begin);
  if (record.kind >= kinds_.size()) return;
  if (record.kind == CX_TRACE_TRAFFIC || record.kind == CX_TRACE_ENERGY || record.kind == CX_TRACE_TEMPERATURE) {
    sample(card, record);
  }
  Kind &kind = kinds_[record.kind];
  if (!kind.shown) return;
  // Numbers that are 0 are left out: they are overwritten by the next.
  auto &annotations = annotations_;
  std::size_t count = 0;
  const auto add = [&](PerfettoWriter::Name what, uint64_t value, bool is_text = false) {
    annotations[count] = {what, value, is_text};
    count += value != 0 ? 1 : 0;
  };
  // What other records may name as their cause has a flow of its own number, on which they lie: of the two flows of a
  // record the one that is not its id is its cause. A wait is shown with its cause by the instruction that follows it.
  const bool waits = record.kind == CX_TRACE_WAIT;
  const uint64_t flows[] = {kind.causes ? record.id : 0, waits ? 0 : record.cause};
  add(id_name_, flows[0]);
  add(cause_name_, waits ? record.cause : 0);
  for (std::size_t i = 0; i < kind.values.size(); ++i) add(kind.values[i], record.values[i]);
  if (record.kind == CX_TRACE_MARK) add(number_name_, record.what);
  if (record.kind == CX_TRACE_INSTRUCTION && record.unit < card.nodes.size()) {
    const auto &nodes = card.nodes[record.unit];
    const uint64_t pc = record.values[CX_TRACE_INSTRUCTION_PC];
    if (pc < nodes.size()) add(node_name_, nodes[pc], true);
  }
  const PerfettoWriter::Name name = name_of(kind, record);
  const Track track = track_of(number, card.rows[record.kind], record, begin, end);
  const std::span<const Annotation> shown(annotations.data(), count);
  if (kind.instant) {
    writer_.instant(track, TraceClock::card, begin, name, shown, flows);
  } else {
    writer_.slice(track, TraceClock::card, begin, end, name, shown, flows);
  }
}

void TraceFile::set_counter(const Card &card, Counter &counter, const char *name, const char *unit, uint64_t time,
                            double value) {
  if (counter.track == 0) counter.track = writer_.counter(card.counters, name, unit);
  if (counter.value == value) return;
  counter.value = value;
  writer_.value(counter.track, TraceClock::card, time, value);
}

void TraceFile::sample(Card &card, const cx_trace_record &record) {
  const uint64_t time = ns(record.begin);
  const auto ps = static_cast<double>(record.end - record.begin);
  if (record.end == record.begin) return;
  if (record.kind == CX_TRACE_TRAFFIC) {
    static constexpr std::pair<unsigned, const char *> kShown[kRates] = {
        {CX_TRACE_TRAFFIC_DRAM_READ, "DRAM read"},          {CX_TRACE_TRAFFIC_DRAM_WRITTEN, "DRAM written"},
        {CX_TRACE_TRAFFIC_SPM_READ, "scratchpad read"},     {CX_TRACE_TRAFFIC_SPM_WRITTEN, "scratchpad written"},
        {CX_TRACE_TRAFFIC_NOC, "network on chip"},          {CX_TRACE_TRAFFIC_PCIE_TO_DEVICE, "PCIe to the card"},
        {CX_TRACE_TRAFFIC_PCIE_TO_HOST, "PCIe to the host"}};
    constexpr double kBytesPerNs = 1e3;  // of bytes a ps: 10^9 bytes a second
    for (std::size_t i = 0; i < kRates; ++i) {
      const auto &[place, name] = kShown[i];
      set_counter(card, card.rates[i], name, "GB/s", time,
                  kBytesPerNs * static_cast<double>(record.values[place]) / ps);
    }
    if (card.sample_watts > 0) set_counter(card, card.power, "power", "W", ns(card.sample_begin), card.sample_watts);
    card.sample_begin = record.begin;
    card.sample_watts = 0;
  } else if (record.kind == CX_TRACE_ENERGY) {
    constexpr double kWatts = 1e-3;  // a femtojoule a picosecond
    const double watts = kWatts * static_cast<double>(record.values[CX_TRACE_ENERGY_FEMTOJOULES]) / ps;
    card.sample_watts += watts;
    const std::size_t domain = std::min<std::size_t>(record.unit, kEnergyDomains);
    const char *name = domain < kEnergyDomains ? kEnergyDomainNames[domain] : "other";
    Counter &counter = card.domains[domain];
    set_counter(card, counter, counter.track == 0 ? (std::string("power of ") + name).c_str() : "", "W", time, watts);
  } else {
    constexpr double kDegrees = 1e-3;
    const auto junction = static_cast<int64_t>(record.values[CX_TRACE_TEMPERATURE_JUNCTION]);
    set_counter(card, card.junction, "junction", "Celsius", ns(record.end), kDegrees * static_cast<double>(junction));
  }
}

// ---- the host ----

// The card's clock shows this time now, as far as is known.
void TraceFile::reach(uint64_t card_ps) {
  if (!snapshot_) writer_.snapshot(host_ns(), ns(card_ps));
  snapshot_ = true;
  card_reached_ns_ = std::max(card_reached_ns_, ns(card_ps));
}

uint64_t TraceFile::host_ns() const { return steady_ns(); }

TraceFile::HostThread &TraceFile::host_thread() {
  const auto [known, added] = threads_.emplace(std::this_thread::get_id(), HostThread());
  HostThread &thread = known->second;
  if (added) {
    const std::string number = threads_.size() == 1 ? "" : " " + std::to_string(threads_.size());
    thread.wall = writer_.track(host_process_, "host" + number + ", wall time");
    thread.simulated = writer_.track(host_process_, "host" + number + ", simulated time");
  }
  return thread;
}

void TraceFile::begin(const char *name, const std::string &detail, const uint64_t *device_ps) {
  const std::lock_guard lock(mutex_);
  if (!failure_.empty()) return;
  HostThread &thread = host_thread();
  thread.open.emplace_back(name, device_ps != nullptr);
  std::vector<Annotation> annotations;
  if (!detail.empty()) annotations.push_back({detail_name_, writer_.text(detail), true});
  writer_.begin(thread.wall, TraceClock::host, host_ns(), writer_.name(name), annotations);
  if (device_ps == nullptr) return;
  reach(*device_ps);
  thread.reached_ns = std::max(thread.reached_ns, ns(*device_ps));
  writer_.begin(thread.simulated, TraceClock::card, thread.reached_ns, writer_.name(name));
}

void TraceFile::end(const char *name, const uint64_t *device_ps) {
  const std::lock_guard lock(mutex_);
  HostThread &thread = host_thread();
  // Those that began before the trace did are not in it.
  if (!failure_.empty() || thread.open.empty() || thread.open.back().first != name) return;
  thread.open.pop_back();
  writer_.end(thread.wall, TraceClock::host, host_ns());
  if (device_ps == nullptr) return;
  reach(*device_ps);
  thread.reached_ns = std::max(thread.reached_ns, ns(*device_ps));
  writer_.end(thread.simulated, TraceClock::card, thread.reached_ns);
}

void TraceFile::close_open(uint64_t now) {
  for (auto &[id, thread] : threads_) {
    for (; !thread.open.empty(); thread.open.pop_back()) {
      writer_.end(thread.wall, TraceClock::host, now);
      if (thread.open.back().second) writer_.end(thread.simulated, TraceClock::card, card_reached_ns_);
    }
  }
}

// ---- signals ----

namespace {

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

TraceSignals::TraceSignals(std::function<void()> then) : then_(std::move(then)) {
  const sigset_t set = watched_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { wait(); });
}

TraceSignals::~TraceSignals() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  pthread_kill(thread_.native_handle(), SIGTERM);
  thread_.join();
  const sigset_t set = watched_signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void TraceSignals::watch(TraceFile *file) {
  const std::lock_guard lock(mutex_);
  file_ = file;
}

void TraceSignals::wait() {
  const sigset_t set = watched_signals();
  int signal = 0;
  sigwait(&set, &signal);
  const std::lock_guard lock(mutex_);
  if (done_) return;
  if (file_ != nullptr) file_->interrupted();
  if (then_) then_();
  std::signal(signal, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  raise(signal);
}

}  // namespace cx::tools
