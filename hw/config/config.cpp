#include "hw/config/config.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <span>
#include <sstream>
#include <type_traits>
#include <utility>

#include "hw/config/energy_table.hpp"
#include "hw/config/gen/schema.hpp"
#include "hw/config/yaml_text.hpp"
#include "hw/dram/configured.hpp"
#include "hw/noc/placement.hpp"
#include "hw/ras/fault_spec.hpp"
#include "hw/regs/gen/isa.hpp"
#include "hw/regs/gen/map.h"

namespace cx::config {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kSetSource = "--set ";  // before an override, as the name of its file

std::string message_of(const std::string &file, int line, int column, const std::string &key,
                       const std::string &message) {
  std::string out = file;
  if (line > 0) out += ":" + std::to_string(line) + ":" + std::to_string(column);
  out += ": ";
  if (!key.empty()) out += key + ": ";
  return out + message;
}

const KeyInfo *find_key(std::string_view key) { return find_key(kSchema, key); }
bool is_section(std::string_view path) { return is_section(kSchema, path); }

NearestName nearest_to(std::string_view key) {
  NearestName nearest(key);
  const auto consider = [&](std::string_view candidate) {
    size_t distance = edit_distance(key, candidate);
    // A right name in a wrong or missing section is near, too.
    const auto leaf = [](std::string_view path) { return path.substr(path.rfind('.') + 1); };
    const auto top = [](std::string_view path) { return path.substr(0, path.find('.')); };
    if (candidate.find('.') != std::string_view::npos) {
      distance = std::min(distance, edit_distance(leaf(key), leaf(candidate)) + (top(key) == top(candidate) ? 1 : 2));
    }
    nearest.consider(candidate, distance);
  };
  for (const KeyInfo &info : kSchema) {
    const std::string_view path = info.key;
    for (size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.', dot + 1)) {
      consider(path.substr(0, dot));
    }
    consider(path);
  }
  return nearest;
}

std::string unknown_key(std::string_view key) { return "unknown key" + nearest_to(key).hint(); }

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
      out += code;
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

ConfigError::ConfigError(std::string file, int line, int column, std::string key, const std::string &message)
    : std::runtime_error(message_of(file, line, column, key, message)),
      file_(std::move(file)),
      line_(line),
      column_(column),
      key_(std::move(key)) {}

std::string nearest_key(std::string_view key) { return nearest_to(key).name(); }

// Walks YAML documents into a Parsed.
class Reader {
 public:
  explicit Reader(Parsed &parsed) : parsed_(parsed) {}

  void file(const std::string &path, const std::string &from, const YAML::Mark &mark) {
    std::error_code error;
    std::string canonical = fs::weakly_canonical(path, error).string();
    if (error) canonical = path;
    if (std::find(stack_.begin(), stack_.end(), canonical) != stack_.end()) {
      std::string chain;
      for (const std::string &entry : stack_) chain += entry + " -> ";
      throw ConfigError(from, mark.line + 1, mark.column + 1, "include",
                        "files include each other: " + chain + canonical);
    }
    std::ifstream stream(path, std::ios::binary);
    std::ostringstream text;
    if (fs::is_directory(path, error) || !stream || !(text << stream.rdbuf())) {
      if (from.empty()) throw ConfigError(path, 0, 0, "", "cannot read the file, or it is empty");
      throw ConfigError(from, mark.line + 1, mark.column + 1, "include", "cannot read '" + path + "'");
    }
    stack_.push_back(canonical);
    document(text.str(), path);
    stack_.pop_back();
  }

  void document(const std::string &text, const std::string &name) {
    const YAML::Node document = load_document(text, name);
    if (document.IsNull()) return;
    if (!document.IsMap()) fail_at(document, name, "", "expected a mapping of keys");
    for (const auto &entry : document) {
      if (entry.first.IsScalar() && entry.first.Scalar() == "include") includes(entry.second, name);
    }
    std::set<std::string> seen;
    section(document, "", name, seen);
  }

