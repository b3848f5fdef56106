#include "driver/compiler/sca.hpp"

#include <charconv>

#include "driver/include/cx/error.hpp"

namespace cx::compiler {

namespace {

struct UseEntry {
  ScaUse use;
  const char *name;
};
constexpr UseEntry kUses[] = {{ScaUse::automatic, "auto"}, {ScaUse::always, "always"}, {ScaUse::never, "never"}};

constexpr unsigned kMaxBlockSide = 1024;

/// Two numbers with `separator` between them.
std::optional<std::pair<unsigned, unsigned>> pair_of(const std::string &text, char separator) {
  std::pair<unsigned, unsigned> result;
  const char *end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, result.first);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != separator) return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, result.second);
  if (second.ec != std::errc() || second.ptr != end) return std::nullopt;
  return result;
}

}  // namespace

const char *name_of(ScaUse use) {
  for (const UseEntry &entry : kUses) {
    if (entry.use == use) return entry.name;
  }
  throw UsageError("unknown use of the SCA");
}

ScaUse sca_use_from(const std::string &text) {
  for (const UseEntry &entry : kUses) {
    if (text == entry.name) return entry.use;
  }
  throw UsageError("unknown use of the SCA: " + text + "; auto, always or never");
}

sparse::Layout sca_format_from(const std::string &text) {
  if (text == "bitmap") return sparse::bitmap();
  if (text == "run-length") return sparse::run_length();
  const std::string block = "block:";
  if (text.rfind(block, 0) == 0) {
    const auto sides = pair_of(text.substr(block.size()), 'x');
    if (sides && sides->first >= 1 && sides->first <= kMaxBlockSide && sides->second >= 1 &&
        sides->second <= kMaxBlockSide) {
      return sparse::block(static_cast<uint16_t>(sides->first), static_cast<uint16_t>(sides->second));
    }
  } else if (const auto counts = pair_of(text, ':')) {
    if (counts->first >= 1 && counts->first <= sparse::kMaxSlots && counts->second >= 2 &&
        counts->second <= sparse::kMaxBlockRows && counts->first <= counts->second) {
      return sparse::structured(static_cast<uint8_t>(counts->first), static_cast<uint8_t>(counts->second));
    }
  }
  throw UsageError("unknown format of compressed weights " + text +
                   "; bitmap, run-length, N:M with N up to 8 and M from 2 to 16, block:HxW with sides up to 1024");
}

}  // namespace cx::compiler
