#include "driver/tools/sweep/spec.hpp"

#include <fmt/core.h>
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "driver/include/cx/error.hpp"
#include "driver/tools/sweep/gen/schema.hpp"
#include "driver/umd/shipped_files.hpp"
#include "hw/common/port/cx_port.h"

namespace cx::tools {
namespace {

constexpr std::size_t kMostValues = 100'000;  // of one parameter
constexpr std::size_t kCheckedValues = 256;   // of a range

/// Takes over a text of the port's services; nothing when the call failed, whose message is then in `error`.
std::optional<std::string> text_of(int result, char *text, std::string &error) {
  const std::unique_ptr<char, decltype(&std::free)> owner(text, std::free);
  std::string copy = text != nullptr ? text : "";
  if (result == CX_PORT_OK) return copy;
  error = std::move(copy);
  return std::nullopt;
}

std::optional<std::string> resolved_chip(const std::filesystem::path &chip, const std::vector<std::string> &sets,
                                         std::string &error) {
  std::vector<const char *> pointers;
  for (const std::string &set : sets) pointers.push_back(set.c_str());
  char *text = nullptr;
  const int result = cx_config_show(chip.c_str(), pointers.data(), pointers.size(), 1, &text);
  return text_of(result, text, error);
}

std::string content_of(const std::filesystem::path &file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError(file.string() + ": cannot be read");
  return {std::istreambuf_iterator<char>(in), {}};
}

/// FNV-1a.
std::string digest_of(const std::string &text) {
  uint64_t hash = 14695981039346656037ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return fmt::format("{:016x}", hash);
}

std::size_t edit_distance(const std::string &a, const std::string &b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

const SweepKey &key_info(const std::string &key) {
  return *std::find_if(kSweepKeys.begin(), kSweepKeys.end(), [&](const SweepKey &info) { return key == info.key; });
}

bool is_workload_choice(const std::string &key) {
  return key == "workload.model" || key == "workload.layers" || key == "workload.precision";
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path &file) : file_(file), text_(content_of(file)) {
    try {
      root_ = YAML::Load(text_);
    } catch (const YAML::Exception &error) {
      throw InputError(fmt::format("{}:{}:{}: {}, expected YAML", file_.string(), error.mark.line + 1,
                                   error.mark.column + 1, error.msg));
    }
    if (!root_.IsMap()) throw InputError(file_.string() + ":1:1: expected a mapping of the keys of a sweep");
  }

  SweepSpec read() {
    check_keys();
    spec_.file = file_;
    spec_.name = text("name");
    if (spec_.name.find('/') != std::string::npos)
      fail(find("name"), "name", "has a '/', which no file's name may have");
    read_chip();
    read_search();
    read_workload();
    if (spec_.method == SweepSpec::Method::list) {
      read_rows();
    } else {
      read_parameters();
    }
    check_workload();
    read_objectives();
    read_constraints();
    spec_.retries = static_cast<uint32_t>(number("run.retries"));
    spec_.timeout_s = number("run.timeout_s");
    make_digest();
    return std::move(spec_);
  }

 private:
  [[noreturn]] void fail(const YAML::Node &node, const std::string &key, const std::string &message) const {
    const YAML::Mark mark = node && node.IsDefined() ? node.Mark() : root_.Mark();
    throw InputError(fmt::format("{}:{}:{}: {}: {}", file_.string(), mark.line + 1, mark.column + 1, key, message));
  }
  [[noreturn]] void unexpected(const YAML::Node &node, const std::string &key) const {
    const std::string found = !node || node.IsNull() ? "nothing"
                              : node.IsScalar()      ? "'" + node.Scalar() + "'"
                              : node.IsSequence()    ? "a list"
                                                     : "a mapping";
    fail(node, key, fmt::format("{}, expected {}", found, key_info(key).expected));
  }

  /// The node of a key, undefined if it is not there.
  YAML::Node find(const std::string &key) const {
    const std::size_t dot = key.find('.');
    const YAML::Node &root = root_;
    if (dot == std::string::npos) return root[key];
    const YAML::Node section = root[key.substr(0, dot)];
    return section && section.IsMap() ? section[key.substr(dot + 1)] : YAML::Node(YAML::NodeType::Undefined);
  }
  bool has(const std::string &key) const {
    const YAML::Node node = find(key);
    return node.IsDefined() && !node.IsNull();
  }

  std::string nearest(const std::string &key) const {
    std::string best;
    std::size_t least = key.size() / 2 + 1;
    for (const SweepKey &info : kSweepKeys) {
      const std::size_t distance = edit_distance(key, info.key);
      if (distance < least) {
        least = distance;
        best = info.key;
      }
    }
    return best.empty() ? "see docs/reference/sweep.md" : "the nearest known one is '" + best + "'";
  }

  /// Every key is known and written once, sections are mappings, what is required is there.
  void check_keys() const {
    std::set<std::string> seen;
    for (const auto &entry : root_) {
      const std::string name = entry.first.Scalar();
      if (!seen.insert(name).second) fail(entry.first, name, "is written twice, expected once");
      const bool section = std::any_of(kSweepKeys.begin(), kSweepKeys.end(), [&](const SweepKey &info) {
        return std::string(info.key).rfind(name + ".", 0) == 0;
      });
      if (!section) {
        check_known(entry.first, name);
        continue;
      }
      if (!entry.second.IsMap()) fail(entry.second, name, "expected a mapping of its keys");
      for (const auto &inner : entry.second) {
        const std::string key = name + "." + inner.first.Scalar();
        check_known(inner.first, key);
        if (!seen.insert(key).second) fail(inner.first, key, "is written twice, expected once");
      }
    }
    for (const SweepKey &info : kSweepKeys) {
      if (info.required && !has(info.key))
        fail(find(info.key), info.key, fmt::format("is missing, expected {}", info.expected));
    }
  }
  void check_known(const YAML::Node &node, const std::string &key) const {
    const bool known =
        std::any_of(kSweepKeys.begin(), kSweepKeys.end(), [&](const SweepKey &info) { return key == info.key; });
    if (!known) fail(node, key, "unknown key, expected a key of a sweep; " + nearest(key));
  }

  std::string text(const std::string &key) const {
    if (!has(key)) {
      if (find(key).IsDefined()) unexpected(find(key), key);
      return key_info(key).default_text;
    }
    const YAML::Node node = find(key);
    if (!node.IsScalar() || node.Scalar().empty()) unexpected(node, key);
    return node.Scalar();
  }
  std::string choice(const std::string &key) const {
    const std::string value = text(key);
    const SweepKey &info = key_info(key);
    if (std::find(info.allowed.begin(), info.allowed.end(), value) == info.allowed.end()) unexpected(find(key), key);
    return value;
  }
  double number(const std::string &key) const {
    const SweepKey &info = key_info(key);
    const std::string value = text(key);
    double result = 0;
    const char *const end = value.data() + value.size();
    const auto [rest, error] = std::from_chars(value.data(), end, result);
    if (error != std::errc() || rest != end || !(result >= info.min && result <= info.max) ||
        (info.type == SweepType::int_ && result != std::floor(result))) {
      unexpected(find(key), key);
    }
    return result;
  }

  std::filesystem::path beside(const std::string &name) const {
    const std::filesystem::path path(name);
    return path.is_absolute() ? path : file_.parent_path() / path;
  }

  void read_chip() {
    const std::string name = text("chip");
    const std::filesystem::path file = beside(name);
    if (std::filesystem::is_regular_file(file)) {
      spec_.chip = file;
    } else {
      try {
        spec_.chip = chip_config(name);
      } catch (const InputError &) {
        unexpected(find("chip"), "chip");
      }
    }
    std::string error;
    if (!resolved_chip(spec_.chip, {}, error)) fail(find("chip"), "chip", error);
    if (!has("set")) return;
    const YAML::Node set = find("set");
    if (!set.IsMap()) unexpected(set, "set");
    for (const auto &entry : set) {
      const std::string key = entry.first.Scalar();
      check_chip_key(entry.first, "set", key);
      spec_.settings.emplace_back(key, value_of(entry.second, "set." + key));
      check_value(entry.second, "set", key, spec_.settings.back().second);
    }
  }

  void check_chip_key(const YAML::Node &node, const std::string &where, const std::string &key) const {
    char *text = nullptr;
    std::string error;
    const int result = cx_config_help(key.c_str(), &text);
    if (!text_of(result, text, error)) fail(node, where, fmt::format("'{}' is no key of a chip: {}", key, error));
    if (chip_value(key).is_object()) {
      fail(node, where, fmt::format("'{}' is a section of a chip, expected one of its keys", key));
    }
  }

  /// Of a key that is known, or a section.
  nlohmann::json chip_value(const std::string &key) const {
    std::string error;
    const auto chip = nlohmann::json::parse(*resolved_chip(spec_.chip, {}, error));
    const nlohmann::json *at = &chip;
    for (std::size_t from = 0; from <= key.size();) {
      const std::size_t dot = std::min(key.find('.', from), key.size());
      at = &at->at(key.substr(from, dot - from));
      from = dot + 1;
    }
    return *at;
  }

  /// The value as a chip's override takes it. A list stays YAML in one line.
  std::string value_of(const YAML::Node &node, const std::string &key) const {
    if (node.IsScalar() && !node.Scalar().empty()) return node.Scalar();
    if (node.IsSequence()) {
      YAML::Emitter emitter;
      emitter.SetSeqFormat(YAML::Flow);
      emitter << node;
      return emitter.c_str();
    }
    fail(node, key, "expected a value");
  }

  /// A value that the key's own description refuses, whatever the other keys are.
  void check_value(const YAML::Node &node, const std::string &where, const std::string &key,
                   const std::string &value) const {
    std::string error;
    if (resolved_chip(spec_.chip, {key + "=" + value}, error)) return;
    // Messages about one key name it; others are about combinations, which points may make good.
    if (error.find(": " + key + ": ") != std::string::npos || error.find(key + ": ") == 0) {
      fail(node, where + "." + key, error);
    }
  }

  void read_search() {
    const std::string method = choice("search.method");
    spec_.method = method == "grid"     ? SweepSpec::Method::grid
                   : method == "random" ? SweepSpec::Method::random
                   : method == "list"   ? SweepSpec::Method::list
                                        : SweepSpec::Method::evolution;
    spec_.points = static_cast<uint64_t>(number("search.points"));
    spec_.seed = static_cast<uint64_t>(number("search.seed"));
    spec_.population = static_cast<uint64_t>(number("search.population"));
    spec_.mutation = number("search.mutation");
    const auto belongs = [&](const char *key, bool right, const char *to) {
      if (has(key) && !right)
        fail(find(key), key, fmt::format("method is {}, expected this key with {} only", method, to));
    };
    const bool evolves = spec_.method == SweepSpec::Method::evolution;
    belongs("search.points", evolves || spec_.method == SweepSpec::Method::random, "random and evolution");
    belongs("search.seed", evolves || spec_.method == SweepSpec::Method::random, "random and evolution");
    belongs("search.population", evolves, "evolution");
    belongs("search.mutation", evolves, "evolution");
    belongs("parameters", spec_.method != SweepSpec::Method::list, "grid, random and evolution");
    belongs("list", spec_.method == SweepSpec::Method::list, "list");
  }

  void read_workload() {
    if (has("workload.model"))
      spec_.workload.model = workload_file(find("workload.model"), "workload.model", text("workload.model"));
    if (has("workload.layers")) {
      spec_.workload.layers = workload_file(find("workload.layers"), "workload.layers", text("workload.layers"));
    }
    spec_.workload.precision = choice("workload.precision");
    spec_.workload.seed = static_cast<uint64_t>(number("workload.seed"));
  }

  std::filesystem::path workload_file(const YAML::Node &node, const std::string &key, const std::string &name) {
    const std::filesystem::path path = beside(name);
    if (!std::filesystem::is_regular_file(path)) {
      fail(node, key, fmt::format("there is no file '{}', expected {}", path.string(), key_info(key).expected));
    }
    files_.insert(path);
    return path;
  }

  /// A value of a parameter; files become absolute or relative to where the command runs.
  std::string checked_value(const YAML::Node &node, const std::string &where, const std::string &key) {
    std::string value = value_of(node, where + "." + key);
    if (key == "workload.precision") {
      const auto &allowed = key_info(key).allowed;
      if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
        fail(node, where + "." + key, fmt::format("'{}', expected {}", value, key_info(key).expected));
      }
    } else if (is_workload_choice(key)) {
      value = workload_file(node, key, value).string();
    } else {
      check_value(node, where, key, value);
    }
    return value;
  }

