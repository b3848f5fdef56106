#include "hw/config/energy_table.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "hw/config/config.hpp"
#include "hw/config/yaml_text.hpp"

namespace cx::config {

namespace fs = std::filesystem;

namespace {

const ShippedTable *shipped(const std::string &name) {
  for (const ShippedTable &table : kShippedTables) {
    if (name == table.name) return &table;
  }
  return nullptr;
}

std::optional<size_t> find_quantity(const std::string &name) {
  for (size_t i = 0; i < kQuantities.size(); ++i) {
    if (name == kQuantities[i].name) return i;
  }
  return std::nullopt;
}

std::string nearest_quantity(const std::string &name) {
  const auto nearer = [&](const QuantityInfo &a, const QuantityInfo &b) {
    return edit_distance(name, a.name) < edit_distance(name, b.name);
  };
  return std::min_element(kQuantities.begin(), kQuantities.end(), nearer)->name;
}

// Reads one file. `above` are the files that have it as their base.
class TableReader {
 public:
  TableReader(const std::string &text, const std::string &file, std::set<std::string> above)
      : file_(file), above_(std::move(above)), document_(load_document(text, file)) {
    if (!document_.IsMap()) fail_at(document_, file_, "", "expected a mapping of keys");
    above_.insert(file);
  }

  EnergyTable read() {
    mapping(document_, "", {"node", "sources", "base", "factor", "logic_area", "sram_area", "values"});
    EnergyTable table;
    table.node = text(document_, "", "node");
    read_sources();
    const YAML::Node base = document_["base"], values = document_["values"];
    std::set<size_t> given;
    if (base) {
      derive(table, base);
      for (size_t i = 0; i < kQuantities.size(); ++i) given.insert(i);
    } else {
      for (const char *key : kFactorKeys) {
        const YAML::Node factor = document_[key];
        if (factor) fail_at(factor, file_, key, "without a base there is nothing to multiply");
      }
    }
    if (values) {
      if (!values.IsMap()) fail_at(values, file_, "values", "expected a mapping of quantities");
      read_values(table, values, given);
    }
    for (size_t i = 0; i < kQuantities.size(); ++i) {
      if (given.count(i) == 0) {
        fail_at(values ? values : document_, file_, std::string("values.") + kQuantities[i].name,
                "is required but not given");
      }
    }
    return table;
  }

 private:
  // Every key is known and given once.
  void mapping(const YAML::Node &node, const std::string &key, std::initializer_list<const char *> known) const {
    std::set<std::string> seen;
    for (const auto &entry : node) {
      const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (std::find(known.begin(), known.end(), name) == known.end()) {
        std::string expected;
        for (const char *one : known) expected += (expected.empty() ? "" : ", ") + std::string(one);
        fail_at(entry.first, file_, join(key, name), "unknown key; expected " + expected);
      }
      if (!seen.insert(name).second) fail_at(entry.first, file_, join(key, name), "is given twice");
    }
  }

  static std::string join(const std::string &key, const std::string &name) {
    return key.empty() ? name : key + "." + name;
  }

  std::string text(const YAML::Node &node, const std::string &key, const char *name) const {
    const YAML::Node value = node[name];
    if (!value) fail_at(node, file_, join(key, name), "is required but not given");
    if (!value.IsScalar() || value.Scalar().empty()) fail_at(value, file_, join(key, name), "expected a text");
    return value.Scalar();
  }

  double number(const YAML::Node &node, const std::string &key, double max) const {
    const std::string expected = "expected a number (0 to " + number_text(max) + ")";
    if (!node.IsScalar()) fail_at(node, file_, key, expected);
    const std::string &given = node.Scalar();
    double value = 0;
    const auto end = std::from_chars(given.data(), given.data() + given.size(), value);
    if (end.ec != std::errc() || end.ptr != given.data() + given.size() || !(value >= 0 && value <= max)) {
      fail_at(node, file_, key, expected + ", got '" + given + "'");
    }
    return value;
  }

  void read_sources() {
    const YAML::Node sources = document_["sources"];
    if (!sources) fail_at(document_, file_, "sources", "is required but not given");
    if (!sources.IsMap()) fail_at(sources, file_, "sources", "expected a mapping of names to references");
    for (const auto &entry : sources) {
      const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (name.empty() || !entry.second.IsScalar() || entry.second.Scalar().empty()) {
        fail_at(entry.second, file_, "sources." + name, "expected a name and a reference");
      }
      if (!sources_.emplace(name, entry.second.Scalar()).second) {
        fail_at(entry.first, file_, "sources." + name, "is given twice");
      }
    }
  }

