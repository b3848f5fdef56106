// Looking at the compiler while it works.
#pragma once

#include <cstdint>
#include <string>

namespace cx::compiler {

/// Told what the compiler has after each of its steps, in order. Costs nothing where there is none.
class StepObserver {
 public:
  virtual ~StepObserver() = default;

  /// Whether step() shall be called: texts of large models take time to make.
  virtual bool wants_steps() const { return true; }

  /// name: of the pass or decision, letters and underscores; passes that run again repeat it. text: lines for people,
  /// the last one ended.
  virtual void step(const std::string &name, const std::string &text) = 0;

  /// Nodes or groups that a long step has done so far.
  virtual void progress(const std::string &name, uint64_t done, uint64_t total) {
    (void)name;
    (void)done;
    (void)total;
  }
};

inline bool wants_steps(const StepObserver *observer) { return observer != nullptr && observer->wants_steps(); }

}  // namespace cx::compiler