  void read_parameters() {
    if (!has("parameters"))
      fail(find("parameters"), "parameters", fmt::format("is missing, expected {}", key_info("parameters").expected));
    const YAML::Node parameters = find("parameters");
    if (!parameters.IsMap() || parameters.size() == 0) unexpected(parameters, "parameters");
    for (const auto &entry : parameters) {
      const std::string key = entry.first.Scalar();
      if (!is_workload_choice(key)) check_chip_key(entry.first, "parameters", key);
      add_parameter(entry.first, key);
      SweepParameter &parameter = spec_.parameters.back();
      const std::string where = "parameters." + key;
      if (entry.second.IsSequence() && entry.second.size() > 0) {
        for (const YAML::Node &value : entry.second)
          parameter.values.push_back(checked_value(value, "parameters", key));
      } else if (entry.second.IsMap()) {
        parameter.values = range_of(entry.second, where);
        // Of a long range the ends: what is refused in between becomes infeasible points.
        const std::size_t step = parameter.values.size() <= kCheckedValues ? 1 : parameter.values.size() - 1;
        for (std::size_t i = 0; i < parameter.values.size(); i += step) {
          check_value(entry.second, "parameters", key, parameter.values[i]);
        }
      } else {
        fail(entry.second, where,
             "expected a list of values, or {from, to, step}, {from, to, factor} or {from, to, count}");
      }
      std::set<std::string> seen;
      for (const std::string &value : parameter.values) {
        if (!seen.insert(value).second) {
          fail(entry.second, where, fmt::format("has the value {} twice, expected each once", value));
        }
      }
    }
  }

