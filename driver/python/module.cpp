// The Python module cxvp: sessions on the simulated card, with NumPy arrays.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

#include "driver/include/cx/error.hpp"
#include "driver/session/language_model.hpp"
#include "driver/session/session.hpp"
#include "driver/tools/calibration.hpp"
#include "driver/tools/profile.hpp"
#include "driver/tools/trace.hpp"
#include "driver/umd/shipped_files.hpp"

namespace py = pybind11;

namespace {

// One simulation kernel serves all devices of a process: calls take turns, without the interpreter's lock.
std::mutex &turn() {
  static std::mutex mutex;
  return mutex;
}

template <typename Body>
auto in_turn(Body &&body) {
  const py::gil_scoped_release release;
  const std::lock_guard<std::mutex> lock(turn());
  return body();
}

// ---- values ----

py::object to_python(const nlohmann::json &json) {
  switch (json.type()) {
    case nlohmann::json::value_t::object: {
      py::dict dict;
      for (const auto &[key, value] : json.items()) dict[py::str(key)] = to_python(value);
      return dict;
    }
    case nlohmann::json::value_t::array: {
      py::list list;
      for (const auto &value : json) list.append(to_python(value));
      return list;
    }
    case nlohmann::json::value_t::string:
      return py::str(json.get<std::string>());
    case nlohmann::json::value_t::boolean:
      return py::bool_(json.get<bool>());
    case nlohmann::json::value_t::number_unsigned:
      return py::int_(json.get<uint64_t>());
    case nlohmann::json::value_t::number_integer:
      return py::int_(json.get<int64_t>());
    case nlohmann::json::value_t::number_float:
      return py::float_(json.get<double>());
    default:
      return py::none();
  }
}

// NumPy has no bfloat16: such elements are uint16 there.
py::dtype dtype_of(const std::string &type) { return py::dtype(type == "bfloat16" ? "uint16" : type); }

cx::HostTensor to_tensor(const std::string &name, const py::handle &value, const std::string &expected) {
  const py::object array_like = py::module_::import("numpy").attr("asarray")(value, py::arg("order") = "C");
  const auto array = py::cast<py::array>(array_like);
  std::string type = py::cast<std::string>(array.dtype().attr("name"));
  if (py::cast<std::string>(array.dtype().attr("byteorder")) == ">") {
    throw cx::InputError("input '" + name + "' is big-endian");
  }
  if (expected == "bfloat16" && type == "uint16") type = expected;
  cx::HostTensor tensor{name, type, {array.shape(), array.shape() + array.ndim()}, {}};
  cx::element_bytes(type);
  const auto *bytes = static_cast<const std::byte *>(array.data());
  tensor.bytes.assign(bytes, bytes + array.nbytes());
  return tensor;
}

py::array to_array(const cx::HostTensor &tensor) {
  py::array array(dtype_of(tensor.type), tensor.shape);
  if (!tensor.bytes.empty()) std::memcpy(array.mutable_data(), tensor.bytes.data(), tensor.bytes.size());
  return array;
}

// ---- device ----

struct Device {
  std::unique_ptr<cx::Device> device;
  std::string config;
  ~Device() {
    const std::lock_guard<std::mutex> lock(turn());
    device.reset();
  }
};

// Sessions that ask for the same card share it.
std::shared_ptr<Device> open_device(const std::string &config, const std::vector<std::string> &sets) {
  static std::map<std::pair<std::string, std::vector<std::string>>, std::weak_ptr<Device>> open;
  const std::filesystem::path path = std::filesystem::canonical(cx::chip_config(config));
  std::weak_ptr<Device> &known = open[{path.string(), sets}];
  if (std::shared_ptr<Device> device = known.lock()) return device;
  auto device = std::make_shared<Device>();
  device->config = path.stem().string();
  cx::DeviceOptions options;
  options.overrides = sets;
  device->device = in_turn([&] { return cx::Device::open(path, options); });
  known = device;
  return device;
}

py::dict device_info(const Device &device) {
  const cx::Target &target = device.device->target();
  const auto memory = in_turn([&] { return device.device->memory_stats(); });
  py::dict dict;
  dict["config"] = device.config;
  dict["clock_khz"] = target.clock_khz;
  dict["tiles"] = target.tiles;
  dict["tile_rows"] = target.tile_rows;
  dict["tile_cols"] = target.tile_cols;
  dict["vpu_lanes"] = target.vpu_lanes;
  dict["spm_bytes"] = target.spm_bytes;
  dict["dram_bytes"] = target.dram_bytes;
  dict["dram_used_bytes"] = memory.used;
  dict["dram_peak_bytes"] = memory.peak;
  return dict;
}

struct DeviceTensor {
  std::shared_ptr<Device> device;  // lives longer than the tensor
  cx::DeviceTensor tensor;
  ~DeviceTensor() {
    const std::lock_guard<std::mutex> lock(turn());
    tensor = {};
  }
};

std::unique_ptr<DeviceTensor> tensor_from(const std::shared_ptr<Device> &device, const py::object &value) {
  const cx::HostTensor host = to_tensor("", value, "");
  auto result = std::make_unique<DeviceTensor>();
  result->device = device;
  result->tensor = in_turn([&] { return cx::DeviceTensor::from_host(*device->device, host); });
  return result;
}

std::unique_ptr<DeviceTensor> zeros(const std::shared_ptr<Device> &device, const std::vector<int64_t> &shape,
                                    const py::object &dtype) {
  const std::string type = py::cast<std::string>(py::dtype::from_args(dtype).attr("name"));
  auto result = std::make_unique<DeviceTensor>();
  result->device = device;
  result->tensor = in_turn([&] {
    cx::DeviceTensor tensor = cx::DeviceTensor::allocate(*device->device, type, shape);
    tensor.clear();
    return tensor;
  });
  return result;
}

// ---- session ----

/// As ONNX Runtime calls an element type.
std::string onnx_type(cx::compiler::Type type) {
  using cx::compiler::Type;
  switch (type) {
    case Type::F32:
      return "tensor(float)";
    case Type::F64:
      return "tensor(double)";
    default:
      return "tensor(" + std::string(cx::compiler::name_of(type)) + ")";
  }
}

struct NodeArg {
  cx::compiler::InputInfo info;
  py::object shape() const {
    if (!info.has_shape) return py::none();
    py::list dims;
    for (const cx::compiler::Dimension &dimension : info.shape) {
      if (dimension.value >= 0) {
        dims.append(dimension.value);
      } else if (!dimension.symbol.empty()) {
        dims.append(dimension.symbol);
      } else {
        dims.append(py::none());
      }
    }
    return dims;
  }
};

struct Session {
  std::shared_ptr<Device> device;  // lives longer than the session
  std::unique_ptr<cx::Session> session;
  std::map<std::string, float> ranges;
  ~Session() {
    const std::lock_guard<std::mutex> lock(turn());
    session.reset();
  }
};

std::vector<cx::HostTensor> feed_tensors(const std::vector<cx::compiler::InputInfo> &infos, const py::dict &feed) {
  std::vector<cx::HostTensor> inputs;
  for (const auto &[key, value] : feed) {
    const auto name = py::cast<std::string>(key);
    std::string expected;
    for (const cx::compiler::InputInfo &info : infos) {
      if (info.name == name) expected = cx::compiler::name_of(info.type);
    }
    inputs.push_back(to_tensor(name, value, expected));
  }
  return inputs;
}

/// Ranges from a file of `cx run --save-ranges`, or measured on the device with one feed or a sequence of feeds.
std::map<std::string, float> calibrated(Device &device, const cx::compiler::Model &model, const py::object &given) {
  if (py::isinstance<py::str>(given) || py::hasattr(given, "__fspath__")) {
    return cx::tools::load_ranges(py::cast<std::string>(py::module_::import("os").attr("fspath")(given))).ranges;
  }
  const std::vector<cx::compiler::InputInfo> infos = model.inputs();
  std::vector<std::vector<cx::HostTensor>> samples;
  if (py::isinstance<py::dict>(given)) {
    samples.push_back(feed_tensors(infos, given));
  } else {
    for (const py::handle feed : py::iter(given)) samples.push_back(feed_tensors(infos, py::cast<py::dict>(feed)));
  }
  if (samples.empty()) throw cx::UsageError("calibration has no samples");
  return in_turn([&] { return cx::tools::calibrate(*device.device, model, samples).ranges; });
}

std::unique_ptr<Session> make_session(const std::string &model, const std::string &config, const std::string &precision,
                                      const std::vector<std::string> &sets, std::shared_ptr<Device> device,
                                      const std::map<std::string, float> &ranges,
                                      const std::map<std::string, std::string> &in_place, std::size_t max_programs,
                                      const py::object &calibration) {
  cx::SessionOptions options;
  options.precision = cx::compiler::precision_from(precision);
  if (!calibration.is_none() && (!ranges.empty() || !cx::compiler::needs_ranges(options.precision))) {
    throw cx::UsageError(ranges.empty() ? "precision " + precision + " has no ranges to calibrate"
                                        : "calibration and ranges are given; one of them says the ranges");
  }
  options.ranges = ranges;
  options.in_place = in_place;
  options.max_programs = max_programs;
  auto result = std::make_unique<Session>();
  result->device = device ? std::move(device) : open_device(config, sets);
  const auto parsed = in_turn([&] { return cx::compiler::Model(model); });
  if (!calibration.is_none()) options.ranges = calibrated(*result->device, parsed, calibration);
  result->ranges = options.ranges;
  result->session = in_turn([&] { return std::make_unique<cx::Session>(*result->device->device, parsed, options); });
  return result;
}

std::vector<NodeArg> node_args(const std::vector<cx::compiler::InputInfo> &infos) {
  std::vector<NodeArg> result;
  for (const cx::compiler::InputInfo &info : infos) result.push_back({info});
  return result;
}

py::list run(Session &self, const std::optional<std::vector<std::string>> &names, const py::dict &feed) {
  const std::vector<cx::HostTensor> inputs = feed_tensors(self.session->inputs(), feed);
  const std::vector<cx::HostTensor> outputs =
      in_turn([&] { return names ? self.session->run(inputs, *names) : self.session->run(inputs); });
  py::list result;
  for (const cx::HostTensor &output : outputs) result.append(to_array(output));
  return result;
}

nlohmann::json statistics_json(const cx::SessionStatistics &s) {
  return {{"runs", s.runs},
          {"compilations", s.compilations},
          {"cache_hits", s.cache_hits},
          {"evictions", s.evictions},
          {"compile_s", s.compile_s},
          {"constant_bytes", s.constant_bytes},
          {"constant_bytes_reused", s.constant_bytes_reused}};
}

nlohmann::json report_json(const Session &self) {
  nlohmann::json json = self.session->report();
  json.update(cx::host_fallback_json(*self.session));
  const cx::compiler::CompileStatistics &program = self.session->compile_statistics();
  json["precision"] = cx::compiler::name_of(self.session->precision());
  json["config"] = self.device->config;
  json["program"] = {{"instructions", program.instructions},
                     {"groups", program.groups},
                     {"nodes", program.nodes},
                     {"constant_bytes", program.constant_bytes},
                     {"workspace_bytes", program.workspace_bytes},
                     {"workspace_bytes_no_reuse", program.workspace_bytes_no_reuse}};
  json["session"] = statistics_json(self.session->statistics());
  return json;
}

py::object profile(Session &self, const py::dict &feed) {
  const std::vector<cx::HostTensor> inputs = feed_tensors(self.session->inputs(), feed);
  const cx::Target &target = self.device->device->target();
  const nlohmann::json json = in_turn([&] {
    cx::tools::start_trace();
    std::vector<cx_trace_record> trace;
    try {
      self.session->run(inputs);
      trace = cx::tools::finish_trace();
    } catch (...) {
      cx::tools::finish_trace();
      throw;
    }
    const cx::tools::Profile result = cx::tools::make_profile(
        trace, self.session->program(), self.session->compile_statistics(), self.session->report(), target);
    return nlohmann::json(cx::tools::profile_json(result, target));
  });
  return to_python(json);
}

void bind(Session &self, const std::string &name, const DeviceTensor *tensor, bool input) {
  if (tensor != nullptr && tensor->device != self.device) {
    throw cx::UsageError("session and tensor are of different devices");
  }
  in_turn([&] {
    const cx::DeviceTensor bound = tensor != nullptr ? tensor->tensor : cx::DeviceTensor();
    if (input) {
      self.session->bind_input(name, bound);
    } else {
      self.session->bind_output(name, bound);
    }
  });
}

// ---- language models ----

struct LanguageModel {
  std::shared_ptr<Device> device;  // lives longer than the model
  std::unique_ptr<cx::LanguageModel> model;
  cx::LanguageModel::Step last;
  ~LanguageModel() {
    const std::lock_guard<std::mutex> lock(turn());
    model.reset();
  }
};

std::unique_ptr<LanguageModel> make_language_model(const std::string &model, const std::string &config,
                                                   const std::string &precision, const std::vector<std::string> &sets,
                                                   std::shared_ptr<Device> device, int64_t context,
                                                   const std::vector<int64_t> &buckets) {
  cx::LanguageModelOptions options;
  options.session.precision = cx::compiler::precision_from(precision);
  options.context = context;
  options.buckets = buckets;
  auto result = std::make_unique<LanguageModel>();
  result->device = device ? std::move(device) : open_device(config, sets);
  result->model = in_turn([&] { return std::make_unique<cx::LanguageModel>(*result->device->device, model, options); });
  return result;
}

py::array_t<float> feed(LanguageModel &self, const std::vector<int64_t> &tokens) {
  const std::vector<float> logits = in_turn([&] {
    self.last = self.model->feed(tokens);
    return self.last.logits;
  });
  return py::array_t<float>(static_cast<py::ssize_t>(logits.size()), logits.data());
}

nlohmann::json language_model_report(const LanguageModel &self) {
  nlohmann::json json = {{"cache_style", cx::name_of(self.model->cache_style())},
                         {"cache_bytes", self.model->cache_bytes()},
                         {"context", self.model->context()},
                         {"length", self.model->length()},
                         {"padded_tokens", self.last.padded},
                         {"copy_us", self.last.moved().latency_us},
                         {"copied_bytes", self.last.moved_bytes()},
                         {"session", statistics_json(self.model->session().statistics())},
                         {"runs", nlohmann::json::array()}};
  for (const cx::RunReport &run : self.last.runs) json["runs"].push_back(run);
  json["latency_us"] = self.last.total().latency_us;
  return json;
}

// ---- exceptions ----

struct Exceptions {
  py::object error, input, usage, memory, unsupported, fault, timeout;
};

Exceptions &exceptions() {
  static auto *all = new Exceptions;  // never destroyed: the interpreter may be gone
  return *all;
}

py::object make_exception(py::module_ &m, const char *name, const py::tuple &bases, const char *doc) {
  py::dict members;
  members["__module__"] = "cxvp";
  members["__doc__"] = doc;
  py::object type =
      py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject *>(&PyType_Type))(name, bases, members);
  m.attr(name) = type;
  return type;
}

