/* The C API used from C: what a C compiler accepts, and every result on the way. Prints the failed check and exits
 * with 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/include/cx/cx.h"

/* Of c_api_helper.cpp: writes the sample program for an architecture. */
int write_sample_program(const char *path, uint64_t arch_hash);
/* Calls cx_device_get_info() from another thread; returns its result. */
cx_result info_from_thread(cx_device *device, cx_device_info *info);
/* Waits with patience in another thread while this one signals; returns the first result that is no success. */
cx_result signal_between_threads(cx_device *device);

#define ELEMENTS 64

static int failures;

#define CHECK(condition)                                                                      \
  do {                                                                                        \
    if (!(condition)) {                                                                       \
      printf("%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition, cx_last_error()); \
      ++failures;                                                                             \
    }                                                                                         \
  } while (0)

static void run(cx_device *device, const cx_program *program) {
  cx_executable *executable = NULL;
  float x[ELEMENTS], y[ELEMENTS];
  const int64_t x_shape[] = {1, ELEMENTS}, wrong_shape[] = {ELEMENTS};
  cx_tensor input, output;
  cx_run_info info;
  char *json = NULL;
  int i, round;

  CHECK(cx_executable_create(device, program, &executable) == CX_SUCCESS);
  CHECK(cx_device_close(device) == CX_ERROR_BUSY);
  for (i = 0; i < ELEMENTS; ++i) x[i] = (float)i - 32.0f;
  memset(&input, 0, sizeof input);
  input.struct_size = sizeof input;
  input.name = "x";
  input.type = "float32";
  input.shape = x_shape;
  input.rank = 2;
  input.data = x;
  input.bytes = sizeof x;
  memset(&output, 0, sizeof output);
  output.struct_size = sizeof output;
  output.name = "y";
  output.data = y;
  output.bytes = sizeof y;
  for (round = 0; round < 2; ++round) {
    memset(y, 0xff, sizeof y);
    info.struct_size = sizeof info;
    CHECK(cx_executable_run(executable, &input, 1, &output, 1, &info) == CX_SUCCESS);
    for (i = 0; i < ELEMENTS; ++i) {
      const float sum = x[i] + 1.5f;
      CHECK(y[i] == (sum > 0 ? sum : 0));
    }
    CHECK(info.latency_us > info.launch_us && info.launch_us > 0);
    CHECK(info.packets == 3 && info.macs == 12345);
    CHECK(0 < info.energy_least_uj && info.energy_least_uj <= info.energy_uj && info.energy_uj <= info.energy_most_uj);
    /* The span that it was measured for is longer than the latency. */
    CHECK(info.average_w > 0 && info.average_w < info.energy_uj / info.latency_us);
  }
  CHECK(cx_executable_run(executable, &input, 1, NULL, 0, NULL) == CX_SUCCESS);
  CHECK(cx_executable_report_json(executable, &json) == CX_SUCCESS);
  CHECK(json && strstr(json, "\"latency_us\""));
  cx_free(json);

  input.shape = wrong_shape;
  input.rank = 1;
  CHECK(cx_executable_run(executable, &input, 1, &output, 1, NULL) == CX_ERROR_INPUT);
  CHECK(strstr(cx_last_error(), "has shape [64], expected [1, 64]") != NULL);
  input.shape = x_shape;
  input.rank = 2;
  output.bytes = 4;
  CHECK(cx_executable_run(executable, &input, 1, &output, 1, NULL) == CX_ERROR_INPUT);
  output.bytes = sizeof y;
  output.name = "z";
  CHECK(cx_executable_run(executable, &input, 1, &output, 1, NULL) == CX_ERROR_INPUT);
  input.struct_size = 0;
  CHECK(cx_executable_run(executable, &input, 1, NULL, 0, NULL) == CX_ERROR_USAGE);
  CHECK(cx_executable_free(executable) == CX_SUCCESS);
}

/* The result of one executable is the input of another; nothing of it passes the host. */
static void run_on_device(cx_device *device, const cx_program *program) {
  cx_executable *executable = NULL;
  cx_device_tensor *x = NULL, *y = NULL;
  float values[ELEMENTS], back[ELEMENTS];
  const int64_t x_shape[] = {1, ELEMENTS}, y_shape[] = {ELEMENTS};
  cx_run_info info;
  cx_tensor output;
  int i;

  CHECK(cx_executable_create(device, program, &executable) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "float32", x_shape, 2, &x) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "float32", y_shape, 1, &y) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "float33", y_shape, 1, NULL) == CX_ERROR_USAGE);
  for (i = 0; i < ELEMENTS; ++i) values[i] = (float)i - 32.0f;
  CHECK(cx_device_tensor_write(x, values, sizeof values) == CX_SUCCESS);
  CHECK(cx_device_tensor_write(x, values, 4) == CX_ERROR_INPUT);
  CHECK(cx_executable_bind(executable, CX_INPUT, "y", x) == CX_ERROR_INPUT);
  CHECK(cx_executable_bind(executable, CX_INPUT, "x", y) == CX_ERROR_INPUT);
  CHECK(cx_executable_bind(executable, CX_INPUT, "x", x) == CX_SUCCESS);
  CHECK(cx_executable_bind(executable, CX_OUTPUT, "y", y) == CX_SUCCESS);
  info.struct_size = sizeof info;
  CHECK(cx_executable_run(executable, NULL, 0, NULL, 0, &info) == CX_SUCCESS);
  CHECK(info.packets == 2);
  CHECK(cx_device_tensor_read(y, back, sizeof back) == CX_SUCCESS);
  for (i = 0; i < ELEMENTS; ++i) {
    const float sum = values[i] + 1.5f;
    CHECK(back[i] == (sum > 0 ? sum : 0));
  }
  CHECK(cx_device_tensor_read(y, back, 8) == CX_ERROR_INPUT);
  /* A tensor that is freed while it is bound lives on in the executable. */
  CHECK(cx_device_tensor_free(y) == CX_SUCCESS);
  memset(&output, 0, sizeof output);
  output.struct_size = sizeof output;
  output.name = "y";
  output.data = values;
  output.bytes = sizeof values;
  CHECK(cx_executable_run(executable, NULL, 0, &output, 1, &info) == CX_SUCCESS);
  CHECK(memcmp(values, back, sizeof back) == 0);
  CHECK(cx_executable_bind(executable, CX_INPUT, "x", NULL) == CX_SUCCESS);
  CHECK(cx_executable_run(executable, NULL, 0, &output, 1, &info) == CX_ERROR_INPUT);
  CHECK(cx_executable_free(executable) == CX_SUCCESS);
  CHECK(cx_device_close(device) == CX_ERROR_BUSY);
  CHECK(cx_device_tensor_free(x) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(NULL) == CX_SUCCESS);
}

