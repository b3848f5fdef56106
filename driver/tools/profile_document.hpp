// The profile of a run as a document: docs/reference/profile-json.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "driver/session/session.hpp"
#include "driver/tools/critical_path.hpp"
#include "driver/tools/run_recorder.hpp"
#include "driver/umd/target.hpp"

namespace cx::tools {

/// What is known of one run, under the names that people know it by. The recorded run must outlive it.
struct ProfiledRun {
  std::string model, config, precision;
  const Target &target;
  const RecordedRun &recorded;
  std::vector<HostOperator> host_operators;  ///< nodes that the host computed between launches
};

/// A changed chip that ran the same model.
struct WhatIf {
  std::string name;
  std::vector<std::string> sets;
  double latency_us = 0;
  std::string error;            ///< why there is no figure
  std::string limited_by = {};  ///< the reason for most of that chip's critical path
  double limited_share = 0;     ///< how much of it, 0 to 1
  std::string remark = {};      ///< what is left of what was to vanish; may be empty
  /// The same where that are launches: by LaunchPart, of the critical path.
  nlohmann::ordered_json launch_parts_us = {};
};

/// What is told of it in JSON.
nlohmann::ordered_json what_if_json(const WhatIf &variation);

nlohmann::ordered_json profile_document(const ProfiledRun &run, const std::vector<WhatIf> &what_if);

/// The entries `nodes` and `stalls` of it.
nlohmann::ordered_json profile_nodes(const ProfiledRun &run);
nlohmann::ordered_json profile_stalls(const ProfiledRun &run);

/// What most of a group's part of the critical path is; of a group that is not on it, of its instructions' time.
Reason bound_of(const RecordedRun &run, std::size_t group);

/// Energy of a group without leakage: its share in what the domains took, by operations of its engines and bytes that
/// it moved. Microjoules.
double group_energy_uj(const RecordedRun &run, std::size_t group);

/// What took most of the path and where, in a sentence.
std::string headline(const ProfiledRun &run);

/// What a reason of the path is, in words.
const char *explanation(Reason reason);

/// Why the second of two runs took another time than the first: most important line first.
std::vector<std::string> compare_runs(const nlohmann::ordered_json &a, const nlohmann::ordered_json &b);

}  // namespace cx::tools
