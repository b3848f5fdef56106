// What the readers of YAML files in this folder share.
#ifndef HW_CONFIG_YAML_TEXT_HPP
#define HW_CONFIG_YAML_TEXT_HPP

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace cx::config {

// The only document of a text, to be read only: the next call with the same text gives the same nodes. Null if it is
// empty. `name` is the file's, for errors. Throws ConfigError.
YAML::Node load_document(const std::string &text, const std::string &name);

// Throws ConfigError for the place of a node.
[[noreturn]] void fail_at(const YAML::Node &node, const std::string &file, const std::string &key,
                          const std::string &message);

// Characters to insert, remove or replace to make one text of the other.
size_t edit_distance(std::string_view a, std::string_view b);

// Searches the known name that someone may have meant: one that differs by at most half of what was written.
class NearestName {
 public:
  explicit NearestName(std::string_view written) : written_(written), limit_(written.size() / 2 + 1) {}
  void consider(std::string_view known) { consider(known, edit_distance(written_, known)); }
  void consider(std::string_view known, size_t distance) {
    if (distance >= limit_) return;
    limit_ = distance;
    best_ = known;
  }
  // "; the nearest known one is 'NAME'", or nothing.
  std::string hint() const { return best_.empty() ? best_ : "; the nearest known one is '" + best_ + "'"; }
  const std::string &name() const { return best_; }

 private:
  std::string_view written_;
  size_t limit_;
  std::string best_;
};

// The shortest decimal that reads back as the same number.
std::string number_text(double value);

// The entry of a schema whose `key` is this one; nullptr if there is none.
template <class Schema>
const typename Schema::value_type *find_key(const Schema &schema, std::string_view key) {
  const auto found = std::find_if(schema.begin(), schema.end(), [&](const auto &info) { return key == info.key; });
  return found == schema.end() ? nullptr : &*found;
}

// Whether keys of a schema are below this path.
template <class Schema>
bool is_section(const Schema &schema, std::string_view path) {
  return std::any_of(schema.begin(), schema.end(), [&](const auto &info) {
    const std::string_view key = info.key;
    return key.size() > path.size() && key.starts_with(path) && key[path.size()] == '.';
  });
}

}  // namespace cx::config

#endif
