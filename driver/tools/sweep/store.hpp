// Results of a sweep in an SQLite file.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "driver/tools/sweep/result.hpp"

struct sqlite3;

namespace cx::tools {

/// Tables: sweep(key, value); points(id, state, reason, attempts, wall_s); parameters(point, name, value);
/// metrics(point, name, value). A result is there as a whole or not at all, whenever the process ends.
class SweepStore {
 public:
  /// Makes the file, or opens that of an earlier run of the same sweep. Throws InputError when it is of another sweep
  /// (SweepSpec::digest) or no file of results.
  SweepStore(const std::filesystem::path &file, const SweepSpec &spec);
  ~SweepStore();
  SweepStore(const SweepStore &) = delete;
  SweepStore &operator=(const SweepStore &) = delete;

  /// A result with the same id as an earlier one is dropped: the first counts.
  void add(const SweepResult &result);
  /// By id.
  std::vector<SweepResult> results() const;

  /// A text that outlives the process; empty if it was never set.
  std::string note(const std::string &key) const;
  void set_note(const std::string &key, const std::string &value);

 private:
  class Statement;
  void run(const std::string &sql);

  std::filesystem::path file_;
  std::vector<std::string> names_;  // of parameters
  sqlite3 *database_ = nullptr;
};

}  // namespace cx::tools
