// Layers of a network in SCALE-Sim's topology files (CSV): convolutions and matrix products.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "driver/tools/csv.hpp"

namespace cx::tools {

/// A layer as the product [m, k] by [k, n]; a convolution as SCALE-Sim maps it: m output points, n filters, k elements
/// of a filter.
struct Layer {
  /// Without padding. A last window that the stride puts across the edge counts.
  struct Conv {
    int64_t height = 0, width = 0, filter_height = 0, filter_width = 0, channels = 0, filters = 0, stride = 1;
  };

  std::string name;
  int64_t m = 0, n = 0, k = 0;
  bool is_conv = false;
  Conv conv;  ///< of a convolution

  uint64_t macs() const { return static_cast<uint64_t>(m) * static_cast<uint64_t>(n) * static_cast<uint64_t>(k); }
};

/// The first line names the columns: layer, M, N, K (products), or layer, IFMAP height and width, filter height and
/// width, channels, number of filters, strides (convolutions), case and spaces aside. Then a layer a line; a comma at
/// the end of a line and empty lines do not count. Numbers are 1 to 2^20; m, n and k at most 2^24. Throws InputError
/// "NAME:LINE:COLUMN: ..." with what was expected for anything else, also for a file without layers.
std::vector<Layer> parse_layers(const std::string &text, const std::string &name);
std::vector<Layer> layers_of(std::vector<CsvLine> lines, const std::string &name);
std::vector<Layer> load_layers(const std::filesystem::path &path);

}  // namespace cx::tools
