/* Runs an ONNX model on a virtual card: every float32 input is filled with 0.5, open dimensions become 1.
 *   cc run_model.c $(pkg-config --cflags --libs cx) -o run_model && ./run_model model.onnx tiny */
#include <cx/cx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INPUTS = 8, MAX_RANK = 8 };

static void require(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "%s: %s\n", what, cx_last_error());
  exit(1);
}

static cx_tensor make_input(const cx_session *session, uint32_t index, int64_t shape[MAX_RANK]) {
  cx_value_info value = {.struct_size = sizeof value};
  require(cx_session_get_value(session, CX_INPUT, index, &value) == CX_SUCCESS, "input");
  require(strcmp(value.type, "float32") == 0 && value.rank <= MAX_RANK, "expected float32 inputs of rank 8 or less");
  size_t count = 1;
  for (size_t d = 0; d < value.rank; ++d) {
    shape[d] = value.shape[d] < 0 ? 1 : value.shape[d];
    count *= (size_t)shape[d];
  }
  float *data = malloc(count * sizeof *data + 1);
  require(data != NULL, "memory");
  for (size_t i = 0; i < count; ++i) data[i] = 0.5f;
  cx_tensor tensor = {.struct_size = sizeof tensor, .name = value.name, .type = value.type, .shape = shape};
  tensor.rank = value.rank;
  tensor.data = data;
  tensor.bytes = count * sizeof *data;
  return tensor;
}

int main(int argc, char **argv) {
  require(argc > 1, "usage: run_model MODEL.onnx [CARD]");
  cx_device *device;
  cx_session *session;
  cx_session_info model = {.struct_size = sizeof model};
  require(cx_device_open(argc > 2 ? argv[2] : "cx3210", NULL, 0, &device) == CX_SUCCESS, "device");
  require(cx_session_create(device, argv[1], NULL, &session) == CX_SUCCESS, argv[1]);
  require(cx_session_get_info(session, &model) == CX_SUCCESS && model.inputs <= MAX_INPUTS,
          "expected 8 inputs or less");

  cx_tensor inputs[MAX_INPUTS];
  int64_t shapes[MAX_INPUTS][MAX_RANK];
  for (uint32_t i = 0; i < model.inputs; ++i) inputs[i] = make_input(session, i, shapes[i]);
  cx_results *results;
  cx_run_info cost = {.struct_size = sizeof cost};
  require(cx_session_run(session, inputs, model.inputs, NULL, 0, &results, &cost) == CX_SUCCESS, "run");

  for (uint32_t i = 0; i < model.outputs; ++i) {
    cx_tensor output = {.struct_size = sizeof output};
    require(cx_results_get_tensor(results, i, &output) == CX_SUCCESS, "result");
    const size_t values = strcmp(output.type, "float32") == 0 ? output.bytes / sizeof(float) : 0;
    printf("%s: %s, %llu bytes:", output.name, output.type, (unsigned long long)output.bytes);
    for (size_t k = 0; k < values && k < 4; ++k) printf(" %g", ((const float *)output.data)[k]);
    printf("\n");
  }
  printf("%.3f us simulated, %llu cycles\n", cost.latency_us, (unsigned long long)cost.cycles);

  cx_results_free(results);
  cx_session_free(session);
  for (uint32_t i = 0; i < model.inputs; ++i) free(inputs[i].data);
  return cx_device_close(device);
}
