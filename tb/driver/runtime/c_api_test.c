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
