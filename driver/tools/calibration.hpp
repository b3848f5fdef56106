// Ranges of what a model's products multiply, measured on the device.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "driver/compiler/compiler.hpp"
#include "driver/runtime/tensor.hpp"
#include "driver/umd/device.hpp"

namespace cx::tools {

struct Calibration {
  std::map<std::string, float> ranges;  ///< for compiler::CompileOptions
  std::size_t samples = 0;
  std::string precision;  ///< of the runs that measured
  std::string file;       ///< that the ranges came from instead of runs

  /// "ranges of 27 tensors: largest magnitudes of 1 run in fp32 on the device"
  std::string text() const;
};

/// Runs the model on the device once for each sample (a value for every input of the model), in fp32 or, where the DMMU
/// lacks it, fp16 or bf16, and takes the largest magnitudes. Throws InputError when the DMMU has none of them or a
/// tensor's magnitude is not finite (naming it), and what compile() and Executable throw.
Calibration calibrate(Device &device, const compiler::Model &model,
                      const std::vector<std::vector<HostTensor>> &samples);

/// JSON: an object of tensor names and magnitudes. load_ranges throws InputError when the file is absent or something
/// else.
void save_ranges(const Calibration &calibration, const std::filesystem::path &file);
Calibration load_ranges(const std::filesystem::path &file);

}  // namespace cx::tools
