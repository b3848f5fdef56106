// Sessions of the C API.
#include <nlohmann/json.hpp>

#include "driver/runtime/c_api.hpp"
#include "driver/session/session.hpp"

namespace {

using namespace cx::capi;

// What cx_value_info points to.
struct Value {
  explicit Value(const cx::compiler::InputInfo &from) : info(from) {
    for (const cx::compiler::Dimension &dimension : info.shape) {
      shape.push_back(dimension.value);
      symbols.push_back(dimension.symbol.c_str());
    }
  }
  cx::compiler::InputInfo info;
  std::vector<int64_t> shape;
  std::vector<const char *> symbols;
};

std::vector<std::unique_ptr<Value>> values_of(const std::vector<cx::compiler::InputInfo> &infos) {
  std::vector<std::unique_ptr<Value>> values;
  for (const cx::compiler::InputInfo &info : infos) values.push_back(std::make_unique<Value>(info));
  return values;
}

cx::SessionOptions session_options(const cx_session_options *given) {
  cx::SessionOptions options;
  if (given == nullptr) return options;
  const cx_session_options full = take(given);
  if (full.precision != nullptr) options.precision = cx::compiler::precision_from(full.precision);
  require(full.ranges != nullptr || full.range_count == 0, "ranges is NULL");
  for (size_t i = 0; i < full.range_count; ++i) {
    require(full.ranges[i].tensor != nullptr, "the tensor of a range is NULL");
    options.ranges[full.ranges[i].tensor] = full.ranges[i].magnitude;
  }
  if (full.max_programs != 0) options.max_programs = full.max_programs;
  options.timing_only = full.timing_only != 0;
  return options;
}

}  // namespace

struct cx_session {
  cx_device *owner;
  std::string precision;
  std::unique_ptr<cx::Session> session;
  std::vector<std::unique_ptr<Value>> inputs, outputs;
};

struct cx_results {
  std::vector<cx::HostTensor> tensors;
};

cx_result cx_session_create(cx_device *device, const char *onnx_path, const cx_session_options *options,
                            cx_session **session) {
  return guarded([&] {
    require(device && onnx_path && session, "device, onnx_path or session is NULL");
    *session = nullptr;
    const cx::SessionOptions how = session_options(options);
    auto handle = std::make_unique<cx_session>();
    handle->owner = device;
    handle->precision = cx::compiler::name_of(how.precision);
    handle->session = std::make_unique<cx::Session>(*device->device, onnx_path, how);
    handle->inputs = values_of(handle->session->inputs());
    handle->outputs = values_of(handle->session->outputs());
    ++device->users;
    *session = handle.release();
    return CX_SUCCESS;
  });
}

cx_result cx_session_free(cx_session *session) {
  return guarded([&] {
    if (session) --session->owner->users;
    delete session;
    return CX_SUCCESS;
  });
}

cx_result cx_session_get_info(const cx_session *session, cx_session_info *info) {
  return guarded([&] {
    require(session != nullptr, "session is NULL");
    const cx::SessionStatistics statistics = session->session->statistics();
    cx_session_info full{};
    full.precision = session->precision.c_str();
    full.inputs = static_cast<uint32_t>(session->inputs.size());
    full.outputs = static_cast<uint32_t>(session->outputs.size());
    full.runs = statistics.runs;
    full.compilations = statistics.compilations;
    full.cache_hits = statistics.cache_hits;
    full.evictions = statistics.evictions;
    full.constant_bytes = statistics.constant_bytes;
    full.compile_s = statistics.compile_s;
    give(info, full);
    return CX_SUCCESS;
  });
}

cx_result cx_session_get_value(const cx_session *session, cx_direction direction, uint32_t index, cx_value_info *info) {
  return guarded([&] {
    require(session != nullptr, "session is NULL");
    require(direction == CX_INPUT || direction == CX_OUTPUT, "direction is neither CX_INPUT nor CX_OUTPUT");
    const auto &list = direction == CX_INPUT ? session->inputs : session->outputs;
    require(index < list.size(), "index is above the number of inputs or outputs");
    const Value &value = *list[index];
    cx_value_info full{};
    full.name = value.info.name.c_str();
    full.type = cx::compiler::name_of(value.info.type);
    full.has_shape = value.info.has_shape ? 1 : 0;
    full.optional = value.info.optional ? 1 : 0;
    full.shape = value.shape.data();
    full.symbols = value.symbols.data();
    full.rank = value.shape.size();
    give(info, full);
    return CX_SUCCESS;
  });
}

cx_result cx_session_bind(cx_session *session, cx_direction direction, const char *name,
                          const cx_device_tensor *tensor) {
  return guarded([&] {
    require(session && name, "session or name is NULL");
    require(direction == CX_INPUT || direction == CX_OUTPUT, "direction is neither CX_INPUT nor CX_OUTPUT");
    require(!tensor || tensor->owner == session->owner, "session and tensor are of different devices");
    const cx::DeviceTensor bound = tensor ? tensor->tensor : cx::DeviceTensor();
    if (direction == CX_INPUT) {
      session->session->bind_input(name, bound);
    } else {
      session->session->bind_output(name, bound);
    }
    return CX_SUCCESS;
  });
}

cx_result cx_session_run(cx_session *session, const cx_tensor *inputs, size_t input_count, const char *const *outputs,
                         size_t output_count, cx_results **results, cx_run_info *info) {
  return guarded([&] {
    require(session != nullptr, "session is NULL");
    require(outputs || output_count == 0, "outputs is NULL");
    require(!info || info->struct_size >= sizeof(size_t), "struct_size of info is not set");
    if (results) *results = nullptr;
    std::vector<std::string> names;
    for (size_t i = 0; i < output_count; ++i) {
      require(outputs[i] != nullptr, "the name of an output is NULL");
      names.emplace_back(outputs[i]);
    }
    const std::vector<cx::HostTensor> given = host_tensors(inputs, input_count);
    auto handle = std::make_unique<cx_results>();
    handle->tensors = outputs ? session->session->run(given, names) : session->session->run(given);
    if (info) give_report(info, session->session->report());
    if (results) *results = handle.release();
    return CX_SUCCESS;
  });
}

cx_result cx_session_report_json(cx_session *session, char **json) {
  return guarded([&] {
    require(session && json, "session or json is NULL");
    *json = nullptr;
    nlohmann::json report = session->session->report();
    report.update(cx::host_fallback_json(*session->session));
    *json = copy_of(report.dump(2));
    return CX_SUCCESS;
  });
}

cx_result cx_results_get_count(const cx_results *results, size_t *count) {
  return guarded([&] {
    require(results && count, "results or count is NULL");
    *count = results->tensors.size();
    return CX_SUCCESS;
  });
}

cx_result cx_results_get_tensor(const cx_results *results, size_t index, cx_tensor *tensor) {
  return guarded([&] {
    require(results && tensor, "results or tensor is NULL");
    require(index < results->tensors.size(), "index is above the number of results");
    const cx::HostTensor &from = results->tensors[index];
    cx_tensor full{};
    full.name = from.name.c_str();
    full.type = from.type.c_str();
    full.shape = from.shape.data();
    full.rank = from.shape.size();
    // cx_tensor serves inputs too, of which nothing is written.
    full.data = const_cast<std::byte *>(from.bytes.data());
    full.bytes = from.bytes.size();
    give(tensor, full);
    return CX_SUCCESS;
  });
}

cx_result cx_results_free(cx_results *results) {
  return guarded([&] {
    delete results;
    return CX_SUCCESS;
  });
}
