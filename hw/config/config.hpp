// Chip configuration files: parse, override, resolve, show and explain.
#ifndef HW_CONFIG_CONFIG_HPP
#define HW_CONFIG_CONFIG_HPP

#include <cstdint>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "hw/config/gen/chip.hpp"

namespace cx::config {

struct EnergyTable;

// what() reads "FILE:LINE:COLUMN: KEY: what is wrong and what was expected".
class ConfigError : public std::runtime_error {
 public:
  ConfigError(std::string file, int line, int column, std::string key, const std::string &message);

  const std::string &file() const { return file_; }  // or the text of the override
  int line() const { return line_; }                 // from 1; 0 when there is none
  int column() const { return column_; }
  const std::string &key() const { return key_; }  // may be empty

 private:
  std::string file_;
  int line_;
  int column_;
  std::string key_;
};

// A value as written, not checked against its key's description yet.
struct RawScalar {
  std::string text;
  int line = 0;
  int column = 0;
};
struct RawValue {
  bool is_list = false;
  std::vector<RawScalar> items;  // one unless is_list
  std::string file;
  int line = 0;
  int column = 0;
};

// The keys of a file, its includes and overrides. Every key is known; values are not checked yet.
class Parsed {
 public:
  // Reads a file and what it includes. Throws ConfigError.
  static Parsed from_file(const std::string &path);
  // The same for a text; includes are relative to the folder of `name`.
  static Parsed from_text(const std::string &text, const std::string &name);

  // Applies "key.path=value"; value is YAML, e.g. "dmmu.rtl_tiles=[0, 5]". Throws ConfigError.
  void set(const std::string &override_text);

  const std::map<std::string, RawValue, std::less<>> &values() const { return values_; }

 private:
  std::map<std::string, RawValue, std::less<>> values_;
  friend class Reader;
};

// Checks every value and the relations between them. Throws ConfigError.
Chip resolve(const Parsed &parsed);

// File, then overrides in order, resolved. Throws ConfigError.
Chip load(const std::string &path, std::span<const std::string> sets = {});

// The chip with the core clock of its operating point; at point 0 the chip itself.
Chip at_operating_point(Chip chip);

// Core voltage at the chip's operating point.
double core_volts(const Chip &chip, const EnergyTable &table);

// FNV-1a over the keys marked `program` and the instruction set's version: equal hashes run each other's programs.
uint64_t arch_hash(const Chip &chip);

// Bit n: the DMMU multiplies isa data type n.
uint32_t formats_mask(const Chip &chip);

// The resolved whole. The YAML loads again to an equal chip.
std::string to_yaml(const Chip &chip);
std::string to_json(const Chip &chip);

// Text about one key, about all keys of a section ("dmmu"), or about all ("").
// Throws ConfigError for an unknown one.
std::string help(std::string_view key = {});

// The known key or section that is most like `key`; empty when nothing is close.
std::string nearest_key(std::string_view key);

}  // namespace cx::config

#endif
