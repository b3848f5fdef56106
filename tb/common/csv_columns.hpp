// Tables with a header line, for tests that compare with figures.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace cx::tb {

using CsvRow = std::map<std::string, std::string>;

/// Rows by the names of their columns; a field may be quoted. Empty if there is no such file.
inline std::vector<CsvRow> read_csv(const std::filesystem::path &path) {
  std::ifstream in(path);
  const auto fields = [](const std::string &line) {
    std::vector<std::string> out(1);
    bool quoted = false;
    for (const char c : line) {
      if (c == '"') {
        quoted = !quoted;
      } else if (c == ',' && !quoted) {
        out.emplace_back();
      } else if (c != '\r') {
        out.back() += c;
      }
    }
    return out;
  };
  std::vector<CsvRow> rows;
  std::string line;
  if (!std::getline(in, line)) return rows;
  const std::vector<std::string> names = fields(line);
  while (std::getline(in, line)) {
    const std::vector<std::string> values = fields(line);
    CsvRow row;
    for (std::size_t i = 0; i < std::min(names.size(), values.size()); ++i) row[names[i]] = values[i];
    rows.push_back(row);
  }
  return rows;
}

}  // namespace cx::tb
