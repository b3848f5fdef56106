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
  /// NAME=SOURCE: a .npy, .npz or .pb file; pictures, with commas between those of a batch; text:TEXT or a .txt file,
  /// which the tokenizer turns to numbers; fill:NUMBER.
  std::vector<std::string> inputs;
  std::vector<std::string> shapes;    ///< NAME=1,3,224,224
  std::vector<std::string> pictures;  ///< how pictures are prepared, see parse_picture_options()
  std::string tokenizer;              ///< file, see load_tokenizer()
  std::string reference;              ///< folder of input_K.pb
  std::optional<uint64_t> seed;
};

/// One value for each input of the model: from `inputs`, else from the reference folder, else seeded values. Pictures
/// are prepared by the task, if there is one and no options for them. Throws InputError naming the input and what is
/// missing or wrong.
std::vector<HostTensor> input_values(const compiler::Model &model, const InputOptions &options, const Task *task);

/// A sample for calibration: a folder of input_K.pb, or a source for the only input of a model, prepared as `options`
/// say.
std::vector<HostTensor> load_sample(const std::string &path, const compiler::Model &model, const InputOptions &options,
                                    const Task *task);

/// NAME=1,3,224,224 options by name.
std::map<std::string, std::vector<int64_t>> parse_shapes(const std::vector<std::string> &options);

}  // namespace cx::tools
