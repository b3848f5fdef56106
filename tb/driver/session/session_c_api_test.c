/* Sessions of the C API used from C. Prints the failed check and exits with 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/include/cx/cx.h"

/* Of session_c_api_helper.cpp. */
int write_layer_model(const char *path, const char *op);

static int failures;

#define CHECK(condition)                                                                      \
  do {                                                                                        \
    if (!(condition)) {                                                                       \
      printf("%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition, cx_last_error()); \
      ++failures;                                                                             \
    }                                                                                         \
  } while (0)

static float x_values[3 * 16];

static cx_tensor x_of(int64_t *shape, int64_t rows) {
  cx_tensor x;
  int i;
  memset(&x, 0, sizeof x);
  shape[0] = rows;
  shape[1] = 3;
  for (i = 0; i < rows * 3; ++i) x_values[i] = (float)(i % 7) - 3.0f;
  x.struct_size = sizeof x;
  x.name = "x";
  x.type = "float32";
  x.shape = shape;
  x.rank = 2;
  x.data = x_values;
  x.bytes = (uint64_t)rows * 3 * sizeof(float);
  return x;
}

static float product_at(int64_t row, int column) {
  const float *x = x_values + row * 3;
  const float sum = x[0] + 2 * x[1] + 3 * x[2];
  return column == 0 ? sum : -sum;
}

static void check_y(const cx_results *results, size_t index, int64_t rows) {
  cx_tensor y;
  int64_t i;
  y.struct_size = sizeof y;
  CHECK(cx_results_get_tensor(results, index, &y) == CX_SUCCESS);
  CHECK(strcmp(y.name, "y") == 0 && strcmp(y.type, "float32") == 0);
  CHECK(y.rank == 2 && y.shape[0] == rows && y.shape[1] == 2 && y.bytes == (uint64_t)rows * 2 * sizeof(float));
  for (i = 0; i < rows * 2; ++i) {
    const float sum = product_at(i / 2, (int)(i % 2));
    CHECK(((const float *)y.data)[i] == (sum > 0 ? sum : 0));
  }
}

static void describe(const cx_session *session) {
  cx_session_info info;
  cx_value_info value;
  size_t small[3] = {sizeof small, 0, 7};

  info.struct_size = sizeof info;
  CHECK(cx_session_get_info(session, &info) == CX_SUCCESS);
  CHECK(strcmp(info.precision, "fp32") == 0 && info.inputs == 1 && info.outputs == 2 && info.runs == 0);
  value.struct_size = sizeof value;
  CHECK(cx_session_get_value(session, CX_INPUT, 0, &value) == CX_SUCCESS);
  CHECK(strcmp(value.name, "x") == 0 && strcmp(value.type, "float32") == 0);
  CHECK(value.has_shape && !value.optional && value.rank == 2);
  CHECK(value.shape[0] == -1 && strcmp(value.symbols[0], "rows") == 0);
  CHECK(value.shape[1] == 3 && strcmp(value.symbols[1], "") == 0);
  CHECK(cx_session_get_value(session, CX_OUTPUT, 1, &value) == CX_SUCCESS);
  CHECK(strcmp(value.name, "y") == 0 && !value.has_shape && value.rank == 0);
  CHECK(cx_session_get_value(session, CX_OUTPUT, 2, &value) == CX_ERROR_USAGE);
  CHECK(cx_session_get_value(session, (cx_direction)2, 0, &value) == CX_ERROR_USAGE);
  CHECK(cx_session_get_value(NULL, CX_INPUT, 0, &value) == CX_ERROR_USAGE);
  value.struct_size = 0;
  CHECK(cx_session_get_value(session, CX_INPUT, 0, &value) == CX_ERROR_USAGE);
  /* A caller of an older version: only what it knows is written. */
  small[0] = 2 * sizeof(size_t);
  CHECK(cx_session_get_value(session, CX_INPUT, 0, (cx_value_info *)(void *)small) == CX_SUCCESS);
  CHECK(small[1] != 0 && small[2] == 7);
}

static void run(cx_session *session) {
  const char *only_y[] = {"y"}, *unknown[] = {"z"}, *null_name[] = {NULL};
  const int64_t rows[] = {4, 1, 4};
  int64_t shape[2];
  cx_results *results = NULL;
  cx_session_info info;
  cx_run_info run_info;
  cx_tensor x, y;
  char *json = NULL;
  size_t count = 0;
  int i;

  CHECK(cx_session_report_json(session, &json) == CX_ERROR_USAGE && json == NULL);
  for (i = 0; i < 3; ++i) {
    x = x_of(shape, rows[i]);
    run_info.struct_size = sizeof run_info;
    CHECK(cx_session_run(session, &x, 1, NULL, 0, &results, &run_info) == CX_SUCCESS);
    CHECK(cx_results_get_count(results, &count) == CX_SUCCESS && count == 2);
    check_y(results, 1, rows[i]);
    CHECK(run_info.energy_uj > 0 && run_info.average_w > 0);
    CHECK(run_info.latency_us > run_info.launch_us && run_info.launch_us > 0 && run_info.macs == (uint64_t)rows[i] * 6);
    y.struct_size = sizeof y;
    CHECK(cx_results_get_tensor(results, 2, &y) == CX_ERROR_USAGE);
    CHECK(cx_results_get_tensor(results, 0, NULL) == CX_ERROR_USAGE);
    CHECK(cx_results_free(results) == CX_SUCCESS);
  }
  info.struct_size = sizeof info;
  CHECK(cx_session_get_info(session, &info) == CX_SUCCESS);
  CHECK(info.runs == 3 && info.compilations == 2 && info.cache_hits == 1 && info.constant_bytes >= 24);

  CHECK(cx_session_run(session, &x, 1, only_y, 1, &results, NULL) == CX_SUCCESS);
  CHECK(cx_results_get_count(results, &count) == CX_SUCCESS && count == 1);
  check_y(results, 0, 4);
  CHECK(cx_results_free(results) == CX_SUCCESS);
  CHECK(cx_session_run(session, &x, 1, only_y, 0, &results, NULL) == CX_SUCCESS);
  CHECK(cx_results_get_count(results, &count) == CX_SUCCESS && count == 0);
  CHECK(cx_results_free(results) == CX_SUCCESS);
  CHECK(cx_session_run(session, &x, 1, NULL, 0, NULL, NULL) == CX_SUCCESS);
  CHECK(cx_session_report_json(session, &json) == CX_SUCCESS && json && strstr(json, "\"latency_us\""));
  cx_free(json);

  CHECK(cx_session_run(session, &x, 1, unknown, 1, &results, NULL) == CX_ERROR_INPUT && results == NULL);
  CHECK(strstr(cx_last_error(), "has no output 'z'; it has 'product', 'y'") != NULL);
  CHECK(cx_session_run(session, &x, 1, null_name, 1, &results, NULL) == CX_ERROR_USAGE);
  CHECK(cx_session_run(session, &x, 1, NULL, 1, &results, NULL) == CX_ERROR_USAGE);
  CHECK(cx_session_run(session, NULL, 0, NULL, 0, &results, NULL) == CX_ERROR_INPUT);
  CHECK(strstr(cx_last_error(), "is missing") != NULL);
  x.bytes -= 4;
  CHECK(cx_session_run(session, &x, 1, NULL, 0, &results, NULL) == CX_ERROR_INPUT);
  x.bytes += 4;
  shape[1] = 4;
  CHECK(cx_session_run(session, &x, 1, NULL, 0, &results, NULL) == CX_ERROR_INPUT);
  x.type = NULL;
  CHECK(cx_session_run(session, &x, 1, NULL, 0, &results, NULL) == CX_ERROR_USAGE);
  x.struct_size = 0;
  CHECK(cx_session_run(session, &x, 1, NULL, 0, &results, NULL) == CX_ERROR_USAGE);
}

/* Input and one output stay on the device; the other output comes to the host. */
static void run_bound(cx_device *device, cx_session *session) {
  const int64_t x_shape[] = {2, 3}, y_shape[] = {2, 2};
  cx_device_tensor *x = NULL, *y = NULL;
  cx_results *results = NULL;
  cx_tensor product;
  int64_t shape[2];
  float back[4];
  size_t count = 0;
  int i;

  x_of(shape, 2);
  CHECK(cx_device_tensor_create(device, "float32", x_shape, 2, &x) == CX_SUCCESS);
  CHECK(cx_device_tensor_create(device, "float32", y_shape, 2, &y) == CX_SUCCESS);
  CHECK(cx_device_tensor_write(x, x_values, 6 * sizeof(float)) == CX_SUCCESS);
  CHECK(cx_session_bind(session, CX_INPUT, "q", x) == CX_ERROR_INPUT);
  CHECK(cx_session_bind(session, (cx_direction)3, "x", x) == CX_ERROR_USAGE);
  CHECK(cx_session_bind(session, CX_INPUT, "x", x) == CX_SUCCESS);
  CHECK(cx_session_bind(session, CX_OUTPUT, "y", y) == CX_SUCCESS);
  CHECK(cx_session_run(session, NULL, 0, NULL, 0, &results, NULL) == CX_SUCCESS);
  CHECK(cx_results_get_count(results, &count) == CX_SUCCESS && count == 1);
  product.struct_size = sizeof product;
  CHECK(cx_results_get_tensor(results, 0, &product) == CX_SUCCESS && strcmp(product.name, "product") == 0);
  CHECK(cx_device_tensor_read(y, back, sizeof back) == CX_SUCCESS);
  for (i = 0; i < 4; ++i) {
    const float sum = ((const float *)product.data)[i];
    CHECK(sum == product_at(i / 2, i % 2));
    CHECK(back[i] == (sum > 0 ? sum : 0));
  }
  CHECK(cx_results_free(results) == CX_SUCCESS);
  CHECK(cx_session_bind(session, CX_INPUT, "x", NULL) == CX_SUCCESS);
  CHECK(cx_session_bind(session, CX_OUTPUT, "y", NULL) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(x) == CX_SUCCESS);
  CHECK(cx_device_tensor_free(y) == CX_SUCCESS);
}

/* A node that the host computes: unique elements take the place of Relu. */
static void run_host_node(cx_device *device, const char *path) {
  const float expected[] = {-14, -5, 5, 14};
  cx_session *session = NULL;
  cx_results *results = NULL;
  cx_tensor x, y;
  int64_t shape[2];
  char *json = NULL;
  size_t i;

  CHECK(write_layer_model(path, "Unique") == 0);
  CHECK(cx_session_create(device, path, NULL, &session) == CX_SUCCESS);
  x = x_of(shape, 2);
  x_values[0] = x_values[3] = 1;
  x_values[1] = x_values[4] = 2;
  x_values[2] = 3;
  x_values[5] = 0;
  CHECK(cx_session_run(session, &x, 1, NULL, 0, &results, NULL) == CX_SUCCESS);
  y.struct_size = sizeof y;
  CHECK(cx_results_get_tensor(results, 1, &y) == CX_SUCCESS);
  CHECK(y.rank == 1 && y.shape[0] == 4 && y.bytes == sizeof expected);
  for (i = 0; i < 4; ++i) CHECK(((const float *)y.data)[i] == expected[i]);
  CHECK(cx_session_report_json(session, &json) == CX_SUCCESS && json && strstr(json, "\"host_fallback\""));
  CHECK(json && strstr(json, "\"Unique\"") && strstr(json, "\"programs\": 1"));
  cx_free(json);
  CHECK(cx_results_free(results) == CX_SUCCESS);
  CHECK(cx_session_free(session) == CX_SUCCESS);
}

static void refuse(cx_device *device, const char *path) {
  cx_session_options options;
  cx_range range = {NULL, 1};
  cx_session *session = NULL;
  cx_results *results = NULL;
  int64_t shape[2];
  const cx_tensor x = x_of(shape, 1);

  memset(&options, 0, sizeof options);
  CHECK(cx_session_create(device, path, &options, &session) == CX_ERROR_USAGE); /* struct_size */
  options.struct_size = sizeof options;
  options.precision = "fp31";
  CHECK(cx_session_create(device, path, &options, &session) == CX_ERROR_USAGE && session == NULL);
  options.precision = "int8";
  options.range_count = 1;
  CHECK(cx_session_create(device, path, &options, &session) == CX_ERROR_USAGE);
  options.ranges = &range;
  CHECK(cx_session_create(device, path, &options, &session) == CX_ERROR_USAGE);
  CHECK(cx_session_create(device, "/nonexistent.onnx", NULL, &session) == CX_ERROR_INPUT && session == NULL);
  CHECK(cx_session_create(device, NULL, NULL, &session) == CX_ERROR_USAGE);
  CHECK(cx_session_create(NULL, path, NULL, &session) == CX_ERROR_USAGE);
  CHECK(cx_session_create(device, path, NULL, NULL) == CX_ERROR_USAGE);
  CHECK(write_layer_model(path, "NoSuchOperator") == 0);
  CHECK(cx_session_create(device, path, NULL, &session) == CX_SUCCESS);
  CHECK(cx_session_run(session, &x, 1, NULL, 0, &results, NULL) == CX_ERROR_UNSUPPORTED && results == NULL);
  CHECK(strstr(cx_last_error(), "NoSuchOperator") != NULL);
  CHECK(cx_session_free(session) == CX_SUCCESS);
  CHECK(cx_session_free(NULL) == CX_SUCCESS);
  CHECK(cx_results_free(NULL) == CX_SUCCESS);
}

int main(int argc, char **argv) {
  cx_device *device = NULL;
  cx_session *session = NULL;
  cx_session_options options;

  if (argc != 3) {
    printf("usage: %s CHIP.yaml SCRATCH.onnx\n", argv[0]);
    return 2;
  }
  CHECK(cx_device_open(argv[1], NULL, 0, &device) == CX_SUCCESS);
  if (!device) return 1;
  CHECK(write_layer_model(argv[2], "Relu") == 0);
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.max_programs = 2;
  CHECK(cx_session_create(device, argv[2], &options, &session) == CX_SUCCESS);
  if (!session) return 1;
  CHECK(cx_device_close(device) == CX_ERROR_BUSY);
  describe(session);
  run(session);
  run_bound(device, session);
  CHECK(cx_session_free(session) == CX_SUCCESS);
  run_host_node(device, argv[2]);
  refuse(device, argv[2]);
  CHECK(cx_device_close(device) == CX_SUCCESS);
  remove(argv[2]);
  printf("%s\n", failures ? "FAILED" : "passed");
  return failures ? 1 : 0;
}
