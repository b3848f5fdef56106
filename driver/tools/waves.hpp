// cx run --waves: what RTL tiles do, as files for a wave viewer.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cx::tools {

struct WavesRequest {
  struct Tile {
    bool sparse = false;
    uint32_t number = 0;
    std::string path;
  };
  std::vector<Tile> tiles;                             ///< at least one
  std::vector<std::pair<uint64_t, uint64_t>> windows;  ///< ps: from, to; at least one
  bool since_power_on = false;                         ///< what the windows count from; else from the run's begin
};

/// "tile=0/3,sca=1,from=10us/20us,to=12us/22us,since=run": numbers of dense and of sparse tiles, and windows of
/// simulated time with a unit (ps, ns, us, ms), which may be left out. Times count from the begin of the run, or with
/// since=power-on as in a trace. Of several tiles each has a file of its own: out.fst becomes out.tile0.fst, ...,
/// out.sca1.fst. Throws UsageError that says what was expected.
WavesRequest parse_waves(const std::string &text, const std::string &path);

/// Before the card is opened: its tiles will be RTL.
void prepare_waves(const WavesRequest &request);
/// When the run begins. Throws InputError if a file cannot be written.
void start_waves(const WavesRequest &request);
/// Closes the files and returns how many clock cycles are in them.
uint64_t finish_waves();

}  // namespace cx::tools
