// Tables and pictures of a sweep's results.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "driver/tools/sweep/result.hpp"

namespace cx::tools {

/// One line a point: id, state, reason, parameters, metrics. The same results give the same bytes: what depends on the
/// host (attempts, wall time) is not in it.
std::string to_csv(const SweepSpec &spec, const std::vector<SweepResult> &results);
/// The same as JSON, with objectives and the ids of the Pareto front.
std::string to_json(const SweepSpec &spec, const std::vector<SweepResult> &results);

/// Results on the front (rank 0), best in the first objective first.
std::vector<const SweepResult *> pareto_front(const SweepSpec &spec, const std::vector<SweepResult> &results);

/// All points by the first two objectives, the front joined by a line; with one objective: by the point's id. Empty
/// when no point is ok.
std::string pareto_svg(const SweepSpec &spec, const std::vector<SweepResult> &results);
/// A page of its own: the picture of each pair of objectives, the front, what failed and why.
std::string to_html(const SweepSpec &spec, const std::vector<SweepResult> &results);

/// points.csv, points.json, pareto.svg and report.html in the folder. Throws InputError when one cannot be written.
void write_reports(const SweepSpec &spec, const std::vector<SweepResult> &results, const std::filesystem::path &folder);

}  // namespace cx::tools