  static RawValue value(const YAML::Node &node, const std::string &key, const std::string &file) {
    RawValue raw;
    raw.file = file;
    raw.line = node.Mark().line + 1;
    raw.column = node.Mark().column + 1;
    if (node.IsScalar()) {
      raw.items.push_back({node.Scalar(), raw.line, raw.column});
    } else if (node.IsSequence()) {
      raw.is_list = true;
      for (const YAML::Node &item : node) {
        if (item.IsMap() && find_key(key)->type == KeyType::fault_plan_) {
          raw.items.push_back({fault_text(item, key, file), item.Mark().line + 1, item.Mark().column + 1});
          continue;
        }
        if (item.IsMap() && find_key(key)->type == KeyType::points_) {
          raw.items.push_back({point_text(item, key, file), item.Mark().line + 1, item.Mark().column + 1});
          continue;
        }
        if (!item.IsScalar()) fail_at(item, file, key, "expected a list of plain values");
        raw.items.push_back({item.Scalar(), item.Mark().line + 1, item.Mark().column + 1});
      }
    } else if (node.IsMap()) {
      fail_at(node, file, key, "expected a value, got a mapping");
    } else {
      fail_at(node, file, key, "has no value");
    }
    return raw;
  }

 private:
  // A mapping with `kind` and other keys as the text KIND@key=value,...
  static std::string fault_text(const YAML::Node &node, const std::string &key, const std::string &file) {
    std::string kind, rest;
    for (const auto &entry : node) {
      if (!entry.first.IsScalar() || !entry.second.IsScalar()) fail_at(entry.first, file, key, "expected plain values");
      const std::string name = entry.first.Scalar(), value = entry.second.Scalar();
      if (name.find_first_of("@,=") != std::string::npos || value.find_first_of("@,=") != std::string::npos) {
        fail_at(entry.first, file, key, "expected no '@', ',' or '='");
      }
      if (name == "kind") {
        kind = value;
      } else {
        rest += (rest.empty() ? "@" : ",") + name + "=" + value;
      }
    }
    if (kind.empty()) fail_at(node, file, key, "kind: is required but not given");
    return kind + rest;
  }

  // A mapping with mhz and volts as the text MHZ@VOLTS.
  static std::string point_text(const YAML::Node &node, const std::string &key, const std::string &file) {
    std::map<std::string, std::string> given;
    for (const auto &entry : node) {
      const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (name != "mhz" && name != "volts") fail_at(entry.first, file, key, "expected mhz and volts");
      if (!entry.second.IsScalar()) fail_at(entry.second, file, key, name + ": expected a number");
      if (!given.emplace(name, entry.second.Scalar()).second)
        fail_at(entry.first, file, key, name + ": is given twice");
    }
    for (const char *name : {"mhz", "volts"}) {
      if (given.count(name) == 0) fail_at(node, file, key, std::string(name) + ": is required but not given");
    }
    return given["mhz"] + "@" + given["volts"];
  }

  void includes(const YAML::Node &node, const std::string &name) {
    const auto one = [&](const YAML::Node &item) {
      if (!item.IsScalar() || item.Scalar().empty())
        fail_at(item, name, "include", "expected a path or a list of paths");
      file((fs::path(name).parent_path() / item.Scalar()).string(), name, item.Mark());
    };
    if (node.IsSequence()) {
      for (const YAML::Node &item : node) one(item);
    } else {
      one(node);
    }
  }

  void section(const YAML::Node &node, const std::string &prefix, const std::string &name,
               std::set<std::string> &seen) {
    for (const auto &entry : node) {
      if (!entry.first.IsScalar()) fail_at(entry.first, name, prefix, "expected a key name");
      const std::string path = prefix.empty() ? entry.first.Scalar() : prefix + "." + entry.first.Scalar();
      if (!seen.insert(path).second) fail_at(entry.first, name, path, "is given twice");
      if (path == "include") continue;
      if (find_key(path) != nullptr) {
        if (entry.second.IsNull()) fail_at(entry.first, name, path, "has no value");
        parsed_.values_[path] = value(entry.second, path, name);
      } else if (is_section(path)) {
        if (!entry.second.IsMap()) fail_at(entry.second, name, path, "is a section: expected a mapping of keys");
        section(entry.second, path, name, seen);
      } else {
        fail_at(entry.first, name, path, unknown_key(path));
      }
    }
  }