  void add_parameter(const YAML::Node &node, const std::string &key) {
    for (const SweepParameter &other : spec_.parameters) {
      if (other.key == key) fail(node, key, "is written twice, expected once");
    }
    for (const auto &[set, value] : spec_.settings) {
      if (set == key) fail(node, key, "is a key of set as well, expected it in one of both");
    }
    spec_.parameters.push_back({key, {}});
  }

  std::vector<std::string> range_of(const YAML::Node &node, const std::string &where) const {
    std::optional<double> from, to, step, factor, count;
    for (const auto &entry : node) {
      const std::string name = entry.first.Scalar();
      std::optional<double> *place = name == "from"     ? &from
                                     : name == "to"     ? &to
                                     : name == "step"   ? &step
                                     : name == "factor" ? &factor
                                     : name == "count"  ? &count
                                                        : nullptr;
      if (place == nullptr)
        fail(entry.first, where,
             fmt::format("unknown key '{}', expected from, to and one of step, factor, count", name));
      double value = 0;
      const std::string text = entry.second.IsScalar() ? entry.second.Scalar() : "";
      const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc() || rest != text.data() + text.size() || !std::isfinite(value)) {
        fail(entry.second, where + "." + name, fmt::format("'{}', expected a number", text));
      }
      *place = value;
    }
    if (!from || !to) fail(node, where, "expected both from and to");
    if (*to < *from) fail(node, where, fmt::format("to {} is below from {}, expected from at most to", *to, *from));
    if (step.has_value() + factor.has_value() + count.has_value() != 1) {
      fail(node, where, "expected one of step, factor and count");
    }
    std::vector<double> values;
    // Rounding of sums and products shall not lose the last value.
    const double last = *to + 1e-9 * std::max(std::abs(*from), std::abs(*to));
    if (step) {
      if (*step <= 0) fail(node, where, fmt::format("step {}, expected a number above 0", *step));
      if ((*to - *from) / *step >= kMostValues) too_many(node, where);
      for (double i = 0; *from + i * *step <= last; ++i) values.push_back(*from + i * *step);
    } else if (factor) {
      if (*factor <= 1 || *from <= 0) {
        fail(node, where, fmt::format("factor {} from {}, expected a factor above 1 and from above 0", *factor, *from));
      }
      for (double value = *from; value <= last; value *= *factor) {
        if (values.size() >= kMostValues) too_many(node, where);
        values.push_back(value);
      }
    } else {
      if (*count < 2 || *count > kMostValues || *count != std::floor(*count)) {
        fail(node, where, fmt::format("count {}, expected a whole number from 2 to {}", *count, kMostValues));
      }
      for (double i = 0; i < *count; ++i) values.push_back(*from + (*to - *from) * i / (*count - 1));
    }
    std::vector<std::string> texts;
    for (const double value : values) {
      const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
      texts.push_back(whole ? fmt::format("{:.0f}", value) : fmt::format("{}", value));
    }
    return texts;
  }
  [[noreturn]] void too_many(const YAML::Node &node, const std::string &where) const {
    fail(node, where, fmt::format("more than {} values, expected fewer", kMostValues));
  }

