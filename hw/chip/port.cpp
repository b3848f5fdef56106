// Implementation of hw/common/port/cx_port.h: the cards of this process, each with a kernel of its own.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <systemc>
#include <vector>

#include "hw/chip/chip.hpp"
#include "hw/common/port/cx_port.h"
#include "hw/config/config.hpp"
#include "hw/dmmu/dmmu.hpp"
#include "hw/dmmu/tile_alone.hpp"
#include "hw/dram/dram.hpp"
#include "hw/engine/engine.hpp"
#include "hw/pcie/endpoint.hpp"
#include "hw/ras/fault_spec.hpp"
#include "hw/sca/sca.hpp"
#include "hw/sync/clock.hpp"
#include "hw/trace/trace.hpp"

// This file's archive member is always linked; it keeps sc_main with it.
extern "C" int sc_main(int, char **);

namespace {

class CallWindow final : public cx::hw::HostWindow {
 public:
  explicit CallWindow(const cx_port_window &calls) : calls_(calls) {}
  bool read(std::uint64_t iova, std::byte *to, std::uint64_t bytes) override {
    return calls_.read(calls_.context, iova, to, bytes) == 0;
  }
  bool write(std::uint64_t iova, const std::byte *from, std::uint64_t bytes) override {
    return calls_.write(calls_.context, iova, from, bytes) == 0;
  }

 private:
  cx_port_window calls_;
};

class PeerMapping;

}  // namespace

struct cx_port {
  std::string error;
  bool open = false;
  bool broken = false;  // the kernel has stopped on an error; nothing can run any more
  sc_core::sc_simcontext *kernel = nullptr;
  std::uint64_t power_on_ps = 0;  // kernel time
  std::uint64_t origin_ps = 0;    // time of the platform at kernel time 0, modulo 2^64
  std::uint64_t opened = 0;       // counts openings of all cards
  std::unique_ptr<cx::hw::Chip> chip;
  std::vector<std::unique_ptr<CallWindow>> windows;  // until the port is closed
  std::vector<std::unique_ptr<PeerMapping>> peers;
  bool shared = false;  // device memory lies in a file
};

namespace {

using cx::hw::Chip;
using cx::hw::PcieEndpoint;

// Every card that this process has built, open or closed. A kernel can neither restart nor elaborate again, and modules
// must outlive its static objects: nothing is destroyed, and a closed card serves the next opening of an equal one.
std::vector<cx_port *> &all_ports() {
  static auto *ports = new std::vector<cx_port *>;
  return *ports;
}

// Threads take turns: which kernel SystemC's functions speak of, and its coroutine that runs, are the process's.
std::recursive_mutex &kernels() {
  static auto *mutex = new std::recursive_mutex;
  return *mutex;
}
using Turn = std::lock_guard<std::recursive_mutex>;

// Makes a card's kernel the one that SystemC's functions speak of. Kernels take turns; they are never nested.
class InKernel {
 public:
  explicit InKernel(const cx_port &port) : before_(sc_core::sc_curr_simcontext) {
    sc_core::sc_curr_simcontext = port.kernel;
  }
  ~InKernel() { sc_core::sc_curr_simcontext = before_; }
  InKernel(const InKernel &) = delete;
  InKernel &operator=(const InKernel &) = delete;

 private:
  Turn turn_{kernels()};
  sc_core::sc_simcontext *before_;
};

// The card that was opened last and is open still; for tools that observe one card.
cx_port *latest_open() {
  cx_port *latest = nullptr;
  for (cx_port *port : all_ports()) {
    if (port->open && (latest == nullptr || port->opened > latest->opened)) latest = port;
  }
  return latest;
}

// A card that is traced.
struct Traced {
  cx_port *port;
  std::uint32_t number;
  std::uint64_t origin_ps;  // added to its kernel's time, modulo 2^64
  std::unique_ptr<cx::hw::Trace> trace;
};

// Of the process.
struct Tracing {
  bool on = false;
  cx_port_trace_options options{};
  std::vector<std::uint32_t> functions;
  std::mutex list;  // guards `cards`, for flushes by other threads
  std::vector<std::unique_ptr<Traced>> cards;
  std::uint32_t numbers = 0;      // that are given
  std::uint64_t power_on_ps = 0;  // platform's time at which records' time is 0
  std::uint64_t ended_ps = 0;     // records' time that cards that are closed have reached

