// cx run --waves: what an RTL tile does, as a file for a wave viewer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cx::tools {

struct WavesRequest {
  uint32_t tile = 0;
  uint64_t from_ps = 0;
  uint64_t to_ps = 0;
  std::string path;
};

/// "tile=3,from=10us,to=12us": from and to are simulated times since the run began, with a unit (ps, ns, us, ms) and
/// may be left out. Throws UsageError that says what was expected.
WavesRequest parse_waves(const std::string &text, const std::string &path);

/// Before the card is opened: its tile will be RTL.
void prepare_waves(const WavesRequest &request);
/// When the run begins. Throws InputError if the file cannot be written.
void start_waves(const WavesRequest &request);
/// Closes the file and returns how many clock cycles are in it.
uint64_t finish_waves();

}  // namespace cx::tools
