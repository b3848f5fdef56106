// Streams, timelines, markers and command buffers of cx.h.
#include <chrono>
#include <map>
#include <optional>

#include "driver/runtime/c_api.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/umd/command_buffer.hpp"
#include "driver/umd/stream.hpp"
#include "driver/umd/timeline.hpp"

struct cx_stream {
  cx_device *owner;
  std::unique_ptr<cx::Stream> stream;
};

struct cx_timeline {
  cx_device *owner;
  cx::Timeline timeline;
};

struct cx_marker {
  cx_device *owner;
  cx::Event event;
};

struct cx_command_buffer {
  cx_device *owner;
  cx::CommandBuffer commands;
  std::map<uint32_t, uint64_t> copies = {};  // bytes of copies on the device, by number
};

namespace {

using namespace cx::capi;

template <class Handle>
cx_result free_handle(Handle *handle) {
  return guarded([&] { return let_go(handle); });
}

template <class A, class B>
void require_same_device(const A *a, const B *b) {
  require(a->owner == b->owner, "objects of different devices");
}

void check_copy(const cx_device_tensor *to, const cx_device_tensor *from) {
  require_alike(to, from);
  require_same_device(to, from);
}

/// Of a copy between a tensor and host memory; InputError for another size than the tensor's.
void check_transfer(const cx_device_tensor *tensor, const void *data, uint64_t bytes) {
  require(tensor && data, "tensor or data is NULL");
  if (bytes != tensor->tensor.bytes()) {
    throw cx::InputError("copy of " + std::to_string(bytes) + " bytes to or from a device tensor of " +
                         std::to_string(tensor->tensor.bytes()));
  }
}

uint64_t pinned(const cx_command_buffer *commands, const void *data, uint64_t bytes) {
  const auto address = commands->owner->device->pinned_address(data, bytes);
  require(address.has_value(), "a command buffer copies pinned host memory only");
  return *address;
}

void check_fill(const cx_device_tensor *tensor) {
  require(tensor != nullptr, "tensor is NULL");
  require(tensor->tensor.bytes() % 4 == 0, "the tensor's bytes are no multiple of 4");
}

/// Lets simulated time pass in steps, between which other calls have their turn. done() and late() are asked in turn;
/// late(idle) throws, or returns to go on.
template <class Done, class Late>
cx_result wait_in_turns(cx::Device &device, uint64_t limit_us, Done &&done, Late &&late) noexcept {
  constexpr uint64_t kStepPs = 100'000'000;
  std::optional<uint64_t> deadline;
  for (;;) {
    bool finished = false;
    const cx_result result = guarded([&] {
      if (!deadline) deadline = device.time_ps() + (limit_us ? limit_us : device.options().wait_limit_us) * 1'000'000;
      const uint64_t end = std::min(*deadline, device.time_ps() + kStepPs);
      finished = device.wait_until_idle(done, end);
      if (!finished && device.time_ps() < end) late(true);
      if (!finished && device.time_ps() >= *deadline) late(false);
      return CX_SUCCESS;
    });
    if (finished || result != CX_SUCCESS) return result;
  }
}

}  // namespace

// ---- streams ----

cx_result cx_stream_create(cx_device *device, uint32_t priority, cx_stream **stream) {
  return guarded([&] {
    require(device && stream, "device or stream is NULL");
    *stream = nullptr;
    return make(device, stream, device->device->streams().create(priority));
  });
}

cx_result cx_stream_free(cx_stream *stream) { return free_handle(stream); }

cx_result cx_stream_launch(cx_stream *stream, cx_executable *executable) {
  return guarded([&] {
    require(stream && executable, "stream or executable is NULL");
    require_same_device(stream, executable);
    executable->executable->launch(*stream->stream);
    return CX_SUCCESS;
  });
}

cx_result cx_stream_copy(cx_stream *stream, const cx_device_tensor *to, const cx_device_tensor *from) {
  return guarded([&] {
    require(stream != nullptr, "stream is NULL");
    check_copy(to, from);
    require_same_device(stream, to);
    stream->stream->enqueue([to = to->tensor.address(), from = from->tensor.address(), bytes = to->tensor.bytes()](
                                cx::Queue &queue) { return queue.copy_on_device(to, from, bytes); });
    return CX_SUCCESS;
  });
}