  Traced *find(const cx_port *port) const {
    const auto found =
        std::find_if(cards.begin(), cards.end(), [port](const auto &card) { return card->port == port; });
    return found != cards.end() ? found->get() : nullptr;
  }
};

Tracing &tracing() {
  static auto *state = new Tracing;
  return *state;
}

// What is worth a name of its own has one in all cards' records together.
constexpr unsigned kCardShift = 48;

void begin_trace(cx_port &port) {
  Tracing &state = tracing();
  const InKernel turn(port);
  const std::uint64_t power_on = port.power_on_ps + port.origin_ps;
  if (state.cards.empty()) state.power_on_ps = power_on - state.ended_ps;
  auto card = std::make_unique<Traced>();
  card->port = &port;
  card->number = state.numbers++;
  card->origin_ps = port.origin_ps - state.power_on_ps;
  cx::hw::Trace::Options options;
  options.sink = [sink = state.options, number = card->number](std::span<const cx_trace_record> records) {
    sink.records(sink.context, number, records.data(), records.size());
  };
  if (state.options.kinds != 0) options.kinds = state.options.kinds;
  options.period_ps = cx::hw::Clock(port.chip->config().chip.clock_mhz).period_ps();
  options.origin_ps = card->origin_ps;
  options.first_id = std::uint64_t{card->number} << kCardShift;
  options.functions = state.functions;
  card->trace = std::make_unique<cx::hw::Trace>(std::move(options));
  port.chip->set_trace(card->trace.get(), state.options.sample_ps);
  const std::lock_guard lock(state.list);
  state.cards.push_back(std::move(card));
}

// The card is open, or closes.
void end_trace(Traced &card) {
  Tracing &state = tracing();
  {
    const InKernel turn(*card.port);
    card.port->chip->set_trace(nullptr);
    state.ended_ps = std::max<std::uint64_t>(state.ended_ps, sc_core::sc_time_stamp().value() + card.origin_ps);
  }
  card.trace->flush();
  const std::lock_guard lock(state.list);
  std::erase_if(state.cards, [&card](const auto &other) { return other.get() == &card; });
}

// What cx_port_want_rtl_tile() asked of the next card: kinds and numbers.
std::vector<std::pair<int, std::uint32_t>> &wanted_rtl_tiles() {
  static std::vector<std::pair<int, std::uint32_t>> tiles;
  return tiles;
}

bool &share_memory() {
  static bool shared = false;
  return shared;
}

std::string &open_error() {
  static std::string text;
  return text;
}

std::string text_of(const sc_core::sc_report &report) {
  return std::string(report.get_msg_type()) + ": " + report.get_msg();
}

// Errors become exceptions that the port functions turn into messages; warnings go to stderr; nothing aborts.
void report_handler(const sc_core::sc_report &report, const sc_core::sc_actions &) {
  if (report.get_severity() >= sc_core::SC_ERROR) throw report;
  if (report.get_severity() == sc_core::SC_WARNING) std::cerr << "simulation: " << text_of(report) << "\n";
}

void prepare_kernel() {
  setenv("SYSTEMC_DISABLE_COPYRIGHT_MESSAGE", "1", 0);
  sc_core::sc_report_handler::set_handler(report_handler);
  sc_core::sc_report_handler::set_actions(sc_core::SC_FATAL, sc_core::SC_THROW);
  sc_core::sc_report_handler::set_actions(sc_core::SC_ERROR, sc_core::SC_THROW);
}

// Device memory of another card in a card's address space. Kernels count time from different origins.
class PeerMapping final : public cx::hw::PeerMemory {
 public:
  PeerMapping(const cx_port &owner, cx_port &target, std::uint64_t iova, std::uint64_t offset)
      : owner_(owner), target_(target), iova_(iova), offset_(offset) {}

  const cx_port &target() const { return target_; }
  std::uint64_t iova() const { return iova_; }
  bool reachable() const override {
    if (!target_.open) return false;
    const PcieEndpoint &endpoint = target_.chip->endpoint();
    return endpoint.link_up() && endpoint.config().memory_enabled();
  }
  std::uint64_t written(std::uint64_t at, const cx::hw::PcieRuns &runs) override {
    return timed(at, [&](cx::hw::Cycles cycle) {
      return target_.chip->endpoint().peer_write(cycle, offset_ + (runs.address - iova_), runs);
    });
  }
  std::uint64_t answered(std::uint64_t at, const cx::hw::PcieRuns &runs) override {
    return timed(at, [&](cx::hw::Cycles cycle) {
      return target_.chip->endpoint().peer_read(cycle, offset_ + (runs.address - iova_), runs);
    });
  }

