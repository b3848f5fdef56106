// Files that come with the library and the tools: found from where these are, so that an installed tree may be moved.
#pragma once

#include <filesystem>
#include <string>

namespace cx {

/// share/cxvp/`name` beside or above the folder of the program or library that holds this code; empty if there is none.
std::filesystem::path shipped_folder(const std::string &name);

/// A card's configuration: a file as it is, or the name of one that ships ("tiny"). Those lie in share/cxvp/configs, or
/// in the folder that the environment's CX_CONFIG_DIR names. Throws InputError when there is neither.
std::filesystem::path chip_config(const std::string &file_or_name);

}  // namespace cx
