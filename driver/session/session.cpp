#include "driver/session/session.hpp"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "driver/include/cx/error.hpp"
#include "driver/umd/host_trace.hpp"

namespace cx {

namespace {

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

void to_json(nlohmann::json &json, const HostOperator &host) {
  json = {{"op", host.op}, {"count", host.nodes.size()}, {"nodes", host.nodes}, {"wall_s", host.wall_s}};
}

std::string host_fallback_text(const std::vector<HostOperator> &host) {
  std::string text;
  for (const HostOperator &entry : host) {
    text += (text.empty() ? "host fallback: " : ", ") + entry.op + " x" + std::to_string(entry.nodes.size());
  }
  return text;
}

nlohmann::json host_fallback_json(const Session &session) {
  if (session.host_fallback().empty()) return nlohmann::json::object();
  return {{"programs", session.programs()},
          {"host_fallback", session.host_fallback()},
          {"host_only", session.programs() == 0}};
}

Session::Session(Device &device, const std::filesystem::path &model, const SessionOptions &options)
    : Session(device, compiler::Model(model), options) {}

Session::Session(Device &device, const compiler::Model &model, const SessionOptions &options)
    : device_(device),
      model_(model),
      options_(options),
      inputs_(model.inputs()),
      outputs_(model.outputs()),
      partition_(model) {
  if (options_.max_programs == 0) throw UsageError("a session keeps at least one program");
  compiler::require_precision(device.target(), options_.precision);
  if (options_.share_constants) {
    constants_ = std::make_shared<SharedConstants>();
    resident_ = std::make_shared<ResidentConstants>(device, constants_);
  }
}

void Session::Run::add(HostTensor tensor) {
  owned.push_back(std::move(tensor));
  values[owned.back().name] = &owned.back();
}

const compiler::InputInfo &Session::info(const std::vector<compiler::InputInfo> &infos, const std::string &name,
                                         const char *kind) const {
  for (const compiler::InputInfo &known : infos) {
    if (known.name == name) return known;
  }
  throw InputError(model_.path().string() + ": the model has no " + kind + " '" + name + "'; it has " +
                   names_of(infos));
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

// Everything that a program depends on: what it computes, shapes, fixed values, and what is bound, which has no memory
// in the executable.
std::string Session::key_of(const Values &values, const std::vector<std::string> &wanted) const {
  std::map<std::string, std::string> parts;
  for (const auto &[name, tensor] : values) {
    std::string part = shape_text(tensor->shape);
    if (needed_.count(name) != 0) {
      part += "=" + std::string(reinterpret_cast<const char *>(tensor->bytes.data()), tensor->bytes.size());
    }
    parts[name] = part;
  }
  for (const auto &[name, tensor] : bound_inputs_) parts[name] = "bound" + shape_text(tensor.shape());
  std::string key;
  const auto add = [&key](const std::string &text) { key += std::to_string(text.size()) + ":" + text; };
  for (const auto &[name, part] : parts) {
    add(name);
    add(part);
  }
  for (const std::string &name : wanted) {
    key += "<";
    add(name);
  }
  for (const auto &[name, tensor] : bound_outputs_) {
    key += "/";
    add(name);
  }
  return key;
}

namespace {

// Thrown when a node turns out to be the host's.
struct CutAgain {
  int node;
};

// Results of a part that the compiler knows leave the graph: those that later parts read, and those without elements.
std::vector<HostTensor> take_folded(compiler::Graph &graph, const std::set<std::string> &outputs) {
  std::vector<HostTensor> folded;
  std::vector<compiler::TensorId> left;
  for (const compiler::TensorId id : graph.outputs) {
    const compiler::Tensor &tensor = graph[id];
    const auto producer = graph.producer(id);
    const compiler::Node *copy = producer ? &graph.nodes[static_cast<std::size_t>(*producer)] : nullptr;
    const bool known = copy != nullptr && copy->op == "Copy" && graph[copy->inputs[0]].is_constant();
    if (!known || (outputs.count(tensor.name) != 0 && compiler::elements(tensor.shape) != 0)) {
      left.push_back(id);
      continue;
    }
    folded.push_back({tensor.name, compiler::name_of(tensor.type), tensor.shape, *graph[copy->inputs[0]].data});
    graph.nodes.erase(graph.nodes.begin() + *producer);
  }
  graph.outputs = std::move(left);
  std::erase_if(graph.inputs, [&](compiler::TensorId id) { return graph.consumers(id).empty(); });
  return folded;
}

}  // namespace

// Moves values that the import asks for into the program.
void Session::fix(const compiler::ValueNeededError &error, const Values &values, compiler::ImportOptions &import,
                  Entry &entry) {
  std::set<std::string> names(error.inputs().begin(), error.inputs().end());
  for (const std::string &name : names) {
    if (values.count(name) == 0 || entry.fixed.count(name) != 0) throw error;
  }
  const bool leaves_some = !bound_inputs_.empty() || std::any_of(values.begin(), values.end(), [&](const auto &value) {
    return names.count(value.first) == 0 && entry.fixed.count(value.first) == 0;
  });
  if (!leaves_some) {
    if (partition_.shape_from_values(error.node())) throw CutAgain{error.node()};
    throw UnsupportedError(error.op(), std::string("the compiler and not the device would compute the model, because "
                                                   "the value of every input is needed to compile it: ") +
                                           error.what());
  }
  for (const std::string &name : names) {
    const HostTensor &value = *values.at(name);
    const auto given = import.given.find(name);
    const compiler::Type type = given != import.given.end() ? given->second.type : info(inputs_, name, "input").type;
    needed_.insert(name);
    entry.fixed.insert(name);
    import.bound_inputs.emplace(name, constant_of(value, type));
    import.input_shapes.erase(name);
  }
}

compiler::Graph Session::import(const Values &values, const std::vector<std::string> &wanted, Entry &entry) {
  const HostSpan span("import");
  compiler::ImportOptions import;
  import.wanted = wanted;
  import.observer = options_.observer;
  for (const auto &[name, tensor] : bound_inputs_) import.input_shapes[name] = tensor.shape();
  for (const auto &[name, tensor] : values) {
    const bool is_input = std::any_of(inputs_.begin(), inputs_.end(),
                                      [&, key = name](const compiler::InputInfo &known) { return known.name == key; });
    const compiler::Type type = compiler::type_from(tensor->type);
    if (!is_input) import.given[name] = {type, tensor->shape};
    if (needed_.count(name) != 0) {
      import.bound_inputs.emplace(name, constant_of(*tensor, type));
      entry.fixed.insert(name);
    } else if (is_input) {
      import.input_shapes[name] = tensor->shape;
    }
  }
  for (;;) {
    try {
      return compiler::import_onnx(model_, import);
    } catch (const compiler::ValueNeededError &error) {
      fix(error, values, import, entry);
    } catch (const compiler::HostOperatorError &error) {
      throw CutAgain{error.node()};
    }
  }
}

Session::Entry Session::compile(const Values &values, const std::vector<std::string> &wanted) {
  const HostSpan span("compile", model_.path().filename());
  const auto begin = std::chrono::steady_clock::now();
  Entry entry;
  compiler::Graph graph = import(values, wanted, entry);
  if (!options_.keep_model && wanted.empty()) model_.release();
  if (!wanted.empty()) {
    std::set<std::string> outputs;
    for (const compiler::InputInfo &output : outputs_) outputs.insert(output.name);
    entry.folded = take_folded(graph, outputs);
  }
  if (!graph.outputs.empty()) {
    compiler::CompileOptions options;
    options.precision = options_.precision;
    options.ranges = options_.ranges;
    options.constant_range = options_.constant_range;
    options.constants = constants_;
    options.in_place = options_.in_place;
    options.sca = options_.sca;
    options.observer = options_.observer;
    Program program = compiler::compile(graph, device_.target(), options, &entry.statistics);
    ExecutableOptions how;
    how.constants = resident_;
    for (const Binding &binding : program.inputs) {
      if (bound_inputs_.count(binding.name) != 0) how.device_bound.insert(binding.name);
    }
    for (const Binding &binding : program.outputs) {
      if (bound_outputs_.count(binding.name) != 0) how.device_bound.insert(binding.name);
    }
    entry.executable = std::make_unique<Executable>(device_, std::move(program), how);
    ++statistics_.compilations;
  }
  entry.key = key_of(values, wanted);  // with the values that turned out to be needed
  statistics_.compile_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return entry;
}

Session::Entry &Session::find_or_compile(const Values &values, const std::vector<std::string> &wanted) {
  const std::string key = key_of(values, wanted);
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
  entries_.push_front(compile(values, wanted));
  return entries_.front();
}

// Runs a program on the values that it reads; outputs: those to copy out, null for all that are not bound.
std::vector<HostTensor> Session::launch(Entry &entry, const Values &values, const std::vector<std::string> *outputs) {
  for (const std::string &name : entry.fixed) {
    const bool listed = std::find(fixed_.begin(), fixed_.end(), name) != fixed_.end();
    const bool is_input = std::any_of(inputs_.begin(), inputs_.end(),
                                      [&](const compiler::InputInfo &known) { return known.name == name; });
    if (is_input && !listed) fixed_.push_back(name);
  }
  if (entry.executable == nullptr) return {};
  Executable &executable = *entry.executable;
  if (options_.timing_only) {
    executable.set_timing_only(true, partition_.empty() ? "" : "shapes follow from values that the host computes");
  }
  std::vector<HostTensor> given;
  std::vector<std::string> bound_inputs, bound_outputs;
  for (const Binding &binding : executable.program().inputs) {
    if (bound_inputs_.count(binding.name) != 0) {
      bound_inputs.push_back(binding.name);
    } else {
      given.push_back(*values.at(binding.name));
    }
  }
  for (const Binding &binding : executable.program().outputs) {
    if (bound_outputs_.count(binding.name) != 0) bound_outputs.push_back(binding.name);
  }
  for (const std::string &name : bound_inputs) executable.bind_input(name, bound_inputs_.at(name));
  for (const std::string &name : bound_outputs) executable.bind_output(name, bound_outputs_.at(name));
  // The cache must not keep tensors alive that the caller has let go.
  const auto release = [&] {
    for (const std::string &name : bound_inputs) executable.bind_input(name, {});
    for (const std::string &name : bound_outputs) executable.bind_output(name, {});
  };
  try {
    if (options_.launches != nullptr) options_.launches->before(executable);
    std::vector<HostTensor> results = outputs != nullptr ? executable.run(given, *outputs) : executable.run(given);
    release();
    if (options_.launches != nullptr) {
      options_.launches->after(executable, entry.statistics);
    }
    report_ = programs_ == 0 ? executable.report() : *report_ + executable.report();
    last_statistics_ = programs_ == 0 ? entry.statistics : last_statistics_ + entry.statistics;
    last_ = programs_ == 0 ? &entry : nullptr;
    ++programs_;
    return results;
  } catch (...) {
    release();
    throw;
  }
}

void Session::run_host_node(const compiler::HostNode &node, Run &run) {
  const HostSpan span("host operator", node.op);
  std::map<std::string, compiler::Tensor> values;
  for (const std::string &name : node.inputs) {
    if (const auto bound = bound_inputs_.find(name); bound != bound_inputs_.end() && !run.has(name)) {
      run.add(bound->second.download(name));
    }
    if (!run.has(name)) continue;  // an optional input that is absent
    const HostTensor &value = *run.values.at(name);
    values.emplace(name, constant_of(value, compiler::type_from(value.type)));
  }
  const auto begin = std::chrono::steady_clock::now();
  for (compiler::Tensor &result : compiler::evaluate_node(model_, node.index, values)) {
    run.add({result.name, compiler::name_of(result.type), result.shape, std::move(result.data.own())});
  }
  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  auto entry = std::find_if(host_.begin(), host_.end(), [&](const HostOperator &known) { return known.op == node.op; });
  if (entry == host_.end()) entry = host_.insert(host_.end(), {node.op, {}, 0});
  entry->nodes.push_back(node.name);
  entry->wall_s += wall_s;
}

void Session::run_parts(Run &run) {
  for (;;) {
    std::set<std::string> available;
    for (const auto &[name, value] : run.values) available.insert(name);
    const compiler::Part part = partition_.next(available, run.outputs);
    if (part.wanted.empty() && part.host_nodes.empty()) return;
    if (!part.wanted.empty()) {
      try {
        Entry &entry = find_or_compile(run.values, part.wanted);
        std::vector<std::string> names;
        if (entry.executable != nullptr) {
          for (const Binding &binding : entry.executable->program().outputs) names.push_back(binding.name);
        }
        for (HostTensor &result : launch(entry, run.values, &names)) run.add(std::move(result));
        for (const HostTensor &result : entry.folded) run.add(result);
      } catch (const CutAgain &cut) {
        partition_.add_host_node(cut.node);
        continue;
      }
    }
    for (const compiler::HostNode &node : part.host_nodes) run_host_node(node, run);
  }
}

std::vector<HostTensor> Session::results(Run &run) const {
  std::vector<HostTensor> results;
  for (const std::string &name : run.outputs) results.push_back(*run.values.at(name));
  return results;
}

std::vector<HostTensor> Session::run_entry(std::span<const HostTensor> inputs,
                                           const std::span<const std::string> *outputs) {
  check(inputs);
  Run run;
  for (const HostTensor &tensor : inputs) run.values[tensor.name] = &tensor;
  std::vector<std::string> names;
  if (outputs != nullptr) names.assign(outputs->begin(), outputs->end());
  programs_ = 0;
  host_.clear();
  fixed_.clear();
  if (partition_.empty()) {
    try {
      Entry &entry = find_or_compile(run.values, {});
      std::vector<HostTensor> results = launch(entry, run.values, outputs != nullptr ? &names : nullptr);
      ++statistics_.runs;
      return results;
    } catch (const CutAgain &cut) {
      partition_.add_host_node(cut.node);
    }
  }
  if (!bound_outputs_.empty() || !options_.in_place.empty()) {
    throw UnsupportedError("bound output",
                           "the model has nodes that the host computes, so its outputs cannot be bound "
                           "to device tensors: their shapes follow from values");
  }
  for (const compiler::InputInfo &output : outputs_) {
    if (outputs == nullptr) names.push_back(output.name);
  }
  run.outputs = names;
  run_parts(run);
  ++statistics_.runs;
  if (programs_ == 0) {
    report_ = RunReport();
    last_statistics_ = {};
    last_ = nullptr;
  }
  if (!options_.keep_model) model_.release();
  return results(run);
}

std::vector<HostTensor> Session::run(std::span<const HostTensor> inputs) { return run_entry(inputs, nullptr); }

std::vector<HostTensor> Session::run(std::span<const HostTensor> inputs, std::span<const std::string> outputs) {
  for (const std::string &name : outputs) info(outputs_, name, "output");
  return run_entry(inputs, &outputs);
}

const RunReport &Session::report() const {
  if (!report_) throw UsageError("the session has not run yet");
  return *report_;
}

const compiler::CompileStatistics &Session::compile_statistics() const {
  if (!report_) throw UsageError("the session has not run yet");
  return last_statistics_;
}

const Program &Session::program() const {
  if (!report_) throw UsageError("the session has not run yet");
  if (last_ == nullptr) {
    throw UsageError("the last run has " + std::to_string(programs_) + " programs, or its program has made room");
  }
  return last_->executable->program();
}

SessionStatistics Session::statistics() const {
  SessionStatistics result = statistics_;
  if (constants_ != nullptr) {
    result.constant_bytes = resident_->size();
    result.constant_bytes_reused = constants_->reused_bytes();
  }
  return result;
}

}  // namespace cx
