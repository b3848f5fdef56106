// Which points a sweep evaluates.
#pragma once

#include <memory>
#include <vector>

#include "driver/tools/sweep/result.hpp"

namespace cx::tools {

/// Gives batches of points; a batch is made when the results of all batches before are known. The same sweep and
/// results give the same points.
class SweepSearch {
 public:
  virtual ~SweepSearch() = default;
  /// Points of the whole search.
  virtual uint64_t size() const = 0;
  /// The next batch; empty when there are no more. `results`: of all batches so far, by id.
  virtual std::vector<SweepPoint> next(const std::vector<SweepResult> &results) = 0;
};

/// Throws InputError for a grid with more than 10^6 points.
std::unique_ptr<SweepSearch> make_search(const SweepSpec &spec);

}  // namespace cx::tools
