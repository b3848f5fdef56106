#include "driver/tools/profile_schema.hpp"

#include <fmt/core.h>

#include <cstdint>
#include <initializer_list>
#include <limits>

#include "driver/include/cx/error.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::json;

constexpr double kAny = -std::numeric_limits<double>::infinity();

/// A value with its place, for messages.
class Place {
 public:
  Place(const Json &value, const std::string &source, std::string path)
      : value_(value), source_(source), path_(std::move(path)) {}

  [[noreturn]] void fail(const std::string &what) const {
    throw InputError(fmt::format("{}: {}: {}", source_, path_, what));
  }

  bool has(const char *key) const { return value_.is_object() && value_.contains(key); }

  Place at(const char *key) const {
    if (!value_.is_object()) fail("is no object");
    const std::string path = path_.empty() ? key : path_ + "." + key;
    const auto found = value_.find(key);
    if (found == value_.end()) Place(value_, source_, path).fail("is missing");
    return {*found, source_, path};
  }

  Place at(std::size_t index) const { return {value_[index], source_, fmt::format("{}[{}]", path_, index)}; }

  std::size_t size() const {
    if (!value_.is_array()) fail("is no array");
    return value_.size();
  }

  template <typename Check>
  std::size_t each(Check &&check) const {
    const std::size_t n = size();
    for (std::size_t i = 0; i < n; ++i) check(at(i));
    return n;
  }

  template <typename Check>
  void each_member(Check &&check) const {
    if (!value_.is_object()) fail("is no object");
    for (const auto &[key, value] : value_.items()) check(Place(value, source_, path_ + "." + key));
  }

  std::string text() const {
    if (!value_.is_string()) fail("is no text");
    return value_.get<std::string>();
  }

  void boolean() const {
    if (!value_.is_boolean()) fail("is neither true nor false");
  }

  double number(double least = 0) const {
    if (!value_.is_number()) fail("is no number");
    const double number = value_.get<double>();
    if (number < least) fail(fmt::format("is {}, less than {}", number, least));
    return number;
  }

  /// An integer from `least` to `end` - 1.
  void index(int64_t least, std::size_t end) const {
    if (!value_.is_number_integer()) fail("is no integer");
    // Unsigned values beyond int64 would look negative.
    const bool huge = value_.is_number_unsigned() && value_.get<uint64_t>() > uint64_t{INT64_MAX};
    if (const int64_t i = value_.get<int64_t>(); huge || i < least || i >= static_cast<int64_t>(end)) {
      fail(fmt::format("is {}, not in {} to {}", value_.dump(), least, static_cast<int64_t>(end) - 1));
    }
  }

  void numbers(std::initializer_list<const char *> keys, double least = 0) const {
    for (const char *key : keys) at(key).number(least);
  }

  void texts(std::initializer_list<const char *> keys) const {
    for (const char *key : keys) at(key).text();
  }

  std::size_t list_of_texts() const {
    return each([](const Place &entry) { entry.text(); });
  }

  void ascending() const {
    for (std::size_t i = 1; i < value_.size(); ++i) {
      if (value_[i].get<double>() < value_[i - 1].get<double>()) at(i).fail("is less than the one before");
    }
  }

 private:
  const Json &value_;
  const std::string &source_;
  std::string path_;
};

/// Columns of one table: each an array of the same length.
class Columns {
 public:
  explicit Columns(Place table) : table_(std::move(table)) {}

  Columns &number(const char *name, double least = 0) {
    column(name).each([least](const Place &entry) { entry.number(least); });
    return *this;
  }

  /// `least` is -1 where "none" is allowed.
  Columns &index(const char *name, int64_t least, std::size_t end) {
    column(name).each([=](const Place &entry) { entry.index(least, end); });
    return *this;
  }

 private:
  Place column(const char *name) {
    Place found = table_.at(name);
    const std::size_t n = found.size();
    if (first_.empty()) {
      first_ = name;
      length_ = n;
    } else if (n != length_) {
      found.fail(fmt::format("has {} entries, {} has {}", n, first_, length_));
    }
    return found;
  }

  Place table_;
  std::string first_;
  std::size_t length_ = 0;
};

