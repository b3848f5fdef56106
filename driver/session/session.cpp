#include "driver/session/session.hpp"

#include <algorithm>
#include <chrono>

#include "driver/include/cx/error.hpp"

namespace cx {

namespace {

bool has_elements(const HostTensor &tensor) { return element_count(tensor.shape) != 0; }

compiler::Tensor constant_of(const HostTensor &value, compiler::Type type) {
  compiler::Tensor tensor;
  tensor.name = value.name;
  tensor.type = type;
  tensor.shape = value.shape;
  tensor.data = value.bytes;
  return tensor;
}

std::string names_of(const std::vector<compiler::InputInfo> &infos) {
  std::string text;
  for (const compiler::InputInfo &info : infos) text += (text.empty() ? "'" : ", '") + info.name + "'";
  return text.empty() ? "none" : text;
}

}  // namespace

std::string signature_text(const compiler::InputInfo &info) {
  std::string text = std::string(compiler::name_of(info.type)) + " [";
  for (std::size_t d = 0; d < info.shape.size(); ++d) {
    const compiler::Dimension &dimension = info.shape[d];
    text += d == 0 ? "" : ", ";
    text += dimension.value >= 0 ? std::to_string(dimension.value) : dimension.symbol.empty() ? "?" : dimension.symbol;
  }
  return text + "]";
}

Session::Session(Device &device, const std::filesystem::path &model, const SessionOptions &options)
    : device_(device),
      model_(model),
      options_(options),
      inputs_(compiler::inspect_onnx(model)),
      outputs_(compiler::inspect_outputs(model)),
      constants_(std::make_shared<SharedConstants>()),
      resident_(std::make_shared<ResidentConstants>(device, constants_)) {
  if (options_.max_programs == 0) throw UsageError("a session keeps at least one program");
  compiler::require_precision(device.target(), options_.precision);
}

const compiler::InputInfo &Session::info(const std::vector<compiler::InputInfo> &infos, const std::string &name,
                                         const char *kind) const {
  for (const compiler::InputInfo &known : infos) {
    if (known.name == name) return known;
  }
  throw InputError(model_.string() + ": the model has no " + kind + " '" + name + "'; it has " + names_of(infos));
}

void Session::bind_input(const std::string &name, DeviceTensor tensor) {
  const compiler::InputInfo &known = info(inputs_, name, "input");
  if (!tensor) {
    bound_inputs_.erase(name);
    return;
  }
  if (tensor.type() != compiler::name_of(known.type)) {
    throw InputError("input '" + name + "' is " + signature_text(known) + ", the device tensor is " + tensor.type());
  }
  bound_inputs_[name] = std::move(tensor);
}

void Session::bind_output(const std::string &name, DeviceTensor tensor) {
  info(outputs_, name, "output");
  if (!tensor) {
    bound_outputs_.erase(name);
  } else {
    bound_outputs_[name] = std::move(tensor);
  }
}

void Session::check(std::span<const HostTensor> inputs) const {
  std::set<std::string> given;
  for (const HostTensor &tensor : inputs) {
    const compiler::InputInfo &known = info(inputs_, tensor.name, "input");
    const std::string what = "input '" + tensor.name + "' ";
    if (!given.insert(tensor.name).second) throw InputError(what + "is given twice");
    if (bound_inputs_.count(tensor.name) != 0)
      throw InputError(what + "is bound to a device tensor and is given as well");
    if (tensor.type != compiler::name_of(known.type)) {
      throw InputError(what + "is " + signature_text(known) + ", got " + tensor.type + " " + shape_text(tensor.shape));
    }
    if (tensor.bytes.size() != element_count(tensor.shape) * element_bytes(tensor.type)) {
      throw InputError(what + "has " + std::to_string(tensor.bytes.size()) + " bytes, expected those of " +
                       tensor.type + " " + shape_text(tensor.shape));
    }
  }
  for (const compiler::InputInfo &known : inputs_) {
    if (known.optional || given.count(known.name) != 0 || bound_inputs_.count(known.name) != 0) continue;
    throw InputError("input '" + known.name + "', " + signature_text(known) + ", is missing");
  }
}

// Everything that a program depends on: shapes, fixed values, and what is bound, which has no memory in the executable.
std::string Session::key_of(std::span<const HostTensor> inputs) const {
  std::map<std::string, std::string> parts;
  for (const HostTensor &tensor : inputs) {
    std::string part = shape_text(tensor.shape);
    if (needed_.count(tensor.name) != 0) {
      part += "=" + std::string(reinterpret_cast<const char *>(tensor.bytes.data()), tensor.bytes.size());
    }
    parts[tensor.name] = part;
  }
  for (const auto &[name, tensor] : bound_inputs_) parts[name] = "bound" + shape_text(tensor.shape());
  std::string key;
  for (const auto &[name, part] : parts) {
    key += std::to_string(name.size()) + ":" + name + std::to_string(part.size()) + ":" + part;
  }
  for (const auto &[name, tensor] : bound_outputs_) key += "/" + std::to_string(name.size()) + ":" + name;
  return key;
}

Session::Entry Session::compile(std::span<const HostTensor> inputs) {
  const auto begin = std::chrono::steady_clock::now();
  compiler::CompileOptions options;
  options.precision = options_.precision;
  options.ranges = options_.ranges;
  options.constant_range = options_.constant_range;
  options.constants = constants_;
  options.in_place = options_.in_place;
  options.sca = options_.sca;
  Entry entry;
  compiler::ImportOptions import;
  for (const auto &[name, tensor] : bound_inputs_) import.input_shapes[name] = tensor.shape();
  for (const HostTensor &tensor : inputs) {
    if (needed_.count(tensor.name) != 0) {
      import.bound_inputs.emplace(tensor.name, constant_of(tensor, info(inputs_, tensor.name, "input").type));
      entry.fixed.insert(tensor.name);
    } else {
      import.input_shapes[tensor.name] = tensor.shape;
    }
  }
  std::optional<Program> program;
  while (!program) {
    try {
      program = compiler::compile_onnx(model_, import, device_.target(), options, &entry.statistics);
    } catch (const compiler::ValueNeededError &error) {
      for (const std::string &name : error.inputs()) {
        const auto value =
            std::find_if(inputs.begin(), inputs.end(), [&](const HostTensor &tensor) { return tensor.name == name; });
        if (value == inputs.end() || entry.fixed.count(name) != 0) throw;
        needed_.insert(name);
        entry.fixed.insert(name);
        import.bound_inputs.emplace(name, constant_of(*value, info(inputs_, name, "input").type));
        import.input_shapes.erase(name);
      }
    }
  }
  ExecutableOptions how;
  how.constants = resident_;
  for (const Binding &binding : program->inputs) {
    if (bound_inputs_.count(binding.name) != 0) how.device_bound.insert(binding.name);
  }
  for (const Binding &binding : program->outputs) {
    if (bound_outputs_.count(binding.name) != 0) how.device_bound.insert(binding.name);
  }
  entry.executable = std::make_unique<Executable>(device_, std::move(*program), how);
  entry.key = key_of(inputs);  // with the values that turned out to be needed
  ++statistics_.compilations;
  statistics_.compile_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return entry;
}

Session::Entry &Session::find_or_compile(std::span<const HostTensor> inputs) {
  const std::string key = key_of(inputs);
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry &entry) { return entry.key == key; });
  if (found != entries_.end()) {
    ++statistics_.cache_hits;
    entries_.splice(entries_.begin(), entries_, found);
    return entries_.front();
  }
  while (entries_.size() >= options_.max_programs) {
    if (last_ == &entries_.back()) last_ = nullptr;
    entries_.pop_back();
    ++statistics_.evictions;
  }
  entries_.push_front(compile(inputs));
  return entries_.front();
}