  void read_rows() {
    if (!has("list")) fail(find("list"), "list", fmt::format("is missing, expected {}", key_info("list").expected));
    const YAML::Node list = find("list");
    if (!list.IsSequence() || list.size() == 0) unexpected(list, "list");
    for (std::size_t i = 0; i < list.size(); ++i) {
      const YAML::Node row = list[i];
      const std::string where = fmt::format("list[{}]", i);
      if (!row.IsMap() || row.size() == 0) fail(row, where, fmt::format("expected a mapping of keys to values"));
      if (i == 0) {
        for (const auto &entry : row) {
          const std::string key = entry.first.Scalar();
          if (!is_workload_choice(key)) check_chip_key(entry.first, where, key);
          add_parameter(entry.first, key);
        }
      }
      std::vector<std::string> values;
      for (SweepParameter &parameter : spec_.parameters) {
        const YAML::Node value = row[parameter.key];
        if (!value.IsDefined())
          fail(row, where, fmt::format("has no '{}', expected the keys of the first row", parameter.key));
        values.push_back(checked_value(value, where, parameter.key));
        if (std::find(parameter.values.begin(), parameter.values.end(), values.back()) == parameter.values.end()) {
          parameter.values.push_back(values.back());
        }
      }
      if (row.size() != spec_.parameters.size())
        fail(row, where, "has a key that the first row lacks, expected the keys of the first row");
      if (std::find(spec_.rows.begin(), spec_.rows.end(), values) != spec_.rows.end()) {
        fail(row, where, "is a row that was there before, expected each once");
      }
      spec_.rows.push_back(std::move(values));
    }
  }

