// Traces of cards that processes of their own have written, as one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cx::tools {

struct JoinedTraces {
  uint64_t packets = 0, bytes = 0;  ///< of the file
  /// Parts that end in the middle of a packet, as those of killed processes do: all that precedes it is in the file.
  std::vector<std::string> cut;
};

/// Writes one trace of files that TraceFile has written, each of one card without a host. Each card keeps its tracks
/// and its clock, which its part sets against the host's; the first is "card", the others "card 2" and so on. Throws
/// InputError for a part that cannot be read or is no such trace, and when the file cannot be written.
JoinedTraces join_traces(std::span<const std::string> parts, const std::string &path);

}  // namespace cx::tools
