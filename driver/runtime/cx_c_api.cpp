#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "driver/runtime/c_api.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/runtime/program.hpp"
#include "driver/umd/shipped_files.hpp"

struct cx_program {
  cx::Program program;
};

namespace cx::capi {

std::mutex &turn() {
  static std::mutex mutex;
  return mutex;
}

LastError &last_error() {
  thread_local LastError error;
  return error;
}

cx_result fail(cx_result result, const char *text) noexcept {
  try {
    last_error().text = text;
  } catch (...) {
    last_error().text.clear();
  }
  return result;
}

void require(bool good, const char *message) {
  if (!good) throw UsageError(message);
}

void require_alike(const cx_device_tensor *to, const cx_device_tensor *from) {
  require(to && from, "to or from is NULL");
  require(to->tensor.type() == from->tensor.type() && to->tensor.bytes() == from->tensor.bytes(),
          "the tensors have different types or sizes");
}

cx_tensor take(const cx_tensor *tensors, size_t stride, size_t index) {
  cx_tensor tensor{};
  std::memcpy(static_cast<void *>(&tensor), reinterpret_cast<const char *>(tensors) + index * stride,
              std::min(stride, sizeof tensor));
  require(tensor.struct_size == stride, "tensors of one array have different struct_size");
  require(tensor.name != nullptr, "a tensor's name is NULL");
  require(tensor.data != nullptr || tensor.bytes == 0, "a tensor's data is NULL");
  require(tensor.shape != nullptr || tensor.rank == 0, "a tensor's shape is NULL");
  return tensor;
}

size_t stride_of(const cx_tensor *tensors, size_t count) {
  require(count == 0 || tensors != nullptr, "tensors is NULL");
  if (count == 0) return 0;
  require(tensors->struct_size >= offsetof(cx_tensor, bytes) + sizeof(uint64_t), "struct_size of a tensor is not set");
  return tensors->struct_size;
}

std::vector<HostTensor> host_tensors(const cx_tensor *tensors, size_t count) {
  const size_t stride = stride_of(tensors, count);
  std::vector<HostTensor> result;
  for (size_t i = 0; i < count; ++i) {
    const cx_tensor tensor = take(tensors, stride, i);
    require(tensor.type != nullptr, "an input's type is NULL");
    const auto *bytes = static_cast<const std::byte *>(tensor.data);
    result.push_back(
        {tensor.name, tensor.type, {tensor.shape, tensor.shape + tensor.rank}, {bytes, bytes + tensor.bytes}});
  }
  return result;
}

void give_report(cx_run_info *info, const RunReport &report) {
  cx_run_info full{};
  full.latency_us = report.latency_us;
  full.launch_us = report.launch_us;
  full.cycles = report.cycles;
  full.launch_cycles = report.launch_cycles;
  full.macs = report.macs;
  full.packets = report.counters.packets;
  full.interrupts = report.counters.interrupts;
  full.firmware_instructions = report.counters.firmware_instructions;
  full.wall_s = report.wall_s;
  const EnergyAmount energy = report.energy.total();
  full.energy_uj = microjoules(energy.value);
  full.energy_least_uj = microjoules(energy.least);
  full.energy_most_uj = microjoules(energy.most);
  full.average_w = average_watts(report);
  full.timing_only = report.timing_only ? 1 : 0;
  give(info, full);
}

char *copy_of(const std::string &text) {
  char *copy = static_cast<char *>(std::malloc(text.size() + 1));
  if (!copy) throw std::bad_alloc();
  std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

}  // namespace cx::capi

namespace {

using namespace cx::capi;

cx::DeviceOptions options_of(const char *const *sets, size_t set_count) {
  require(sets || set_count == 0, "sets is NULL");
  cx::DeviceOptions options;
  for (size_t i = 0; i < set_count; ++i) {
    require(sets[i] != nullptr, "an entry of sets is NULL");
    options.overrides.emplace_back(sets[i]);
  }
  return options;
}

std::optional<bool> switch_of(uint32_t setting, const char *what) {
  require(setting <= CX_SWITCH_OFF, what);
  return setting == CX_SWITCH_DEFAULT ? std::nullopt : std::optional(setting == CX_SWITCH_ON);
}

std::optional<uint32_t> limit_of(uint32_t bytes) { return bytes == 0 ? std::nullopt : std::optional(bytes); }

cx::DeviceOptions options_of(const cx_device_options *from) {
  if (!from) return {};
  const cx_device_options given = take(from);
  cx::DeviceOptions options = options_of(given.sets, given.set_count);
  options.link.payload_bytes = limit_of(given.link_payload_bytes);
  options.link.read_request_bytes = limit_of(given.link_read_request_bytes);
  options.link.relaxed_ordering = switch_of(given.link_relaxed_ordering, "link_relaxed_ordering is no cx_switch");
  options.link.extended_tags = switch_of(given.link_extended_tags, "link_extended_tags is no cx_switch");
  if (given.staging_bytes) options.staging_bytes = given.staging_bytes;
  if (given.on_leak) {
    options.on_leak = [call = given.on_leak, context = given.leak_context](const std::string &report) {
      call(report.c_str(), context);
    };
  }
  return options;
}

bool is_address(const std::string &where) {
  return where.rfind("inproc:", 0) == 0 || where.rfind("vfio-user:", 0) == 0;
}

static_assert(CX_EVENT_ENGINE == static_cast<int>(cx::EventKind::kEngine));
static_assert(CX_RECOVERY_FUNCTION_RESET == static_cast<int>(cx::Recovery::Level::kFunctionReset));

cx_event event_of(const cx::DeviceEvent &event) {
  cx_event full{};
  full.kind = static_cast<uint32_t>(event.kind);
  full.status = event.status;
  full.queue = event.queue;
  full.engine = event.engine;
  full.order = event.order;
  full.count = event.count;
  full.time_cycles = event.time_cycles;
  full.packet = event.packet;
  full.pc = event.pc;
  full.address = event.address;
  full.channel = event.channel;
  full.syndrome = event.syndrome;
  full.bit = event.bit;
  full.celsius = event.celsius;
  full.cause = event.cause;
  return full;
}

}  // namespace

const char *cx_result_string(cx_result result) {
  switch (result) {
    case CX_SUCCESS:
      return "CX_SUCCESS";
    case CX_ERROR_INPUT:
      return "CX_ERROR_INPUT";
    case CX_ERROR_USAGE:
      return "CX_ERROR_USAGE";
    case CX_ERROR_OUT_OF_MEMORY:
      return "CX_ERROR_OUT_OF_MEMORY";
    case CX_ERROR_UNSUPPORTED:
      return "CX_ERROR_UNSUPPORTED";
    case CX_ERROR_DEVICE_FAULT:
      return "CX_ERROR_DEVICE_FAULT";
    case CX_ERROR_TIMEOUT:
      return "CX_ERROR_TIMEOUT";
    case CX_ERROR_BUSY:
      return "CX_ERROR_BUSY";
    case CX_ERROR_INTERNAL:
      return "CX_ERROR_INTERNAL";
    case CX_ERROR_DEVICE_LOST:
      return "CX_ERROR_DEVICE_LOST";
  }
  return "CX_ERROR_UNKNOWN";
}

uint32_t cx_api_version(void) { return CX_API_VERSION; }

const char *cx_last_error(void) { return last_error().text.c_str(); }

cx_result cx_last_fault(cx_fault_info *fault) {
  // The question must not erase the answer: no guarded().
  if (!fault || fault->struct_size < sizeof(size_t)) return CX_ERROR_USAGE;
  const cx::DeviceFault::Record &record = last_error().fault;
  cx_fault_info full{};
  full.struct_size = fault->struct_size;
  full.status = record.status;
  full.queue = record.queue;
  full.engine = record.engine;
  full.packet = record.packet;
  full.pc = record.pc;
  full.address = record.address;
  std::memcpy(static_cast<void *>(fault), &full, std::min(full.struct_size, sizeof full));
  return CX_SUCCESS;
}

cx_result cx_device_open(const char *yaml, const char *const *sets, size_t set_count, cx_device **device) {
  return guarded([&] {
    require(yaml && device, "yaml or device is NULL");
    *device = nullptr;
    auto handle = std::make_unique<cx_device>();
    handle->device = cx::Device::open(cx::chip_config(yaml), options_of(sets, set_count));
    *device = handle.release();
    return CX_SUCCESS;
  });
}

cx_result cx_device_connect(const char *address, const char *const *sets, size_t set_count, cx_device **device) {
  return guarded([&] {
    require(address && device, "address or device is NULL");
    *device = nullptr;
    auto handle = std::make_unique<cx_device>();
    handle->device = cx::Device::connect(address, options_of(sets, set_count));
    *device = handle.release();
    return CX_SUCCESS;
  });
}

cx_result cx_device_open_with(const char *where, const cx_device_options *options, cx_device **device) {
  return guarded([&] {
    require(where && device, "where or device is NULL");
    *device = nullptr;
    const cx::DeviceOptions given = options_of(options);
    auto handle = std::make_unique<cx_device>();
    handle->on_leak = given.on_leak;
    handle->device =
        is_address(where) ? cx::Device::connect(where, given) : cx::Device::open(cx::chip_config(where), given);
    *device = handle.release();
    return CX_SUCCESS;
  });
}

cx_result cx_device_close(cx_device *device) {
  return guarded([&] {
    if (device && device->users) {
      const std::string report = device->memory_report();
      if (device->on_leak) device->on_leak(report);
      return fail(CX_ERROR_BUSY, report.c_str());
    }
    delete device;
    return CX_SUCCESS;
  });
}

cx_result cx_device_memory_report(cx_device *device, char **report) {
  return guarded([&] {
    require(device && report, "device or report is NULL");
    *report = nullptr;
    *report = copy_of(device->memory_report());
    return CX_SUCCESS;
  });
}

cx_result cx_device_next_event(cx_device *device, cx_event *event, int *found) {
  return guarded([&] {
    require(device && event && found, "device, event or found is NULL");
    require(event->struct_size >= sizeof(size_t), "struct_size is not set");
    const std::optional<cx::DeviceEvent> next = device->device->next_event();
    *found = next ? 1 : 0;
    if (next) give(event, event_of(*next));
    return CX_SUCCESS;
  });
}

int cx_device_event_fd(cx_device *device) { return device ? device->device->event_fd() : -1; }

cx_result cx_device_set_event_mask(cx_device *device, uint32_t mask) {
  return guarded([&] {
    require(device != nullptr, "device is NULL");
    device->device->set_event_mask(mask);
    return CX_SUCCESS;
  });
}

cx_result cx_device_recover(cx_device *device, cx_recovery_level *level) {
  return guarded([&] {
    require(device != nullptr, "device is NULL");
    const cx::Recovery recovery = device->device->recover();
    if (level) *level = static_cast<cx_recovery_level>(recovery.level);
    return CX_SUCCESS;
  });
}

cx_result cx_device_end_thermal_trip(cx_device *device) {
  return guarded([&] {
    require(device != nullptr, "device is NULL");
    device->device->end_thermal_trip();
    return CX_SUCCESS;
  });
}

cx_result cx_device_inject_fault(cx_device *device, const char *fault) {
  return guarded([&] {
    require(device && fault, "device or fault is NULL");
    device->device->inject(fault);
    return CX_SUCCESS;
  });
}

cx_result cx_device_get_info(cx_device *device, cx_device_info *info) {
  return guarded([&] {
    require(device != nullptr, "device is NULL");
    const cx::Target &target = device->device->target();
    const cx::DeviceInfo &facts = device->device->info();
    const auto memory = device->device->memory_stats();
    cx_device_info full{};
    full.arch_hash = target.arch_hash;
    full.vendor_id = facts.vendor_id;
    full.device_id = facts.device_id;
    full.firmware_version = facts.firmware_version;
    full.clock_khz = target.clock_khz;
    full.tiles = target.tiles;
    full.tile_rows = target.tile_rows;
    full.tile_cols = target.tile_cols;
    full.vpu_lanes = target.vpu_lanes;
    full.spm_bytes = target.spm_bytes;
    full.dram_bytes = target.dram_bytes;
    full.dram_used_bytes = memory.used;
    full.dram_peak_bytes = memory.peak;
    full.time_cycles = device->device->time_cycles();
    full.link_generation = facts.link_generation;
    full.link_width = facts.link_width;
    full.link_payload_bytes = facts.payload_bytes;
    full.link_read_request_bytes = facts.read_request_bytes;
    full.link_relaxed_ordering = facts.relaxed_ordering ? 1 : 0;
    full.link_extended_tags = facts.extended_tags ? 1 : 0;
    give(info, full);
    return CX_SUCCESS;
  });
}

cx_result cx_program_load(const char *path, cx_program **program) {
  return guarded([&] {
    require(path && program, "path or program is NULL");
    *program = nullptr;
    *program = new cx_program{cx::load_program(path)};
    return CX_SUCCESS;
  });
}

cx_result cx_program_free(cx_program *program) {
  return guarded([&] {
    delete program;
    return CX_SUCCESS;
  });
}

cx_result cx_program_get_info(const cx_program *program, cx_program_info *info) {
  return guarded([&] {
    require(program != nullptr, "program is NULL");
    const cx::Program &p = program->program;
    cx_program_info full{};
    full.name = p.name.c_str();
    full.precision = p.precision.c_str();
    full.arch_hash = p.arch_hash;
    full.image_bytes = p.image.size();
    full.workspace_bytes = p.workspace_bytes;
    full.macs = p.macs;
    full.inputs = static_cast<uint32_t>(p.inputs.size());
    full.outputs = static_cast<uint32_t>(p.outputs.size());
    give(info, full);
    return CX_SUCCESS;
  });
}

cx_result cx_program_get_binding(const cx_program *program, cx_direction direction, uint32_t index,
                                 cx_binding_info *info) {
  return guarded([&] {
    require(program != nullptr, "program is NULL");
    require(direction == CX_INPUT || direction == CX_OUTPUT, "direction is neither CX_INPUT nor CX_OUTPUT");
    const auto &list = direction == CX_INPUT ? program->program.inputs : program->program.outputs;
    require(index < list.size(), "index is above the number of bindings");
    const cx::Binding &binding = list[index];
    cx_binding_info full{};
    full.name = binding.name.c_str();
    full.type = binding.type.c_str();
    full.shape = binding.shape.data();
    full.rank = binding.shape.size();
    full.bytes = binding.bytes;
    give(info, full);
    return CX_SUCCESS;
  });
}

cx_result cx_device_tensor_create(cx_device *device, const char *type, const int64_t *shape, size_t rank,
                                  cx_device_tensor **tensor) {
  return guarded([&] {
    require(device && type && tensor, "device, type or tensor is NULL");
    require(shape || rank == 0, "shape is NULL");
    *tensor = nullptr;
    auto handle = std::make_unique<cx_device_tensor>();
    handle->owner = device;
    handle->tensor = cx::DeviceTensor::allocate(*device->device, type, {shape, shape + rank});
    ++device->users;
    *tensor = handle.release();
    return CX_SUCCESS;
  });
}

cx_result cx_device_tensor_free(cx_device_tensor *tensor) {
  return guarded([&] {
    if (tensor) --tensor->owner->users;
    delete tensor;
    return CX_SUCCESS;
  });
}

cx_result cx_device_tensor_write(cx_device_tensor *tensor, const void *data, uint64_t bytes) {
  return guarded([&] {
    require(tensor && data, "tensor or data is NULL");
    tensor->tensor.upload({static_cast<const std::byte *>(data), bytes});
    return CX_SUCCESS;
  });
}

cx_result cx_device_tensor_read(const cx_device_tensor *tensor, void *data, uint64_t bytes) {
  return guarded([&] {
    require(tensor && data, "tensor or data is NULL");
    if (bytes != tensor->tensor.bytes()) {
      throw cx::InputError("read of " + std::to_string(bytes) + " bytes from a device tensor of " +
                           std::to_string(tensor->tensor.bytes()));
    }
    const cx::HostTensor host = tensor->tensor.download();
    std::memcpy(data, host.bytes.data(), host.bytes.size());
    return CX_SUCCESS;
  });
}

cx_result cx_executable_create(cx_device *device, const cx_program *program, cx_executable **executable) {
  return guarded([&] {
    require(device && program && executable, "device, program or executable is NULL");
    *executable = nullptr;
    auto handle = std::make_unique<cx_executable>();
    handle->owner = device;
    handle->executable = std::make_unique<cx::Executable>(*device->device, program->program);
    ++device->users;
    *executable = handle.release();
    return CX_SUCCESS;
  });
}

cx_result cx_executable_free(cx_executable *executable) {
  return guarded([&] {
    if (executable) --executable->owner->users;
    delete executable;
    return CX_SUCCESS;
  });
}

cx_result cx_executable_bind(cx_executable *executable, cx_direction direction, const char *name,
                             const cx_device_tensor *tensor) {
  return guarded([&] {
    require(executable && name, "executable or name is NULL");
    require(direction == CX_INPUT || direction == CX_OUTPUT, "direction is neither CX_INPUT nor CX_OUTPUT");
    require(!tensor || tensor->owner == executable->owner, "executable and tensor are of different devices");
    const cx::DeviceTensor bound = tensor ? tensor->tensor : cx::DeviceTensor();
    if (direction == CX_INPUT) {
      executable->executable->bind_input(name, bound);
    } else {
      executable->executable->bind_output(name, bound);
    }
    return CX_SUCCESS;
  });
}

cx_result cx_executable_run(cx_executable *executable, const cx_tensor *inputs, size_t input_count,
                            const cx_tensor *outputs, size_t output_count, cx_run_info *info) {
  return guarded([&] {
    require(executable != nullptr, "executable is NULL");
    require(!info || info->struct_size >= sizeof(size_t), "struct_size of info is not set");
    const std::vector<cx::HostTensor> given = host_tensors(inputs, input_count);
    const size_t output_stride = stride_of(outputs, output_count);
    // Outputs are checked before the device works for them.
    const std::vector<cx::Binding> &bindings = executable->executable->program().outputs;
    std::vector<std::string> names;
    std::vector<void *> places;
    for (size_t i = 0; i < output_count; ++i) {
      const cx_tensor tensor = take(outputs, output_stride, i);
      size_t index = 0;
      while (index < bindings.size() && bindings[index].name != tensor.name) ++index;
      if (index == bindings.size())
        throw cx::InputError("output '" + std::string(tensor.name) + "' is not an output of the program");
      const cx::Binding &binding = bindings[index];
      if (tensor.bytes != binding.bytes) {
        throw cx::InputError("output '" + binding.name + "' has memory of " + std::to_string(tensor.bytes) +
                             " bytes, expected " + std::to_string(binding.bytes));
      }
      if (tensor.type && tensor.type != binding.type) {
        throw cx::InputError("output '" + binding.name + "' has type " + tensor.type + ", expected " + binding.type);
      }
      if (tensor.shape && std::vector<int64_t>(tensor.shape, tensor.shape + tensor.rank) != binding.shape) {
        throw cx::InputError("output '" + binding.name + "' has another shape, expected " +
                             cx::shape_text(binding.shape));
      }
      names.push_back(binding.name);
      places.push_back(tensor.data);
    }
    const std::vector<cx::HostTensor> results = executable->executable->run(given, names);
    for (size_t i = 0; i < results.size(); ++i) {
      if (!results[i].bytes.empty()) std::memcpy(places[i], results[i].bytes.data(), results[i].bytes.size());
    }
    if (info) give_report(info, executable->executable->report());
    return CX_SUCCESS;
  });
}

cx_result cx_executable_report_json(cx_executable *executable, char **json) {
  return guarded([&] {
    require(executable && json, "executable or json is NULL");
    *json = nullptr;
    *json = copy_of(nlohmann::json(executable->executable->report()).dump(2));
    return CX_SUCCESS;
  });
}

void cx_free(void *memory) { std::free(memory); }