  Parsed &parsed_;
  std::vector<std::string> stack_;
};

Parsed Parsed::from_file(const std::string &path) {
  Parsed parsed;
  Reader(parsed).file(path, "", YAML::Mark::null_mark());
  return parsed;
}

Parsed Parsed::from_text(const std::string &text, const std::string &name) {
  Parsed parsed;
  Reader(parsed).document(text, name);
  return parsed;
}

void Parsed::set(const std::string &override_text) {
  const std::string source = std::string(kSetSource) + override_text;
  const size_t equals = override_text.find('=');
  if (equals == std::string::npos || equals == 0) throw ConfigError(source, 0, 0, "", "expected KEY=VALUE");
  const std::string key = override_text.substr(0, equals);
  if (find_key(key) == nullptr) {
    throw ConfigError(source, 0, 0, key, is_section(key) ? "is a section; set one of its keys" : unknown_key(key));
  }
  YAML::Node node;
  try {
    node = YAML::Load(override_text.substr(equals + 1));
  } catch (const YAML::Exception &error) {
    throw ConfigError(source, 0, 0, key, "the value is not valid YAML: " + error.msg);
  }
  RawValue raw = Reader::value(node, key, source);
  raw.line = raw.column = 0;
  for (RawScalar &item : raw.items) item.line = item.column = 0;
  values_[key] = std::move(raw);
}

namespace {

// Turns raw values into members.
class Resolver {
 public:
  explicit Resolver(const Parsed &parsed) : parsed_(parsed) {}

  template <class T>
  void operator()(unsigned index, T &member) {
    info_ = &kSchema[index];
    const auto found = parsed_.values().find(info_->key);
    if (found == parsed_.values().end()) {
      if (info_->required) {
        const auto &values = parsed_.values();
        throw ConfigError(values.empty() ? "configuration" : values.begin()->second.file, 0, 0, info_->key,
                          "is required but not given");
      }
      return;  // the member's initial value is the default
    }
    raw_ = &found->second;
    convert(member);
  }

 private:
  [[noreturn]] void fail(const std::string &message, const RawScalar *item = nullptr) const {
    throw ConfigError(raw_->file, item ? item->line : raw_->line, item ? item->column : raw_->column, info_->key,
                      message);
  }

  std::string expected() const {
    std::string out = "expected ";
    switch (info_->type) {
      case KeyType::int_:
        out += "an integer";
        break;
      case KeyType::float_:
        out += "a number";
        break;
      default:
        return out + info_->constraint;
    }
    out += std::string(" (") + info_->constraint + ")";
    if (info_->unit[0] != '\0') out += std::string(" in ") + info_->unit;
    return out;
  }

  const RawScalar &scalar() const {
    if (raw_->is_list) fail(expected() + ", got a list");
    return raw_->items[0];
  }

  [[noreturn]] void bad_value(const RawScalar &item) const { fail(expected() + ", got '" + item.text + "'", &item); }

  bool parse_unsigned(const std::string &text, uint64_t &value) const {
    const char *first = text.data();
    const char *last = first + text.size();
    int base = 10;
    if (text.starts_with("0x") || text.starts_with("0X")) {
      first += 2;
      base = 16;
    }
    const auto result = std::from_chars(first, last, value, base);
    return result.ec == std::errc() && result.ptr == last && first != last;
  }

  void convert(uint32_t &member) const {
    const RawScalar &item = scalar();
    uint64_t value = 0;
    if (!parse_unsigned(item.text, value)) bad_value(item);
    if (static_cast<double>(value) < info_->min || static_cast<double>(value) > info_->max) bad_value(item);
    if (info_->power_of_two && (value & (value - 1)) != 0) bad_value(item);
    if (value % info_->multiple_of != 0) bad_value(item);
    member = static_cast<uint32_t>(value);
  }

  void convert(double &member) const {
    const RawScalar &item = scalar();
    double value = 0;
    const char *last = item.text.data() + item.text.size();
    const auto result = std::from_chars(item.text.data(), last, value);
    if (result.ec != std::errc() || result.ptr != last || !std::isfinite(value)) bad_value(item);
    if (value < info_->min || value > info_->max) bad_value(item);
    member = value;
  }

