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

// Test folders of supported operators that are rightly refused, with the reason.
const std::map<std::string, std::string> kRefused = {};

bool all_supported(const fs::path &model) {
  static const std::vector<std::string> supported = supported_operators();
  const auto used = operators_of(model);
  return std::all_of(used.begin(), used.end(), [](const std::string &op) {
    return std::binary_search(supported.begin(), supported.end(), op);
  });
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

std::string run_folder(const fs::path &folder) {
  std::string problem;
  for (bool bind_scalars : {false, true}) {
    try {
      return run_case(folder / "model.onnx", folder / "test_data_set_0", bind_scalars);
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
  for (const auto &entry : fs::directory_iterator("/usr/share/libonnx-testdata/data/node")) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  int total = 0;
  int passed = 0;
  int refused = 0;
  for (const fs::path &folder : folders) {
    const fs::path model = folder / "model.onnx";
    if (!all_supported(model) || has_other_types(model, folder / "test_data_set_0")) continue;
    ++total;
    const std::string name = folder.filename();
    const std::string problem = run_folder(folder);
    INFO(name << ": " << problem);
    if (kRefused.count(name) != 0) {
      CHECK(problem.rfind("unsupported: ", 0) == 0);
      ++refused;
    } else {
      CHECK(problem.empty());
      passed += problem.empty() ? 1 : 0;
    }
  }
  std::cout << "node tests: " << total << " run, " << passed << " passed, " << refused << " refused as expected\n";
  CHECK(total > 300);
}
