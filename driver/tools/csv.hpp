// Files of comma-separated cells without quotes, with the place of each cell for messages.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace cx::tools {

struct CsvCell {
  std::string text;        ///< without spaces around it
  std::size_t column = 1;  ///< of its first character in the line, from 1
};

struct CsvLine {
  std::size_t number = 1;  ///< in the file, from 1
  std::vector<CsvCell> cells;
};

/// Lines that have more than spaces and commas; an empty last cell is dropped.
std::vector<CsvLine> csv_lines(const std::string &text);
/// Those of a file. Throws InputError when it cannot be read.
std::vector<CsvLine> read_csv(const std::filesystem::path &path);

/// Lower case, spaces removed: how names of columns are compared.
std::string column_key(const std::string &text);

}  // namespace cx::tools
