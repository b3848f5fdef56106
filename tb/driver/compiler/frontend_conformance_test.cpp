// ONNX's own node tests through import, all passes and the reference evaluator.
#include <algorithm>
#include <catch2/catch.hpp>
#include <iostream>
#include <set>

#include "driver/include/cx/error.hpp"
#include "tb/driver/compiler/onnx_case.hpp"

using namespace cx::compiler;
namespace fs = std::filesystem;

namespace {

// Test folders that the compiler refuses although it knows their operators.
const std::set<std::string> kRefused = {
    // comparisons and modulo of run-time values
    "test_greater", "test_greater_bcast", "test_greater_equal", "test_greater_equal_bcast",
    "test_greater_equal_bcast_expanded", "test_greater_equal_expanded", "test_less", "test_less_bcast",
    "test_less_equal", "test_less_equal_bcast", "test_less_equal_bcast_expanded", "test_less_equal_expanded",
    "test_mod_mixed_sign_float32",
    // arithmetic in other types than FP32
    "test_cast_FLOAT_to_DOUBLE", "test_castlike_FLOAT_to_DOUBLE", "test_castlike_FLOAT_to_DOUBLE_expanded",
    "test_pow_types_float", "test_pow_types_int32_float32", "test_pow_types_int64_float32",
    // indices of maxima
    "test_maxpool_with_argmax_2d_precomputed_pads", "test_maxpool_with_argmax_2d_precomputed_strides",
    // resizing a region
    "test_resize_tf_crop_and_resize",
    // dropping at random
    "test_training_dropout", "test_training_dropout_default", "test_training_dropout_default_mask",
    "test_training_dropout_mask"};

// Test data of libonnx 1.12 that contradicts its model or the standard: BF16 values that are truncated rather than
// rounded, or whose shape is not the model's.
const std::set<std::string> kWrongData = {"test_cast_FLOAT_to_BFLOAT16", "test_castlike_BFLOAT16_to_FLOAT",
                                          "test_castlike_BFLOAT16_to_FLOAT_expanded", "test_castlike_FLOAT_to_BFLOAT16",
                                          "test_castlike_FLOAT_to_BFLOAT16_expanded"};

bool all_supported(const fs::path &model) {
  static const std::vector<std::string> supported = supported_operators();
  const auto used = operators_of(model);
  return std::all_of(used.begin(), used.end(),
                     [](const std::string &op) { return std::binary_search(supported.begin(), supported.end(), op); });
}

// Inputs or outputs that are no tensors of numbers.
bool has_other_types(const fs::path &model, const fs::path &data_set) {
  try {
    inspect_onnx(model);
    read_data_set(data_set);
    return false;
  } catch (const cx::InputError &) {
    return true;
  }
}

// Run-time inputs first; what needs more constants than integers gets them.
std::string run_folder(const fs::path &folder, const std::vector<Bind> &bindings) {
  std::string problem;
  for (Bind bind : bindings) {
    try {
      return run_case(folder / "model.onnx", folder / "test_data_set_0", bind);
    } catch (const cx::UnsupportedError &error) {
      problem = std::string("unsupported: ") + error.what();
    } catch (const std::exception &error) {
      return std::string("error: ") + error.what();
    }
  }
  return problem;
}

}  // namespace

TEST_CASE("ONNX node tests of all supported operators give their reference outputs") {
  std::vector<fs::path> folders;
  for (const auto &entry : fs::directory_iterator("/usr/share/libonnx-testdata/data/node"))
    folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  int total = 0;
  int passed = 0;
  int refused = 0;
  for (const fs::path &folder : folders) {
    const fs::path model = folder / "model.onnx";
    if (kWrongData.count(folder.filename()) != 0 || !all_supported(model) ||
        has_other_types(model, folder / "test_data_set_0"))
      continue;
    ++total;
    const std::string name = folder.filename();
    if (kRefused.count(name) != 0) {
      const std::string problem = run_folder(folder, {Bind::others});
      INFO(name << ": " << problem);
      CHECK(problem.rfind("unsupported: ", 0) == 0);
      ++refused;
      continue;
    }
    const std::string problem = run_folder(folder, {Bind::others, Bind::scalars, Bind::all_but_first});
    INFO(name << ": " << problem);
    CHECK(problem.empty());
    passed += problem.empty() ? 1 : 0;
  }
  std::cout << "node tests: " << total << " run, " << passed << " passed, " << refused << " refused as expected\n";
  CHECK(total > 300);
}
