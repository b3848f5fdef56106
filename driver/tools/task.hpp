// What a model's picture input and outputs mean: preparing the one, reading the others.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "driver/runtime/tensor.hpp"
#include "driver/tools/picture.hpp"

namespace cx::tools {

/// The answer of a network in words, and whether another set of outputs gives the same answer.
struct Answer {
  std::vector<std::string> lines;
  std::string json;  ///< one JSON value
};

class Task {
 public:
  virtual ~Task() = default;
  /// The model's input tensor for a picture; `shape` is the declared one, -1 where the model leaves it open.
  virtual HostTensor prepare(const Picture &picture, const std::string &name,
                             const std::vector<int64_t> &shape) const = 0;
  virtual Answer read(const std::vector<HostTensor> &outputs) const = 0;
  /// Whether two runs' outputs mean the same, in the task's own terms (same text, same faces, same class).
  virtual bool agree(const std::vector<HostTensor> &a, const std::vector<HostTensor> &b) const = 0;
};

std::vector<std::string> task_names();

/// labels: a file of one label a line; empty: beside the model where the task knows its name.
/// Throws InputError for an unknown task or a missing file.
std::unique_ptr<Task> make_task(const std::string &name, const std::filesystem::path &model,
                                const std::filesystem::path &labels);

}  // namespace cx::tools
