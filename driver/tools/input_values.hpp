// Values for the inputs of a model, from what a command line says.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "driver/compiler/frontend/frontend.hpp"
#include "driver/runtime/tensor.hpp"
#include "driver/tools/task.hpp"

namespace cx::tools {

struct InputOptions {
  std::vector<std::string> inputs;  ///< NAME=FILE
  std::vector<std::string> shapes;  ///< NAME=1,3,224,224
  std::string reference;            ///< folder of input_K.pb
  std::optional<uint64_t> seed;
};

/// One value for each input of the model: from `inputs`, else from the reference folder, else seeded values. Pictures
/// are prepared by the task. Throws InputError naming the input and what is missing or wrong.
std::vector<HostTensor> input_values(const std::string &model, const InputOptions &options, const Task *task);

/// A sample for calibration: a folder of input_K.pb, or a file for the only input of a model.
std::vector<HostTensor> load_sample(const std::string &path, const std::string &model, const Task *task);

/// NAME=1,3,224,224 options by name.
std::map<std::string, std::vector<int64_t>> parse_shapes(const std::vector<std::string> &options);

}  // namespace cx::tools
