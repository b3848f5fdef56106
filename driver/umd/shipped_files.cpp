#include "driver/umd/shipped_files.hpp"

#include <dlfcn.h>
#include <link.h>

#include <cstdlib>

#include "driver/include/cx/error.hpp"

namespace cx {

namespace fs = std::filesystem;

namespace {

/// The program, shared library or Python module that this code was linked into.
fs::path this_binary() {
  Dl_info info{};
  void *map = nullptr;
  if (dladdr1(reinterpret_cast<const void *>(&shipped_folder), &info, &map, RTLD_DL_LINKMAP) == 0) return {};
  const char *name = static_cast<link_map *>(map)->l_name;
  std::error_code error;
  // The program itself has no name there, and argv[0] need not be a path.
  return fs::canonical(name != nullptr && *name != '\0' ? name : "/proc/self/exe", error);
}

}  // namespace

fs::path shipped_folder(const std::string &name) {
  fs::path folder = this_binary().parent_path();
  // bin, lib, lib/x86_64-linux-gnu, bin/tests
  for (int level = 0; level < 3 && folder.has_relative_path(); ++level) {
    folder = folder.parent_path();
    const fs::path found = folder / "share" / "cxvp" / name;
    std::error_code error;
    if (fs::is_directory(found, error)) return found;
  }
  return {};
}

fs::path chip_config(const std::string &file_or_name) {
  std::error_code error;
  if (fs::is_regular_file(file_or_name, error)) return file_or_name;
  const char *chosen = std::getenv("CX_CONFIG_DIR");
  const fs::path folder = chosen != nullptr ? fs::path(chosen) : shipped_folder("configs");
  if (file_or_name.find('/') == std::string::npos) {
    const fs::path shipped = folder / (file_or_name + ".yaml");
    if (!folder.empty() && fs::is_regular_file(shipped, error)) return shipped;
  }
  throw InputError(file_or_name + ": no such configuration file, nor one that ships in " +
                   (folder.empty() ? "share/cxvp/configs, which is not there" : folder.string()));
}

}  // namespace cx