void add_exceptions(py::module_ &m) {
  Exceptions &e = exceptions();
  const auto builtin = [](PyObject *type) { return py::reinterpret_borrow<py::object>(type); };
  e.error =
      make_exception(m, "Error", py::make_tuple(builtin(PyExc_RuntimeError)), "Base of all errors of the platform.");
  e.input = make_exception(m, "InputError", py::make_tuple(e.error, builtin(PyExc_ValueError)),
                           "A file, a model, a configuration, a shape or an option is wrong.");
  e.usage = make_exception(m, "UsageError", py::make_tuple(e.input), "The interface was used against its rules.");
  e.memory = make_exception(m, "OutOfMemoryError", py::make_tuple(e.input, builtin(PyExc_MemoryError)),
                            "A request does not fit in what is left of a memory.");
  e.unsupported = make_exception(m, "UnsupportedError", py::make_tuple(e.input),
                                 "The model holds what the compiler does not support; op names it.");
  e.fault = make_exception(m, "DeviceFault", py::make_tuple(e.error),
                           "The device reported a fault: status, queue, engine (-1 none), packet, pc and address.");
  e.timeout = make_exception(m, "TimeoutError", py::make_tuple(e.fault, builtin(PyExc_TimeoutError)),
                             "No answer within the limit of simulated time.");
  py::register_exception_translator([](std::exception_ptr pointer) {
    const Exceptions &types = exceptions();
    const auto raise = [](const py::object &type, const std::exception &error, const py::dict &members) {
      const py::object value = type(error.what());
      for (const auto &[key, member] : members) value.attr(key) = member;
      PyErr_SetObject(type.ptr(), value.ptr());
    };
    const auto fault = [](const cx::DeviceFault::Record &record) {
      py::dict members;
      members["status"] = record.status;
      members["queue"] = record.queue;
      members["engine"] = record.engine;
      members["packet"] = record.packet;
      members["pc"] = record.pc;
      members["address"] = record.address;
      return members;
    };
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const cx::TimeoutError &error) {
      raise(types.timeout, error, fault(error.record()));
    } catch (const cx::DeviceFault &error) {
      raise(types.fault, error, fault(error.record()));
    } catch (const cx::OutOfMemoryError &error) {
      raise(types.memory, error, {});
    } catch (const cx::UsageError &error) {
      raise(types.usage, error, {});
    } catch (const cx::UnsupportedError &error) {
      py::dict members;
      members["op"] = error.op();
      raise(types.unsupported, error, members);
    } catch (const cx::InputError &error) {
      raise(types.input, error, {});
    } catch (const cx::Error &error) {
      raise(types.error, error, {});
    }
  });
}

}  // namespace

