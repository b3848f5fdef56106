// C++ over the C API: handles that free themselves, tensors that own their values, results as exceptions of
// <cx/error.hpp>. C++17, header-only, and nothing of the library but what cx.h declares.
//
// Objects keep what they belong to alive: a Device is closed when it and all that was made from it are gone. Copies of
// a handle are the same object of the library. The rules about threads are those of cx.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cx.h"
#include "error.hpp"

namespace cx {
inline namespace api {

/// The error of the calling thread's last call. BUSY is a UsageError, INTERNAL an Error.
[[noreturn]] inline void throw_result(cx_result result) {
  const std::string text = std::string(cx_result_string(result)) + ": " + cx_last_error();
  switch (result) {
    case CX_ERROR_INPUT:
      throw InputError(text);
    case CX_ERROR_USAGE:
    case CX_ERROR_BUSY:
      throw UsageError(text);
    case CX_ERROR_OUT_OF_MEMORY:
      throw OutOfMemoryError(text);
    case CX_ERROR_UNSUPPORTED:
      throw UnsupportedError("", text);
    case CX_ERROR_TIMEOUT:
      throw TimeoutError(text);
    case CX_ERROR_DEVICE_LOST:
      throw DeviceLostError(text);
    case CX_ERROR_DEVICE_FAULT: {
      cx_fault_info fault{};
      fault.struct_size = sizeof fault;
      cx_last_fault(&fault);
      throw DeviceFault({fault.status, fault.queue, fault.engine, fault.packet, fault.pc, fault.address, {}}, text);
    }
    default:
      throw Error(text);
  }
}

inline void check(cx_result result) {
  if (result != CX_SUCCESS) throw_result(result);
}

/// A struct of cx.h whose struct_size is set, everything else 0.
template <class Struct>
Struct sized() {
  Struct value{};
  value.struct_size = sizeof value;
  return value;
}

/// A text of the library as a string of its own.
inline std::string take_text(char *text) {
  const std::unique_ptr<char, decltype(&cx_free)> owner(text, &cx_free);
  return text;
}

/// The name of an element type: "float32", "int64", ...; float16 and bfloat16 have no type in C++.
template <class T>
const char *type_name() {
  static_assert(std::is_arithmetic_v<T>, "tensors hold numbers");
  if constexpr (std::is_same_v<T, bool>) return "bool";
  if constexpr (std::is_floating_point_v<T>) {
    static_assert(sizeof(T) <= 8, "there is no such element type");
    return sizeof(T) == 4 ? "float32" : "float64";
  }
  if constexpr (std::is_signed_v<T>) {
    return sizeof(T) == 1 ? "int8" : sizeof(T) == 2 ? "int16" : sizeof(T) == 4 ? "int32" : "int64";
  }
  return sizeof(T) == 1 ? "uint8" : sizeof(T) == 2 ? "uint16" : sizeof(T) == 4 ? "uint32" : "uint64";
}

/// Row-major values in memory of the program.
struct Tensor {
  std::string name;
  std::string type;  ///< as NumPy names it
  std::vector<int64_t> shape;
  std::vector<std::byte> data;

  /// The number of values is not compared with the shape here, but by the call that takes the tensor.
  template <class T>
  static Tensor of(std::string name, std::vector<int64_t> shape, const std::vector<T> &values) {
    Tensor tensor{std::move(name), type_name<T>(), std::move(shape), std::vector<std::byte>(values.size() * sizeof(T))};
    std::size_t index = 0;
    for (const T value : values) std::memcpy(tensor.data.data() + sizeof(T) * index++, &value, sizeof value);
    return tensor;
  }

  /// Throws UsageError when the tensor holds another type.
  template <class T>
  std::vector<T> values() const {
    if (type != type_name<T>()) throw UsageError("tensor '" + name + "' holds " + type + ", not " + type_name<T>());
    std::vector<T> result(data.size() / sizeof(T));
    for (std::size_t i = 0; i < result.size(); ++i) {
      T value;
      std::memcpy(&value, data.data() + sizeof(T) * i, sizeof value);
      result[i] = value;
    }
    return result;
  }

  /// For calls of the C API; lives as long as the tensor stays as it is. Such calls read inputs and write outputs.
  cx_tensor view() const {
    auto view = sized<cx_tensor>();
    view.name = name.c_str();
    view.type = type.c_str();
    view.shape = shape.data();
    view.rank = shape.size();
    view.data = const_cast<std::byte *>(data.data());
    view.bytes = data.size();
    return view;
  }

  static std::vector<cx_tensor> views(const std::vector<Tensor> &tensors) {
    std::vector<cx_tensor> views;
    for (const Tensor &tensor : tensors) views.push_back(tensor.view());
    return views;
  }
};

/// An input or output of a program.
struct Binding {
  std::string name, type;
  std::vector<int64_t> shape;
  uint64_t bytes = 0;
};

/// An input or output of a model. shape: -1 where a run decides, with the symbol's name or "".
struct Value {
  std::string name, type;
  bool has_shape = false, optional = false;
  std::vector<int64_t> shape;
  std::vector<std::string> symbols;
};

/// As cx_device_options; 0, CX_SWITCH_DEFAULT: as it is.
struct DeviceOptions {
  std::vector<std::string> sets;  ///< "key=value"
  uint32_t link_payload_bytes = 0, link_read_request_bytes = 0;
  cx_switch link_relaxed_ordering = CX_SWITCH_DEFAULT, link_extended_tags = CX_SWITCH_DEFAULT;
  uint64_t staging_bytes = 0;
  void (*on_leak)(const char *report, void *context) = nullptr;
  void *leak_context = nullptr;
};

class Device {
 public:
  /// where: as of open() and connect().
  static Device open_with(const std::string &where, const DeviceOptions &options) {
    std::vector<const char *> sets;
    for (const std::string &set : options.sets) sets.push_back(set.c_str());
    auto how = sized<cx_device_options>();
    how.sets = sets.data();
    how.set_count = sets.size();
    how.link_payload_bytes = options.link_payload_bytes;
    how.link_read_request_bytes = options.link_read_request_bytes;
    how.link_relaxed_ordering = options.link_relaxed_ordering;
    how.link_extended_tags = options.link_extended_tags;
    how.staging_bytes = options.staging_bytes;
    how.on_leak = options.on_leak;
    how.leak_context = options.leak_context;
    cx_device *device = nullptr;
    check(cx_device_open_with(where.c_str(), &how, &device));
    return Device(device);
  }
  /// config: a file or the name of a configuration that ships; sets: "key=value" on top of it.
  static Device open(const std::string &config, const std::vector<std::string> &sets = {}) {
    return made(&cx_device_open, config, sets);
  }
  /// address: "inproc:FILE.yaml" or "vfio-user:SOCKET".
  static Device connect(const std::string &address, const std::vector<std::string> &sets = {}) {
    return made(&cx_device_connect, address, sets);
  }

  cx_device_info info() const {
    auto info = sized<cx_device_info>();
    check(cx_device_get_info(get(), &info));
    return info;
  }

  /// What holds memory, by name; text of several lines.
  std::string memory_report() const {
    char *text = nullptr;
    check(cx_device_memory_report(get(), &text));
    return take_text(text);
  }

  /// The oldest event that was not taken, if there is one.
  std::optional<cx_event> next_event() {
    auto event = sized<cx_event>();
    int found = 0;
    check(cx_device_next_event(get(), &event, &found));
    return found != 0 ? std::optional(event) : std::nullopt;
  }
  /// An eventfd that is readable while there are events; it stays the device's.
  int event_fd() const { return cx_device_event_fd(get()); }
  void set_event_mask(uint32_t mask) { check(cx_device_set_event_mask(get(), mask)); }
  cx_recovery_level recover() {
    cx_recovery_level level = CX_RECOVERY_NONE;
    check(cx_device_recover(get(), &level));
    return level;
  }
  void end_thermal_trip() { check(cx_device_end_thermal_trip(get())); }
  void inject_fault(const std::string &fault) { check(cx_device_inject_fault(get(), fault.c_str())); }

  cx_device *get() const { return handle_.get(); }
  const std::shared_ptr<cx_device> &shared() const { return handle_; }

 private:
  explicit Device(cx_device *device) : handle_(device, &cx_device_close) {}

  template <class Open>
  static Device made(Open open, const std::string &where, const std::vector<std::string> &sets) {
    std::vector<const char *> texts;
    for (const std::string &set : sets) texts.push_back(set.c_str());
    cx_device *device = nullptr;
    check(open(where.c_str(), texts.data(), texts.size(), &device));
    return Device(device);
  }

  std::shared_ptr<cx_device> handle_;
};

/// Host memory that the device reaches where it lies.
class HostMemory {
 public:
  /// Of the library, zeroed. name: for reports.
  HostMemory(const Device &device, uint64_t bytes, const std::string &name = {}) {
    cx_host_memory *memory = nullptr;
    check(cx_host_memory_create(device.get(), bytes, name.c_str(), &memory));
    take(device, memory);
  }
  /// Of the caller, pinned as long as this lives.
  HostMemory(const Device &device, void *data, uint64_t bytes, bool device_writes = true,
             const std::string &name = {}) {
    cx_host_memory *memory = nullptr;
    check(cx_host_memory_register(device.get(), data, bytes, device_writes ? 1 : 0, name.c_str(), &memory));
    take(device, memory);
  }

  void *data() const { return info_.data; }
  uint64_t bytes() const { return info_.bytes; }
  /// Gives it back before this goes, or throws UsageError while it is in use. This must be the only copy.
  void release() {
    check(cx_host_memory_free(get()));
    *released_ = true;
    handle_.reset();
  }

  cx_host_memory *get() const { return handle_.get(); }

 private:
  void take(const Device &device, cx_host_memory *memory) {
    handle_ = {memory, [owner = device.shared(), released = released_](cx_host_memory *gone) {
                 if (!*released) cx_host_memory_free(gone);
               }};
    check(cx_host_memory_get_info(memory, &info_));
  }

  std::shared_ptr<bool> released_ = std::make_shared<bool>(false);
  std::shared_ptr<cx_host_memory> handle_;
  cx_host_memory_info info_ = sized<cx_host_memory_info>();
};

/// Memory for tensors that come and go.
class DevicePool {
 public:
  explicit DevicePool(const Device &device, const std::string &name = "pool") : device_(device) {
    cx_device_pool *pool = nullptr;
    check(cx_device_pool_create(device.get(), name.c_str(), &pool));
    handle_ = {pool, [owner = device.shared()](cx_device_pool *gone) { cx_device_pool_free(gone); }};
  }

  cx_device_pool_info info() const {
    auto info = sized<cx_device_pool_info>();
    check(cx_device_pool_get_info(get(), &info));
    return info;
  }
  /// Returns the bytes given back to the device.
  uint64_t trim(uint64_t keep_bytes = 0) {
    uint64_t given = 0;
    check(cx_device_pool_trim(get(), keep_bytes, &given));
    return given;
  }

  const Device &device() const { return device_; }
  cx_device_pool *get() const { return handle_.get(); }

 private:
  Device device_;
  std::shared_ptr<cx_device_pool> handle_;
};

/// Memory of the device with a type and a shape.
class DeviceTensor {
 public:
  DeviceTensor(const Device &device, const std::string &type, std::vector<int64_t> shape) : type_(type), shape_(shape) {
    cx_device_tensor *tensor = nullptr;
    check(cx_device_tensor_create(device.get(), type.c_str(), shape.data(), shape.size(), &tensor));
    handle_ = {tensor, [owner = device.shared()](cx_device_tensor *gone) { cx_device_tensor_free(gone); }};
  }

  /// Of a pool; as Stream::create_tensor() of no stream.
  DeviceTensor(const DevicePool &pool, const std::string &type, std::vector<int64_t> shape)
      : DeviceTensor(nullptr, pool, type, std::move(shape)) {}

  const std::string &type() const { return type_; }
  const std::vector<int64_t> &shape() const { return shape_; }

  /// From a tensor of this device or another; waits.
  cx_copy_info copy_from(const DeviceTensor &from) {
    auto info = sized<cx_copy_info>();
    check(cx_device_tensor_copy(get(), from.get(), &info));
    return info;
  }

  /// The whole tensor, to and from the device.
  void write(const void *data, uint64_t bytes) { check(cx_device_tensor_write(get(), data, bytes)); }
  void read(void *data, uint64_t bytes) const { check(cx_device_tensor_read(get(), data, bytes)); }
  template <class T>
  void write(const std::vector<T> &values) {
    expect<T>();
    write(values.data(), values.size() * sizeof(T));
  }
  template <class T>
  std::vector<T> read() const {
    expect<T>();
    std::size_t count = 1;
    for (const int64_t dimension : shape_) count *= static_cast<std::size_t>(dimension);
    std::vector<T> values(count);
    read(values.data(), values.size() * sizeof(T));
    return values;
  }

  cx_device_tensor *get() const { return handle_.get(); }

 private:
  friend class Stream;
  DeviceTensor(cx_stream *stream, const DevicePool &pool, const std::string &type, std::vector<int64_t> shape)
      : type_(type), shape_(shape) {
    cx_device_tensor *tensor = nullptr;
    check(cx_stream_create_tensor(stream, pool.get(), type.c_str(), shape.data(), shape.size(), &tensor));
    const auto released = released_;
    handle_ = {tensor, [owner = pool.device().shared(), released](cx_device_tensor *gone) {
                 if (!*released) cx_device_tensor_free(gone);
               }};
  }

  template <class T>
  void expect() const {
    if (type_ != type_name<T>()) throw UsageError("device tensor of " + type_ + ", not " + type_name<T>());
  }

  std::string type_;
  std::vector<int64_t> shape_;
  std::shared_ptr<bool> released_ = std::make_shared<bool>(false);  // a stream has freed it
  std::shared_ptr<cx_device_tensor> handle_;
};

/// A compiled program (.cxb).
class Program {
 public:
  static Program load(const std::string &path) {
    cx_program *program = nullptr;
    check(cx_program_load(path.c_str(), &program));
    return Program(program);
  }

  /// Texts of it live as long as the program.
  cx_program_info info() const {
    auto info = sized<cx_program_info>();
    check(cx_program_get_info(get(), &info));
    return info;
  }
  std::vector<Binding> inputs() const { return bindings(CX_INPUT, info().inputs); }
  std::vector<Binding> outputs() const { return bindings(CX_OUTPUT, info().outputs); }

  cx_program *get() const { return handle_.get(); }

 private:
  explicit Program(cx_program *program) : handle_(program, &cx_program_free) {}

  std::vector<Binding> bindings(cx_direction direction, uint32_t count) const {
    std::vector<Binding> bindings;
    for (uint32_t i = 0; i < count; ++i) {
      auto info = sized<cx_binding_info>();
      check(cx_program_get_binding(get(), direction, i, &info));
      bindings.push_back({info.name, info.type, {info.shape, info.shape + info.rank}, info.bytes});
    }
    return bindings;
  }

  std::shared_ptr<cx_program> handle_;
};

/// A program on a device.
class Executable {
 public:
  Executable(const Device &device, const Program &program) : program_(program) {
    cx_executable *executable = nullptr;
    check(cx_executable_create(device.get(), program.get(), &executable));
    handle_ = {executable, [owner = device.shared()](cx_executable *gone) { cx_executable_free(gone); }};
  }

  /// From the next run on the tensor stays on the device.
  void bind_input(const std::string &name, const DeviceTensor &tensor) { bind(CX_INPUT, name, tensor.get()); }
  void bind_output(const std::string &name, const DeviceTensor &tensor) { bind(CX_OUTPUT, name, tensor.get()); }
  void unbind_input(const std::string &name) { bind(CX_INPUT, name, nullptr); }
  void unbind_output(const std::string &name) { bind(CX_OUTPUT, name, nullptr); }

  /// All inputs that are not bound; gives the named outputs, bound or not.
  std::vector<Tensor> run(const std::vector<Tensor> &inputs, const std::vector<std::string> &outputs) {
    std::vector<Tensor> results;
    for (const std::string &name : outputs) results.push_back(place_of(name));
    const std::vector<cx_tensor> from = Tensor::views(inputs), to = Tensor::views(results);
    auto info = sized<cx_run_info>();
    check(cx_executable_run(get(), from.data(), from.size(), to.data(), to.size(), &info));
    info_ = info;
    return results;
  }
  /// Gives all outputs, in the program's order.
  std::vector<Tensor> run(const std::vector<Tensor> &inputs) {
    std::vector<std::string> names;
    for (const Binding &output : program_.outputs()) names.push_back(output.name);
    return run(inputs, names);
  }

  /// What the last run cost; 0 before the first.
  const cx_run_info &run_info() const { return info_; }
  std::string report_json() const {
    char *text = nullptr;
    check(cx_executable_report_json(get(), &text));
    return take_text(text);
  }

  cx_executable *get() const { return handle_.get(); }

 private:
  void bind(cx_direction direction, const std::string &name, cx_device_tensor *tensor) {
    check(cx_executable_bind(get(), direction, name.c_str(), tensor));
  }
  Tensor place_of(const std::string &name) const {
    for (const Binding &output : program_.outputs()) {
      if (output.name == name) return {name, output.type, output.shape, std::vector<std::byte>(output.bytes)};
    }
    throw InputError("output '" + name + "' is not an output of the program");
  }

  Program program_;
  std::shared_ptr<cx_executable> handle_;
  cx_run_info info_ = sized<cx_run_info>();
};

/// A value in host memory that only grows.
class Timeline {
 public:
  explicit Timeline(const Device &device, uint64_t value = 0) {
    cx_timeline *timeline = nullptr;
    check(cx_timeline_create(device.get(), value, &timeline));
    handle_ = {timeline, [owner = device.shared()](cx_timeline *gone) { cx_timeline_free(gone); }};
  }

  uint64_t value() const {
    uint64_t value = 0;
    check(cx_timeline_get_value(get(), &value));
    return value;
  }
  void signal(uint64_t value) { check(cx_timeline_signal(get(), value)); }
  /// As cx_timeline_wait().
  void wait(uint64_t value, uint64_t limit_us = 0, uint32_t patience_ms = 0) const {
    check(cx_timeline_wait(get(), value, limit_us, patience_ms));
  }

  cx_timeline *get() const { return handle_.get(); }

 private:
  std::shared_ptr<cx_timeline> handle_;
};

/// A place in a stream's work.
class Marker {
 public:
  explicit Marker(const Device &device) {
    cx_marker *marker = nullptr;
    check(cx_marker_create(device.get(), &marker));
    handle_ = {marker, [owner = device.shared()](cx_marker *gone) { cx_marker_free(gone); }};
  }

  bool done() const {
    int done = 0;
    check(cx_marker_query(get(), &done));
    return done != 0;
  }
  /// Device time from the earlier one to this one.
  double us_since(const Marker &earlier) const {
    double elapsed = 0;
    check(cx_marker_elapsed_us(earlier.get(), get(), &elapsed));
    return elapsed;
  }

  cx_marker *get() const { return handle_.get(); }

 private:
  std::shared_ptr<cx_marker> handle_;
};

/// Work that is recorded once and run again and again.
class CommandBuffer {
 public:
  explicit CommandBuffer(const Device &device) {
    cx_command_buffer *commands = nullptr;
    check(cx_command_buffer_create(device.get(), &commands));
    handle_ = {commands, [owner = device.shared()](cx_command_buffer *gone) { cx_command_buffer_free(gone); }};
  }

  void launch(const Executable &executable) { check(cx_command_buffer_launch(get(), executable.get())); }
  void copy(const DeviceTensor &to, const DeviceTensor &from) {
    check(cx_command_buffer_copy(get(), to.get(), from.get()));
  }
  void fill(const DeviceTensor &tensor, uint32_t pattern) {
    check(cx_command_buffer_fill(get(), tensor.get(), pattern));
  }
  /// Pinned memory.
  void upload(const DeviceTensor &to, const void *data, uint64_t bytes) {
    check(cx_command_buffer_upload(get(), to.get(), data, bytes));
  }
  void download(const DeviceTensor &from, void *data, uint64_t bytes) {
    check(cx_command_buffer_download(get(), from.get(), data, bytes));
  }
  void signal(const Timeline &timeline, uint64_t value) {
    check(cx_command_buffer_signal(get(), timeline.get(), value));
  }
  void wait(const Timeline &timeline, uint64_t value) { check(cx_command_buffer_wait(get(), timeline.get(), value)); }
  void timestamp(uint64_t *cycles) { check(cx_command_buffer_timestamp(get(), cycles)); }
  /// Commands so far: the number of the next one.
  uint32_t count() const {
    uint32_t count = 0;
    check(cx_command_buffer_get_count(get(), &count));
    return count;
  }
  void finish() { check(cx_command_buffer_finish(get())); }
  void set_value(uint32_t number, uint64_t value) { check(cx_command_buffer_set_value(get(), number, value)); }
  void set_copy(uint32_t number, const DeviceTensor &to, const DeviceTensor &from) {
    check(cx_command_buffer_set_copy(get(), number, to.get(), from.get()));
  }

  cx_command_buffer *get() const { return handle_.get(); }

 private:
  std::shared_ptr<cx_command_buffer> handle_;
};

/// Work in order. What it names must stay until it has ended.
class Stream {
 public:
  explicit Stream(const Device &device, uint32_t priority = 1) {
    cx_stream *stream = nullptr;
    check(cx_stream_create(device.get(), priority, &stream));
    handle_ = {stream, [owner = device.shared()](cx_stream *gone) { cx_stream_free(gone); }};
  }

  void launch(const Executable &executable) { check(cx_stream_launch(get(), executable.get())); }
  void copy(const DeviceTensor &to, const DeviceTensor &from) { check(cx_stream_copy(get(), to.get(), from.get())); }
  /// To a tensor of this device or another.
  void copy_peer(const DeviceTensor &to, const DeviceTensor &from) {
    check(cx_stream_copy_peer(get(), to.get(), from.get()));
  }
  /// data: stays until the copy has ended.
  void upload(const DeviceTensor &to, const void *data, uint64_t bytes) {
    check(cx_stream_upload(get(), to.get(), data, bytes));
  }
  void download(const DeviceTensor &from, void *data, uint64_t bytes) {
    check(cx_stream_download(get(), from.get(), data, bytes));
  }
  /// Of a pool, used first by this stream.
  DeviceTensor create_tensor(const DevicePool &pool, const std::string &type, std::vector<int64_t> shape) {
    return {get(), pool, type, std::move(shape)};
  }
  /// In the stream's order, a tensor of a pool; all copies of the object are of no use any more.
  void free_tensor(DeviceTensor tensor) {
    check(cx_stream_free_tensor(get(), tensor.get()));
    *tensor.released_ = true;
  }
  void fill(const DeviceTensor &tensor, uint32_t pattern) { check(cx_stream_fill(get(), tensor.get(), pattern)); }
  void execute(const CommandBuffer &commands) { check(cx_stream_execute(get(), commands.get())); }
  void signal(const Timeline &timeline, uint64_t value) { check(cx_stream_signal(get(), timeline.get(), value)); }
  void wait(const Timeline &timeline, uint64_t value) { check(cx_stream_wait(get(), timeline.get(), value)); }
  void record(Marker &marker) { check(cx_stream_record(get(), marker.get())); }
  void wait(const Marker &marker) { check(cx_stream_wait_marker(get(), marker.get())); }
  /// As cx_stream_call().
  void call(void (*function)(void *context), void *context) { check(cx_stream_call(get(), function, context)); }
  bool done() const {
    int done = 0;
    check(cx_stream_query(get(), &done));
    return done != 0;
  }
  void synchronize(uint64_t limit_us = 0) { check(cx_stream_synchronize(get(), limit_us)); }
  void clear_error() { check(cx_stream_clear_error(get())); }

  cx_stream *get() const { return handle_.get(); }

 private:
  std::shared_ptr<cx_stream> handle_;
};

struct SessionOptions {
  std::string precision = "fp32";
  std::vector<std::pair<std::string, float>> ranges;  ///< largest magnitude by tensor, for the 8-bit precisions
  uint32_t max_programs = 0;                          ///< kept on the device; 0: the library's choice
  bool timing_only = false;                           ///< results are undefined, see cx_session_options
};

/// A model on a device, compiled for the shapes of a run when they are new.
class Session {
 public:
  Session(const Device &device, const std::string &onnx_path, const SessionOptions &options = {}) {
    std::vector<cx_range> ranges;
    for (const auto &[tensor, magnitude] : options.ranges) ranges.push_back({tensor.c_str(), magnitude});
    auto how = sized<cx_session_options>();
    how.precision = options.precision.c_str();
    how.ranges = ranges.data();
    how.range_count = ranges.size();
    how.max_programs = options.max_programs;
    how.timing_only = options.timing_only ? 1 : 0;
    cx_session *session = nullptr;
    check(cx_session_create(device.get(), onnx_path.c_str(), &how, &session));
    handle_ = {session, [owner = device.shared()](cx_session *gone) { cx_session_free(gone); }};
  }

  /// Texts of it live as long as the session.
  cx_session_info info() const {
    auto info = sized<cx_session_info>();
    check(cx_session_get_info(get(), &info));
    return info;
  }
  std::vector<Value> inputs() const { return values(CX_INPUT, info().inputs); }
  std::vector<Value> outputs() const { return values(CX_OUTPUT, info().outputs); }

  /// As in Executable.
  void bind_input(const std::string &name, const DeviceTensor &tensor) { bind(CX_INPUT, name, tensor.get()); }
  void bind_output(const std::string &name, const DeviceTensor &tensor) { bind(CX_OUTPUT, name, tensor.get()); }
  void unbind_input(const std::string &name) { bind(CX_INPUT, name, nullptr); }
  void unbind_output(const std::string &name) { bind(CX_OUTPUT, name, nullptr); }

  /// Gives all outputs that are not bound, or the named ones in this order.
  std::vector<Tensor> run(const std::vector<Tensor> &inputs) { return run(inputs, nullptr, 0); }
  std::vector<Tensor> run(const std::vector<Tensor> &inputs, const std::vector<std::string> &outputs) {
    // An empty list is one of no outputs, not NULL.
    std::vector<const char *> names(outputs.size() + 1, nullptr);
    for (std::size_t i = 0; i < outputs.size(); ++i) names[i] = outputs[i].c_str();
    return run(inputs, names.data(), outputs.size());
  }

  /// What the last run cost; 0 before the first.
  const cx_run_info &run_info() const { return info_; }
  std::string report_json() const {
    char *text = nullptr;
    check(cx_session_report_json(get(), &text));
    return take_text(text);
  }

  cx_session *get() const { return handle_.get(); }

 private:
  void bind(cx_direction direction, const std::string &name, cx_device_tensor *tensor) {
    check(cx_session_bind(get(), direction, name.c_str(), tensor));
  }

  std::vector<Value> values(cx_direction direction, uint32_t count) const {
    std::vector<Value> values;
    for (uint32_t i = 0; i < count; ++i) {
      auto info = sized<cx_value_info>();
      check(cx_session_get_value(get(), direction, i, &info));
      values.push_back({info.name,
                        info.type,
                        info.has_shape != 0,
                        info.optional != 0,
                        {info.shape, info.shape + info.rank},
                        {info.symbols, info.symbols + info.rank}});
    }
    return values;
  }

  std::vector<Tensor> run(const std::vector<Tensor> &inputs, const char *const *names, std::size_t count) {
    const std::vector<cx_tensor> from = Tensor::views(inputs);
    auto info = sized<cx_run_info>();
    cx_results *results = nullptr;
    check(cx_session_run(get(), from.data(), from.size(), names, count, &results, &info));
    const std::unique_ptr<cx_results, decltype(&cx_results_free)> owner(results, &cx_results_free);
    info_ = info;
    std::size_t outputs = 0;
    check(cx_results_get_count(results, &outputs));
    std::vector<Tensor> tensors;
    for (std::size_t i = 0; i < outputs; ++i) {
      auto view = sized<cx_tensor>();
      check(cx_results_get_tensor(results, i, &view));
      const auto *bytes = static_cast<const std::byte *>(view.data);
      tensors.push_back({view.name, view.type, {view.shape, view.shape + view.rank}, {bytes, bytes + view.bytes}});
    }
    return tensors;
  }

  std::shared_ptr<cx_session> handle_;
  cx_run_info info_ = sized<cx_run_info>();
};

}  // namespace api
}  // namespace cx
