// Where tests find what the repository does not hold. Tests run in the root of the source tree.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace cx::tb {

/// Reference models and tables: CX_DATA_DIR, else beside the source tree. May be absent: tests then skip with a
/// message.
inline std::filesystem::path data_dir() {
  const char *folder = std::getenv("CX_DATA_DIR");
  return folder != nullptr ? std::filesystem::path(folder) : std::filesystem::path("../shared/data");
}

/// PP-OCRv4 models that scripts/setup.sh fetches. May be absent.
inline std::filesystem::path ocr_models() { return "build/models/ocr"; }

/// Test suites of Debian's libonnx-testdata.
inline std::filesystem::path onnx_suites() { return "/usr/share/libonnx-testdata/data"; }

}  // namespace cx::tb