PYBIND11_MODULE(cxvp, m) {
  m.doc() = "CXVP: ONNX models on the simulated accelerator card, with NumPy arrays.";
  m.attr("__version__") = CX_VERSION;
  add_exceptions(m);

  py::class_<Device, std::shared_ptr<Device>>(m, "Device", "A card in this process. Sessions may share it.")
      .def(
          py::init([](const std::string &config, const std::vector<std::string> &sets) {
            return open_device(config, sets);
          }),
          py::arg("config") = "cx3210", py::arg("set") = std::vector<std::string>{},
          "config: a YAML file or the name of one that ships; set: overrides such as 'dmmu.tiles=64'. The card that is "
          "open already if there is one of this configuration.")
      .def("__eq__",
           [](const Device &self, const py::object &other) {
             return py::isinstance<Device>(other) && &self == py::cast<const Device *>(other);
           })
      .def("__hash__", [](const Device &self) { return std::hash<const Device *>{}(&self); })
      .def("info", &device_info, "Facts as a dict: clock, tiles, memory and how much of it is in use.")
      .def("tensor", &tensor_from, py::arg("array"),
           "A tensor on the device with the array's type, shape and elements.")
      .def("zeros", &zeros, py::arg("shape"), py::arg("dtype") = py::str("float32"),
           "A tensor on the device, all zero.");

  py::class_<DeviceTensor>(m, "DeviceTensor", "A tensor in device memory; it stays there between runs.")
      .def_property_readonly("shape", [](const DeviceTensor &self) { return py::tuple(py::cast(self.tensor.shape())); })
      .def_property_readonly("dtype", [](const DeviceTensor &self) { return dtype_of(self.tensor.type()); })
      .def_property_readonly("nbytes", [](const DeviceTensor &self) { return self.tensor.bytes(); })
      .def(
          "numpy", [](const DeviceTensor &self) { return to_array(in_turn([&] { return self.tensor.download(); })); },
          "A copy on the host.")
      .def(
          "write",
          [](DeviceTensor &self, const py::object &value) {
            const cx::HostTensor host = to_tensor("", value, self.tensor.type());
            if (host.type != self.tensor.type() || host.shape != self.tensor.shape()) {
              throw cx::InputError("the device tensor is " + self.tensor.type() + " " +
                                   cx::shape_text(self.tensor.shape()) + ", the array is " + host.type + " " +
                                   cx::shape_text(host.shape));
            }
            in_turn([&] { self.tensor.upload(host.bytes); });
          },
          py::arg("array"), "Replaces all elements.");

  py::class_<NodeArg>(m, "NodeArg", "An input or output of a model.")
      .def_property_readonly("name", [](const NodeArg &self) { return self.info.name; })
      .def_property_readonly("type", [](const NodeArg &self) { return onnx_type(self.info.type); })
      .def_property_readonly("dtype",
                             [](const NodeArg &self) { return dtype_of(cx::compiler::name_of(self.info.type)); })
      .def_property_readonly("shape", &NodeArg::shape,
                             "List of numbers, symbols and None; None if nothing is declared.")
      .def("__repr__", [](const NodeArg &self) {
        return "NodeArg(name='" + self.info.name + "', " + cx::signature_text(self.info) + ")";
      });

  py::class_<Session>(m, "Session", "A model on a card; compiled for the shapes of a run when they are new.")
      .def(py::init(&make_session), py::arg("model"), py::arg("config") = "cx3210", py::arg("precision") = "fp32",
           py::arg("set") = std::vector<std::string>{}, py::arg("device") = std::shared_ptr<Device>(),
           py::arg("ranges") = std::map<std::string, float>{},
           py::arg("in_place") = std::map<std::string, std::string>{}, py::arg("max_programs") = 32,
           py::arg("calibration") = py::none(),
           "model: an ONNX file; config, set: as Device, or device; precision: fp32, fp16, bf16, fp8_e4m3, fp8_e5m2 or "
           "int8, the last three with ranges (largest magnitudes by tensor) or calibration: a file of `cx run "
           "--save-ranges`, or one feed or several, as run() takes them, that the device measures; in_place: {output: "
           "input} that update an input where it lies.")
      .def("get_inputs", [](const Session &self) { return node_args(self.session->inputs()); })
      .def("get_outputs", [](const Session &self) { return node_args(self.session->outputs()); })
      .def("run", &run, py::arg("output_names"), py::arg("input_feed"),
           "Arrays for the named outputs; None: for all that are not bound. Other Python threads run meanwhile.")
      .def(
          "bind_input",
          [](Session &self, const std::string &name, const DeviceTensor *tensor) { bind(self, name, tensor, true); },
          py::arg("name"), py::arg("tensor").none(true),
          "From the next run on the input is read from the tensor, which stays on the device; None ends that.")
      .def(
          "bind_output",
          [](Session &self, const std::string &name, const DeviceTensor *tensor) { bind(self, name, tensor, false); },
          py::arg("name"), py::arg("tensor").none(true), "The same for an output.")
      .def("profile", &profile, py::arg("input_feed"),
           "Runs once and tells where the time went: a dict with groups of nodes and a lower bound, as cx profile.")
      .def(
          "report", [](const Session &self) { return to_python(in_turn([&] { return report_json(self); })); },
          "What the last run cost, as `cx run --json` names it, with the program and the session's statistics.")
      .def(
          "statistics",
          [](const Session &self) {
            return to_python(in_turn([&] { return statistics_json(self.session->statistics()); }));
          },
          "Runs, compilations, cache hits, bytes of constants.")
      .def_property_readonly(
          "ranges", [](const Session &self) { return self.ranges; },
          "Of the 8-bit precisions: largest magnitudes by tensor, given or calibrated.")
      .def_property_readonly("device", [](const Session &self) { return self.device; });

  py::class_<LanguageModel>(m, "LanguageModel", "A decoder language model on a card, its cache in device memory.")
      .def(py::init(&make_language_model), py::arg("model"), py::arg("config") = "cx3210",
           py::arg("precision") = "fp32", py::arg("set") = std::vector<std::string>{},
           py::arg("device") = std::shared_ptr<Device>(), py::arg("context") = 0,
           py::arg("buckets") = std::vector<int64_t>{},
           "As Session; context: tokens that the model sees or its cache holds, where the model leaves it open; "
           "buckets: "
           "numbers of tokens that programs are made for.")
      .def("feed", &feed, py::arg("tokens"), "Scores of the token that follows these and all fed before.")
      .def(
          "reset", [](LanguageModel &self) { in_turn([&] { self.model->reset(); }); }, "Forgets all tokens.")
      .def(
          "report",
          [](const LanguageModel &self) { return to_python(in_turn([&] { return language_model_report(self); })); },
          "What the last step cost, the kind and size of the cache, compilations.")
      .def_property_readonly("device", [](const LanguageModel &self) { return self.device; });
}
