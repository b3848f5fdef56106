#include "driver/tools/waves.hpp"

#include <charconv>
#include <cstdlib>
#include <limits>

#include "driver/include/cx/error.hpp"
#include "hw/common/port/cx_port.h"

namespace cx::tools {
namespace {

[[noreturn]] void refuse(const std::string &text, const std::string &why) {
  throw UsageError("--waves " + text + ": " + why +
                   "; expected tile=N,from=TIME,to=TIME such as tile=3,from=10us,to=12us");
}

uint64_t picoseconds(const std::string &text, const std::string &value) {
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  const std::string unit(end, value.data() + value.size());
  const double scale = unit == "ps" ? 1 : unit == "ns" ? 1e3 : unit == "us" ? 1e6 : unit == "ms" ? 1e9 : 0;
  if (error != std::errc() || scale == 0 || !(number >= 0) || number * scale > 1e18) {
    refuse(text, "'" + value + "' is not a time");
  }
  return static_cast<uint64_t>(number * scale);
}

}  // namespace

WavesRequest parse_waves(const std::string &text, const std::string &path) {
  WavesRequest request;
  request.to_ps = static_cast<uint64_t>(1e18);
  request.path = path;
  bool has_tile = false;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, end - at);
    const std::size_t equals = item.find('=');
    if (equals == std::string::npos) refuse(text, "'" + item + "' has no value");
    const std::string key = item.substr(0, equals), value = item.substr(equals + 1);
    if (key == "tile") {
      const auto [last, error] = std::from_chars(value.data(), value.data() + value.size(), request.tile);
      if (error != std::errc() || last != value.data() + value.size())
        refuse(text, "'" + value + "' is not a tile number");
      has_tile = true;
    } else if (key == "from") {
      request.from_ps = picoseconds(text, value);
    } else if (key == "to") {
      request.to_ps = picoseconds(text, value);
    } else {
      refuse(text, "unknown key '" + key + "'");
    }
    at = end + 1;
  }
  if (!has_tile) refuse(text, "no tile");
  if (request.from_ps >= request.to_ps) refuse(text, "nothing lies between from and to");
  return request;
}

void prepare_waves(const WavesRequest &request) { cx_port_want_rtl_tile(request.tile); }

void start_waves(const WavesRequest &request) {
  char *text = nullptr;
  const int code = cx_port_record_tile(request.tile, request.from_ps, request.to_ps, request.path.c_str(), &text);
  const std::string message = text != nullptr ? text : "";
  free(text);
  if (code != CX_PORT_OK) throw InputError(message);
}

uint64_t finish_waves() { return cx_port_stop_recording(); }

}  // namespace cx::tools
