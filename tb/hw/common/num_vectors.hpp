// Reference vectors of outside origin (TestFloat, SoftFloat, ml_dtypes). They are not part of the repository: tests
// that need them are skipped with a message when the folder is absent.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace cx::test {

/// CX_FP_VECTORS in the environment, or the folder that the build was configured with.
inline std::filesystem::path fp_vectors() {
  const char *folder = std::getenv("CX_FP_VECTORS");
  return folder != nullptr ? folder : CX_FP_VECTORS_DEFAULT;
}

/// Bytes of a file below fp_vectors(), unpacked if it ends in .xz; nothing (and a message) if it is absent.
inline std::optional<std::vector<uint8_t>> read_vectors(const std::string &name) {
  const std::filesystem::path path = fp_vectors() / name;
  if (!std::filesystem::exists(path)) {
    std::cerr << "skipped: no " << path << " (set CX_FP_VECTORS)\n";
    return std::nullopt;
  }
  if (path.extension() != ".xz") {
    std::ifstream file(path, std::ios::binary);
    return std::vector<uint8_t>(std::istreambuf_iterator<char>(file), {});
  }
  FILE *pipe = popen(("xz -dc '" + path.string() + "'").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run xz");
  std::vector<uint8_t> bytes;
  uint8_t buffer[1 << 16];
  for (size_t got = 0; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    bytes.insert(bytes.end(), buffer, buffer + got);
  if (pclose(pipe) != 0) throw std::runtime_error("xz failed on " + path.string());
  return bytes;
}

/// Rows of `columns` little-endian 32-bit words.
inline std::optional<std::vector<uint32_t>> read_words(const std::string &name) {
  const auto bytes = read_vectors(name);
  if (!bytes) return std::nullopt;
  std::vector<uint32_t> words(bytes->size() / 4);
  for (size_t i = 0; i < words.size(); ++i) {
    const uint8_t *b = &(*bytes)[4 * i];
    words[i] = b[0] | b[1] << 8 | b[2] << 16 | static_cast<uint32_t>(b[3]) << 24;
  }
  return words;
}

}  // namespace cx::test