  void convert(bool &member) const {
    const RawScalar &item = scalar();
    if (item.text != "true" && item.text != "false") bad_value(item);
    member = item.text == "true";
  }

  void check_allowed(const RawScalar &item) const {
    for (const char *allowed : info_->allowed) {
      if (item.text == allowed) return;
    }
    for (const KnownValue &known : info_->known) {
      if (item.text == known.value) {
        fail("'" + item.text + "' (" + known.meaning + ") is not modelled; " + expected(), &item);
      }
    }
    bad_value(item);
  }

  void convert(std::string &member) const {
    const RawScalar &item = scalar();
    if (info_->type == KeyType::enum_) {
      check_allowed(item);
    } else if (item.text.empty()) {
      fail("expected a text that is not empty", &item);
    }
    member = item.text;
  }

  void convert(std::vector<std::string> &member) const {
    if (!raw_->is_list) fail("expected a list of " + std::string(info_->constraint));
    if (raw_->items.empty()) fail("expected at least one of " + std::string(info_->constraint));
    member.clear();
    for (const RawScalar &item : raw_->items) {
      check_allowed(item);
      if (std::find(member.begin(), member.end(), item.text) != member.end()) {
        fail("'" + item.text + "' is given twice", &item);
      }
      member.push_back(item.text);
    }
  }

  void convert(TileSet &member) const {
    member = {};
    if (!raw_->is_list) {
      const RawScalar &item = raw_->items[0];
      if (item.text != "none" && item.text != "all") bad_value(item);
      member.all = item.text == "all";
      return;
    }
    for (const RawScalar &item : raw_->items) {
      uint64_t tile = 0;
      if (!parse_unsigned(item.text, tile) || tile > UINT32_MAX) bad_value(item);
      const auto at = std::lower_bound(member.tiles.begin(), member.tiles.end(), tile);
      if (at != member.tiles.end() && *at == tile) fail("tile " + item.text + " is given twice", &item);
      member.tiles.insert(at, static_cast<uint32_t>(tile));
    }
  }

  // What stands in a list; the word none is an empty one.
  std::span<const RawScalar> listed() const {
    if (raw_->is_list) return raw_->items;
    if (raw_->items[0].text != "none") bad_value(raw_->items[0]);
    return {};
  }

  void convert(FaultPlan &member) const {
    member = {};
    for (const RawScalar &item : listed()) {
      try {
        hw::parse_fault(item.text);
      } catch (const hw::FaultSpecError &error) {
        fail("fault '" + item.text + "': " + error.what(), &item);
      }
      member.items.push_back(item.text);
    }
  }

  // The form only; whether it fits the network is a relation with other keys.
  void convert(Placement &member) const {
    member = {};
    for (const RawScalar &item : listed()) {
      const auto at = item.text.find('@'), colon = item.text.find(':');
      if (at == 0 || at == std::string::npos || colon == std::string::npos || colon < at) bad_value(item);
      member.items.push_back(item.text);
    }
  }

  void convert(OperatingPoints &member) const {
    constexpr double kMaxMhz = 10000, kMaxVolts = 5;
    constexpr size_t kMaxPoints = 8;
    member = {};
    for (const RawScalar &item : listed()) {
      const auto number = [&](std::string_view text, const char *name, double least, double most) {
        double value = 0;
        const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
        if (end.ec != std::errc() || end.ptr != text.data() + text.size() || !(value >= least && value <= most)) {
          fail(std::string(name) + ": expected a number (" + number_text(least) + " to " + number_text(most) +
                   "), got '" + std::string(text) + "'",
               &item);
        }
        return value;
      };
      const size_t at = item.text.find('@');
      if (at == std::string::npos) fail("expected MHZ@VOLTS, got '" + item.text + "'", &item);
      const std::string_view text = item.text;
      const OperatingPoint point{number(text.substr(0, at), "mhz", 1, kMaxMhz),
                                 number(text.substr(at + 1), "volts", 0, kMaxVolts)};
      if (!member.items.empty() && point.mhz <= member.items.back().mhz) {
        fail("mhz: expected more than " + number_text(member.items.back().mhz) + " of the point before", &item);
      }
      if (!member.items.empty() && point.volts < member.items.back().volts) {
        fail("volts: expected at least " + number_text(member.items.back().volts) + " of the point before", &item);
      }
      member.items.push_back(point);
    }
    if (member.items.size() > kMaxPoints) fail("expected at most " + std::to_string(kMaxPoints) + " points");
  }