/* Events, and a firmware crash that the device comes back from. */
static void faults(cx_device *device, const cx_program *program) {
  cx_executable *executable = NULL;
  cx_event event;
  cx_fault_info fault;
  cx_recovery_level level = CX_RECOVERY_ENGINE_RESET;
  int found = 1;

  memset(&event, 0, sizeof event);
  event.struct_size = sizeof event;
  CHECK(cx_device_event_fd(device) >= 0 && cx_device_event_fd(NULL) == -1);
  CHECK(cx_device_next_event(device, &event, &found) == CX_SUCCESS && found == 0);
  CHECK(cx_device_inject_fault(device, "gremlin") == CX_ERROR_INPUT);
  CHECK(cx_device_inject_fault(device, NULL) == CX_ERROR_USAGE);
  CHECK(cx_device_next_event(device, NULL, &found) == CX_ERROR_USAGE);
  CHECK(cx_device_set_event_mask(device, 0) == CX_SUCCESS);
  CHECK(cx_device_end_thermal_trip(device) == CX_SUCCESS);
  CHECK(cx_device_recover(device, &level) == CX_SUCCESS && level == CX_RECOVERY_NONE);

  CHECK(cx_device_inject_fault(device, "firmware_crash") == CX_SUCCESS);
  CHECK(cx_executable_create(device, program, &executable) == CX_ERROR_DEVICE_FAULT);
  fault.struct_size = sizeof fault;
  CHECK(cx_last_fault(&fault) == CX_SUCCESS && fault.status == 22);
  CHECK(cx_device_next_event(device, &event, &found) == CX_SUCCESS && found == 1);
  CHECK(event.kind == CX_EVENT_FIRMWARE_CRASH && event.status == 22 && event.cause == 2 && event.count == 1);
  CHECK(cx_device_next_event(device, &event, &found) == CX_SUCCESS && found == 0);
  CHECK(cx_device_recover(device, &level) == CX_SUCCESS && level == CX_RECOVERY_FUNCTION_RESET);
  run(device, program);
}

static void count(void *context) { ++*(int *)context; }

static void streams(cx_device *device, const cx_program *program) {
  const int64_t shape[] = {1, ELEMENTS}, y_shape[] = {ELEMENTS}, other_shape[] = {2, ELEMENTS}, odd_shape[] = {3};
  cx_executable *executable = NULL;
  cx_device_tensor *x = NULL, *y = NULL, *other = NULL, *odd = NULL;
  cx_stream *a = NULL, *b = NULL;
  cx_timeline *timeline = NULL;
  cx_marker *begin = NULL, *end = NULL;
  cx_command_buffer *commands = NULL;
  float values[ELEMENTS];
  double elapsed = 0;
  uint64_t value = 0;
  int i, done = -1, calls = 0;

  CHECK(cx_executable_create(device, program, &executable) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "float32", shape, 2, &x) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "float32", y_shape, 1, &y) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "float32", other_shape, 2, &other) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "uint8", odd_shape, 1, &odd) == CX_SUCCESS);
  CHECK(cx_stream_create(device, 4, &a) == CX_ERROR_USAGE && a == NULL);
  CHECK(cx_stream_create(NULL, 0, &a) == CX_ERROR_USAGE);
  CHECK(cx_stream_create(device, 0, &a) == CX_SUCCESS);
  CHECK(cx_stream_create(device, 3, &b) == CX_SUCCESS);
  CHECK(cx_timeline_create(device, 7, &timeline) == CX_SUCCESS);
  CHECK(cx_marker_create(device, &begin) == CX_SUCCESS);
  CHECK(cx_marker_create(device, &end) == CX_SUCCESS);
  CHECK(cx_command_buffer_create(device, &commands) == CX_SUCCESS);

  CHECK(cx_stream_launch(a, executable) == CX_ERROR_INPUT);
  CHECK(cx_command_buffer_launch(commands, executable) == CX_ERROR_INPUT);
  CHECK(cx_executable_bind(executable, CX_INPUT, "x", x) == CX_SUCCESS);
  CHECK(cx_executable_bind(executable, CX_OUTPUT, "y", y) == CX_SUCCESS);
  CHECK(cx_stream_copy(a, x, other) == CX_ERROR_USAGE);
  CHECK(cx_stream_copy(a, x, NULL) == CX_ERROR_USAGE);
  CHECK(cx_stream_fill(a, odd, 0) == CX_ERROR_USAGE);
  CHECK(cx_stream_execute(a, commands) == CX_ERROR_USAGE); /* not finished */

  /* x becomes 1, y = x + 1.5, x = y, four times: 1 + 4 * 1.5. */
  CHECK(cx_command_buffer_launch(commands, executable) == CX_SUCCESS);
  CHECK(cx_command_buffer_copy(commands, x, y) == CX_SUCCESS);
  CHECK(cx_command_buffer_finish(commands) == CX_SUCCESS);
  CHECK(cx_command_buffer_fill(commands, x, 0) == CX_ERROR_USAGE);
  CHECK(cx_stream_record(a, begin) == CX_SUCCESS);
  CHECK(cx_stream_fill(a, x, 0x3f800000) == CX_SUCCESS);
  for (i = 0; i < 4; ++i) CHECK(cx_stream_execute(a, commands) == CX_SUCCESS);
  CHECK(cx_stream_call(a, count, &calls) == CX_SUCCESS);
  CHECK(cx_stream_signal(a, timeline, 9) == CX_SUCCESS);
  CHECK(cx_stream_wait(b, timeline, 9) == CX_SUCCESS);
  CHECK(cx_stream_launch(b, executable) == CX_SUCCESS);
  CHECK(cx_stream_record(b, end) == CX_SUCCESS);
  CHECK(cx_stream_wait_marker(a, end) == CX_SUCCESS);
  CHECK(cx_stream_query(b, &done) == CX_SUCCESS && done == 0);
  CHECK(cx_marker_elapsed_us(begin, end, &elapsed) == CX_ERROR_USAGE);
  CHECK(cx_stream_synchronize(a, 0) == CX_SUCCESS);
  CHECK(cx_marker_query(end, &done) == CX_SUCCESS && done == 1);
  CHECK(cx_marker_elapsed_us(begin, end, &elapsed) == CX_SUCCESS && elapsed > 0);
  CHECK(calls == 1);
  CHECK(cx_timeline_get_value(timeline, &value) == CX_SUCCESS && value == 9);
  CHECK(cx_device_tensor_read(y, values, sizeof values) == CX_SUCCESS);
  for (i = 0; i < ELEMENTS; ++i) CHECK(values[i] == 1.0f + 5 * 1.5f);

  CHECK(cx_timeline_wait(timeline, 10, 0, 0) == CX_ERROR_TIMEOUT);
  CHECK(cx_stream_wait(b, timeline, 10) == CX_SUCCESS);
  CHECK(cx_stream_synchronize(b, 50) == CX_ERROR_TIMEOUT);
  CHECK(cx_timeline_signal(timeline, 10) == CX_SUCCESS);
  CHECK(cx_timeline_wait(timeline, 10, 0, 0) == CX_SUCCESS);
  CHECK(cx_stream_synchronize(b, 0) == CX_SUCCESS);
  CHECK(cx_stream_clear_error(b) == CX_SUCCESS);
  CHECK(signal_between_threads(device) == CX_SUCCESS);

  CHECK(cx_device_close(device) == CX_ERROR_BUSY);
  CHECK(cx_stream_free(a) == CX_SUCCESS && cx_stream_free(b) == CX_SUCCESS && cx_stream_free(NULL) == CX_SUCCESS);
  CHECK(cx_timeline_free(timeline) == CX_SUCCESS && cx_timeline_free(NULL) == CX_SUCCESS);
  CHECK(cx_marker_free(begin) == CX_SUCCESS && cx_marker_free(end) == CX_SUCCESS && cx_marker_free(NULL) == CX_SUCCESS);
  CHECK(cx_command_buffer_free(commands) == CX_SUCCESS && cx_command_buffer_free(NULL) == CX_SUCCESS);
  CHECK(cx_executable_free(executable) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(x) == CX_SUCCESS && cx_device_tensor_free(y) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(other) == CX_SUCCESS && cx_device_tensor_free(odd) == CX_SUCCESS);
}

