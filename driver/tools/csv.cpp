#include "driver/tools/csv.hpp"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>

#include "driver/include/cx/error.hpp"

namespace cx::tools {

std::vector<CsvLine> read_csv(const std::filesystem::path &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError(path.string() + ": cannot be read");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) throw InputError(path.string() + ": cannot be read");
  return csv_lines(text);
}

std::vector<CsvLine> csv_lines(const std::string &text) {
  constexpr const char *kSpaces = " \t\r";
  std::vector<CsvLine> lines;
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r,") == std::string::npos) continue;
    CsvLine &out = lines.emplace_back(CsvLine{number, {}});
    for (std::size_t at = 0; at <= line.size();) {
      const std::size_t comma = std::min(line.find(',', at), line.size());
      const std::size_t first = line.find_first_not_of(kSpaces, at);
      CsvCell &cell = out.cells.emplace_back(CsvCell{"", at + 1});
      if (first < comma) {
        cell.column = first + 1;
        cell.text = line.substr(first, line.find_last_not_of(kSpaces, comma - 1) + 1 - first);
      }
      at = comma + 1;
    }
    if (out.cells.back().text.empty()) out.cells.pop_back();
  }
  return lines;
}

std::string column_key(const std::string &text) {
  std::string key;
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return key;
}

}  // namespace cx::tools