void check_run(const Place &run) {
  run.texts({"model", "config", "precision"});
  run.at("chip").numbers({"clock_mhz", "tiles", "tile_rows", "tile_cols", "sca_tiles", "vpu_lanes", "scratchpad_bytes",
                          "dram_bytes", "dram_bytes_per_s", "scratchpad_bytes_per_s", "peak_macs_per_s"});
  const Place summary = run.at("summary");
  summary.numbers({"latency_us", "launch_us", "work_us", "cycles", "macs", "mac_utilisation", "bound_us", "bound_ratio",
                   "packets", "interrupts", "firmware_instructions", "firmware_cycles", "energy_uj", "average_w",
                   "compile_s", "wall_s"});
  if (summary.has("cache_moves_us")) summary.at("cache_moves_us").number();
  summary.texts({"limited_by", "headline"});
  summary.at("bytes").numbers(
      {"pcie_to_device", "pcie_to_host", "dram_read", "dram_written", "spm_read", "spm_written", "noc"});

  const std::size_t reasons = run.at("reasons").list_of_texts();
  const std::size_t names = run.at("names").list_of_texts();
  const std::size_t tracks = run.at("tracks").each([](const Place &track) {
    track.texts({"name", "group", "unit"});
    const std::string clock = track.at("clock").text();
    if (clock != "device" && clock != "host") track.at("clock").fail("is neither device nor host");
    track.at("nested").boolean();
  });

  const std::size_t nodes = run.at("nodes").each([reasons](const Place &node) {
    node.texts({"name", "op", "engine"});
    node.at("nodes").list_of_texts();
    node.numbers({"start", "end"}, kAny);
    node.numbers({"time", "utilisation", "mac_utilisation", "macs", "bytes", "memory_bytes", "bound_ns"});
    node.at("bound").index(-1, reasons);
    const std::size_t parts = node.at("by_reason").each([](const Place &part) { part.number(); });
    if (parts != reasons) node.at("by_reason").fail(fmt::format("has {} entries for {} reasons", parts, reasons));
    if (node.has("energy_uj")) node.at("energy_uj").number();
    node.at("engines").each_member([](const Place &engine) {
      engine.numbers({"instructions", "busy_ns", "waited_ns", "operations", "bytes_read", "bytes_written"});
    });
  });

  const Place spans = run.at("spans");
  const std::size_t count = spans.at("start").size();
  Columns(spans)
      .number("start", kAny)
      .number("duration")
      .index("name", 0, names)
      .index("track", 0, tracks)
      .index("node", -1, nodes)
      .index("cause", -1, count)
      .number("bytes")
      .number("operations")
      .index("reason", -1, reasons);
  spans.at("start").ascending();

  run.at("counters").each([](const Place &counter) {
    counter.texts({"name", "unit", "group"});
    Columns(counter).number("time", kAny).number("value", kAny);
    counter.at("time").ascending();
  });

  const Place path = run.at("critical_path");
  Columns(path)
      .index("span", -1, count)
      .number("start", kAny)
      .number("duration")
      .index("reason", -1, reasons)
      .index("node", -1, nodes);
  path.at("start").ascending();
  path.at("by_reason").each_member([](const Place &part) { part.number(); });

  run.at("stalls").each([=](const Place &stall) {
    stall.at("track").index(0, tracks);
    stall.at("node").index(-1, nodes);
    stall.at("waiting_for").index(-1, tracks);
    stall.at("reason").index(-1, reasons);
    stall.numbers({"ns", "count"});
  });

  const Place roofline = run.at("roofline");
  roofline.at("ceilings").each([](const Place &ceiling) {
    ceiling.at("name").text();
    ceiling.at("macs_per_s").number();
  });
  roofline.at("slopes").each([](const Place &slope) {
    slope.at("name").text();
    slope.at("bytes_per_s").number();
  });
  Columns(roofline.at("points")).index("node", 0, nodes).number("macs").number("bytes").number("ns");

  const Place memory = run.at("memory");
  const std::size_t spaces = memory.at("spaces").each([](const Place &space) {
    space.at("name").text();
    space.at("bytes").number();
  });
  const std::size_t kinds = memory.at("kinds").list_of_texts();
  Columns(memory.at("buffers"))
      .index("space", 0, spaces)
      .index("name", 0, names)
      .index("kind", 0, kinds)
      .number("address")
      .number("size")
      .number("first", kAny)
      .number("last", kAny);

  const Place energy = run.at("energy");
  energy.numbers({"total_uj", "span_us"});
  energy.at("domains").each([](const Place &domain) {
    domain.at("name").text();
    domain.numbers({"uj", "least_uj", "most_uj"});
  });

  run.at("what_if").each([](const Place &change) {
    change.at("name").text();
    change.at("sets").list_of_texts();
    if (change.has("error")) {
      change.at("error").text();
    } else {
      change.numbers({"latency_us", "speedup"});
    }
  });
}

}  // namespace

void check_profile_document(const Json &document, const std::string &source) {
  const Place top(document, source, "");
  if (!document.is_object() || document.value("format", Json()) != "cx-profile") {
    throw InputError(source + ": format: is not cx-profile, so this is no profile document");
  }
  if (const Json version = top.at("version").number() == 1 ? Json() : document.at("version"); !version.is_null()) {
    top.at("version").fail(fmt::format("is {}; this program reads version 1", version.dump()));
  }
  if (top.has("comparison")) top.at("comparison").list_of_texts();
  if (top.at("runs").each(check_run) == 0) top.at("runs").fail("is empty");
}

}  // namespace cx::tools