 private:
  template <class Access>
  std::uint64_t timed(std::uint64_t at, Access access) {
    const std::uint64_t period = cx::hw::Clock(target_.chip->config().chip.clock_mhz).period_ps();
    const std::uint64_t shift = owner_.origin_ps - target_.origin_ps;
    // What the owner's transfer does on the target's link and memory has that transfer as its cause.
    const Traced *from = tracing().find(&owner_), *to = tracing().find(&target_);
    const cx::hw::Trace::Cause cause(to != nullptr ? to->trace.get() : nullptr,
                                     from != nullptr ? from->trace->cause() : 0);
    return access((at + shift + period - 1) / period) * period - shift;
  }

  const cx_port &owner_;
  cx_port &target_;
  std::uint64_t iova_, offset_;
};

// Runs f and turns exceptions into an error code.
template <class F>
int guarded(cx_port *port, F &&f) {
  if (port == nullptr || !port->open) return CX_PORT_BAD_ARGUMENT;
  if (port->broken) return CX_PORT_INTERNAL;
  const InKernel turn(*port);
  try {
    return f();
  } catch (const sc_core::sc_report &report) {
    port->error = text_of(report);
  } catch (const std::exception &error) {
    port->error = error.what();
  }
  port->broken = true;
  return CX_PORT_INTERNAL;
}

// Of the kernel whose turn it is.
std::uint64_t now_ps() { return sc_core::sc_time_stamp().value(); }

std::uint64_t kernel_now_ps(const cx_port &port) {
  const InKernel turn(port);
  return now_ps();
}

std::uint64_t platform_ps(const cx_port &port) { return kernel_now_ps(port) + port.origin_ps; }

// How far the card that the host waits for may run ahead of others that are busy.
constexpr std::uint64_t kAheadPs = 1'000'000;

bool others_busy(const cx_port &port) {
  return std::any_of(all_ports().begin(), all_ports().end(), [&](const cx_port *other) {
    if (other == &port || !other->open || other->broken) return false;
    const InKernel turn(*other);
    return sc_core::sc_pending_activity();
  });
}

// Time is one for all cards: those that stand behind the present one follow it.
void catch_up_others(const cx_port &port) {
  const std::uint64_t now = platform_ps(port);
  for (cx_port *other : all_ports()) {
    if (other == &port || !other->open || other->broken) continue;
    const InKernel turn(*other);
    try {
      // Messages to the host pause the kernel on the way.
      for (std::uint64_t at = now_ps() + other->origin_ps; at < now; at = now_ps() + other->origin_ps) {
        sc_core::sc_start(sc_core::sc_time::from_value(now - at));
      }
      continue;
    } catch (const sc_core::sc_report &report) {
      other->error = text_of(report);
    } catch (const std::exception &error) {
      other->error = error.what();
    }
    other->broken = true;
  }
}

int fail(cx_port *port, int code, std::string message) {
  port->error = std::move(message);
  return code;
}

cx::hw::HostMemory::Access access_of(int access) {
  return {(access & CX_PORT_DMA_READ) != 0, (access & CX_PORT_DMA_WRITE) != 0};
}

int mapped(cx_port *port, cx::hw::HostMemory::Result result) {
  using Result = cx::hw::HostMemory::Result;
  if (result == Result::ok) return CX_PORT_OK;
  if (result == Result::overlap) return fail(port, CX_PORT_OVERLAP, "the range overlaps a mapping");
  return fail(port, CX_PORT_BAD_ARGUMENT, "expected memory and a range that is not empty and does not wrap");
}

// Lets time pass until the endpoint has answered.
int complete(cx_port *port, const PcieEndpoint::Read &read) {
  while (!read.done) {
    if (!sc_core::sc_pending_activity()) return fail(port, CX_PORT_INTERNAL, "the card does not answer");
    sc_core::sc_start(sc_core::sc_max_time() - sc_core::sc_time_stamp(), sc_core::SC_EXIT_ON_STARVATION);
  }
  catch_up_others(*port);
  if (!read.error.empty()) return fail(port, CX_PORT_BAD_ACCESS, read.error);
  return CX_PORT_OK;
}

std::vector<std::string> to_strings(const char *const *sets, size_t count) {
  std::vector<std::string> out;
  for (size_t i = 0; i < count; ++i) out.emplace_back(sets[i]);
  return out;
}

int give_text(const std::string &value, char **text) {
  *text = strdup(value.c_str());
  return *text != nullptr ? CX_PORT_OK : CX_PORT_INTERNAL;
}

cx::config::Chip with_wanted_tiles(cx::config::Chip config) {
  for (const auto &[kind, tile] : std::exchange(wanted_rtl_tiles(), {})) {
    const bool sparse = kind == CX_PORT_SPARSE_TILE;
    const std::uint32_t count = sparse ? config.sca.tiles : config.dmmu.tiles;
    if (tile >= count) {
      throw std::runtime_error(std::string("waves: there is no ") + (sparse ? "sparse " : "") + "tile " +
                               std::to_string(tile) + "; " + (sparse ? "sca" : "dmmu") + ".tiles is " +
                               std::to_string(count));
    }
    auto &rtl_tiles = sparse ? config.sca.rtl_tiles : config.dmmu.rtl_tiles;
    if (!rtl_tiles.contains(tile)) rtl_tiles.tiles.push_back(tile);
  }
  return config;
}

std::uint64_t &openings() {
  static std::uint64_t count = 0;
  return count;
}

cx_port *closed_card(const cx::config::Chip &config) {
  const auto found = std::find_if(all_ports().begin(), all_ports().end(), [&](const cx_port *port) {
    return !port->open && !port->broken && port->shared == share_memory() && port->chip->given() == config;
  });
  return found != all_ports().end() ? *found : nullptr;
}

// A card with a kernel of its own, at simulated time 0.
cx_port *build_card(const cx::config::Chip &config) {
  Chip::check_buildable(config);
  prepare_kernel();
  auto *port = new cx_port;
  all_ports().push_back(port);
  port->broken = true;  // a hierarchy that could not be built stays behind, in a kernel that nobody runs
  port->kernel = new sc_core::sc_simcontext;
  const InKernel turn(*port);
  port->shared = share_memory();
  port->chip = std::make_unique<Chip>("chip", config, port->shared);
  sc_core::sc_start(sc_core::SC_ZERO_TIME);
  port->broken = false;
  return port;
}

// Power-on of a chip that has run before. Time goes on at a clock edge, so a second run takes the same cycles.
void power_cycle(cx_port &port) {
  port.chip->reset(Chip::Reset::power_on);
  const cx::hw::Clock clock(port.chip->config().chip.clock_mhz);
  do {
    sc_core::sc_start(sc_core::SC_ZERO_TIME);
  } while (sc_core::sc_pending_activity_at_current_time());
  const sc_core::sc_time rest = clock.until(clock.now() + 1);
  const std::uint64_t target = now_ps() + rest.value();
  while (now_ps() < target) sc_core::sc_start(sc_core::sc_time::from_value(target - now_ps()));
}

}  // namespace