static unsigned seed = 20240611u;

static void fill_at_random(unsigned char *data, size_t bytes) {
  size_t i;
  for (i = 0; i < bytes; ++i) {
    seed = seed * 1664525u + 1013904223u;
    data[i] = (unsigned char)(seed >> 24);
  }
}

/* What a leak report said, and how often there was one. */
struct leaks {
  int count;
  char text[4096];
};

static void take_report(const char *report, void *context) {
  struct leaks *leaks = context;
  ++leaks->count;
  strncpy(leaks->text, report, sizeof leaks->text - 1);
}

static cx_result open_with(const char *where, cx_device_options *options, cx_device **device) {
  options->struct_size = sizeof *options;
  return cx_device_open_with(where, options, device);
}

static void device_options(const char *yaml) {
  const char *sets[] = {"spm.kib=256"}, *bad_sets[] = {"spm.kib=-1"}, *null_sets[] = {NULL};
  const cx_device_options none = {0};
  cx_device_options options = none;
  cx_device *device = NULL;
  cx_device_info info;
  cx_host_memory *memory = NULL;
  struct leaks leaks = {0, ""};
  char address[512], *report = NULL;

  CHECK(cx_device_open_with(NULL, NULL, &device) == CX_ERROR_USAGE);
  CHECK(cx_device_open_with(yaml, NULL, NULL) == CX_ERROR_USAGE);
  CHECK(cx_device_open_with(yaml, &none, &device) == CX_ERROR_USAGE && device == NULL); /* struct_size */
  CHECK(open_with("/nonexistent.yaml", &options, &device) == CX_ERROR_INPUT);
  CHECK(open_with("vfio-user:/nonexistent.sock", &options, &device) == CX_ERROR_INPUT);
  options.set_count = 1;
  CHECK(open_with(yaml, &options, &device) == CX_ERROR_USAGE);
  options.sets = null_sets;
  CHECK(open_with(yaml, &options, &device) == CX_ERROR_USAGE);
  options.sets = bad_sets;
  CHECK(open_with(yaml, &options, &device) == CX_ERROR_INPUT);
  options = none;
  options.link_payload_bytes = 100;
  CHECK(open_with(yaml, &options, &device) == CX_ERROR_INPUT);
  options = none;
  options.link_read_request_bytes = 8192;
  CHECK(open_with(yaml, &options, &device) == CX_ERROR_INPUT);
  options = none;
  options.link_relaxed_ordering = 3;
  CHECK(open_with(yaml, &options, &device) == CX_ERROR_USAGE);
  options = none;
  options.link_extended_tags = 3;
  CHECK(open_with(yaml, &options, &device) == CX_ERROR_USAGE && device == NULL);
  options = none;
  options.staging_bytes = UINT64_MAX / 4;
  CHECK(open_with(yaml, &options, &device) == CX_ERROR_OUT_OF_MEMORY && device == NULL);

  options = none;
  options.sets = sets;
  options.set_count = 1;
  options.link_payload_bytes = 128;
  options.link_read_request_bytes = 256;
  options.link_relaxed_ordering = CX_SWITCH_ON;
  options.link_extended_tags = CX_SWITCH_OFF;
  options.staging_bytes = 65536;
  options.on_leak = take_report;
  options.leak_context = &leaks;
  CHECK(open_with(yaml, &options, &device) == CX_SUCCESS);
  info.struct_size = sizeof info;
  CHECK(cx_device_get_info(device, &info) == CX_SUCCESS && info.spm_bytes == 256 * 1024);
  CHECK(info.link_payload_bytes == 128 && info.link_read_request_bytes == 256);
  CHECK(info.link_relaxed_ordering == 1 && info.link_extended_tags == 0);
  CHECK(info.link_generation > 0 && info.link_width > 0);
  CHECK(cx_host_memory_create(device, 100, "counters", &memory) == CX_SUCCESS);
  CHECK(cx_device_close(device) == CX_ERROR_BUSY && strstr(cx_last_error(), "counters: ") != NULL);
  CHECK(leaks.count == 1 && strstr(leaks.text, "1 objects") != NULL && strstr(leaks.text, "counters: ") != NULL);
  CHECK(cx_device_memory_report(NULL, &report) == CX_ERROR_USAGE);
  CHECK(cx_device_memory_report(device, NULL) == CX_ERROR_USAGE);
  CHECK(cx_device_memory_report(device, &report) == CX_SUCCESS && strcmp(report, leaks.text) == 0);
  cx_free(report);
  CHECK(cx_host_memory_free(memory) == CX_SUCCESS);
  CHECK(cx_device_close(device) == CX_SUCCESS && leaks.count == 1);

  /* An address, and an option the other way. */
  options = none;
  options.link_relaxed_ordering = CX_SWITCH_OFF;
  options.link_extended_tags = CX_SWITCH_ON;
  snprintf(address, sizeof address, "inproc:%s", yaml);
  CHECK(open_with(address, &options, &device) == CX_SUCCESS);
  CHECK(cx_device_get_info(device, &info) == CX_SUCCESS);
  CHECK(info.link_relaxed_ordering == 0 && info.link_extended_tags == 1);
  CHECK(cx_device_close(device) == CX_SUCCESS);
}

