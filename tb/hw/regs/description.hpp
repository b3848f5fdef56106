// Reads the YAML descriptions themselves, so that tests judge the generated code by its source and not by its
// generator.
#ifndef TB_HW_REGS_DESCRIPTION_HPP
#define TB_HW_REGS_DESCRIPTION_HPP

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cx::tb {

inline uint64_t number(const YAML::Node &node) { return std::stoull(node.as<std::string>(), nullptr, 0); }
inline uint64_t number(const YAML::Node &node, uint64_t otherwise) { return node ? number(node) : otherwise; }

struct BitRange {
  unsigned low, width;
};
// "7:0" or "3".
inline BitRange bits_of(const std::string &text) {
  const size_t colon = text.find(':');
  const auto high = static_cast<unsigned>(std::stoul(text.substr(0, colon)));
  const auto low = colon == std::string::npos ? high : static_cast<unsigned>(std::stoul(text.substr(colon + 1)));
  return {low, high - low + 1};
}

inline unsigned bytes_of_type(const std::string &type) {
  if (type == "u8") return 1;
  if (type == "u16") return 2;
  return type == "u64" ? 8 : 4;
}

// A field of a packet or an instruction.
struct WireField {
  std::string name;
  unsigned at;     // byte
  unsigned bit;    // first bit within the byte
  unsigned width;  // bits of one element
  unsigned count;  // elements
  bool is_float, is_signed;
  uint64_t min, max;  // allowed raw values of an unsigned field
  bool bounded;       // values above max fit the field
  int64_t none;       // allowed besides, or -1
  uint64_t align;     // 1: any
};

inline std::vector<WireField> wire_fields(const YAML::Node &fields, const YAML::Node &enums) {
  std::vector<WireField> out;
  for (const YAML::Node &node : fields) {
    WireField field{};
    field.name = node["name"].as<std::string>();
    field.at = static_cast<unsigned>(number(node["at"]));
    field.count = static_cast<unsigned>(number(node["count"], 1));
    if (node["bit"] || node["bits"]) {
      const BitRange range = bits_of(node[node["bit"] ? "bit" : "bits"].as<std::string>());
      field.bit = range.low;
      field.width = range.width;
    } else {
      const auto type = node["type"].as<std::string>();
      field.width = 8 * bytes_of_type(type);
      field.is_float = type == "f32";
      field.is_signed = type == "s32";
    }
    const uint64_t limit = field.width == 64 ? ~uint64_t{0} : (uint64_t{1} << field.width) - 1;
    field.min = number(node["min"], 0);
    field.max = number(node["max"], limit);
    if (node["enum"]) field.max = enums[node["enum"].as<std::string>()].size() - 1;
    field.bounded = field.max < limit;
    field.none = node["none"] ? static_cast<int64_t>(number(node["none"])) : -1;
    field.align = number(node["align"], 1);
    out.push_back(field);
  }
  return out;
}

template <class Bytes>
void poke(Bytes &bytes, const WireField &field, unsigned index, uint64_t value) {
  for (unsigned i = 0; i < field.width; ++i) {
    const unsigned bit = 8 * field.at + field.bit + index * field.width + i;
    const auto mask = static_cast<uint8_t>(1u << (bit % 8));
    bytes[bit / 8] = static_cast<uint8_t>((value >> i & 1) != 0 ? bytes[bit / 8] | mask : bytes[bit / 8] & ~mask);
  }
}

inline bool covers(const WireField &field, unsigned bit) {
  const unsigned first = 8 * field.at + field.bit;
  return bit >= first && bit < first + field.width * field.count;
}

}  // namespace cx::tb

#endif