cx_result cx_stream_copy_peer(cx_stream *stream, const cx_device_tensor *to, const cx_device_tensor *from) {
  return guarded([&] {
    require(stream != nullptr, "stream is NULL");
    require_alike(to, from);
    require_same_device(stream, from);
    stream->stream->copy_peer(*to->owner->device, to->tensor.address(), from->tensor.address(), to->tensor.bytes());
    return CX_SUCCESS;
  });
}

cx_result cx_stream_upload(cx_stream *stream, const cx_device_tensor *to, const void *data, uint64_t bytes) {
  return guarded([&] {
    require(stream != nullptr, "stream is NULL");
    check_transfer(to, data, bytes);
    require_same_device(stream, to);
    stream->stream->upload(to->tensor.address(), {static_cast<const std::byte *>(data), bytes});
    return CX_SUCCESS;
  });
}

cx_result cx_stream_download(cx_stream *stream, const cx_device_tensor *from, void *data, uint64_t bytes) {
  return guarded([&] {
    require(stream != nullptr, "stream is NULL");
    check_transfer(from, data, bytes);
    require_same_device(stream, from);
    stream->stream->download({static_cast<std::byte *>(data), bytes}, from->tensor.address());
    return CX_SUCCESS;
  });
}

cx_result cx_stream_create_tensor(cx_stream *stream, cx_device_pool *pool, const char *type, const int64_t *shape,
                                  size_t rank, cx_device_tensor **tensor) {
  return guarded([&] {
    require(pool && type && tensor, "pool, type or tensor is NULL");
    require(shape || rank == 0, "shape is NULL");
    *tensor = nullptr;
    if (stream) require_same_device(stream, pool);
    cx::Device &device = *pool->owner->device;
    const cx::Queue *queue = stream ? &stream->stream->queue() : nullptr;
    return make(pool->owner, tensor,
                cx::DeviceTensor::allocate(device, pool->pool, type, {shape, shape + rank}, queue));
  });
}

cx_result cx_stream_free_tensor(cx_stream *stream, cx_device_tensor *tensor) {
  return guarded([&] {
    require(stream != nullptr, "stream is NULL");
    if (!tensor) return CX_SUCCESS;
    require_same_device(stream, tensor);
    tensor->tensor.release(*stream->stream);
    return let_go(tensor);
  });
}

cx_result cx_stream_fill(cx_stream *stream, const cx_device_tensor *tensor, uint32_t pattern) {
  return guarded([&] {
    require(stream != nullptr, "stream is NULL");
    check_fill(tensor);
    require_same_device(stream, tensor);
    stream->stream->enqueue([at = tensor->tensor.address(), bytes = tensor->tensor.bytes(), pattern](cx::Queue &queue) {
      return queue.fill(at, bytes, pattern);
    });
    return CX_SUCCESS;
  });
}

cx_result cx_stream_execute(cx_stream *stream, const cx_command_buffer *commands) {
  return guarded([&] {
    require(stream && commands, "stream or commands is NULL");
    require_same_device(stream, commands);
    stream->stream->execute(commands->commands);
    return CX_SUCCESS;
  });
}

cx_result cx_stream_signal(cx_stream *stream, const cx_timeline *timeline, uint64_t value) {
  return guarded([&] {
    require(stream && timeline, "stream or timeline is NULL");
    require_same_device(stream, timeline);
    stream->stream->signal(timeline->timeline, value);
    return CX_SUCCESS;
  });
}

cx_result cx_stream_wait(cx_stream *stream, const cx_timeline *timeline, uint64_t value) {
  return guarded([&] {
    require(stream && timeline, "stream or timeline is NULL");
    require_same_device(stream, timeline);
    stream->stream->wait(timeline->timeline, value);
    return CX_SUCCESS;
  });
}

cx_result cx_stream_record(cx_stream *stream, cx_marker *marker) {
  return guarded([&] {
    require(stream && marker, "stream or marker is NULL");
    require_same_device(stream, marker);
    stream->stream->record(marker->event);
    return CX_SUCCESS;
  });
}

cx_result cx_stream_wait_marker(cx_stream *stream, const cx_marker *marker) {
  return guarded([&] {
    require(stream && marker, "stream or marker is NULL");
    require_same_device(stream, marker);
    stream->stream->wait(marker->event);
    return CX_SUCCESS;
  });
}

