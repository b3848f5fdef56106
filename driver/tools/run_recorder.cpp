#include "driver/tools/run_recorder.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "driver/include/cx/error.hpp"
#include "driver/tools/trace.hpp"
#include "driver/tools/trace/trace_file.hpp"
#include "hw/common/port/cx_port.h"

namespace cx::tools {

void HostSpans::begin(const char *name, const std::string &detail, const uint64_t *device_ps) {
  if (next_ != nullptr) next_->begin(name, detail, device_ps);
  open_.push_back({name, std::chrono::steady_clock::now(), {}});
}

void HostSpans::end(const char *name, const uint64_t *device_ps) {
  if (next_ != nullptr) next_->end(name, device_ps);
  if (open_.empty() || open_.back().name != name) return;
  open_.back().end = std::chrono::steady_clock::now();
  spans_.push_back(std::move(open_.back()));
  open_.pop_back();
}

namespace {

/// Records between marks 1 and 2, of all kinds.
std::span<const cx_trace_record> between_marks(std::span<const cx_trace_record> trace) {
  const auto mark = [&](uint32_t number) {
    return std::find_if(trace.begin(), trace.end(), [number](const cx_trace_record &record) {
      return record.kind == CX_TRACE_MARK && record.what == number;
    });
  };
  const auto from = mark(1), to = mark(2);
  if (from == trace.end() || to == trace.end()) throw Error("the trace is not of a whole run");
  return trace.subspan(static_cast<std::size_t>(from - trace.begin()), static_cast<std::size_t>(to - from));
}

Program outline_of(const Program &program) {
  Program outline;
  outline.name = program.name;
  outline.precision = program.precision;
  outline.workspace_bytes = program.workspace_bytes;
  outline.inputs = program.inputs;
  outline.outputs = program.outputs;
  outline.debug = program.debug;
  outline.macs = program.macs;
  outline.constants_segment = program.constants_segment;
  outline.constants_bytes = program.constants_bytes;
  return outline;
}

Profile copies_profile(const DeviceCopies &copies, const RunTimes &times, const Target &target) {
  const uint64_t period_ps = (1'000'000'000 + target.clock_khz / 2) / std::max(target.clock_khz, 1U);
  Profile profile;
  GroupProfile &group = profile.groups.emplace_back();
  group.group.name = "cache moves";
  group.group.op = "Copy";
  group.group.nodes = copies.tensors;
  group.group.minimum_bytes = 2 * copies.bytes;
  group.memory_bytes = copies.report.counters.dram_read + copies.report.counters.dram_written;
  group.cycles = group.last_complete = group.window_end = copies.report.cycles;
  profile.move_cycles = copies.report.cycles;
  profile.around_cycles = times.by_reason()[static_cast<std::size_t>(Reason::launch)] / period_ps;
  group.copying = std::max<uint64_t>(profile.move_cycles - std::min(profile.around_cycles, profile.move_cycles), 1);
  profile.minimum_bytes = group.group.minimum_bytes;
  profile.memory_bytes = group.memory_bytes;
  profile.byte_cycles = static_cast<double>(profile.minimum_bytes) / dram_bytes_per_cycle(target);
  group.bound_cycles = profile.byte_cycles;
  profile.bound_cycles = profile.byte_cycles + static_cast<double>(profile.around_cycles);
  if (profile.byte_cycles > static_cast<double>(group.copying)) {
    profile.violation =
        fmt::format("copies of {} bytes were under way for {} cycles, less than their lower bound {:.1f}", copies.bytes,
                    group.copying, profile.byte_cycles);
  }
  return profile;
}

void join_launches(RecordedRun &run) {
  std::vector<Profile> profiles;
  std::vector<RunTimes> times;
  std::vector<std::size_t> groups;
  for (const RecordedLaunch &launch : run.launches) {
    const bool first = &launch == &run.launches.front();
    run.report = first ? launch.report : run.report + launch.report;
    if (!launch.copies) run.statistics = first ? launch.statistics : run.statistics + launch.statistics;
    profiles.push_back(launch.profile);
    times.push_back(launch.times);
    groups.push_back(launch.profile.groups.size());
  }
  run.profile = joined(profiles);
  run.times = joined(times, groups);
}

}  // namespace

RunRecorder::RunRecorder(const Target &target) : target_(target), begin_(std::chrono::steady_clock::now()) {
  host_.set_next(TraceFile::current() != nullptr ? host_trace.load() : nullptr);
  host_trace = &host_;
}

RunRecorder::~RunRecorder() {
  HostTrace *mine = &host_;
  host_trace.compare_exchange_strong(mine, TraceFile::current());
  if (tracing_) finish_trace();
}

void RunRecorder::before(const Executable &executable) {
  if (TraceFile *file = TraceFile::current()) {
    file->set_program(executable.program(), TraceFile::newest_card());
  }
  start();
}

void RunRecorder::start() {
  // A launch that failed leaves its trace behind.
  if (std::exchange(tracing_, false)) finish_trace();
  start_trace(0, TraceFile::kSamplePs);
  tracing_ = true;
}

std::vector<cx_trace_record> RunRecorder::recorded() {
  note_units();
  tracing_ = false;
  const std::vector<cx_trace_record> all = finish_trace();
  const auto between = between_marks(all);
  std::vector<cx_trace_record> records(between.begin(), between.end());
  const uint64_t base = last_id_;
  for (cx_trace_record &record : records) {
    if (record.id != 0) record.id += base;
    if (record.cause != 0) record.cause += base;
    last_id_ = std::max(last_id_, record.id);
  }
  return records;
}

void RunRecorder::before_copies() { start(); }

void RunRecorder::after_copies(const DeviceCopies &copies) {
  RecordedLaunch launch;
  launch.copies = true;
  launch.trace = recorded();
  launch.report = copies.report;
  launch.times = copy_times(launch.trace, 0);
  launch.profile = copies_profile(copies, launch.times, target_);
  launches_.push_back(std::move(launch));
}

void RunRecorder::after(const Executable &executable, const compiler::CompileStatistics &statistics) {
  RecordedLaunch launch;
  launch.trace = recorded();
  launch.outline = outline_of(executable.program());
  launch.statistics = statistics;
  launch.report = executable.report();
  launch.segments.assign(executable.segments().begin(), executable.segments().end());
  launch.profile = make_profile(std::span<const cx_trace_record>(launch.trace), launch.outline, launch.statistics,
                                launch.report, target_);
  const GroupFinder group_of(launch.outline, launch.statistics.details);
  launch.times =
      run_times(launch.trace, [&](uint32_t engine, uint32_t pc) { return static_cast<int>(group_of(engine, pc)); });
  launches_.push_back(std::move(launch));
}

void RunRecorder::note_units() {
  // While the card is traced it tells the names of its links.
  if (!units_.empty()) return;
  for (const unsigned kind : {unsigned{CX_TRACE_DRAM}, unsigned{CX_TRACE_LINK}}) {
    char text[64];
    for (uint32_t unit = 0;
         cx_port_trace_unit(cx_port_trace_card(nullptr), kind, unit, text, sizeof text) == CX_PORT_OK; ++unit) {
      units_.push_back(fmt::format("{}/{} {}", kind, unit, text));
    }
  }
}

RecordedRun RunRecorder::take() {
  RecordedRun run;
  const auto now = std::chrono::steady_clock::now();
  run.wall_s = std::chrono::duration<double>(now - std::exchange(begin_, now)).count();
  run.launches = std::exchange(launches_, {});
  run.host = host_.spans();
  host_.clear();
  run.units = units_;
  for (const HostSpans::Span &span : run.host) {
    if (span.name == "compile") run.compile_s += span.seconds();
    if (span.name == "load program") run.compile_s -= span.seconds();
  }
  if (!run.launches.empty()) join_launches(run);
  return run;
}

}  // namespace cx::tools
