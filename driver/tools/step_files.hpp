// The compiler's steps as files, and its progress as a line.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>

#include "driver/compiler/observer.hpp"

namespace cx::tools {

/// Writes each step as NN_name.txt into a folder, numbered from 00 in the order of the compiler.
class StepFiles : public compiler::StepObserver {
 public:
  using Progress = std::function<void(const std::string &line)>;

  /// folder: made when it is absent; files of an earlier dump in it are removed. Empty: no files. progress: called
  /// about twice a second while a step takes longer. Throws InputError when the folder cannot be written.
  StepFiles(std::filesystem::path folder, Progress progress);

  bool wants_steps() const override { return !folder_.empty(); }
  /// Throws InputError when the file cannot be written.
  void step(const std::string &name, const std::string &text) override;
  void progress(const std::string &name, uint64_t done, uint64_t total) override;

  int count() const { return count_; }

 private:
  std::filesystem::path folder_;
  Progress progress_;
  int count_ = 0;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace cx::tools
