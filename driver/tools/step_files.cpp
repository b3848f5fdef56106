#include "driver/tools/step_files.hpp"

#include <fmt/core.h>

#include <cctype>
#include <fstream>
#include <vector>

#include "driver/include/cx/error.hpp"

namespace cx::tools {
namespace {

namespace fs = std::filesystem;

/// NN_name.txt, as step() writes it.
bool is_step_file(const std::string &name) {
  std::size_t digits = 0;
  while (digits < name.size() && std::isdigit(static_cast<unsigned char>(name[digits])) != 0) ++digits;
  return digits >= 2 && digits < name.size() && name[digits] == '_' && name.size() > 4 &&
         name.compare(name.size() - 4, 4, ".txt") == 0;
}

}  // namespace

StepFiles::StepFiles(fs::path folder, Progress progress) : folder_(std::move(folder)), progress_(std::move(progress)) {
  if (folder_.empty()) return;
  std::error_code error;
  fs::create_directories(folder_, error);
  if (!fs::is_directory(folder_)) throw InputError(folder_.string() + ": cannot be made a folder");
  std::vector<fs::path> old;
  for (const auto &entry : fs::directory_iterator(folder_)) {
    if (entry.is_regular_file() && is_step_file(entry.path().filename())) old.push_back(entry.path());
  }
  for (const fs::path &path : old) fs::remove(path, error);
}

void StepFiles::step(const std::string &name, const std::string &text) {
  const fs::path path = folder_ / fmt::format("{:02}_{}.txt", count_++, name);
  std::ofstream out(path, std::ios::binary);
  out << text;
  if (!out.flush()) throw InputError(path.string() + ": cannot be written");
}

void StepFiles::progress(const std::string &name, uint64_t done, uint64_t total) {
  constexpr std::chrono::milliseconds kBetween(500);
  const auto time = std::chrono::steady_clock::now();
  if (!progress_ || time - last_ < kBetween) return;
  last_ = time;
  progress_(fmt::format("{}: {} of {}", name, done, total));
}

}  // namespace cx::tools
