#include "driver/tools/input_values.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>

#include "driver/include/cx/error.hpp"
#include "driver/tools/model_inputs.hpp"
#include "driver/tools/tensor_file.hpp"
#include "hw/common/num/formats.hpp"

namespace cx::tools {
namespace {

std::pair<std::string, std::string> split_pair(const std::string &text, const std::string &option) {
  const std::size_t at = text.find('=');
  if (at == std::string::npos || at == 0 || at + 1 == text.size()) {
    throw InputError(option + " " + text + ": expected NAME=" + (option == "--shape" ? "1,3,224,224" : "FILE"));
  }
  return {text.substr(0, at), text.substr(at + 1)};
}

std::vector<int64_t> parse_shape(const std::string &text) {
  std::vector<int64_t> shape;
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, end - at);
    if (item.empty() || item.find_first_not_of("0123456789") != std::string::npos || item.size() > 9) {
      throw InputError("--shape: '" + text + "' is not a list of dimensions such as 1,3,224,224");
    }
    shape.push_back(std::stoll(item));
    at = end + 1;
  }
  return shape;
}

bool is_picture(const std::filesystem::path &path) {
  const std::string extension = path.extension();
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

/// Uniform in [-1, 1), integers in 0 to 7, booleans either way; the same on every machine.
HostTensor seeded_tensor(const std::string &name, compiler::Type type, const std::vector<int64_t> &shape,
                         uint64_t seed) {
  HostTensor tensor{name, numpy_name(type), shape, {}};
  std::mt19937_64 random(seed);
  const uint64_t count = element_count(shape);
  tensor.bytes.resize(count * element_bytes(tensor.type));
  std::byte *at = tensor.bytes.data();
  const auto put = [&](auto value) {
    std::memcpy(at, &value, sizeof value);
    at += sizeof value;
  };
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t bits = random() >> 40;
    const float real = static_cast<float>(bits) * 0x1p-23F - 1.0F;
    switch (type) {
      case compiler::Type::F32:
        put(real);
        break;
      case compiler::Type::F64:
        put(static_cast<double>(real));
        break;
      case compiler::Type::F16:
        put(num::encode_fp16(real));
        break;
      case compiler::Type::BF16:
        put(num::encode_bf16(real));
        break;
      case compiler::Type::Bool:
        put(static_cast<uint8_t>(bits & 1U));
        break;
      default: {
        const uint64_t integer = bits & 7U;
        std::memcpy(at, &integer, element_bytes(tensor.type));  // little-endian
        at += element_bytes(tensor.type);
      }
    }
  }
  return tensor;
}

std::vector<int64_t> declared_shape(const compiler::InputInfo &info) {
  std::vector<int64_t> shape;
  for (const compiler::Dimension &dimension : info.shape) shape.push_back(dimension.value);
  return shape;
}

std::string declared_text(const compiler::InputInfo &info) {
  std::string text = numpy_name(info.type) + " [";
  for (std::size_t i = 0; i < info.shape.size(); ++i) {
    const compiler::Dimension &d = info.shape[i];
    text += (i == 0 ? "" : ", ") + (d.value >= 0 ? std::to_string(d.value) : d.symbol.empty() ? "?" : d.symbol);
  }
  return text + "]";
}

}  // namespace

std::map<std::string, std::vector<int64_t>> parse_shapes(const std::vector<std::string> &options) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const std::string &text : options) {
    const auto [name, shape] = split_pair(text, "--shape");
    shapes[name] = parse_shape(shape);
  }
  return shapes;
}

std::vector<HostTensor> input_values(const std::string &model, const InputOptions &options, const Task *task) {
  const std::vector<compiler::InputInfo> infos = compiler::inspect_onnx(model);
  std::map<std::string, std::string> files;
  for (const std::string &text : options.inputs) {
    auto [name, file] = split_pair(text, "--input");
    if (!files.emplace(name, file).second) throw InputError("--input " + name + " is given twice");
  }
  const std::map<std::string, std::vector<int64_t>> shapes = parse_shapes(options.shapes);
  std::vector<HostTensor> recorded;
  if (!options.reference.empty()) recorded = load_data_set(options.reference, "input");

  std::vector<HostTensor> values;
  for (std::size_t i = 0; i < infos.size(); ++i) {
    const compiler::InputInfo &info = infos[i];
    HostTensor value;
    if (const auto file = files.find(info.name); file != files.end()) {
      if (is_picture(file->second) && task != nullptr) {
        value = task->prepare(load_picture(file->second), info.name, declared_shape(info));
      } else {
        value = load_tensor(file->second);
      }
      files.erase(file);
    } else if (i < recorded.size()) {
      value = recorded[i];
    } else if (options.seed) {
      std::vector<int64_t> shape = declared_shape(info);
      if (const auto given = shapes.find(info.name); given != shapes.end()) shape = given->second;
      for (const int64_t dim : shape) {
        if (dim < 0)
          throw InputError("input " + info.name + " is " + declared_text(info) + ": give --shape " + info.name +
                           "=...");
      }
      value = seeded_tensor(info.name, info.type, shape, *options.seed + i);
    } else {
      throw InputError("no value for input " + info.name + ", " + declared_text(info) + ": give --input " + info.name +
                       "=FILE, --reference DIR or --seed N");
    }
    value.name = info.name;
    values.push_back(std::move(value));
  }
  if (!files.empty()) {
    std::string names;
    for (const compiler::InputInfo &info : infos) names += (names.empty() ? "" : ", ") + info.name;
    throw InputError("--input " + files.begin()->first + ": the model has no such input; it has " + names);
  }
  return values;
}

std::vector<HostTensor> load_sample(const std::string &path, const std::string &model, const Task *task) {
  const std::vector<compiler::InputInfo> infos = compiler::inspect_onnx(model);
  std::vector<HostTensor> values;
  if (std::filesystem::is_directory(path)) {
    values = load_data_set(path, "input");
  } else if (is_picture(path)) {
    if (task == nullptr) throw InputError("--calibrate " + path + ": a picture needs --task");
    values = {task->prepare(load_picture(path), infos.at(0).name, declared_shape(infos.at(0)))};
  } else {
    values = {load_tensor(path)};
  }
  if (values.size() != infos.size()) {
    throw InputError(
        fmt::format("--calibrate {}: holds {} values, the model has {} inputs", path, values.size(), infos.size()));
  }
  for (std::size_t i = 0; i < infos.size(); ++i) values[i].name = infos[i].name;
  return values;
}

}  // namespace cx::tools
