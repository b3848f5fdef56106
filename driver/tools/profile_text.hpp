// A profile for a terminal of 120 columns: what limits the run comes first.
#pragma once

#include <string>
#include <vector>

#include "driver/tools/profile_document.hpp"

namespace cx::tools {

/// What limits the run, the critical path by reason, and how far the run is from its lower bound.
std::string limits_text(const ProfiledRun &run);

/// What the time of launches consists of: "firmware 1.20, transfers 0.80, asleep 0.10 us".
std::string launch_text(const RunTimes &times,
                        const std::array<const char *, kLaunchPartNames.size()> &names = kLaunchPartNames);

/// What changed chips would gain; empty without any.
std::string what_if_table(const std::vector<WhatIf> &what_if, double latency_us);

/// Engine time lost in waits for other engines, longest first.
std::string stall_table(const ProfiledRun &run);

/// Each group of graph nodes: time, engine, what bounds it, bytes, energy.
std::string node_table(const ProfiledRun &run);

/// Runs of one model on two chips (profile_document()): what makes the difference (compare_runs()), and the nodes side
/// by side, those that differ most first.
std::string comparison_text(const std::vector<std::string> &lines, const nlohmann::ordered_json &a,
                            const nlohmann::ordered_json &b);

}  // namespace cx::tools
