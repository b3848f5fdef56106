// Points in processes of their own.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "driver/tools/sweep/result.hpp"

namespace cx::tools {

/// Called with each result as it comes, in any order.
using SweepSink = std::function<void(const SweepResult &)>;

/// Evaluates each point in a child of this process, at most `jobs` at a time. A child that is killed, crashes, ends
/// without a result or exceeds the time limit is tried again, SweepSpec::retries times, and then is a failed result; a
/// point that fails in itself is, too. Children end with this process, also when it is killed. The calling process has
/// no other threads and has opened no card. Throws Error when the system refuses processes.
void run_in_processes(const SweepSpec &spec, const std::vector<SweepPoint> &points, unsigned jobs,
                      const SweepSink &done);

}  // namespace cx::tools
