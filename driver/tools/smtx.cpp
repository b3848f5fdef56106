#include "driver/tools/smtx.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <limits>
#include <string_view>

#include "driver/include/cx/error.hpp"

namespace cx::tools {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 31;

class Reader {
 public:
  Reader(std::string_view text, const std::string &name) : rest_(text), name_(name) {}

  [[noreturn]] void fail(const std::string &message) const {
    throw InputError(fmt::format("{}:{}: {}", name_, line_, message));
  }

  /// The numbers of the next line, none negative, separated by spaces or commas.
  std::vector<int64_t> line(const std::string &what) {
    ++line_;
    if (rest_.empty()) fail("the file ends before " + what);
    const std::size_t end = rest_.find('\n');
    std::string_view text = rest_.substr(0, end);
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    std::vector<int64_t> numbers;
    constexpr std::string_view kBetween = " ,\t\r";
    for (;;) {
      text.remove_prefix(std::min(text.find_first_not_of(kBetween), text.size()));
      if (text.empty()) return numbers;
      const std::string_view word = text.substr(0, text.find_first_of(kBetween));
      int64_t number = 0;
      const auto [last, error] = std::from_chars(word.data(), word.data() + word.size(), number);
      if (error != std::errc() || last != word.data() + word.size() || number < 0) {
        fail(fmt::format("'{}' among {} is no number of 0 or more", word.substr(0, 40), what));
      }
      numbers.push_back(number);
      text.remove_prefix(word.size());
    }
  }

  void end() {
    while (!rest_.empty()) {
      if (!line("the end").empty()) fail("a fourth line; there are three");
    }
  }

 private:
  std::string_view rest_;
  const std::string &name_;
  int64_t line_ = 0;
};

void check_offsets(const Reader &reader, const SparsePattern &pattern, int64_t nonzeros) {
  const std::vector<int64_t> &offsets = pattern.offsets;
  if (static_cast<int64_t>(offsets.size()) != pattern.rows + 1) {
    reader.fail(fmt::format("{} row offsets, {} rows need {}", offsets.size(), pattern.rows, pattern.rows + 1));
  }
  if (offsets.front() != 0) reader.fail(fmt::format("the first row offset is {}, not 0", offsets.front()));
  const auto falls = std::adjacent_find(offsets.begin(), offsets.end(), std::greater<>());
  if (falls != offsets.end()) {
    reader.fail(fmt::format("row {} begins at {} and ends at {}", falls - offsets.begin(), *falls, *(falls + 1)));
  }
  if (offsets.back() != nonzeros) {
    reader.fail(fmt::format("the last row offset is {}, there are {} non-zeros", offsets.back(), nonzeros));
  }
}

/// Sorts each row: the collection does not promise an order.
void check_indices(const Reader &reader, SparsePattern &pattern, int64_t nonzeros) {
  if (pattern.nonzeros() != nonzeros) {
    reader.fail(fmt::format("{} column indices, there are {} non-zeros", pattern.nonzeros(), nonzeros));
  }
  for (int64_t row = 0; row < pattern.rows; ++row) {
    const auto begin = pattern.indices.begin() + pattern.offsets[static_cast<std::size_t>(row)];
    const auto end = pattern.indices.begin() + pattern.offsets[static_cast<std::size_t>(row) + 1];
    std::sort(begin, end);
    if (begin != end && *(end - 1) >= pattern.columns) {
      reader.fail(fmt::format("row {}: column {} of {}", row, *(end - 1), pattern.columns));
    }
    const auto twice = std::adjacent_find(begin, end);
    if (twice != end) reader.fail(fmt::format("row {}: column {} stands there twice", row, *twice));
  }
}

}  // namespace

SparsePattern parse_smtx(const std::string &text, const std::string &name) {
  Reader reader(text, name);
  const std::vector<int64_t> sizes = reader.line("rows, columns and non-zeros");
  if (sizes.size() != 3) {
    reader.fail(fmt::format("{} numbers, expected rows, columns and non-zeros", sizes.size()));
  }
  SparsePattern pattern;
  pattern.rows = sizes[0];
  pattern.columns = sizes[1];
  const int64_t most = std::numeric_limits<int32_t>::max();
  if (pattern.rows < 1 || pattern.columns < 1 || pattern.rows > most || pattern.columns > most ||
      pattern.rows * pattern.columns > kMaxElements) {
    reader.fail(fmt::format("{} rows of {} columns; expected 1 to 2^31 elements", pattern.rows, pattern.columns));
  }
  if (sizes[2] > pattern.rows * pattern.columns) {
    reader.fail(fmt::format("{} non-zeros in {} elements", sizes[2], pattern.rows * pattern.columns));
  }
  pattern.offsets = reader.line("the row offsets");
  check_offsets(reader, pattern, sizes[2]);
  // A matrix without non-zeros may end after the second line.
  if (sizes[2] > 0) pattern.indices = reader.line("the column indices");
  check_indices(reader, pattern, sizes[2]);
  reader.end();
  return pattern;
}

SparsePattern load_smtx(const std::filesystem::path &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError(path.string() + ": cannot be read");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) throw InputError(path.string() + ": cannot be read");
  return parse_smtx(text, path.string());
}

}  // namespace cx::tools