  const Parsed &parsed_;
  const KeyInfo *info_ = nullptr;
  const RawValue *raw_ = nullptr;
};

// What a network of routers needs. Its keys have no effect beside a crossbar.
template <class Require>
void check_network(const Chip &chip, Require &&require) {
  const auto &noc = chip.noc;
  if (noc.topology == "crossbar") return;
  const bool ring = noc.topology == "ring";
  require(!ring || noc.rows == 1, {"noc.rows", "noc.topology"},
          "a ring has one row; noc.rows is " + std::to_string(noc.rows));
  require(!ring || noc.columns >= 3, {"noc.columns", "noc.topology"},
          "a ring has 3 routers or more; noc.columns is " + std::to_string(noc.columns));
  require(!ring || noc.vcs >= 2, {"noc.vcs", "noc.topology"},
          "a ring needs 2 virtual channels or more: its two classes keep it free of deadlock");
  try {
    hw::place_blocks(ring ? hw::Topology::ring(noc.columns) : hw::Topology::mesh(noc.columns, noc.rows),
                     chip.dram.channels, noc.placement.items);
  } catch (const hw::PlacementError &error) {
    require(false, {"noc.placement"}, error.what());
  }
}

// Relations between keys. The error names the first of `keys` that was given, at its place.
void check_relations(const Chip &chip, const Parsed &parsed) {
  const auto require = [&](bool ok, std::initializer_list<const char *> keys, const std::string &message) {
    if (ok) return;
    for (const char *key : keys) {
      const auto found = parsed.values().find(key);
      if (found != parsed.values().end()) {
        throw ConfigError(found->second.file, found->second.line, found->second.column, key, message);
      }
    }
    throw ConfigError("configuration", 0, 0, *keys.begin(), message);
  };
  for (const uint32_t tile : chip.dmmu.rtl_tiles.tiles) {
    require(tile < chip.dmmu.tiles, {"dmmu.rtl_tiles", "dmmu.tiles"},
            "tile " + std::to_string(tile) + " does not exist; dmmu.tiles is " + std::to_string(chip.dmmu.tiles));
  }
  for (const std::string &text : chip.faults.plan.items) {
    const auto fault = hw::parse_fault(text);
    require(fault.in_dram(uint64_t{chip.dram.mib} << 20), {"faults.plan", "dram.mib"},
            "fault '" + text + "': address: expected a range of DRAM, from " + std::to_string(CX_MEM_DRAM_BASE));
  }
  for (const uint32_t tile : chip.sca.rtl_tiles.tiles) {
    require(tile < chip.sca.tiles, {"sca.rtl_tiles", "sca.tiles"},
            "tile " + std::to_string(tile) + " does not exist; sca.tiles is " + std::to_string(chip.sca.tiles));
  }
  require(!chip.array.shared || (chip.sca.tiles >= 1 && chip.sca.tiles <= chip.dmmu.tiles),
          {"array.shared", "sca.tiles", "dmmu.tiles"},
          "a shared array of " + std::to_string(chip.dmmu.tiles) +
              " slots (dmmu.tiles) has 1 to as many sparse tiles; " + "sca.tiles is " + std::to_string(chip.sca.tiles));
  require(chip.array.sca_tiles <= (chip.array.shared ? chip.sca.tiles : 0),
          {"array.sca_tiles", "array.shared", "sca.tiles"},
          std::to_string(chip.array.sca_tiles) + " slots cannot be sparse tiles; " +
              (chip.array.shared ? "sca.tiles is " + std::to_string(chip.sca.tiles) : "array.shared is false"));
  check_network(chip, require);
  require(chip.power.point <= chip.power.points.items.size(), {"power.point", "power.points"},
          "there is no operating point " + std::to_string(chip.power.point) + "; power.points has " +
              std::to_string(chip.power.points.items.size()));
  if (chip.thermal.model) {
    require(chip.thermal.throttle_c > chip.thermal.ambient_c, {"thermal.throttle_c", "thermal.ambient_c"},
            "expected more than thermal.ambient_c, " + number_text(chip.thermal.ambient_c));
    require(chip.thermal.trip_c > chip.thermal.throttle_c, {"thermal.trip_c", "thermal.throttle_c"},
            "expected more than thermal.throttle_c, " + number_text(chip.thermal.throttle_c));
  }
  const uint64_t spm_bytes = uint64_t{chip.spm.kib} * 1024;
  require(spm_bytes % chip.spm.banks == 0, {"spm.banks", "spm.kib"},
          std::to_string(chip.spm.kib) + " KiB do not divide into " + std::to_string(chip.spm.banks) + " banks");
  const uint64_t weights = uint64_t{chip.dmmu.tile.rows} * chip.dmmu.tile.cols * 4;
  require(weights * 2 <= spm_bytes, {"spm.kib", "dmmu.tile.rows", "dmmu.tile.cols"},
          "the scratchpad does not hold two FP32 weight tiles of " + std::to_string(weights) + " bytes");
  const uint64_t dram_bytes = uint64_t{chip.dram.mib} << 20;
  require(dram_bytes % (uint64_t{chip.dram.channels} * chip.dram.interleave_bytes) == 0,
          {"dram.channels", "dram.interleave_bytes", "dram.mib"},
          std::to_string(chip.dram.mib) + " MiB do not divide into " + std::to_string(chip.dram.channels) +
              " channels of " + std::to_string(chip.dram.interleave_bytes) + "-byte stripes");
}

// Checks the keys of the DRAM's part and puts its peak and idle latency where the simple model has them.
void resolve_dram(Chip &chip, const Parsed &parsed) {
  const auto fail = [&](const std::string &key, const std::string &message) {
    const auto found = parsed.values().find(key);
    if (found == parsed.values().end()) throw ConfigError("configuration", 0, 0, key, message);
    throw ConfigError(found->second.file, found->second.line, found->second.column, key, message);
  };
  try {
    const auto model = hw::dram_model(chip);
    if (!model) return;
    const auto derive = [&](const char *key, double &member, double value) {
      // A part may replace what a file that is included, or overridden, says of the simple model.
      const auto given = parsed.values().find(key);
      const bool meant =
          given != parsed.values().end() &&
          (given->second.file == parsed.values().at("dram.preset").file || given->second.file.starts_with(kSetSource));
      if (meant && std::abs(member - value) > 1e-9 * value) {
        fail(key, "is " + std::to_string(value) + " with dram.preset " + chip.dram.preset + ": leave it out");
      }
      member = value;
    };
    derive("dram.bandwidth_gbps", chip.dram.bandwidth_gbps, model->bandwidth_gbps());
    derive("dram.latency_ns", chip.dram.latency_ns, model->latency_ns());
  } catch (const hw::DramParamError &error) {
    fail(std::string("dram.") + error.key(), error.what());
  }
}

// Canonical text of a member, as a YAML flow value or JSON.
struct Format {
  bool json;
  const KeyInfo *info;

