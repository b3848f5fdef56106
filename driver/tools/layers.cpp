#include "driver/tools/layers.hpp"

#include <fmt/core.h>
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <utility>

#include "driver/include/cx/error.hpp"

namespace cx::tools {
namespace {

constexpr int64_t kMaxNumber = int64_t{1} << 20, kMaxSize = int64_t{1} << 24;

constexpr std::array<const char *, 3> kProductColumns = {"M", "N", "K"};
constexpr std::array<const char *, 7> kConvColumns = {"IFMAP Height", "IFMAP Width", "Filter Height", "Filter Width",
                                                      "Channels",     "Num Filter",  "Strides"};

class Reader {
 public:
  Reader(std::vector<CsvLine> lines, const std::string &name) : name_(name), lines_(std::move(lines)) {}

  std::vector<Layer> layers() {
    if (lines_.empty()) fail({}, 1, "the file is empty; expected a line that names the columns, then the layers");
    const bool conv = read_header();
    std::vector<Layer> result;
    for (std::size_t i = 1; i < lines_.size(); ++i) {
      result.push_back(conv ? convolution(lines_[i]) : product(lines_[i]));
      check_size(lines_[i], result.back());
    }
    if (result.empty())
      fail(lines_[0], 1, "no layer follows; expected at least one line after the names of the columns");
    return result;
  }

 private:
  [[noreturn]] void fail(const CsvLine &line, std::size_t column, const std::string &message) const {
    throw InputError(fmt::format("{}:{}:{}: {}", name_, line.number, column, message));
  }

  static std::string expected_columns() {
    return fmt::format("expected the columns 'Layer, {}' or 'Layer name, {}'", fmt::join(kProductColumns, ", "),
                       fmt::join(kConvColumns, ", "));
  }

  /// Whether the layers are convolutions.
  bool read_header() const {
    const CsvLine &line = lines_[0];
    if (line.cells.size() < 2) fail(line, 1, expected_columns());
    const bool conv = column_key(line.cells[1].text).starts_with("ifmap");
    conv ? check_header(line, kConvColumns) : check_header(line, kProductColumns);
    return conv;
  }

  template <std::size_t count>
  void check_header(const CsvLine &line, const std::array<const char *, count> &columns) const {
    if (!column_key(line.cells[0].text).starts_with("layer")) {
      fail(line, line.cells[0].column, fmt::format("column '{}'; {}", line.cells[0].text, expected_columns()));
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (i + 1 >= line.cells.size()) {
        fail(line, line.cells.back().column, fmt::format("column '{}' is missing; {}", columns[i], expected_columns()));
      }
      const CsvCell &cell = line.cells[i + 1];
      if (column_key(cell.text) != column_key(columns[i])) {
        fail(line, cell.column,
             fmt::format("column '{}', expected '{}'; {}", cell.text, columns[i], expected_columns()));
      }
    }
    if (line.cells.size() > count + 1) {
      const CsvCell &cell = line.cells[count + 1];
      fail(line, cell.column, fmt::format("column '{}' is one too many; {}", cell.text, expected_columns()));
    }
  }

  template <std::size_t count>
  std::array<int64_t, count> numbers(const CsvLine &line, const std::array<const char *, count> &columns,
                                     std::string &name) const {
    if (line.cells[0].text.empty()) fail(line, line.cells[0].column, "Layer: empty, expected the layer's name");
    name = line.cells[0].text;
    std::array<int64_t, count> result{};
    for (std::size_t i = 0; i < count; ++i) {
      const auto wrong = [&](std::size_t column, const std::string &what) {
        fail(line, column, fmt::format("{}: {}, expected a whole number from 1 to {}", columns[i], what, kMaxNumber));
      };
      if (i + 1 >= line.cells.size()) {
        const CsvCell &last = line.cells.back();
        wrong(last.column + last.text.size(), "missing");
      }
      const CsvCell &cell = line.cells[i + 1];
      const char *const end = cell.text.data() + cell.text.size();
      const auto [rest, error] = std::from_chars(cell.text.data(), end, result[i]);
      if (error != std::errc() || rest != end || result[i] < 1 || result[i] > kMaxNumber) {
        wrong(cell.column, fmt::format("'{}'", cell.text.substr(0, 40)));
      }
    }
    if (line.cells.size() > count + 1) {
      const CsvCell &cell = line.cells[count + 1];
      fail(line, cell.column, fmt::format("'{}' after the last column, expected {} numbers", cell.text, count));
    }
    return result;
  }

  Layer product(const CsvLine &line) const {
    Layer layer;
    const auto size = numbers(line, kProductColumns, layer.name);
    layer.m = size[0];
    layer.n = size[1];
    layer.k = size[2];
    return layer;
  }

  Layer convolution(const CsvLine &line) const {
    Layer layer;
    const auto size = numbers(line, kConvColumns, layer.name);
    layer.is_conv = true;
    layer.conv = {size[0], size[1], size[2], size[3], size[4], size[5], size[6]};
    const Layer::Conv &conv = layer.conv;
    const auto points = [&](unsigned image, unsigned filter) {
      const int64_t over = size[image] - size[filter];
      if (over < 0) {
        fail(line, line.cells[filter + 1].column,
             fmt::format("{}: {}, expected at most the {} of {}", kConvColumns[filter], size[filter],
                         kConvColumns[image], size[image]));
      }
      return (over + conv.stride - 1) / conv.stride + 1;
    };
    const int64_t rows = points(0, 2);
    layer.m = rows * points(1, 3);
    layer.n = conv.filters;
    layer.k = conv.filter_height * conv.filter_width;
    // Each factor is at most 2^20, so that the product of three still fits.
    layer.k = layer.k > kMaxSize ? layer.k : layer.k * conv.channels;
    return layer;
  }

  void check_size(const CsvLine &line, const Layer &layer) const {
    for (const auto &[what, size] : {std::pair{"output points", layer.m}, std::pair{"elements of a filter", layer.k}}) {
      if (size > kMaxSize) fail(line, 1, fmt::format("{} {}, expected at most {}", size, what, kMaxSize));
    }
  }

  const std::string &name_;
  std::vector<CsvLine> lines_;
};

}  // namespace

std::vector<Layer> parse_layers(const std::string &text, const std::string &name) {
  return layers_of(csv_lines(text), name);
}

std::vector<Layer> layers_of(std::vector<CsvLine> lines, const std::string &name) {
  return Reader(std::move(lines), name).layers();
}

std::vector<Layer> load_layers(const std::filesystem::path &path) { return layers_of(read_csv(path), path.string()); }

}  // namespace cx::tools