cx_result cx_stream_call(cx_stream *stream, void (*function)(void *context), void *context) {
  return guarded([&] {
    require(stream && function, "stream or function is NULL");
    stream->stream->call([function, context] { function(context); });
    return CX_SUCCESS;
  });
}

cx_result cx_stream_query(cx_stream *stream, int *done) {
  return guarded([&] {
    require(stream && done, "stream or done is NULL");
    *done = stream->stream->done() ? 1 : 0;
    stream->stream->check();
    return CX_SUCCESS;
  });
}

cx_result cx_stream_synchronize(cx_stream *stream, uint64_t limit_us) {
  if (stream == nullptr) return guarded([] { return fail(CX_ERROR_USAGE, "stream is NULL"); });
  const cx_result result = wait_in_turns(
      *stream->owner->device, limit_us, [&] { return stream->stream->done(); },
      [&](bool idle) {
        stream->stream->give_up(idle ? "a stream waits for what nobody signals: the device is idle"
                                     : "a stream's work did not end within its limit");
      });
  if (result != CX_SUCCESS) return result;
  return guarded([&] {
    stream->stream->check();
    return CX_SUCCESS;
  });
}

cx_result cx_stream_clear_error(cx_stream *stream) {
  return guarded([&] {
    require(stream != nullptr, "stream is NULL");
    stream->stream->clear_error();
    return CX_SUCCESS;
  });
}

// ---- timelines ----

cx_result cx_timeline_create(cx_device *device, uint64_t value, cx_timeline **timeline) {
  return guarded([&] {
    require(device && timeline, "device or timeline is NULL");
    *timeline = nullptr;
    return make(device, timeline, cx::Timeline(*device->device, value));
  });
}

cx_result cx_timeline_free(cx_timeline *timeline) { return free_handle(timeline); }

cx_result cx_timeline_get_value(const cx_timeline *timeline, uint64_t *value) {
  return guarded([&] {
    require(timeline && value, "timeline or value is NULL");
    *value = timeline->timeline.value();
    return CX_SUCCESS;
  });
}

cx_result cx_timeline_signal(cx_timeline *timeline, uint64_t value) {
  return guarded([&] {
    require(timeline != nullptr, "timeline is NULL");
    timeline->timeline.signal(value);
    return CX_SUCCESS;
  });
}

cx_result cx_timeline_wait(const cx_timeline *timeline, uint64_t value, uint64_t limit_us, uint32_t patience_ms) {
  if (timeline == nullptr) return guarded([] { return fail(CX_ERROR_USAGE, "timeline is NULL"); });
  const auto host_deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  for (;;) {
    bool unsignalled = false;
    const cx_result result = wait_in_turns(
        *timeline->owner->device, limit_us, [&] { return timeline->timeline.value() >= value; },
        [&](bool idle) {
          unsignalled = idle && timeline->timeline.promised() < value;
          throw cx::TimeoutError(unsignalled ? "nobody has signalled the timeline's value, and the device is idle"
                                             : "the timeline's value was not reached");
        });
    // Without a turn: another thread's call is what is waited for.
    if (!unsignalled || !timeline->timeline.await_promise(value, host_deadline)) return result;
  }
}

// ---- markers ----

cx_result cx_marker_create(cx_device *device, cx_marker **marker) {
  return guarded([&] {
    require(device && marker, "device or marker is NULL");
    *marker = nullptr;
    return make(device, marker, cx::Event());
  });
}

cx_result cx_marker_free(cx_marker *marker) { return free_handle(marker); }

cx_result cx_marker_query(const cx_marker *marker, int *done) {
  return guarded([&] {
    require(marker && done, "marker or done is NULL");
    *done = marker->event.done() ? 1 : 0;
    return CX_SUCCESS;
  });
}

cx_result cx_marker_elapsed_us(const cx_marker *from, const cx_marker *to, double *elapsed_us) {
  return guarded([&] {
    require(from && to && elapsed_us, "from, to or elapsed_us is NULL");
    require_same_device(from, to);
    *elapsed_us =
        static_cast<double>(to->event.cycles_since(from->event)) * 1000.0 / to->owner->device->target().clock_khz;
    return CX_SUCCESS;
  });
}

// ---- command buffers ----