  EnergyValue entry(const YAML::Node &node, const std::string &key, double max) const {
    if (!node.IsMap()) fail_at(node, file_, key, "expected a mapping with value, source and grade");
    mapping(node, key, {"value", "range", "source", "grade", "formula", "note"});
    EnergyValue result;
    const YAML::Node value = node["value"], range = node["range"];
    if (!value) fail_at(node, file_, key + ".value", "is required but not given");
    result.value = result.least = result.most = number(value, key + ".value", max);
    const std::string grade = text(node, key, "grade");
    if (grade != "A" && grade != "B" && grade != "C") {
      fail_at(node["grade"], file_, key + ".grade", "expected A, B, C, got '" + grade + "'");
    }
    result.grade = grade[0];
    const std::string source = text(node, key, "source");
    const auto found = sources_.find(source);
    if (found == sources_.end()) fail_at(node["source"], file_, key + ".source", "'" + source + "' is not in sources");
    result.source = found->second;
    for (const char *name : {"formula", "note"}) {
      if (node[name]) text(node, key, name);
    }
    if (node["formula"]) result.formula = node["formula"].Scalar();
    if (range) {
      if (!range.IsSequence() || range.size() != 2) {
        fail_at(range, file_, key + ".range", "expected a list of the least and the most");
      }
      result.least = number(range[0], key + ".range", max);
      result.most = number(range[1], key + ".range", max);
      if (result.least > result.value || result.value > result.most) {
        fail_at(range, file_, key + ".range",
                "expected a range with the value " + number_text(result.value) + " in it");
      }
    }
    if (result.grade == 'C') {
      for (const char *name : {"range", "formula"}) {
        if (!node[name]) fail_at(node, file_, join(key, name), "is required of grade C but not given");
      }
    }
    return result;
  }

  void read_values(EnergyTable &table, const YAML::Node &values, std::set<size_t> &given) const {
    std::set<size_t> seen;
    for (const auto &one : values) {
      const std::string name = one.first.IsScalar() ? one.first.Scalar() : "";
      const std::string key = "values." + name;
      const auto index = find_quantity(name);
      if (!index) {
        fail_at(one.first, file_, key, "unknown quantity; the nearest known one is '" + nearest_quantity(name) + "'");
      }
      if (!seen.insert(*index).second) fail_at(one.first, file_, key, "is given twice");
      given.insert(*index);
      table.values[*index] = entry(one.second, key, kQuantities[*index].max);
    }
  }

  void derive(EnergyTable &table, const YAML::Node &base);
  void multiply(EnergyTable &table, Factor kind, const EnergyValue &by) const;

  std::string file_;
  std::set<std::string> above_;
  const YAML::Node document_;
  std::map<std::string, std::string> sources_;
};

EnergyTable read_table(const std::string &name, std::set<std::string> above) {
  if (const ShippedTable *table = shipped(name)) return TableReader(table->text, table->path, std::move(above)).read();
  std::ifstream stream(name, std::ios::binary);
  std::ostringstream text;
  if (!stream || !(text << stream.rdbuf())) throw EnergyTableMissing("cannot read '" + name + "', or it is empty");
  return TableReader(text.str(), name, std::move(above)).read();
}

void TableReader::derive(EnergyTable &table, const YAML::Node &base) {
  constexpr double kMaxFactor = 1000;
  const std::string wanted = text(document_, "", "base");
  std::string name;
  try {
    name = energy_table_name(wanted, fs::path(file_).parent_path().string());
    const ShippedTable *known = shipped(name);
    if (above_.count(known ? known->path : name) != 0) fail_at(base, file_, "base", "tables are each other's base");
    table.values = read_table(name, above_).values;
  } catch (const EnergyTableMissing &error) {
    fail_at(base, file_, "base", error.what());
  }
  for (const Factor kind : {Factor::energy, Factor::logic, Factor::sram}) {
    const char *key = kFactorKeys[static_cast<size_t>(kind)];
    if (const YAML::Node factor = document_[key]) multiply(table, kind, entry(factor, key, kMaxFactor));
  }
}

void TableReader::multiply(EnergyTable &table, Factor kind, const EnergyValue &by) const {
  for (size_t i = 0; i < kQuantities.size(); ++i) {
    if (kQuantities[i].scales != kind) continue;
    EnergyValue &value = table.values[i];
    value.formula = number_text(value.value) + " * " + number_text(by.value) + " (" + by.formula + ")" +
                    (value.formula.empty() ? "" : "; base: " + value.formula);
    value.value *= by.value;
    value.least *= by.least;
    value.most *= by.most;
    value.grade = 'C';
    value.source += "; " + by.source;
  }
}

}  // namespace

std::string energy_table_name(const std::string &table, const std::string &folder) {
  if (shipped(table) != nullptr) return table;
  const fs::path path = fs::absolute(fs::path(folder) / table).lexically_normal();
  std::error_code error;
  if (fs::is_regular_file(path, error)) return path.string();
  std::string known;
  for (const ShippedTable &one : kShippedTables) known += (known.empty() ? "" : ", ") + std::string(one.name);
  throw EnergyTableMissing("no such energy table: expected " + known + " or the path of a file, got '" + table + "'");
}

EnergyTable load_energy_table(const std::string &name) { return read_table(name, {}); }

EnergyTable energy_table_of(const std::string &text, const std::string &file) {
  return TableReader(text, file, {}).read();
}

}  // namespace cx::config