  void check_workload() const {
    const auto chosen = [&](const char *key) {
      return std::any_of(spec_.parameters.begin(), spec_.parameters.end(),
                         [&](const SweepParameter &parameter) { return parameter.key == key; });
    };
    const bool model = !spec_.workload.model.empty() || chosen("workload.model"),
               layers = !spec_.workload.layers.empty() || chosen("workload.layers");
    if (model == layers) {
      fail(find("workload.model").IsDefined() ? find("workload.model") : root_["workload"], "workload",
           model ? "has a model and layers, expected one of both"
                 : "has neither model nor layers, expected one of both");
    }
    const auto twice = [&](const char *key, bool fixed) {
      if (fixed && chosen(key)) fail(find(key), key, "is a parameter as well, expected it in one of both");
    };
    twice("workload.model", !spec_.workload.model.empty());
    twice("workload.layers", !spec_.workload.layers.empty());
    twice("workload.precision", has("workload.precision"));
    std::vector<std::string> precisions = {spec_.workload.precision};
    for (const SweepParameter &parameter : spec_.parameters) {
      if (parameter.key == "workload.precision") precisions = parameter.values;
    }
    for (const std::string &precision : precisions) {
      if (model && (precision == "int8" || precision.rfind("fp8", 0) == 0)) {
        fail(root_["workload"], "workload.precision",
             precision + " of a model needs calibration, expected fp32, tf32, fp16 or bf16");
      }
    }
  }

  void check_metric(const YAML::Node &node, const std::string &where, const std::string &metric) const {
    const bool measured = std::any_of(kSweepMetrics.begin(), kSweepMetrics.end(),
                                      [&](const SweepMetric &known) { return metric == known.name; });
    if (measured) return;
    char *text = nullptr;
    std::string error;
    const int known_key = cx_config_help(metric.c_str(), &text);
    if (text_of(known_key, text, error)) {
      const nlohmann::json value = chip_value(metric);
      if (value.is_number() || value.is_boolean()) return;
    }
    std::vector<std::string> names;
    for (const SweepMetric &known : kSweepMetrics) names.emplace_back(known.name);
    fail(node, where,
         fmt::format("'{}' is no metric, expected {} or a key of the chip that is a number", metric,
                     fmt::join(names, ", ")));
  }