std::vector<HostTensor> Session::run_entry(std::span<const HostTensor> inputs,
                                           const std::span<const std::string> *outputs) {
  check(inputs);
  Entry &entry = find_or_compile(inputs);
  ++statistics_.runs;
  Executable &executable = *entry.executable;
  std::vector<HostTensor> given;
  for (const HostTensor &tensor : inputs) {
    if (entry.fixed.count(tensor.name) == 0 && has_elements(tensor)) given.push_back(tensor);
  }
  for (const auto &[name, tensor] : bound_inputs_) executable.bind_input(name, tensor);
  for (const auto &[name, tensor] : bound_outputs_) executable.bind_output(name, tensor);
  // The cache must not keep tensors alive that the caller has let go.
  const auto release = [&] {
    for (const auto &[name, tensor] : bound_inputs_) executable.bind_input(name, {});
    for (const auto &[name, tensor] : bound_outputs_) executable.bind_output(name, {});
  };
  try {
    std::vector<HostTensor> results = outputs != nullptr ? executable.run(given, *outputs) : executable.run(given);
    release();
    last_ = &entry;
    return results;
  } catch (...) {
    release();
    throw;
  }
}

std::vector<HostTensor> Session::run(std::span<const HostTensor> inputs) { return run_entry(inputs, nullptr); }

std::vector<HostTensor> Session::run(std::span<const HostTensor> inputs, std::span<const std::string> outputs) {
  for (const std::string &name : outputs) info(outputs_, name, "output");
  return run_entry(inputs, &outputs);
}

const RunReport &Session::report() const {
  if (last_ == nullptr) throw UsageError("the session has not run yet");
  return last_->executable->report();
}

const compiler::CompileStatistics &Session::compile_statistics() const {
  if (last_ == nullptr) throw UsageError("the session has not run yet");
  return last_->statistics;
}

const Program &Session::program() const {
  if (last_ == nullptr) throw UsageError("the session has not run yet");
  return last_->executable->program();
}

SessionStatistics Session::statistics() const {
  SessionStatistics result = statistics_;
  result.constant_bytes = resident_->size();
  result.constant_bytes_reused = constants_->reused_bytes();
  return result;
}

}  // namespace cx