  std::string operator()(uint32_t value) const {
    if (!json && std::string_view(info->key).ends_with("_id")) {
      char text[16];
      std::snprintf(text, sizeof text, "0x%x", value);
      return text;
    }
    return std::to_string(value);
  }
  std::string operator()(double value) const { return number_text(value); }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(const std::string &value) const {
    return json || info->type == KeyType::string_ ? json_string(value) : value;
  }
  std::string operator()(const std::vector<std::string> &values) const {
    std::string out = "[";
    for (const std::string &value : values) out += (out.size() > 1 ? ", " : "") + (json ? json_string(value) : value);
    return out + "]";
  }
  std::string operator()(const FaultPlan &plan) const { return texts(plan.items); }
  std::string operator()(const Placement &placement) const { return texts(placement.items); }
  std::string operator()(const OperatingPoints &points) const {
    if (points.items.empty()) return json ? "\"none\"" : "none";
    std::string out = "[";
    for (const OperatingPoint &point : points.items) {
      out += (out.size() > 1 ? ", " : "") + json_string(number_text(point.mhz) + "@" + number_text(point.volts));
    }
    return out + "]";
  }
  std::string operator()(const TileSet &set) const {
    if (set.all) return json ? "\"all\"" : "all";
    if (set.tiles.empty()) return json ? "\"none\"" : "none";
    std::string out = "[";
    for (const uint32_t tile : set.tiles) out += (out.size() > 1 ? ", " : "") + std::to_string(tile);
    return out + "]";
  }

