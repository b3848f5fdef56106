// What a Verilated model covered, written at its end in builds with CX_RTL_COVERAGE (scripts/coverage.sh --rtl).
#pragma once

#include <verilated.h>
#ifdef CX_RTL_COVERAGE
#include <unistd.h>
#include <verilated_cov.h>

#include <atomic>
#include <cstdlib>
#include <string>
#endif

namespace cx::rtl {

/// Writes the counts of `context` to a file of its own in the folder CX_RTL_COVERAGE_DIR; nothing without one.
inline void write_coverage([[maybe_unused]] VerilatedContext &context, [[maybe_unused]] const char *model) {
#ifdef CX_RTL_COVERAGE
  static std::atomic<unsigned> written{0};
  const char *folder = std::getenv("CX_RTL_COVERAGE_DIR");
  if (folder == nullptr) return;
  const std::string name =
      std::string(model) + "." + std::to_string(getpid()) + "." + std::to_string(written++) + ".dat";
  context.coveragep()->write((std::string(folder) + "/" + name).c_str());
#endif
}

}  // namespace cx::rtl
