// cx collective sparse-allreduce: the report.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cx::tools {

struct SparseCollectiveOptions {
  std::string cluster, fidelity, method = "oktopk", format = "pairs", trace;
  double density = 0.05;
  std::vector<std::string> sets, faults;
  std::vector<uint64_t> sizes;  ///< bytes of a gradient
  uint64_t seed = 1, check_mib = 4096;
  unsigned jobs = 0;
  bool json = false;
};

/// Runs every size sparse and, by the algorithm of least estimate, dense; prints both. Returns an exit status.
int sparse_allreduce(const SparseCollectiveOptions &options);

/// "64 KiB".
std::string size_text(uint64_t bytes);

}  // namespace cx::tools
