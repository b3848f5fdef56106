#include "driver/tools/input_values.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "driver/include/cx/error.hpp"
#include "driver/tools/model_inputs.hpp"
#include "driver/tools/picture_input.hpp"
#include "driver/tools/tensor_file.hpp"
#include "driver/tools/tokenizer.hpp"
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

std::vector<std::string> comma_list(const std::string &text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

HostTensor integer_tensor(const compiler::InputInfo &info, const std::vector<int64_t> &values) {
  if (info.type != compiler::Type::I64 && info.type != compiler::Type::I32) {
    throw InputError("input " + info.name + " is " + declared_text(info) + ": tokens are int64 or int32");
  }
  HostTensor tensor{info.name, numpy_name(info.type), {}, {}};
  const std::size_t size = element_bytes(tensor.type);
  for (const int64_t value : values) {
    const auto *raw = reinterpret_cast<const std::byte *>(&value);
    tensor.bytes.insert(tensor.bytes.end(), raw, raw + size);  // little-endian
  }
  return tensor;
}

/// All elements the same number.
HostTensor filled_tensor(const compiler::InputInfo &info, const std::vector<int64_t> &shape, const std::string &text) {
  double number = 0;
  std::size_t used = 0;
  try {
    number = std::stod(text, &used);
  } catch (const std::logic_error &) {
  }
  if (used == 0 || used != text.size()) throw InputError("--input " + info.name + "=fill:" + text + ": no number");
  HostTensor tensor{info.name, numpy_name(info.type), shape, {}};
  const std::size_t size = element_bytes(tensor.type);
  std::vector<std::byte> element(size);
  const auto put = [&](auto value) { std::memcpy(element.data(), &value, size); };
  switch (info.type) {
    case compiler::Type::F32:
      put(static_cast<float>(number));
      break;
    case compiler::Type::F64:
      put(number);
      break;
    case compiler::Type::F16:
      put(num::encode_fp16(static_cast<float>(number)));
      break;
    case compiler::Type::BF16:
      put(num::encode_bf16(static_cast<float>(number)));
      break;
    default: {
      const auto integer = static_cast<int64_t>(number);
      if (static_cast<double>(integer) != number ||
          (info.type == compiler::Type::Bool && integer != 0 && integer != 1)) {
        throw InputError("--input " + info.name + "=fill:" + text + ": the input is " + declared_text(info));
      }
      put(integer);
    }
  }
  const uint64_t count = element_count(shape);
  for (uint64_t i = 0; i < count; ++i) tensor.bytes.insert(tensor.bytes.end(), element.begin(), element.end());
  return tensor;
}

/// Makes values for a model's inputs.
class Gatherer {
 public:
  Gatherer(const compiler::Model &model, const InputOptions &options, const Task *task)
      : infos_(model.inputs()),
        options_(options),
        task_(task),
        shapes_(parse_shapes(options.shapes)),
        pictures_(parse_picture_options(options.pictures)) {
    for (const std::string &text : options.inputs) {
      auto [name, source] = split_pair(text, "--input");
      require_input(name, "--input " + name);
      if (!sources_.emplace(name, source).second) throw InputError("--input " + name + " is given twice");
    }
    for (const auto &[name, shape] : shapes_) require_input(name, "--shape " + name);
    for (const auto &[name, picture] : pictures_) {
      if (!name.empty()) require_input(name, "--picture " + name);
    }
    if (!options.tokenizer.empty()) tokenizer_ = load_tokenizer(options.tokenizer);
  }

  std::vector<HostTensor> run() {
    std::vector<HostTensor> recorded;
    if (!options_.reference.empty()) recorded = load_data_set(options_.reference, "input");
    std::vector<HostTensor> values(infos_.size());
    // Those first that bring their shape with them; it may bind dimensions of the others.
    for (const bool shaped : {true, false}) {
      for (std::size_t i = 0; i < infos_.size(); ++i) {
        const compiler::InputInfo &info = infos_[i];
        if (info.sequence || info.optional) {
          throw UnsupportedError("input type",
                                 "input " + info.name + " is a sequence or an optional, of which no file is read");
        }
        const auto source = sources_.find(info.name);
        const bool from_source = source != sources_.end();
        const bool fill = from_source && source->second.rfind("fill:", 0) == 0;
        const bool brings_shape = (from_source && !fill) || (!from_source && i < recorded.size());
        if (brings_shape != shaped) continue;
        if (fill) {
          values[i] = filled_tensor(info, shape_of(info), source->second.substr(5));
        } else if (from_source) {
          values[i] = from(info, source->second);
        } else if (i < recorded.size()) {
          values[i] = std::move(recorded[i]);
        } else if (options_.seed) {
          values[i] = seeded_tensor(info.name, info.type, shape_of(info), *options_.seed + i);
        } else {
          throw InputError("no value for input " + info.name + ", " + declared_text(info) + ": give --input " +
                           info.name + "=FILE, --reference DIR or --seed N");
        }
        values[i].name = info.name;
        if (brings_shape) bind(info, values[i].shape);
      }
    }
    if (!pictures_.empty() && !took_picture_) throw InputError("--picture: no input is a picture");
    if (tokenizer_ && !took_text_) throw InputError("--tokenizer: no input is text");
    return values;
  }

 private:
  void require_input(const std::string &name, const std::string &option) const {
    std::string names;
    for (const compiler::InputInfo &info : infos_) {
      if (info.name == name) return;
      names += (names.empty() ? "" : ", ") + info.name;
    }
    throw InputError(option + ": the model has no such input; it has " + names);
  }

  void bind(const compiler::InputInfo &info, const std::vector<int64_t> &shape) {
    for (std::size_t d = 0; d < shape.size() && d < info.shape.size(); ++d) {
      if (!info.shape[d].symbol.empty()) symbols_.emplace(info.shape[d].symbol, shape[d]);
    }
  }

  /// From --shape, or as declared with the dimensions that other inputs bind.
  std::vector<int64_t> shape_of(const compiler::InputInfo &info) const {
    if (const auto given = shapes_.find(info.name); given != shapes_.end()) return given->second;
    std::vector<int64_t> shape;
    for (const compiler::Dimension &dimension : info.shape) {
      const auto bound = symbols_.find(dimension.symbol);
      const int64_t size = dimension.value < 0 && bound != symbols_.end() ? bound->second : dimension.value;
      if (size < 0) {
        throw InputError("input " + info.name + " is " + declared_text(info) + ": give --shape " + info.name + "=...");
      }
      shape.push_back(size);
    }
    return shape;
  }

  HostTensor from(const compiler::InputInfo &info, const std::string &source) {
    if (source.rfind("text:", 0) == 0) return tokens(info, source.substr(5));
    if (std::filesystem::path(source).extension() == ".txt") {
      std::ifstream in(source, std::ios::binary);
      if (!in) throw InputError(source + ": cannot be read");
      return tokens(info, {std::istreambuf_iterator<char>(in), {}});
    }
    const std::vector<std::string> parts = comma_list(source);
    if (!std::all_of(parts.begin(), parts.end(), is_picture)) return load_tensor(source);
    std::vector<Picture> pictures;
    for (const std::string &part : parts) pictures.push_back(load_picture(part));
    took_picture_ = true;
    const auto own = pictures_.find(info.name);
    const auto all = pictures_.find("");
    const bool told = own != pictures_.end() || all != pictures_.end();
    if (!told && task_ != nullptr) {
      if (pictures.size() > 1) throw InputError("input " + info.name + ": --task takes one picture");
      return task_->prepare(pictures.front(), info.name, declared_shape(info));
    }
    const PictureOptions preparation = own != pictures_.end() ? own->second : told ? all->second : PictureOptions{};
    std::vector<int64_t> shape = declared_shape(info);
    if (const auto given = shapes_.find(info.name); given != shapes_.end()) shape = given->second;
    return picture_tensor(pictures, preparation, info.name, numpy_name(info.type), shape);
  }

  HostTensor tokens(const compiler::InputInfo &info, const std::string &text) {
    if (!tokenizer_) throw InputError("input " + info.name + " is text: give --tokenizer FILE");
    took_text_ = true;
    const std::vector<int64_t> numbers = tokenizer_->encode(text);
    const auto count = static_cast<int64_t>(numbers.size());
    if (count == 0) throw InputError("input " + info.name + ": the text has no tokens");
    HostTensor tensor = integer_tensor(info, numbers);
    const std::vector<int64_t> declared = declared_shape(info);
    bool fits = !declared.empty() && (declared.back() < 0 || declared.back() == count);
    for (std::size_t d = 0; d + 1 < declared.size(); ++d) fits = fits && (declared[d] < 0 || declared[d] == 1);
    if (!fits) {
      throw InputError(
          fmt::format("input {} is {}: the text's {} tokens do not fit", info.name, declared_text(info), count));
    }
    tensor.shape.assign(declared.size(), 1);
    tensor.shape.back() = count;
    return tensor;
  }

  std::vector<compiler::InputInfo> infos_;
  const InputOptions &options_;
  const Task *task_;
  std::map<std::string, std::vector<int64_t>> shapes_;
  std::map<std::string, PictureOptions> pictures_;
  std::map<std::string, std::string> sources_;
  std::map<std::string, int64_t> symbols_;
  std::unique_ptr<Tokenizer> tokenizer_;
  bool took_picture_ = false;
  bool took_text_ = false;
};

}  // namespace