  static std::vector<std::string> words(const std::string &text) {
    std::vector<std::string> result;
    for (std::size_t at = 0; (at = text.find_first_not_of(' ', at)) != std::string::npos;) {
      const std::size_t end = std::min(text.find(' ', at), text.size());
      result.push_back(text.substr(at, end - at));
      at = end;
    }
    return result;
  }

  void read_objectives() {
    const YAML::Node list = find("objectives");
    if (!list.IsSequence() || list.size() == 0) unexpected(list, "objectives");
    for (const YAML::Node &node : list) {
      const std::vector<std::string> parts = words(node.IsScalar() ? node.Scalar() : "");
      if (parts.size() != 2 || (parts[0] != "minimize" && parts[0] != "maximize")) {
        fail(
            node, "objectives",
            fmt::format("'{}', expected 'minimize METRIC' or 'maximize METRIC'", node.IsScalar() ? node.Scalar() : ""));
      }
      check_metric(node, "objectives", parts[1]);
      spec_.objectives.push_back({parts[1], parts[0] == "maximize"});
    }
  }

  void read_constraints() {
    if (!has("constraints")) return;
    const YAML::Node list = find("constraints");
    if (!list.IsSequence()) unexpected(list, "constraints");
    static const std::pair<const char *, SweepConstraint::Operation> kOperations[] = {
        {"<", SweepConstraint::Operation::less},    {"<=", SweepConstraint::Operation::less_equal},
        {">", SweepConstraint::Operation::greater}, {">=", SweepConstraint::Operation::greater_equal},
        {"==", SweepConstraint::Operation::equal},  {"!=", SweepConstraint::Operation::not_equal}};
    for (const YAML::Node &node : list) {
      SweepConstraint constraint;
      constraint.text = node.IsScalar() ? node.Scalar() : "";
      const std::vector<std::string> parts = words(constraint.text);
      const auto operation = parts.size() == 3
                                 ? std::find_if(std::begin(kOperations), std::end(kOperations),
                                                [&](const auto &known) { return parts[1] == known.first; })
                                 : std::end(kOperations);
      if (operation == std::end(kOperations)) {
        fail(node, "constraints",
             fmt::format(
                 "'{}', expected METRIC, one of < <= > >= == != and a number or METRIC, with spaces between them",
                 constraint.text));
      }
      constraint.left = parts[0];
      constraint.operation = operation->second;
      check_metric(node, "constraints", constraint.left);
      const char *const end = parts[2].data() + parts[2].size();
      const auto [rest, error] = std::from_chars(parts[2].data(), end, constraint.right);
      if (error != std::errc() || rest != end) {
        check_metric(node, "constraints", parts[2]);
        constraint.right_metric = parts[2];
      }
      spec_.constraints.push_back(std::move(constraint));
    }
  }

  void make_digest() {
    YAML::Node rest = YAML::Clone(root_);
    rest.remove("name");
    rest.remove("run");
    std::string error;
    std::string whole = YAML::Dump(rest) + "\n" + resolved_chip(spec_.chip, {}, error).value_or("");
    for (const std::filesystem::path &file : files_) whole += "\n" + digest_of(content_of(file));
    spec_.digest = digest_of(whole);
  }

  std::filesystem::path file_;
  std::string text_;
  YAML::Node root_;
  SweepSpec spec_;
  std::set<std::filesystem::path> files_;
};

}  // namespace

SweepSpec load_sweep(const std::filesystem::path &file) { return Reader(file).read(); }

uint64_t combinations(const SweepSpec &spec) {
  uint64_t count = 1;
  for (const SweepParameter &parameter : spec.parameters) {
    if (count > std::numeric_limits<uint64_t>::max() / parameter.values.size())
      return std::numeric_limits<uint64_t>::max();
    count *= parameter.values.size();
  }
  return count;
}

}  // namespace cx::tools
