// What the readers of YAML files in this folder share.
#ifndef HW_CONFIG_YAML_TEXT_HPP
#define HW_CONFIG_YAML_TEXT_HPP

#include <yaml-cpp/yaml.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace cx::config {

// The only document of a text; null if it is empty. `name` is the file's, for errors. Throws ConfigError.
YAML::Node load_document(const std::string &text, const std::string &name);

// Throws ConfigError for the place of a node.
[[noreturn]] void fail_at(const YAML::Node &node, const std::string &file, const std::string &key,
                          const std::string &message);

// Characters to insert, remove or replace to make one text of the other.
size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace cx::config

#endif