static void host_memory(cx_device *device) {
  cx_host_memory *memory = NULL, *again = NULL;
  cx_host_memory_info info;
  static unsigned char data[10000];

  info.struct_size = sizeof info;
  CHECK(cx_host_memory_create(NULL, 100, NULL, &memory) == CX_ERROR_USAGE);
  CHECK(cx_host_memory_create(device, 0, NULL, &memory) == CX_ERROR_USAGE && memory == NULL);
  CHECK(cx_host_memory_create(device, UINT64_MAX, NULL, &memory) == CX_ERROR_OUT_OF_MEMORY);
  CHECK(cx_host_memory_create(device, 100, NULL, NULL) == CX_ERROR_USAGE);
  CHECK(cx_host_memory_create(device, 100, NULL, &memory) == CX_SUCCESS);
  CHECK(cx_host_memory_get_info(NULL, &info) == CX_ERROR_USAGE);
  CHECK(cx_host_memory_get_info(memory, NULL) == CX_ERROR_USAGE);
  CHECK(cx_host_memory_get_info(memory, &info) == CX_SUCCESS);
  CHECK(info.data != NULL && info.bytes == 100 && info.registered == 0 && ((unsigned char *)info.data)[99] == 0);
  CHECK(cx_host_memory_free(memory) == CX_SUCCESS && cx_host_memory_free(NULL) == CX_SUCCESS);

  CHECK(cx_host_memory_register(NULL, data, sizeof data, 1, NULL, &memory) == CX_ERROR_USAGE);
  CHECK(cx_host_memory_register(device, NULL, sizeof data, 1, NULL, &memory) == CX_ERROR_USAGE);
  CHECK(cx_host_memory_register(device, data, 0, 1, NULL, &memory) == CX_ERROR_USAGE && memory == NULL);
  CHECK(cx_host_memory_register(device, data, sizeof data, 1, NULL, NULL) == CX_ERROR_USAGE);
  CHECK(cx_host_memory_register(device, data, sizeof data, 1, "input", &memory) == CX_SUCCESS);
  CHECK(cx_host_memory_register(device, data + 50, 50, 1, NULL, &again) == CX_ERROR_USAGE && again == NULL);
  CHECK(cx_host_memory_get_info(memory, &info) == CX_SUCCESS);
  CHECK(info.data == data && info.bytes == sizeof data && info.registered == 1);
  CHECK(cx_host_memory_free(memory) == CX_SUCCESS);
}

