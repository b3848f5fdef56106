#include "driver/tools/calibration.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "driver/compiler/calibration.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/tools/model_inputs.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx::tools {
namespace {

compiler::Precision measuring_precision(const Target &target) {
  constexpr std::pair<compiler::Precision, isa::DType> kKnown[] = {{compiler::Precision::fp32, isa::DType::FP32},
                                                                   {compiler::Precision::fp16, isa::DType::FP16},
                                                                   {compiler::Precision::bf16, isa::DType::BF16}};
  for (const auto &[precision, format] : kKnown) {
    if ((target.formats >> static_cast<unsigned>(format) & 1U) != 0) return precision;
  }
  throw InputError("the target's DMMU multiplies neither fp32 nor fp16 nor bf16, in which ranges are measured");
}

}  // namespace

std::string Calibration::text() const {
  if (!file.empty()) return fmt::format("ranges of {} tensors from {}", ranges.size(), file);
  if (precision.empty()) return "all of integers: no ranges";
  return fmt::format("ranges of {} tensors: largest magnitudes of {} run{} in {} on the device", ranges.size(), samples,
                     samples == 1 ? "" : "s", precision);
}

Calibration calibrate(Device &device, const compiler::Model &model,
                      const std::vector<std::vector<HostTensor>> &samples) {
  compiler::CompileOptions options;
  Calibration result;
  for (const std::vector<HostTensor> &sample : samples) {
    SplitInputs inputs = split_inputs(sample);
    const compiler::Graph graph = bind_as_needed(inputs, [&] { return compiler::import_onnx(model, inputs.import); });
    const std::vector<compiler::RangedTensor> tensors = compiler::ranged_tensors(graph);
    ++result.samples;
    if (tensors.empty()) continue;  // all products are of integers
    options.precision = measuring_precision(device.target());
    result.precision = compiler::name_of(options.precision);
    Executable executable(device, compiler::compile(compiler::with_ranges(graph), device.target(), options));
    const HostTensor measured = executable.run(inputs.runtime).back();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      float magnitude = 0;
      std::memcpy(&magnitude, measured.bytes.data() + i * sizeof(float), sizeof(float));
      if (!std::isfinite(magnitude)) {
        throw InputError("tensor " + tensors[i].name + " holds values that are not finite: it has no range");
      }
      float &range = result.ranges[tensors[i].name];
      range = std::max(range, magnitude);
    }
  }
  return result;
}

void save_ranges(const Calibration &calibration, const std::filesystem::path &file) {
  std::ofstream out(file);
  out << nlohmann::json(calibration.ranges).dump(2) << '\n';
  if (!out.flush()) throw InputError(file.string() + ": cannot be written");
}

Calibration load_ranges(const std::filesystem::path &file) {
  std::ifstream in(file);
  if (!in) throw InputError(file.string() + ": cannot be read");
  Calibration result;
  result.file = file;
  try {
    result.ranges = nlohmann::json::parse(in).get<std::map<std::string, float>>();
  } catch (const nlohmann::json::exception &error) {
    throw InputError(file.string() + ": not an object of tensor names and magnitudes: " + error.what());
  }
  return result;
}

}  // namespace cx::tools