 private:
  std::string texts(const std::vector<std::string> &items) const {
    if (items.empty()) return json ? "\"none\"" : "none";
    std::string out = "[";
    for (const std::string &item : items) out += (out.size() > 1 ? ", " : "") + json_string(item);
    return out + "]";
  }
};

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> parts;
  for (size_t start = 0; start <= path.size();) {
    const size_t dot = std::min(path.find('.', start), path.size());
    parts.emplace_back(path.substr(start, dot - start));
    start = dot + 1;
  }
  return parts;
}

// Shared walk of to_yaml and to_json: opens and closes sections around values.
template <class Open, class Close, class Leaf>
void walk(const Chip &chip, bool json, Open &&open, Close &&close, Leaf &&leaf) {
  std::vector<std::string> current;
  visit(chip, [&](unsigned index, const auto &member) {
    const KeyInfo &info = kSchema[index];
    std::vector<std::string> path = split(info.key);
    const std::string name = path.back();
    path.pop_back();
    size_t common = 0;
    while (common < current.size() && common < path.size() && current[common] == path[common]) ++common;
    while (current.size() > common) {
      current.pop_back();
      close(current.size());
    }
    while (current.size() < path.size()) {
      open(current.size(), path[current.size()]);
      current.push_back(path[current.size()]);
    }
    leaf(current.size(), name, Format{json, &info}(member));
  });
  while (!current.empty()) {
    current.pop_back();
    close(current.size());
  }
}

std::string hash_text(const Chip &chip) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%016llx", static_cast<unsigned long long>(arch_hash(chip)));
  return text;
}

std::string describe(const KeyInfo &info) {
  std::string out = std::string(info.key) + "\n  " + info.doc + "\n  values: ";
  out += info.constraint[0] != '\0' ? info.constraint : "text";
  if (info.unit[0] != '\0') out += std::string("; in ") + info.unit;
  out += info.required ? "\n  required" : std::string("\n  default: ") + info.default_text;
  if (info.program) out += "\n  compiled programs depend on it";
  for (const KnownValue &known : info.known) {
    out += std::string("\n  ") + known.value + " (" + known.meaning + ") is not modelled";
  }
  return out + "\n";
}

}  // namespace

namespace {

// Points may only have voltages that the process stands.
void check_voltages(const Chip &chip, const Parsed &parsed, const EnergyTable &table) {
  const double least = table[Quantity::volt_least].value, most = table[Quantity::volt_most].value;
  for (size_t i = 0; i < chip.power.points.items.size(); ++i) {
    const double volts = chip.power.points.items[i].volts;
    if (volts >= least && volts <= most) continue;
    const RawValue &given = parsed.values().at("power.points");
    throw ConfigError(given.file, given.items[i].line, given.items[i].column, "power.points",
                      "volts: expected " + number_text(least) + " to " + number_text(most) + " of energy table " +
                          table.node + ", got " + number_text(volts));
  }
}

// The table's file is found from where it is named, and has to be right.
void resolve_energy_table(Chip &chip, const Parsed &parsed) {
  const auto given = parsed.values().find("energy.table");
  const bool in_file = given != parsed.values().end() && given->second.line != 0;
  const fs::path folder = in_file ? fs::path(given->second.file).parent_path() : fs::path();
  try {
    chip.energy.table = energy_table_name(chip.energy.table, folder.string());
  } catch (const EnergyTableMissing &error) {
    if (given == parsed.values().end()) throw;
    throw ConfigError(given->second.file, given->second.line, given->second.column, "energy.table", error.what());
  }
  check_voltages(chip, parsed, load_energy_table(chip.energy.table));
}

}  // namespace

