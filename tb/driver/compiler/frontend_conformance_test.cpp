// ONNX's own test suites through import, all passes and the reference evaluator.
#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <iostream>
#include <set>

#include "driver/include/cx/error.hpp"
#include "tb/driver/compiler/onnx_case.hpp"

using namespace cx::compiler;
namespace fs = std::filesystem;

namespace {

const fs::path kSuites = "/usr/share/libonnx-testdata/data";

// Test data of libonnx 1.12 that contradicts its model or the standard: BF16 values that are truncated rather than
// rounded, or whose shape is not the model's.
const std::set<std::string> kWrongData = {"node/test_cast_FLOAT_to_BFLOAT16", "node/test_castlike_BFLOAT16_to_FLOAT",
                                          "node/test_castlike_BFLOAT16_to_FLOAT_expanded",
                                          "node/test_castlike_FLOAT_to_BFLOAT16",
                                          "node/test_castlike_FLOAT_to_BFLOAT16_expanded",
                                          // computed with an epsilon that the model does not have
                                          "node/test_adam_multiple"};

// Doubles of 1e198 and more: arithmetic is FP32.
const std::set<std::string> kBeyondFp32 = {
    "pytorch-operator/test_operator_add_broadcast", "pytorch-operator/test_operator_add_size1_right_broadcast",
    "pytorch-operator/test_operator_add_size1_singleton_broadcast", "pytorch-operator/test_operator_addconstant"};

// Cases that the front-end refuses, one a line; every other one passes.
std::set<std::string> expected_refusals() {
  std::ifstream list("tb/driver/compiler/frontend_unsupported.txt");
  REQUIRE(list);
  std::set<std::string> names;
  for (std::string name; std::getline(list, name);) names.insert(name);
  return names;
}

std::string run_folder(const fs::path &folder) {
  try {
    return run_case(folder / "model.onnx", folder / "test_data_set_0");
  } catch (const cx::UnsupportedError &error) {
    return std::string("unsupported: ") + error.what();
  } catch (const std::exception &error) {
    return std::string("error: ") + error.what();
  }
}

}  // namespace

TEST_CASE("ONNX test suites give their reference outputs") {
  std::set<std::string> refused = expected_refusals();
  for (const char *suite : {"node", "pytorch-converted", "pytorch-operator", "simple"}) {
    std::vector<fs::path> folders;
    for (const auto &entry : fs::directory_iterator(kSuites / suite)) folders.push_back(entry.path());
    std::sort(folders.begin(), folders.end());
    int passed = 0;
    for (const fs::path &folder : folders) {
      const std::string name = suite + std::string("/") + folder.filename().string();
      if (kWrongData.count(name) + kBeyondFp32.count(name) != 0) continue;
      const std::string problem = run_folder(folder);
      INFO(name << ": " << problem);
      if (refused.erase(name) != 0) {
        CHECK(problem.rfind("unsupported: ", 0) == 0);
        continue;
      }
      CHECK(problem.empty());
      passed += problem.empty() ? 1 : 0;
    }
    std::cout << suite << ": " << passed << " of " << folders.size() << " cases pass\n";
  }
  for (const std::string &name : refused) FAIL_CHECK("tb/driver/compiler/frontend_unsupported.txt lists " << name);
}