cx_result cx_command_buffer_create(cx_device *device, cx_command_buffer **commands) {
  return guarded([&] {
    require(device && commands, "device or commands is NULL");
    *commands = nullptr;
    return make(device, commands, cx::CommandBuffer(*device->device));
  });
}

cx_result cx_command_buffer_free(cx_command_buffer *commands) { return free_handle(commands); }

cx_result cx_command_buffer_launch(cx_command_buffer *commands, cx_executable *executable) {
  return guarded([&] {
    require(commands && executable, "commands or executable is NULL");
    require_same_device(commands, executable);
    executable->executable->record(commands->commands);
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_copy(cx_command_buffer *commands, const cx_device_tensor *to,
                                 const cx_device_tensor *from) {
  return guarded([&] {
    require(commands != nullptr, "commands is NULL");
    check_copy(to, from);
    require_same_device(commands, to);
    const uint64_t bytes = to->tensor.bytes();
    commands->copies[commands->commands.copy_on_device(to->tensor.address(), from->tensor.address(), bytes)] = bytes;
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_fill(cx_command_buffer *commands, const cx_device_tensor *tensor, uint32_t pattern) {
  return guarded([&] {
    require(commands != nullptr, "commands is NULL");
    check_fill(tensor);
    require_same_device(commands, tensor);
    commands->commands.fill(tensor->tensor.address(), tensor->tensor.bytes(), pattern);
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_upload(cx_command_buffer *commands, const cx_device_tensor *to, const void *data,
                                   uint64_t bytes) {
  return guarded([&] {
    require(commands != nullptr, "commands is NULL");
    check_transfer(to, data, bytes);
    require_same_device(commands, to);
    commands->commands.copy_to_device(to->tensor.address(), pinned(commands, data, bytes), bytes);
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_download(cx_command_buffer *commands, const cx_device_tensor *from, void *data,
                                     uint64_t bytes) {
  return guarded([&] {
    require(commands != nullptr, "commands is NULL");
    check_transfer(from, data, bytes);
    require_same_device(commands, from);
    commands->commands.copy_to_host(pinned(commands, data, bytes), from->tensor.address(), bytes);
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_signal(cx_command_buffer *commands, const cx_timeline *timeline, uint64_t value) {
  return guarded([&] {
    require(commands && timeline, "commands or timeline is NULL");
    require_same_device(commands, timeline);
    commands->commands.signal(timeline->timeline, value);
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_wait(cx_command_buffer *commands, const cx_timeline *timeline, uint64_t value) {
  return guarded([&] {
    require(commands && timeline, "commands or timeline is NULL");
    require_same_device(commands, timeline);
    commands->commands.wait(timeline->timeline, value);
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_timestamp(cx_command_buffer *commands, uint64_t *cycles) {
  return guarded([&] {
    require(commands && cycles, "commands or cycles is NULL");
    const uint64_t address = pinned(commands, cycles, sizeof *cycles);
    require(address % sizeof *cycles == 0, "cycles is not 8-byte aligned");
    commands->commands.timestamp(address);
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_get_count(const cx_command_buffer *commands, uint32_t *count) {
  return guarded([&] {
    require(commands && count, "commands or count is NULL");
    *count = commands->commands.size();
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_set_value(cx_command_buffer *commands, uint32_t number, uint64_t value) {
  return guarded([&] {
    require(commands != nullptr, "commands is NULL");
    commands->commands.patch_value(number, value);
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_set_copy(cx_command_buffer *commands, uint32_t number, const cx_device_tensor *to,
                                     const cx_device_tensor *from) {
  return guarded([&] {
    require(commands != nullptr, "commands is NULL");
    check_copy(to, from);
    require_same_device(commands, to);
    const auto copy = commands->copies.find(number);
    require(copy != commands->copies.end(), "the command of this number is no copy between tensors");
    require(copy->second == to->tensor.bytes(), "the tensors have another size than those of the recorded copy");
    commands->commands.patch_copy(number, to->tensor.address(), from->tensor.address());
    return CX_SUCCESS;
  });
}

cx_result cx_command_buffer_finish(cx_command_buffer *commands) {
  return guarded([&] {
    require(commands != nullptr, "commands is NULL");
    commands->commands.finish();
    return CX_SUCCESS;
  });
}
