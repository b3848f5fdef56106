// Records of what a session launches, for profiles.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "driver/compiler/compiler.hpp"
#include "driver/runtime/program.hpp"
#include "driver/runtime/report.hpp"
#include "driver/session/session.hpp"
#include "driver/tools/critical_path.hpp"
#include "driver/tools/profile.hpp"
#include "driver/umd/host_trace.hpp"
#include "driver/umd/target.hpp"
#include "hw/regs/gen/packets.h"
#include "hw/regs/gen/trace.h"

namespace cx::tools {

/// Spans of the host, collected while it is host_trace. Of one thread.
class HostSpans : public HostTrace {
 public:
  struct Span {
    std::string name;
    std::chrono::steady_clock::time_point begin, end;
    double seconds() const { return std::chrono::duration<double>(end - begin).count(); }
  };
  void begin(const char *name, const std::string &detail, const uint64_t *device_ps) override;
  void end(const char *name, const uint64_t *device_ps) override;
  const std::vector<Span> &spans() const { return spans_; }  ///< those that have ended, by end
  void clear() { spans_.clear(); }
  /// Sees the same; nullptr: nobody.
  void set_next(HostTrace *next) { next_ = next; }

 private:
  std::vector<Span> open_, spans_;
  HostTrace *next_ = nullptr;
};

/// One launch of a program, with all that is known of it, or copies between launches (DeviceCopies): these have one
/// group, no instructions and no segments.
struct RecordedLaunch {
  bool copies = false;
  Program outline;  ///< the program without image and constants
  compiler::CompileStatistics statistics;
  RunReport report;
  std::vector<cx_segment> segments;    ///< of the program on the device
  std::vector<cx_trace_record> trace;  ///< between the two readings of the counters
  Profile profile;
  RunTimes times;
};

/// A run of a session: its launches and copies between them, one after the other. What lies between them is left out.
struct RecordedRun {
  std::vector<RecordedLaunch> launches;  ///< at least one; ids of records are different in all of them
  std::vector<HostSpans::Span> host;
  std::vector<std::string> units;  ///< names of DRAM channels and links: "6/0" is unit 0 of kind 6
  double compile_s = 0;            ///< of this computer, without loading
  double wall_s = 0;
  // All launches together.
  compiler::CompileStatistics statistics;
  RunReport report;
  Profile profile;
  RunTimes times;
};

/// To be given to a session as its observer; traces the card of this process while programs run, and looks at the host
/// from its construction to its destruction. A TraceFile may be written meanwhile; it is told the programs, and has to
/// outlive the recorder. One at a time.
class RunRecorder : public LaunchObserver {
 public:
  explicit RunRecorder(const Target &target);
  ~RunRecorder() override;
  RunRecorder(const RunRecorder &) = delete;
  RunRecorder &operator=(const RunRecorder &) = delete;

  void before(const Executable &executable) override;
  void after(const Executable &executable, const compiler::CompileStatistics &statistics) override;
  void before_copies() override;
  void after_copies(const DeviceCopies &copies) override;

  /// What has run since the construction or the last call; without launches where nothing has.
  RecordedRun take();

 private:
  void start();
  void note_units();
  /// Ends tracing; the records of what was measured, their ids different from all before.
  std::vector<cx_trace_record> recorded();

  const Target target_;
  HostSpans host_;
  std::chrono::steady_clock::time_point begin_;
  bool tracing_ = false;
  uint64_t last_id_ = 0;
  std::vector<RecordedLaunch> launches_;
  std::vector<std::string> units_;
};

}  // namespace cx::tools
