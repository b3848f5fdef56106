// The profile of a run as a document: docs/reference/profile-json.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "driver/compiler/compiler.hpp"
#include "driver/runtime/program.hpp"
#include "driver/runtime/report.hpp"
#include "driver/tools/critical_path.hpp"
#include "driver/tools/profile.hpp"
#include "driver/umd/host_trace.hpp"
#include "driver/umd/target.hpp"
#include "hw/regs/gen/packets.h"

namespace cx::tools {

/// Spans of the host, collected while it is host_trace. Of one thread.
class HostSpans : public HostTrace {
 public:
  struct Span {
    std::string name;
    std::chrono::steady_clock::time_point begin, end;
  };
  void begin(const char *name, const std::string &detail, const uint64_t *device_ps) override;
  void end(const char *name, const uint64_t *device_ps) override;
  void counters(bool after) override;  ///< marks the trace of the card: 1 before a run, 2 after it
  const std::vector<Span> &spans() const { return spans_; }  ///< those that have ended, by end

 private:
  std::vector<Span> open_, spans_;
};

/// Records between marks 1 and 2, of all kinds.
std::span<const cx_trace_record> records_of_run(std::span<const cx_trace_record> trace);

/// What is known of one run with one launch. All must outlive it.
struct ProfiledRun {
  std::string model, config, precision;
  const Program &program;
  const compiler::CompileStatistics &statistics;
  const RunReport &report;
  const Target &target;
  const Profile &profile;
  const RunTimes &times;
  std::span<const cx_trace_record> trace;  ///< of the run
  std::span<const cx_segment> segments;    ///< of the program on the device
  const std::vector<HostSpans::Span> &host;
  std::vector<std::string> units;  ///< names of DRAM channels and links: "6/0" is unit 0 of kind 6
  double compile_s = 0, wall_s = 0;
};

/// A changed chip that ran the same model.
struct WhatIf {
  std::string name;
  std::vector<std::string> sets;
  double latency_us = 0;
  std::string error;  ///< why there is no figure
};

nlohmann::ordered_json profile_document(const ProfiledRun &run, const std::vector<WhatIf> &what_if);

/// What took most of the path, in a sentence.
std::string headline(const ProfiledRun &run);

/// Why the second of two runs took another time than the first: most important line first.
std::vector<std::string> compare_runs(const nlohmann::ordered_json &a, const nlohmann::ordered_json &b);

/// The time of nodes, the critical path, stalls and what-if as tables for people.
std::string path_table(const ProfiledRun &run);
std::string what_if_table(const std::vector<WhatIf> &what_if, double latency_us);

}  // namespace cx::tools
