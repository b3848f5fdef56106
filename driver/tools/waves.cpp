#include "driver/tools/waves.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>

#include "driver/include/cx/error.hpp"
#include "hw/common/port/cx_port.h"

namespace cx::tools {
namespace {

[[noreturn]] void refuse(const std::string &text, const std::string &why) {
  throw UsageError(
      "--waves " + text + ": " + why +
      "; expected tile=N,from=TIME,to=TIME such as tile=3,from=10us,to=12us, or sca=N; lists have / between");
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

std::vector<std::string> parts(const std::string &value, char separator) {
  std::vector<std::string> all;
  for (std::size_t at = 0; at <= value.size();) {
    const std::size_t end = std::min(value.find(separator, at), value.size());
    all.push_back(value.substr(at, end - at));
    at = end + 1;
  }
  return all;
}

std::string path_of(const std::string &path, bool sparse, uint32_t number) {
  const std::filesystem::path given(path);
  std::filesystem::path name = given.stem();
  name += fmt::format(".{}{}", sparse ? "sca" : "tile", number);
  name += given.extension();
  return given.parent_path() / name;
}

}  // namespace

WavesRequest parse_waves(const std::string &text, const std::string &path) {
  WavesRequest request;
  std::vector<uint64_t> from, to;
  for (const std::string &item : parts(text, ',')) {
    const std::size_t equals = item.find('=');
    if (equals == std::string::npos) refuse(text, "'" + item + "' has no value");
    const std::string key = item.substr(0, equals), all = item.substr(equals + 1);
    if (key == "since") {
      if (all != "run" && all != "power-on") refuse(text, "since is run or power-on");
      request.since_power_on = all == "power-on";
      continue;
    }
    if (key != "tile" && key != "sca" && key != "from" && key != "to") refuse(text, "unknown key '" + key + "'");
    for (const std::string &value : parts(all, '/')) {
      if (key == "from" || key == "to") {
        (key == "from" ? from : to).push_back(picoseconds(text, value));
        continue;
      }
      WavesRequest::Tile tile{key == "sca", 0, path};
      const auto [last, error] = std::from_chars(value.data(), value.data() + value.size(), tile.number);
      if (error != std::errc() || last != value.data() + value.size())
        refuse(text, "'" + value + "' is not a tile number");
      for (const WavesRequest::Tile &other : request.tiles) {
        if (other.sparse == tile.sparse && other.number == tile.number) refuse(text, "tile " + value + " comes twice");
      }
      request.tiles.push_back(tile);
    }
  }
  if (request.tiles.empty()) refuse(text, "no tile");
  if (from.empty()) from.push_back(0);
  if (to.empty()) to.push_back(static_cast<uint64_t>(1e18));
  if (from.size() != to.size()) refuse(text, "from and to have different numbers of times");
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (from[i] >= to[i]) refuse(text, "nothing lies between from and to");
    request.windows.emplace_back(from[i], to[i]);
  }
  if (request.tiles.size() > 1) {
    for (WavesRequest::Tile &tile : request.tiles) tile.path = path_of(path, tile.sparse, tile.number);
  }
  return request;
}

void prepare_waves(const WavesRequest &request) {
  for (const WavesRequest::Tile &tile : request.tiles) {
    cx_port_want_rtl_tile(tile.sparse ? CX_PORT_SPARSE_TILE : CX_PORT_DENSE_TILE, tile.number);
  }
}

void start_waves(const WavesRequest &request) {
  const uint64_t origin = request.since_power_on ? 0 : cx_port_time_now();
  std::vector<uint64_t> windows;
  for (const auto &[from, to] : request.windows) {
    windows.push_back(origin + from);
    windows.push_back(origin + to);
  }
  for (const WavesRequest::Tile &tile : request.tiles) {
    char *text = nullptr;
    const int code = cx_port_record_tile(tile.sparse ? CX_PORT_SPARSE_TILE : CX_PORT_DENSE_TILE, tile.number,
                                         windows.data(), request.windows.size(), tile.path.c_str(), &text);
    const std::string message = text != nullptr ? text : "";
    free(text);
    if (code != CX_PORT_OK) throw InputError(message);
  }
}

uint64_t finish_waves() { return cx_port_stop_recording(); }

}  // namespace cx::tools
