// cx collective --trace: what the ranks of a cluster do and how full its links are, in a file for ui.perfetto.dev.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "driver/collective/cluster.hpp"
#include "driver/tools/trace/perfetto_writer.hpp"

namespace cx::tools {

/// A track for each rank with rows for what it sends, receives and computes; a counter for each link that carries
/// something, per cent of its rate. Holds all commands until finish().
class CollectiveTrace final : public JobObserver {
 public:
  /// Files of more commands than that are of no use to anyone.
  static constexpr std::size_t kMostCommands = 2'000'000;

  /// `cluster` has to live as long. Throws InputError when the file cannot be written.
  CollectiveTrace(const std::string &path, const Cluster &cluster);

  /// Throws UsageError beyond kMostCommands.
  void command(uint32_t rank, const cx_comm_command &command, uint64_t begin_ps, uint64_t end_ps) override;
  void links(uint64_t time_ps, const double *wire_bytes) override;

  /// Writes the file. Throws InputError.
  void finish();

 private:
  struct Span {
    uint64_t begin, end;  // ps
    uint64_t bytes;
    uint32_t peer;
    uint8_t op;
  };
  struct Sample {
    uint64_t time;  // ps
    std::vector<double> bytes;
  };

  void write_rank(PerfettoWriter::Track ranks, uint32_t rank);
  void write_links();

  const Cluster &cluster_;
  PerfettoWriter writer_;
  std::vector<std::vector<Span>> spans_;  // by rank
  std::vector<Sample> samples_;
  std::size_t commands_ = 0;
  PerfettoWriter::Name bytes_name_, peer_name_;
};

}  // namespace cx::tools