Chip resolve(const Parsed &parsed) {
  Chip chip;
  visit(chip, Resolver(parsed));
  check_relations(chip, parsed);
  resolve_dram(chip, parsed);
  resolve_energy_table(chip, parsed);
  return chip;
}

Chip at_operating_point(Chip chip) {
  if (chip.power.point != 0) chip.chip.clock_mhz = chip.power.points.items.at(chip.power.point - 1).mhz;
  return chip;
}

double core_volts(const Chip &chip, const EnergyTable &table) {
  return chip.power.point != 0 ? chip.power.points.items.at(chip.power.point - 1).volts
                               : table[Quantity::volt_nominal].value;
}

Chip load(const std::string &path, std::span<const std::string> sets) {
  Parsed parsed = Parsed::from_file(path);
  for (const std::string &text : sets) parsed.set(text);
  return resolve(parsed);
}

uint64_t arch_hash(const Chip &chip) {
  uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  };
  add("isa=" + std::to_string(isa::kVersion) + "\n");
  visit(chip, [&](unsigned index, const auto &member) {
    const KeyInfo &info = kSchema[index];
    if (!info.program) return;
    using Member = std::decay_t<decltype(member)>;
    if constexpr (std::is_same_v<Member, std::vector<std::string>>) {
      // A set: the order in the file does not matter.
      auto sorted = member;
      std::sort(sorted.begin(), sorted.end());
      add(std::string(info.key) + "=" + Format{true, &info}(sorted) + "\n");
    } else {
      add(std::string(info.key) + "=" + Format{true, &info}(member) + "\n");
    }
  });
  return hash;
}

uint32_t formats_mask(const Chip &chip) {
  uint32_t mask = 0;
  for (unsigned type = 0; type < isa::kDTypeCount; ++type) {
    const auto name = isa::to_string(static_cast<isa::DType>(type));
    if (std::find(chip.dmmu.formats.begin(), chip.dmmu.formats.end(), name) != chip.dmmu.formats.end()) {
      mask |= 1u << type;
    }
  }
  return mask;
}

std::string to_yaml(const Chip &chip) {
  std::string out = "# architecture hash " + hash_text(chip) + "\n";
  const auto indent = [](size_t depth) { return std::string(2 * depth, ' '); };
  walk(
      chip, false, [&](size_t depth, const std::string &name) { out += indent(depth) + name + ":\n"; }, [](size_t) {},
      [&](size_t depth, const std::string &name, const std::string &value) {
        out += indent(depth) + name + ": " + value + "\n";
      });
  return out;
}

std::string to_json(const Chip &chip) {
  std::string out = "{\n  \"arch_hash\": \"" + hash_text(chip) + "\"";
  bool first = false;
  const auto line = [&](size_t depth) {
    out += first ? "\n" : ",\n";
    out += std::string(2 * (depth + 1), ' ');
    first = false;
  };
  walk(
      chip, true,
      [&](size_t depth, const std::string &name) {
        line(depth);
        out += json_string(name) + ": {";
        first = true;
      },
      [&](size_t depth) {
        out += "\n" + std::string(2 * (depth + 1), ' ') + "}";
        first = false;
      },
      [&](size_t depth, const std::string &name, const std::string &value) {
        line(depth);
        out += json_string(name) + ": " + value;
      });
  return out + "\n}\n";
}

std::string help(std::string_view key) {
  std::string out;
  for (const KeyInfo &info : kSchema) {
    const std::string_view path = info.key;
    const bool wanted =
        key.empty() || path == key || (path.size() > key.size() && path.starts_with(key) && path[key.size()] == '.');
    if (wanted) out += (out.empty() ? "" : "\n") + describe(info);
  }
  if (out.empty()) throw ConfigError("config", 0, 0, std::string(key), unknown_key(key));
  return out;
}

}  // namespace cx::config