/* device_writes, and copies of pinned, registered and pageable memory in a stream's order. */
static void transfers(cx_device *device, cx_device *stranger) {
  enum { BYTES = 50000 };
  const int64_t shape[] = {BYTES};
  cx_device_tensor *tensor = NULL, *foreign = NULL;
  cx_stream *stream = NULL;
  cx_timeline *gate = NULL;
  cx_host_memory *pinned = NULL, *registered = NULL;
  cx_host_memory_info info;
  cx_event event;
  int found = 0;
  static unsigned char memory[BYTES], pageable[BYTES], back[BYTES], first[BYTES];

  CHECK(cx_device_tensor_create(device, "uint8", shape, 1, &tensor) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(stranger, "uint8", shape, 1, &foreign) == CX_SUCCESS);
  CHECK(cx_stream_create(device, 1, &stream) == CX_SUCCESS);
  CHECK(cx_timeline_create(device, 0, &gate) == CX_SUCCESS);
  CHECK(cx_host_memory_create(device, BYTES, NULL, &pinned) == CX_SUCCESS);
  CHECK(cx_host_memory_register(device, memory, BYTES, 0, NULL, &registered) == CX_SUCCESS);
  info.struct_size = sizeof info;
  CHECK(cx_host_memory_get_info(pinned, &info) == CX_SUCCESS);

  CHECK(cx_stream_upload(NULL, tensor, memory, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_stream_upload(stream, NULL, memory, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_stream_upload(stream, foreign, memory, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_stream_upload(stream, tensor, NULL, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_stream_upload(stream, tensor, memory, BYTES - 1) == CX_ERROR_INPUT);
  CHECK(cx_stream_download(NULL, tensor, back, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_stream_download(stream, NULL, back, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_stream_download(stream, foreign, back, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_stream_download(stream, tensor, NULL, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_stream_download(stream, tensor, back, BYTES + 1) == CX_ERROR_INPUT);

  fill_at_random(memory, BYTES);
  fill_at_random(pageable, BYTES);
  CHECK(cx_stream_wait(stream, gate, 1) == CX_SUCCESS);
  CHECK(cx_stream_upload(stream, tensor, memory, BYTES) == CX_SUCCESS);
  CHECK(cx_stream_download(stream, tensor, first, BYTES) == CX_SUCCESS);
  CHECK(cx_stream_upload(stream, tensor, pageable, BYTES) == CX_SUCCESS);
  CHECK(cx_stream_download(stream, tensor, info.data, BYTES) == CX_SUCCESS);
  CHECK(cx_stream_fill(stream, tensor, 0) == CX_SUCCESS);
  CHECK(cx_stream_download(stream, tensor, back, BYTES) == CX_SUCCESS);
  CHECK(cx_host_memory_free(registered) == CX_ERROR_BUSY);
  CHECK(cx_host_memory_free(pinned) == CX_ERROR_BUSY);
  CHECK(cx_timeline_signal(gate, 1) == CX_SUCCESS);
  back[0] = 1;
  CHECK(cx_stream_synchronize(stream, 0) == CX_SUCCESS);
  CHECK(memcmp(first, memory, BYTES) == 0 && memcmp(info.data, pageable, BYTES) == 0);
  CHECK(back[0] == 0 && memcmp(back, back + 1, BYTES - 1) == 0);

  /* The device must not write to this registration. */
  CHECK(cx_stream_download(stream, tensor, memory, BYTES) == CX_SUCCESS);
  CHECK(cx_stream_synchronize(stream, 0) == CX_ERROR_DEVICE_FAULT);
  event.struct_size = sizeof event;
  CHECK(cx_device_next_event(device, &event, &found) == CX_SUCCESS && found == 1 && event.kind == CX_EVENT_IOMMU);
  CHECK(cx_device_next_event(device, &event, &found) == CX_SUCCESS && found == 0);
  CHECK(cx_stream_clear_error(stream) == CX_SUCCESS);
  CHECK(cx_host_memory_free(registered) == CX_SUCCESS && cx_host_memory_free(pinned) == CX_SUCCESS);
  CHECK(cx_stream_download(stream, tensor, memory, BYTES) == CX_SUCCESS); /* pageable now */
  CHECK(cx_stream_synchronize(stream, 0) == CX_SUCCESS && memcmp(memory, back, BYTES) == 0);
  CHECK(cx_timeline_free(gate) == CX_SUCCESS && cx_stream_free(stream) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(tensor) == CX_SUCCESS && cx_device_tensor_free(foreign) == CX_SUCCESS);
}

static void pools(cx_device *device, cx_device *stranger) {
  const int64_t shape[] = {1000}, bad_shape[] = {-1};
  cx_device_pool *pool = NULL;
  cx_device_pool_info info;
  cx_device_tensor *a = NULL, *b = NULL, *plain = NULL;
  cx_stream *stream = NULL, *foreign = NULL;
  uint64_t given = 0;
  int round;
  static unsigned char data[4000], back[4000];

  info.struct_size = sizeof info;
  CHECK(cx_device_pool_create(NULL, NULL, &pool) == CX_ERROR_USAGE);
  CHECK(cx_device_pool_create(device, NULL, NULL) == CX_ERROR_USAGE);
  CHECK(cx_device_pool_create(device, "cache", &pool) == CX_SUCCESS);
  CHECK(cx_stream_create(device, 1, &stream) == CX_SUCCESS);
  CHECK(cx_stream_create(stranger, 1, &foreign) == CX_SUCCESS);
  CHECK(cx_stream_create_tensor(foreign, pool, "float32", shape, 1, &a) == CX_ERROR_USAGE && a == NULL);
  CHECK(cx_stream_create_tensor(stream, NULL, "float32", shape, 1, &a) == CX_ERROR_USAGE);
  CHECK(cx_stream_create_tensor(stream, pool, NULL, shape, 1, &a) == CX_ERROR_USAGE);
  CHECK(cx_stream_create_tensor(stream, pool, "float33", shape, 1, &a) == CX_ERROR_INPUT);
  CHECK(cx_stream_create_tensor(stream, pool, "float32", NULL, 1, &a) == CX_ERROR_USAGE);
  CHECK(cx_stream_create_tensor(stream, pool, "float32", bad_shape, 1, &a) == CX_ERROR_INPUT && a == NULL);
  CHECK(cx_stream_create_tensor(stream, pool, "float32", shape, 1, NULL) == CX_ERROR_USAGE);
  CHECK(cx_device_pool_get_info(pool, &info) == CX_SUCCESS && info.used_bytes == 0);

  /* One block for three tensors, one after the other in the stream. */
  for (round = 0; round < 3; ++round) {
    fill_at_random(data, sizeof data);
    CHECK(cx_stream_create_tensor(stream, pool, "float32", shape, 1, &a) == CX_SUCCESS);
    CHECK(cx_stream_upload(stream, a, data, sizeof data) == CX_SUCCESS);
    CHECK(cx_stream_download(stream, a, back, sizeof back) == CX_SUCCESS);
    CHECK(cx_stream_free_tensor(stream, a) == CX_SUCCESS);
    CHECK(cx_stream_synchronize(stream, 0) == CX_SUCCESS && memcmp(data, back, sizeof data) == 0);
  }
  CHECK(cx_device_pool_get_info(pool, &info) == CX_SUCCESS);
  CHECK(info.allocations == 3 && info.reused == 2 && info.free_blocks == 1 && info.used_bytes == 0);
  CHECK(info.reserved_bytes >= sizeof data && info.fragmentation == 1 && info.peak_used_bytes == info.reserved_bytes);
  /* A tensor that nobody's work uses first, freed without a stream. */
  CHECK(cx_stream_create_tensor(NULL, pool, "float32", shape, 1, &b) == CX_SUCCESS);
  CHECK(cx_device_pool_get_info(pool, &info) == CX_SUCCESS && info.reused == 3 && info.asked_bytes == sizeof data);
  CHECK(cx_device_tensor_create(device, "float32", shape, 1, &plain) == CX_SUCCESS);
  CHECK(cx_stream_free_tensor(stream, plain) == CX_ERROR_USAGE);
  CHECK(cx_stream_free_tensor(NULL, b) == CX_ERROR_USAGE);
  CHECK(cx_stream_free_tensor(foreign, b) == CX_ERROR_USAGE);
  CHECK(cx_stream_free_tensor(stream, NULL) == CX_SUCCESS);
  CHECK(cx_device_tensor_write(b, data, sizeof data) == CX_SUCCESS); /* what was refused is still there */
  CHECK(cx_device_tensor_free(b) == CX_SUCCESS && cx_device_tensor_free(plain) == CX_SUCCESS);
  CHECK(cx_device_pool_trim(NULL, 0, &given) == CX_ERROR_USAGE);
  CHECK(cx_device_pool_trim(pool, UINT64_MAX, NULL) == CX_SUCCESS);
  CHECK(cx_device_pool_trim(pool, 0, &given) == CX_SUCCESS && given >= sizeof data);
  CHECK(cx_device_pool_get_info(pool, NULL) == CX_ERROR_USAGE);
  CHECK(cx_device_pool_get_info(NULL, &info) == CX_ERROR_USAGE);
  CHECK(cx_device_pool_get_info(pool, &info) == CX_SUCCESS && info.reserved_bytes == 0 && info.free_blocks == 0);
  /* A tensor that outlives the pool's handle. */
  CHECK(cx_stream_create_tensor(stream, pool, "float32", shape, 1, &a) == CX_SUCCESS);
  CHECK(cx_device_pool_free(pool) == CX_SUCCESS && cx_device_pool_free(NULL) == CX_SUCCESS);
  CHECK(cx_device_tensor_write(a, data, sizeof data) == CX_SUCCESS);
  CHECK(cx_stream_free_tensor(stream, a) == CX_SUCCESS);
  CHECK(cx_stream_free(stream) == CX_SUCCESS && cx_stream_free(foreign) == CX_SUCCESS);
}

static void peers(cx_device *one, cx_device *two) {
  enum { BYTES = 30000 };
  const int64_t shape[] = {BYTES}, other_shape[] = {BYTES / 2}, words[] = {BYTES / 4};
  cx_device_tensor *from = NULL, *to = NULL, *near = NULL, *small = NULL, *typed = NULL;
  cx_stream *stream = NULL, *foreign = NULL;
  cx_copy_info info;
  static unsigned char data[BYTES], back[BYTES];

  CHECK(cx_device_tensor_create(one, "uint8", shape, 1, &from) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(one, "uint8", shape, 1, &near) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(two, "uint8", shape, 1, &to) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(two, "uint8", other_shape, 1, &small) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(two, "int32", words, 1, &typed) == CX_SUCCESS);
  CHECK(cx_stream_create(one, 1, &stream) == CX_SUCCESS);
  CHECK(cx_stream_create(two, 1, &foreign) == CX_SUCCESS);
  CHECK(cx_stream_copy_peer(NULL, to, from) == CX_ERROR_USAGE);
  CHECK(cx_stream_copy_peer(foreign, to, from) == CX_ERROR_USAGE); /* it is the source's stream */
  CHECK(cx_stream_copy_peer(stream, NULL, from) == CX_ERROR_USAGE);
  CHECK(cx_stream_copy_peer(stream, small, from) == CX_ERROR_USAGE);
  CHECK(cx_stream_copy_peer(stream, typed, from) == CX_ERROR_USAGE);
  CHECK(cx_stream_copy_peer(stream, to, NULL) == CX_ERROR_USAGE);
  CHECK(cx_stream_copy(stream, to, from) == CX_ERROR_USAGE); /* inside a device only */

  fill_at_random(data, BYTES);
  CHECK(cx_stream_upload(stream, from, data, BYTES) == CX_SUCCESS);
  CHECK(cx_stream_copy_peer(stream, to, from) == CX_SUCCESS);
  CHECK(cx_stream_copy_peer(stream, near, from) == CX_SUCCESS);
  CHECK(cx_stream_fill(stream, from, 0) == CX_SUCCESS);
  CHECK(cx_stream_synchronize(stream, 0) == CX_SUCCESS);
  CHECK(cx_device_tensor_read(to, back, BYTES) == CX_SUCCESS && memcmp(data, back, BYTES) == 0);
  memset(back, 0, BYTES);
  CHECK(cx_device_tensor_read(near, back, BYTES) == CX_SUCCESS && memcmp(data, back, BYTES) == 0);

  info.struct_size = 0;
  CHECK(cx_device_tensor_copy(to, from, &info) == CX_ERROR_USAGE);
  info.struct_size = sizeof info;
  CHECK(cx_device_tensor_copy(NULL, from, &info) == CX_ERROR_USAGE);
  CHECK(cx_device_tensor_copy(small, from, &info) == CX_ERROR_USAGE);
  CHECK(cx_device_tensor_copy(to, NULL, &info) == CX_ERROR_USAGE);
  CHECK(cx_device_tensor_copy(from, to, &info) == CX_SUCCESS && info.path == CX_COPY_DIRECT && info.duration_us > 0);
  CHECK(cx_device_tensor_copy(near, from, &info) == CX_SUCCESS && info.path == CX_COPY_DEVICE && info.duration_us > 0);
  CHECK(cx_device_tensor_copy(near, from, NULL) == CX_SUCCESS);
  memset(back, 0, BYTES);
  CHECK(cx_device_tensor_read(from, back, BYTES) == CX_SUCCESS && memcmp(data, back, BYTES) == 0);
  CHECK(cx_stream_free(stream) == CX_SUCCESS && cx_stream_free(foreign) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(from) == CX_SUCCESS && cx_device_tensor_free(near) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(to) == CX_SUCCESS && cx_device_tensor_free(small) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(typed) == CX_SUCCESS);
}

static void lists(cx_device *device, cx_device *stranger) {
  enum { BYTES = 4096 };
  const int64_t shape[] = {BYTES}, other_shape[] = {BYTES / 2};
  cx_device_tensor *a = NULL, *b = NULL, *c = NULL, *small = NULL, *foreign = NULL;
  cx_timeline *ping = NULL, *pong = NULL, *foreign_line = NULL;
  cx_stream *stream = NULL;
  cx_command_buffer *commands = NULL;
  cx_host_memory *memory = NULL;
  cx_host_memory_info place;
  unsigned char *in, *out;
  uint64_t *cycles, value = 0;
  uint32_t wait = 0, copy = 0, signal = 0, count = 0;
  int done = -1;
  static unsigned char pageable[BYTES];

  CHECK(cx_device_tensor_create(device, "uint8", shape, 1, &a) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "uint8", shape, 1, &b) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "uint8", shape, 1, &c) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "uint8", other_shape, 1, &small) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(stranger, "uint8", shape, 1, &foreign) == CX_SUCCESS);
  CHECK(cx_timeline_create(device, 0, &ping) == CX_SUCCESS && cx_timeline_create(device, 0, &pong) == CX_SUCCESS);
  CHECK(cx_timeline_create(stranger, 0, &foreign_line) == CX_SUCCESS);
  CHECK(cx_stream_create(device, 1, &stream) == CX_SUCCESS);
  CHECK(cx_command_buffer_create(device, &commands) == CX_SUCCESS);
  CHECK(cx_host_memory_create(device, 2 * BYTES + 64, NULL, &memory) == CX_SUCCESS);
  place.struct_size = sizeof place;
  CHECK(cx_host_memory_get_info(memory, &place) == CX_SUCCESS);
  in = place.data;
  out = in + BYTES;
  cycles = (uint64_t *)(void *)(in + 2 * BYTES);

  CHECK(cx_command_buffer_upload(NULL, a, in, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_upload(commands, NULL, in, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_upload(commands, foreign, in, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_upload(commands, a, NULL, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_upload(commands, a, pageable, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_upload(commands, a, in, BYTES - 1) == CX_ERROR_INPUT);
  CHECK(cx_command_buffer_download(NULL, a, out, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_download(commands, NULL, out, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_download(commands, foreign, out, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_download(commands, a, NULL, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_download(commands, a, pageable, BYTES) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_download(commands, a, out, BYTES + 1) == CX_ERROR_INPUT);
  CHECK(cx_command_buffer_signal(NULL, ping, 1) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_signal(commands, NULL, 1) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_signal(commands, foreign_line, 1) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_wait(NULL, ping, 1) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_wait(commands, NULL, 1) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_wait(commands, foreign_line, 1) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_timestamp(NULL, cycles) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_timestamp(commands, NULL) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_timestamp(commands, &value) == CX_ERROR_USAGE); /* pageable */
  CHECK(cx_command_buffer_timestamp(commands, (uint64_t *)(void *)(in + 4)) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_get_count(NULL, &count) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_get_count(commands, NULL) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_get_count(commands, &wait) == CX_SUCCESS && wait == 0);

  CHECK(cx_command_buffer_wait(commands, ping, 1) == CX_SUCCESS);
  CHECK(cx_command_buffer_timestamp(commands, cycles) == CX_SUCCESS);
  CHECK(cx_command_buffer_upload(commands, a, in, BYTES) == CX_SUCCESS);
  CHECK(cx_command_buffer_get_count(commands, &copy) == CX_SUCCESS);
  CHECK(cx_command_buffer_copy(commands, b, a) == CX_SUCCESS);
  CHECK(cx_command_buffer_download(commands, b, out, BYTES) == CX_SUCCESS);
  CHECK(cx_command_buffer_timestamp(commands, cycles + 1) == CX_SUCCESS);
  CHECK(cx_command_buffer_get_count(commands, &signal) == CX_SUCCESS);
  CHECK(cx_command_buffer_signal(commands, pong, 1) == CX_SUCCESS);
  CHECK(cx_command_buffer_set_value(commands, wait, 2) == CX_ERROR_USAGE); /* not finished */
  CHECK(cx_command_buffer_finish(commands) == CX_SUCCESS);
  CHECK(cx_command_buffer_get_count(commands, &count) == CX_SUCCESS && count == signal + 1 && signal == 6);
  CHECK(cx_command_buffer_signal(commands, ping, 1) == CX_ERROR_USAGE);

  /* The run waits at the driver, so the device is idle and the list stays as it is. */
  fill_at_random(in, BYTES);
  CHECK(cx_stream_execute(stream, commands) == CX_SUCCESS);
  CHECK(cx_stream_query(stream, &done) == CX_SUCCESS && done == 0);
  CHECK(cx_command_buffer_set_value(commands, wait, 2) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_set_copy(commands, copy, c, a) == CX_ERROR_USAGE);
  CHECK(cx_timeline_signal(ping, 1) == CX_SUCCESS);
  CHECK(cx_timeline_wait(pong, 1, 0, 0) == CX_SUCCESS);
  CHECK(cx_stream_synchronize(stream, 0) == CX_SUCCESS);
  CHECK(memcmp(in, out, BYTES) == 0 && cycles[0] > 0 && cycles[1] > cycles[0]);

  /* Once more, the copy to another tensor: what is downloaded is still the first. */
  CHECK(cx_command_buffer_set_value(NULL, wait, 2) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_set_value(commands, copy, 2) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_set_value(commands, count, 2) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_set_copy(NULL, copy, c, a) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_set_copy(commands, wait, c, a) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_set_copy(commands, copy, NULL, a) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_set_copy(commands, copy, foreign, a) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_set_copy(commands, copy, c, NULL) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_set_copy(commands, copy, small, small) == CX_ERROR_USAGE);
  CHECK(cx_command_buffer_set_copy(commands, copy, c, a) == CX_SUCCESS);
  CHECK(cx_command_buffer_set_value(commands, wait, 5) == CX_SUCCESS);
  CHECK(cx_command_buffer_set_value(commands, signal, 9) == CX_SUCCESS);
  memcpy(pageable, in, BYTES);
  fill_at_random(in, BYTES);
  CHECK(cx_stream_signal(stream, ping, 5) == CX_SUCCESS && cx_stream_execute(stream, commands) == CX_SUCCESS);
  CHECK(cx_stream_synchronize(stream, 0) == CX_SUCCESS);
  CHECK(cx_timeline_get_value(pong, &value) == CX_SUCCESS && value == 9);
  CHECK(memcmp(out, pageable, BYTES) == 0);
  CHECK(cx_device_tensor_read(c, pageable, BYTES) == CX_SUCCESS && memcmp(in, pageable, BYTES) == 0);

  CHECK(cx_command_buffer_free(commands) == CX_SUCCESS && cx_stream_free(stream) == CX_SUCCESS);
  CHECK(cx_host_memory_free(memory) == CX_SUCCESS && cx_timeline_free(foreign_line) == CX_SUCCESS);
  CHECK(cx_timeline_free(ping) == CX_SUCCESS && cx_timeline_free(pong) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(a) == CX_SUCCESS && cx_device_tensor_free(b) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(c) == CX_SUCCESS && cx_device_tensor_free(small) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(foreign) == CX_SUCCESS);
}

/* Host memory, transfers, pools, lists and peer copies, with a second card. */
static void memory_and_copies(cx_device *device, const char *yaml) {
  cx_device *other = NULL;
  CHECK(cx_device_open(yaml, NULL, 0, &other) == CX_SUCCESS);
  if (!other) return;
  host_memory(device);
  transfers(device, other);
  pools(device, other);
  lists(device, other);
  peers(device, other);
  CHECK(cx_device_close(other) == CX_SUCCESS);
}

int main(int argc, char **argv) {
  const char *sets[] = {"spm.kib=256"};
  const char *bad_sets[] = {"spm.kib=-1"};
  cx_device *device = NULL;
  cx_program *program = NULL, *other = NULL;
  cx_executable *executable = NULL;
  cx_device_info info;
  cx_program_info program_info;
  cx_binding_info binding;
  cx_fault_info fault;
  size_t small[2];

  if (argc != 3) {
    printf("usage: %s CHIP.yaml SCRATCH.cxb\n", argv[0]);
    return 2;
  }
  CHECK(cx_api_version() == CX_API_VERSION);
  CHECK(strcmp(cx_result_string(CX_ERROR_TIMEOUT), "CX_ERROR_TIMEOUT") == 0);
  CHECK(strcmp(cx_result_string((cx_result)1234), "CX_ERROR_UNKNOWN") == 0);

  CHECK(cx_device_open("/nonexistent.yaml", NULL, 0, &device) == CX_ERROR_INPUT);
  CHECK(device == NULL && strlen(cx_last_error()) > 0);
  CHECK(cx_device_open(argv[1], bad_sets, 1, &device) == CX_ERROR_INPUT);
  CHECK(cx_device_open(NULL, NULL, 0, &device) == CX_ERROR_USAGE);
  CHECK(cx_device_open(argv[1], NULL, 1, &device) == CX_ERROR_USAGE);
  CHECK(cx_device_open(argv[1], sets, 1, &device) == CX_SUCCESS);
  if (!device) return 1;
  CHECK(strlen(cx_last_error()) == 0);

  info.struct_size = sizeof info;
  CHECK(cx_device_get_info(device, &info) == CX_SUCCESS);
  CHECK(info.struct_size == sizeof info && info.spm_bytes == 256 * 1024 && info.clock_khz == 500000);
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  CHECK(info_from_thread(device, &info) == CX_SUCCESS);
  CHECK(info.tiles == 2);
  /* A caller of an older version: only what it knows is written. */
  small[0] = sizeof small[0] + 4;
  small[1] = 0;
  CHECK(cx_device_get_info(device, (cx_device_info *)(void *)small) == CX_SUCCESS);
  CHECK((uint32_t)small[1] == (uint32_t)info.arch_hash && small[1] >> 32 == 0);
  info.struct_size = 0;
  CHECK(cx_device_get_info(device, &info) == CX_ERROR_USAGE);
  CHECK(cx_device_get_info(NULL, &info) == CX_ERROR_USAGE);
  info.struct_size = sizeof info;
  CHECK(cx_device_get_info(device, &info) == CX_SUCCESS);

  CHECK(cx_program_load("/nonexistent.cxb", &program) == CX_ERROR_INPUT);
  CHECK(write_sample_program(argv[2], info.arch_hash) == 0);
  CHECK(cx_program_load(argv[2], &program) == CX_SUCCESS);
  if (!program) return 1;
  program_info.struct_size = sizeof program_info;
  CHECK(cx_program_get_info(program, &program_info) == CX_SUCCESS);
  CHECK(strcmp(program_info.name, "sample") == 0 && program_info.inputs == 1 && program_info.outputs == 1);
  binding.struct_size = sizeof binding;
  CHECK(cx_program_get_binding(program, CX_INPUT, 0, &binding) == CX_SUCCESS);
  CHECK(strcmp(binding.name, "x") == 0 && binding.rank == 2 && binding.shape[1] == ELEMENTS &&
        binding.bytes == 4 * ELEMENTS);
  CHECK(cx_program_get_binding(program, CX_OUTPUT, 1, &binding) == CX_ERROR_USAGE);
  run(device, program);
  run_on_device(device, program);
  streams(device, program);
  memory_and_copies(device, argv[1]);
  device_options(argv[1]);
  faults(device, program);

  CHECK(write_sample_program(argv[2], info.arch_hash + 1) == 0);
  CHECK(cx_program_load(argv[2], &other) == CX_SUCCESS);
  CHECK(cx_executable_create(device, other, &executable) == CX_ERROR_INPUT && executable == NULL);
  fault.struct_size = sizeof fault;
  CHECK(cx_last_fault(&fault) == CX_SUCCESS && fault.status == 0 && fault.queue == -1);
  CHECK(cx_last_fault(NULL) == CX_ERROR_USAGE);

  CHECK(cx_program_free(other) == CX_SUCCESS);
  CHECK(cx_program_free(program) == CX_SUCCESS);
  CHECK(cx_program_free(NULL) == CX_SUCCESS);
  CHECK(cx_device_close(device) == CX_SUCCESS);
  CHECK(cx_device_close(NULL) == CX_SUCCESS);
  remove(argv[2]);
  printf("%s\n", failures ? "FAILED" : "passed");
  return failures ? 1 : 0;
}
