// Sparsity patterns: each file is refused with its line or becomes a pattern as documented, which is read as it is
// written.
#include <algorithm>
#include <sstream>

#include "driver/include/cx/error.hpp"
#include "driver/tools/smtx.hpp"
#include "tb/fuzz/fuzz.hpp"

using namespace cx;
using namespace cx::fuzz;

namespace {

using Line = std::vector<int64_t>;

constexpr int64_t kMostColumns = 1000;

std::string text_of(const std::vector<Line> &lines) {
  std::ostringstream text;
  for (const Line &line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) text << (i == 0 ? "" : " ") << line[i];
    text << '\n';
  }
  return text.str();
}

/// What numbers there are, whatever else stands between them.
std::vector<Line> lines_of(const std::string &text) {
  std::vector<Line> lines;
  std::istringstream file(text);
  for (std::string row; std::getline(file, row);) {
    std::replace(row.begin(), row.end(), ',', ' ');
    std::istringstream words(row);
    lines.emplace_back();
    for (int64_t number = 0; words >> number;) lines.back().push_back(number);
  }
  return lines;
}

void check(const tools::SparsePattern &pattern) {
  const auto &offsets = pattern.offsets;
  require(pattern.rows > 0 && pattern.columns > 0, "a pattern without elements");
  require(static_cast<int64_t>(offsets.size()) == pattern.rows + 1, "not an offset for each row");
  require(offsets.front() == 0 && offsets.back() == pattern.nonzeros(), "offsets do not span the non-zeros");
  require(std::is_sorted(offsets.begin(), offsets.end()), "offsets fall");
  for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
    const auto begin = pattern.indices.begin() + offsets[row], end = pattern.indices.begin() + offsets[row + 1];
    require(std::adjacent_find(begin, end, std::greater_equal<>()) == end, "columns do not rise inside a row");
    require(begin == end || (*begin >= 0 && *(end - 1) < pattern.columns), "a column out of range");
  }
}

void change(Line &line, Choice &choice) {
  const std::size_t at = choice.below(line.size() + 1);
  const auto number = static_cast<int64_t>(choice.one_in(16) ? choice.bits() : choice.below(8));
  if (at == line.size() || choice.one_in(4)) {
    line.insert(line.begin() + static_cast<std::ptrdiff_t>(at), number);
  } else if (choice.one_in(4)) {
    line.erase(line.begin() + static_cast<std::ptrdiff_t>(at));
  } else {
    line[at] = number;
  }
}

/// Makes the counts agree with what is there, so that what was changed gets past them.
void mend(std::vector<Line> &lines) {
  if (lines.size() < 3) return;
  const auto nonzeros = static_cast<int64_t>(lines[2].size());
  lines[0].resize(3);
  lines[0][0] = std::max<int64_t>(static_cast<int64_t>(lines[1].size()) - 1, 1);
  for (const int64_t column : lines[2]) lines[0][1] = std::max(lines[0][1], std::min(column, kMostColumns - 1) + 1);
  lines[0][2] = nonzeros;
  if (lines[1].empty()) return;
  for (int64_t &offset : lines[1]) offset = std::clamp<int64_t>(offset, 0, nonzeros);
  std::sort(lines[1].begin(), lines[1].end());
  lines[1].front() = 0;
  lines[1].back() = nonzeros;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tools::SparsePattern pattern;
  try {
    pattern = tools::parse_smtx(std::string(data, data + size), "input");
  } catch (const InputError &error) {
    require(std::strncmp(error.what(), "input:", 6) == 0, "a message without file and line");
    return 0;
  }
  check(pattern);
  const tools::SparsePattern again = tools::parse_smtx(
      text_of({{pattern.rows, pattern.columns, pattern.nonzeros()}, pattern.offsets, pattern.indices}), "written");
  require(again.rows == pattern.rows && again.columns == pattern.columns && again.offsets == pattern.offsets &&
              again.indices == pattern.indices,
          "a pattern is not read as it is written");
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
  Choice choice(seed);
  std::vector<Line> lines = lines_of(std::string(data, data + size));
  if (lines.empty() || choice.one_in(4)) return LLVMFuzzerMutate(data, size, max_size);
  change(lines[choice.below(lines.size())], choice);
  if (!choice.one_in(4)) mend(lines);
  const std::string text = text_of(lines);
  return give({text.begin(), text.end()}, data, max_size);
}

std::vector<Bytes> fuzz::seeds() {
  std::vector<Bytes> seeds;
  for (const std::string text : {"3, 4, 4\n0 2 2 4\n3 0 1 2\n", "2, 2, 0\n0 0 0", "1, 8, 8\n0 8\n0 1 2 3 4 5 6 7\n",
                                 "5, 1, 2\r\n0 1 1 1 1 2\r\n0 0\r\n", "2, 2, 1\n0 1 1\n0\n7\n", "2, x, 0\n0 0 0\n"}) {
    seeds.emplace_back(text.begin(), text.end());
  }
  return seeds;
}
