// What the files of the C API share: handles, errors, the turn that calls take.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "driver/include/cx/cx.h"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/device_tensor.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/runtime/report.hpp"
#include "driver/runtime/tensor.hpp"
#include "driver/umd/device.hpp"
#include "driver/umd/device_pool.hpp"

struct cx_device {
  std::unique_ptr<cx::Device> device;
  std::function<void(const std::string &report)> on_leak;
  size_t users = 0;  // objects that were made of it

  std::string memory_report() const {
    return std::to_string(users) + " objects of the device exist\n" + device->memory_report();
  }
};

struct cx_device_pool {
  cx_device *owner;
  std::shared_ptr<cx::DevicePool> pool;
};

struct cx_device_tensor {
  cx_device *owner;
  cx::DeviceTensor tensor;
};

struct cx_executable {
  cx_device *owner;
  std::unique_ptr<cx::Executable> executable;
};

namespace cx::capi {

/// One simulation kernel serves all devices of a process: calls take turns.
std::mutex &turn();

struct LastError {
  std::string text;
  DeviceFault::Record fault;
};
LastError &last_error();  ///< of the calling thread

cx_result fail(cx_result result, const char *text) noexcept;

/// Runs a call's body and turns exceptions into results.
template <class Body>
cx_result guarded(Body &&body) noexcept {
  try {
    const std::lock_guard<std::mutex> lock(turn());
    last_error() = {};
    return body();
  } catch (const TimeoutError &error) {
    return fail(CX_ERROR_TIMEOUT, error.what());
  } catch (const DeviceLostError &error) {
    return fail(CX_ERROR_DEVICE_LOST, error.what());
  } catch (const DeviceFault &error) {
    last_error().fault = error.record();
    return fail(CX_ERROR_DEVICE_FAULT, error.what());
  } catch (const OutOfMemoryError &error) {
    return fail(CX_ERROR_OUT_OF_MEMORY, error.what());
  } catch (const UsageError &error) {
    return fail(CX_ERROR_USAGE, error.what());
  } catch (const UnsupportedError &error) {
    return fail(CX_ERROR_UNSUPPORTED, error.what());
  } catch (const InputError &error) {
    return fail(CX_ERROR_INPUT, error.what());
  } catch (const std::bad_alloc &) {
    return fail(CX_ERROR_OUT_OF_MEMORY, "out of host memory");
  } catch (const std::exception &error) {
    return fail(CX_ERROR_INTERNAL, error.what());
  } catch (...) {
    return fail(CX_ERROR_INTERNAL, "unknown exception");
  }
}

void require(bool good, const char *message);  ///< throws UsageError

/// A handle of parts, a user of the device.
template <class Handle, class... Parts>
cx_result make(cx_device *device, Handle **place, Parts &&...parts) {
  *place = new Handle{device, std::forward<Parts>(parts)...};
  ++device->users;
  return CX_SUCCESS;
}

/// The end of such a handle; may be null.
template <class Handle>
cx_result let_go(Handle *handle) {
  if (handle) --handle->owner->users;
  delete handle;
  return CX_SUCCESS;
}

/// Throws UsageError unless both are tensors of one type and size.
void require_alike(const cx_device_tensor *to, const cx_device_tensor *from);

/// Copies as much of `full` as the caller's struct has room for.
template <class Info>
void give(Info *info, Info full) {
  require(info != nullptr, "info is NULL");
  const size_t size = info->struct_size;
  require(size >= sizeof(size_t), "struct_size is not set");
  full.struct_size = size;
  std::memcpy(static_cast<void *>(info), &full, std::min(size, sizeof full));
}

/// A caller's struct of any age: members behind its struct_size read as 0.
template <class Struct>
Struct take(const Struct *from) {
  require(from->struct_size >= sizeof(size_t), "struct_size is not set");
  Struct full{};
  std::memcpy(static_cast<void *>(&full), from, std::min(from->struct_size, sizeof full));
  return full;
}

/// A tensor of a caller's array, whose entries lie `stride` bytes apart.
cx_tensor take(const cx_tensor *tensors, size_t stride, size_t index);
size_t stride_of(const cx_tensor *tensors, size_t count);
/// Copies of the tensors; their types must be given.
std::vector<HostTensor> host_tensors(const cx_tensor *tensors, size_t count);

void give_report(cx_run_info *info, const RunReport &report);
/// Memory of cx_free().
char *copy_of(const std::string &text);

}  // namespace cx::capi