std::map<std::string, std::vector<int64_t>> parse_shapes(const std::vector<std::string> &options) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const std::string &text : options) {
    const auto [name, shape] = split_pair(text, "--shape");
    shapes[name] = parse_shape(shape);
  }
  return shapes;
}

std::vector<HostTensor> input_values(const compiler::Model &model, const InputOptions &options, const Task *task) {
  return Gatherer(model, options, task).run();
}

std::vector<HostTensor> load_sample(const std::string &path, const compiler::Model &model, const InputOptions &options,
                                    const Task *task) {
  InputOptions from = options;
  from.inputs.clear();
  from.reference.clear();
  from.seed.reset();
  const std::vector<compiler::InputInfo> infos = model.inputs();
  if (std::filesystem::is_directory(path)) {
    from.reference = path;
    const std::size_t count = load_data_set(path, "input").size();
    if (count != infos.size()) {
      throw InputError(
          fmt::format("--calibrate {}: holds {} values, the model has {} inputs", path, count, infos.size()));
    }
    from.pictures.clear();
    from.tokenizer.clear();
  } else {
    if (infos.size() != 1) {
      throw InputError(
          fmt::format("--calibrate {}: the model has {} inputs; give a folder of input_K.pb", path, infos.size()));
    }
    from.inputs = {infos.front().name + "=" + path};
  }
  return input_values(model, from, task);
}

}  // namespace cx::tools