extern "C" {

cx_port *cx_port_open(const char *yaml_path, const char *const *sets, size_t set_count) {
  const Turn turn(kernels());
  try {
    if (yaml_path == nullptr || (sets == nullptr && set_count != 0)) throw std::invalid_argument("no configuration");
    const cx::config::Chip config = with_wanted_tiles(cx::config::load(yaml_path, to_strings(sets, set_count)));
    const cx_port *neighbour = latest_open();
    const std::uint64_t now = neighbour != nullptr ? platform_ps(*neighbour) : 0;
    cx_port *port = closed_card(config);
    if (port != nullptr) {
      const InKernel turn(*port);
      power_cycle(*port);
    } else {
      port = build_card(config);
    }
    port->error.clear();
    port->power_on_ps = kernel_now_ps(*port);
    port->origin_ps = now - port->power_on_ps;
    port->opened = ++openings();
    port->open = true;
    if (tracing().on && (tracing().options.every_card != 0 || tracing().cards.empty())) begin_trace(*port);
    return port;
  } catch (const sc_core::sc_report &report) {
    open_error() = text_of(report);
  } catch (const std::exception &error) {
    open_error() = error.what();
  }
  return nullptr;
}

void cx_port_close(cx_port *port) {
  const Turn turn(kernels());
  if (port == nullptr || !port->open) return;
  port->open = false;
  const InKernel kernel(*port);
  port->chip->dmmu().stop_recording();
  port->chip->sca().stop_recording();
  if (Traced *traced = tracing().find(port)) end_trace(*traced);
  // The host's memory may go away: the card must not reach it any more.
  port->chip->endpoint().host_memory().clear();
  port->windows.clear();
  port->peers.clear();
  for (cx_port *other : all_ports()) {
    if (other->chip == nullptr) continue;
    std::erase_if(other->peers, [&](const auto &peer) {
      if (&peer->target() != port) return false;
      other->chip->endpoint().host_memory().unmap(*peer);
      return true;
    });
  }
  port->chip->dram().reset();
}

void cx_port_share_memory(void) { share_memory() = true; }

void cx_port_want_rtl_tile(int kind, uint32_t tile) { wanted_rtl_tiles().emplace_back(kind, tile); }

int cx_port_record_tile(int kind, uint32_t tile, const uint64_t *windows, size_t window_count, const char *path,
                        char **text) {
  try {
    cx_port *port = latest_open();
    if (port == nullptr || path == nullptr || windows == nullptr) throw std::invalid_argument("waves: no card is open");
    const InKernel turn(*port);
    cx::hw::TileWaves waves;
    waves.path = path;
    waves.period_ps = cx::hw::Clock(port->chip->config().chip.clock_mhz).period().value();
    waves.origin_ps = std::uint64_t{0} - port->power_on_ps;
    const auto cycle = [&](std::uint64_t ps) {
      return (port->power_on_ps + std::min<std::uint64_t>(ps, 1ull << 62)) / waves.period_ps;
    };
    for (size_t i = 0; i < window_count; ++i) {
      waves.windows.emplace_back(cycle(windows[2 * i]), cycle(windows[2 * i + 1]));
    }
    if (kind == CX_PORT_SPARSE_TILE) {
      port->chip->sca().record(tile, waves);
    } else {
      port->chip->dmmu().record(tile, waves);
    }
    return CX_PORT_OK;
  } catch (const std::exception &error) {
    give_text(error.what(), text);
    return CX_PORT_BAD_ARGUMENT;
  }
}

uint64_t cx_port_stop_recording(void) {
  const cx_port *port = latest_open();
  return port != nullptr ? port->chip->dmmu().stop_recording() + port->chip->sca().stop_recording() : 0;
}

uint64_t cx_port_time_now(void) {
  const cx_port *port = latest_open();
  if (port == nullptr) return 0;
  const InKernel turn(*port);
  return now_ps() - port->power_on_ps;
}

int cx_port_trace_start(const cx_port_trace_options *options) {
  if (options == nullptr || options->records == nullptr || (options->functions == nullptr && options->function_count))
    return CX_PORT_BAD_ARGUMENT;
  const Turn turn(kernels());
  if (tracing().on) return CX_PORT_BAD_ARGUMENT;
  tracing().on = true;
  tracing().options = *options;
  tracing().functions.assign(options->functions, options->functions + options->function_count);
  tracing().numbers = 0;
  tracing().ended_ps = 0;
  std::vector<cx_port *> open;
  if (options->every_card != 0) {
    std::copy_if(all_ports().begin(), all_ports().end(), std::back_inserter(open), [](cx_port *p) { return p->open; });
    std::sort(open.begin(), open.end(), [](const cx_port *a, const cx_port *b) { return a->opened < b->opened; });
  } else if (cx_port *port = latest_open()) {
    open.push_back(port);
  }
  for (cx_port *port : open) begin_trace(*port);
  return CX_PORT_OK;
}

void cx_port_trace_flush(void) {
  const std::lock_guard lock(tracing().list);
  for (const auto &card : tracing().cards) card->trace->flush();
}

int cx_port_trace_stop(void) {
  const Turn turn(kernels());
  if (!tracing().on) return CX_PORT_BAD_ARGUMENT;
  while (!tracing().cards.empty()) end_trace(*tracing().cards.back());
  tracing().on = false;
  return CX_PORT_OK;
}

uint32_t cx_port_trace_card(const cx_port *port) {
  const Turn turn(kernels());
  const Traced *traced = tracing().find(port != nullptr ? port : latest_open());
  return traced != nullptr ? traced->number : CX_PORT_NOT_TRACED;
}

uint64_t cx_port_trace_time_ps(const cx_port *port) {
  const Turn turn(kernels());
  const Traced *traced = tracing().find(port);
  return traced != nullptr ? kernel_now_ps(*port) + traced->origin_ps : cx_port_time_ps(port);
}

int cx_port_trace_unit(uint32_t card, uint32_t kind, uint32_t unit, char *text, size_t size) {
  const auto &cards = tracing().cards;
  const auto found = std::find_if(cards.begin(), cards.end(), [card](const auto &c) { return c->number == card; });
  if (found == cards.end() || text == nullptr) return CX_PORT_BAD_ARGUMENT;
  const std::string name = (*found)->port->chip->unit_name(kind, unit);
  if (name.empty()) return CX_PORT_BAD_ARGUMENT;
  std::snprintf(text, size, "%s", name.c_str());
  return CX_PORT_OK;
}

int cx_tile_alone(const char *yaml_path, const char *const *sets, size_t set_count, const char *format, uint32_t m,
                  uint32_t blocks, uint32_t folds, char **json_text) {
  try {
    const cx::config::Chip config = cx::config::load(yaml_path, to_strings(sets, set_count));
    const auto dtype = cx::num::dtype_from_name(format);
    if (!dtype) throw std::invalid_argument(std::string("no format ") + format);
    const auto result = cx::hw::run_tile_alone(cx::hw::Dmmu::tile_shape_of(config.dmmu), *dtype, m, blocks, folds);
    give_text("{\"macs\": " + std::to_string(result.macs) + ", \"cycles\": " + std::to_string(result.cycles) +
                  ", \"wall_s\": " + std::to_string(result.wall_s) + ", \"cpu_s\": " + std::to_string(result.cpu_s) +
                  "}",
              json_text);
    return CX_PORT_OK;
  } catch (const std::exception &error) {
    give_text(error.what(), json_text);
    return CX_PORT_BAD_ARGUMENT;
  }
}

const char *cx_port_error(const cx_port *port) { return port != nullptr ? port->error.c_str() : open_error().c_str(); }

int cx_port_read(cx_port *port, int bar, uint64_t offset, void *data, size_t size) {
  return guarded(port, [&] {
    if (data == nullptr) return fail(port, CX_PORT_BAD_ARGUMENT, "no buffer");
    PcieEndpoint &endpoint = port->chip->endpoint();
    std::memset(data, 0xff, size);  // what a host reads when nothing answers
    if (!endpoint.link_up()) return static_cast<int>(CX_PORT_OK);
    if (const auto refusal = endpoint.refuse(bar, offset, size)) return fail(port, CX_PORT_BAD_ACCESS, *refusal);
    PcieEndpoint::Read read{bar, offset, static_cast<std::byte *>(data), size, false, {}};
    endpoint.send_read(read);
    return complete(port, read);
  });
}

int cx_port_peek(cx_port *port, uint64_t offset, uint32_t *value) {
  return guarded(port, [&] {
    if (value == nullptr) return fail(port, CX_PORT_BAD_ARGUMENT, "no buffer");
    if (!port->chip->peek(offset, value)) return fail(port, CX_PORT_BAD_ACCESS, "no such register");
    return int{CX_PORT_OK};
  });
}

int cx_port_write(cx_port *port, int bar, uint64_t offset, const void *data, size_t size) {
  return guarded(port, [&] {
    if (data == nullptr) return fail(port, CX_PORT_BAD_ARGUMENT, "no data");
    PcieEndpoint &endpoint = port->chip->endpoint();
    if (!endpoint.link_up()) return static_cast<int>(CX_PORT_OK);
    if (const auto refusal = endpoint.refuse(bar, offset, size)) return fail(port, CX_PORT_BAD_ACCESS, *refusal);
    if (bar != CX_PORT_CONFIG_SPACE) {
      endpoint.post_write(bar, offset, data, size);
      return static_cast<int>(CX_PORT_OK);
    }
    std::byte value[4];
    std::memcpy(value, data, size);
    PcieEndpoint::Read write{bar, offset, value, size, false, {}};
    endpoint.send_config_write(write);
    return complete(port, write);
  });
}

int cx_port_dma_map(cx_port *port, uint64_t iova, size_t size, void *memory, int access) {
  return guarded(port, [&] {
    return mapped(port, port->chip->endpoint().host_memory().map(iova, size, static_cast<std::byte *>(memory),
                                                                 access_of(access)));
  });
}

int cx_port_dma_map_window(cx_port *port, uint64_t iova, size_t size, const cx_port_window *window, int access) {
  return guarded(port, [&] {
    if (window == nullptr || window->read == nullptr || window->write == nullptr) {
      return fail(port, CX_PORT_BAD_ARGUMENT, "no window");
    }
    auto made = std::make_unique<CallWindow>(*window);
    const int result = mapped(port, port->chip->endpoint().host_memory().map(iova, size, *made, access_of(access)));
    if (result == CX_PORT_OK) port->windows.push_back(std::move(made));
    return result;
  });
}

int cx_port_dma_map_peer(cx_port *port, uint64_t iova, size_t size, cx_port *peer, uint64_t offset, int access) {
  return guarded(port, [&] {
    if (peer == nullptr || peer == port || !peer->open || peer->broken) {
      return fail(port, CX_PORT_BAD_ARGUMENT, "expected another open card");
    }
    const std::uint64_t bytes = peer->chip->dram().bytes();
    if (offset > bytes || size > bytes - offset) {
      return fail(port, CX_PORT_BAD_ARGUMENT, "the range is not inside the other card's memory");
    }
    auto made = std::make_unique<PeerMapping>(*port, *peer, iova, offset);
    const int result = mapped(port, port->chip->endpoint().host_memory().map(
                                        iova, size, peer->chip->dram().data() + offset, *made, access_of(access)));
    if (result == CX_PORT_OK) port->peers.push_back(std::move(made));
    return result;
  });
}

int cx_port_peer_traffic(cx_port *port, uint64_t offset, uint64_t bytes, int write, uint64_t *duration_ps) {
  return guarded(port, [&] {
    const std::uint64_t there = port->chip->dram().bytes();
    if (duration_ps == nullptr || bytes == 0 || offset > there || bytes > there - offset) {
      return fail(port, CX_PORT_BAD_ARGUMENT, "the range is not inside the card's memory");
    }
    PcieEndpoint &endpoint = port->chip->endpoint();
    const cx::hw::Clock clock(port->chip->config().chip.clock_mhz);
    const cx::hw::PcieRuns runs{1, bytes, offset};
    const std::uint64_t start = now_ps();
    const cx::hw::Cycles end = write != 0 ? endpoint.peer_write(clock.now(), offset, runs)
                                          : endpoint.peer_read(clock.now(), offset, runs) + endpoint.link().latency();
    const std::uint64_t target = start + clock.until(end).value();
    while (now_ps() < target) sc_core::sc_start(sc_core::sc_time::from_value(target - now_ps()));
    catch_up_others(*port);
    *duration_ps = target - start;
    return static_cast<int>(CX_PORT_OK);
  });
}

int cx_port_function_reset(cx_port *port) {
  return guarded(port, [&] {
    port->chip->endpoint().function_reset();
    port->chip->endpoint().arrived().clear();
    return static_cast<int>(CX_PORT_OK);
  });
}

int cx_port_arm_vector(cx_port *port, uint32_t vector, int armed) {
  return guarded(port, [&] {
    if (port->chip->endpoint().arm(vector, armed != 0)) return static_cast<int>(CX_PORT_OK);
    return fail(port, CX_PORT_BAD_ARGUMENT, "there is no vector " + std::to_string(vector));
  });
}

uint64_t cx_port_region_bytes(const cx_port *port, int bar) {
  return port != nullptr && port->open ? port->chip->endpoint().region_bytes(bar) : 0;
}

int cx_port_region_file(const cx_port *port, int bar, uint64_t *bytes) {
  if (port == nullptr || !port->open || bytes == nullptr) return -1;
  if (bar == 4) {
    *bytes = port->chip->dram().bytes();
    return port->chip->dram().file();
  }
  if (bar != 2) return -1;
  *bytes = port->chip->tcm_bytes() & ~uint64_t{4095};
  return *bytes != 0 ? port->chip->tcm_file() : -1;
}

int cx_port_dma_unmap(cx_port *port, uint64_t iova, size_t size) {
  return guarded(port, [&] {
    using Result = cx::hw::HostMemory::Result;
    if (port->chip->endpoint().host_memory().unmap(iova, size) == Result::ok) {
      std::erase_if(port->peers, [&](const auto &peer) { return peer->iova() - iova < size; });
      return static_cast<int>(CX_PORT_OK);
    }
    return fail(port, CX_PORT_BAD_ARGUMENT, "the range is not exactly one or several mappings");
  });
}

int cx_port_advance(cx_port *port, uint64_t limit_ps) {
  return guarded(port, [&] {
    const std::uint64_t start = now_ps();
    const std::uint64_t room = sc_core::sc_max_time().value() - start;
    const std::uint64_t end = start + (limit_ps < room ? limit_ps : room);
    for (;;) {
      catch_up_others(*port);
      PcieEndpoint &endpoint = port->chip->endpoint();
      if (endpoint.announce_error() || !endpoint.arrived().empty()) return static_cast<int>(CX_PORT_ADVANCED_INTERRUPT);
      if (!sc_core::sc_pending_activity()) return static_cast<int>(CX_PORT_ADVANCED_IDLE);
      const std::uint64_t now = now_ps();
      if (now >= end) return static_cast<int>(CX_PORT_ADVANCED_LIMIT);
      const std::uint64_t step = others_busy(*port) ? std::min(end - now, kAheadPs) : end - now;
      // Ends at the limit, when the endpoint pauses the kernel for a message, or when nothing is left to do.
      const sc_core::sc_time next = sc_core::sc_time_to_pending_activity();
      if (next.value() > step) {
        sc_core::sc_start(sc_core::sc_time::from_value(step));
      } else {
        sc_core::sc_start(sc_core::sc_time::from_value(step), sc_core::SC_EXIT_ON_STARVATION);
      }
    }
  });
}

int cx_port_take_error(cx_port *port) {
  const Turn turn(kernels());
  return port != nullptr && port->open && port->chip->endpoint().take_error() ? 1 : 0;
}

int cx_port_inject(cx_port *port, const char *fault) {
  return guarded(port, [&] {
    if (fault == nullptr) return fail(port, CX_PORT_BAD_ARGUMENT, "no fault");
    try {
      port->chip->inject(fault);
    } catch (const cx::hw::FaultSpecError &error) {
      return fail(port, CX_PORT_BAD_ARGUMENT, std::string("fault '") + fault + "': " + error.what());
    }
    return static_cast<int>(CX_PORT_OK);
  });
}

int cx_port_fault_door(const cx_port *port) {
  return port != nullptr && port->open && port->chip->config().faults.door ? 1 : 0;
}

int cx_fault_help(char **text) {
  return text != nullptr ? give_text(cx::hw::fault_help(), text) : static_cast<int>(CX_PORT_BAD_ARGUMENT);
}

int cx_port_take_interrupt(cx_port *port, uint32_t *vector) {
  const Turn turn(kernels());
  if (port == nullptr || !port->open || vector == nullptr) return CX_PORT_BAD_ARGUMENT;
  auto &arrived = port->chip->endpoint().arrived();
  if (arrived.empty()) return 0;
  *vector = arrived.front();
  arrived.pop_front();
  return 1;
}

uint64_t cx_port_time_ps(const cx_port *port) {
  return port != nullptr && port->open ? kernel_now_ps(*port) - port->power_on_ps : 0;
}

int cx_config_show(const char *yaml_path, const char *const *sets, size_t set_count, int json, char **text) {
  if (text == nullptr) return CX_PORT_BAD_ARGUMENT;
  *text = nullptr;
  if (yaml_path == nullptr || (sets == nullptr && set_count != 0)) return CX_PORT_BAD_ARGUMENT;
  try {
    const cx::config::Chip config = cx::config::load(yaml_path, to_strings(sets, set_count));
    return give_text(json ? cx::config::to_json(config) : cx::config::to_yaml(config), text);
  } catch (const std::exception &error) {
    give_text(error.what(), text);
    return CX_PORT_BAD_CONFIG;
  }
}

int cx_config_help(const char *key_or_null, char **text) {
  if (text == nullptr) return CX_PORT_BAD_ARGUMENT;
  *text = nullptr;
  try {
    return give_text(cx::config::help(key_or_null != nullptr ? key_or_null : ""), text);
  } catch (const std::exception &error) {
    give_text(error.what(), text);
    return CX_PORT_BAD_CONFIG;
  }
}

}  // extern "C"
