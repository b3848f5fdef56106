#include "hw/config/yaml_text.hpp"

#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <sstream>
#include <vector>

#include "hw/config/config.hpp"

namespace cx::config {

namespace {

/// Whether something follows the first document. YAML::LoadAll() does not end on texts like " ,", of which the parser
/// takes nothing.
struct SecondDocument final : YAML::EventHandler {
  bool found = false;
  YAML::Mark at;

  void look(const std::string &text) {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(*this)) return;
    at = {};
    found = parser.HandleNextDocument(*this);
  }
  void OnDocumentStart(const YAML::Mark &mark) override { at = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark &, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark &, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark &, const std::string &, YAML::anchor_t, const std::string &) override {}
  void OnSequenceStart(const YAML::Mark &, const std::string &, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark &, const std::string &, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

}  // namespace

YAML::Node load_document(const std::string &text, const std::string &name) {
  // The points of a sweep read the same few files. Nodes are not made for several threads.
  constexpr std::size_t kMostKnown = 16;
  thread_local std::map<std::string, YAML::Node> known;
  if (const auto found = known.find(text); found != known.end()) return found->second;
  YAML::Node document;
  SecondDocument second;
  try {
    document = YAML::Load(text);
    second.look(text);
  } catch (const YAML::Exception &error) {
    throw ConfigError(name, error.mark.line + 1, error.mark.column + 1, "", "not valid YAML: " + error.msg);
  }
  if (second.found) {
    throw ConfigError(name, second.at.line + 1, second.at.column + 1, "", "expected one YAML document");
  }
  if (known.size() == kMostKnown) known.clear();
  known.emplace(text, document);
  return document;
}

void fail_at(const YAML::Node &node, const std::string &file, const std::string &key, const std::string &message) {
  const YAML::Mark mark = node.Mark();
  throw ConfigError(file, mark.line + 1, mark.column + 1, key, message);
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t up = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = up;
    }
  }
  return row[b.size()];
}

std::string number_text(double value) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, value);
  return {text, end.ptr};
}

}  // namespace cx::config
