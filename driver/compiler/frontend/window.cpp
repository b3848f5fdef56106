#include "driver/compiler/frontend/window.hpp"

#include <algorithm>

#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

// Longer windows, strides and pads than any model has.
constexpr int64_t kLargest = int64_t{1} << 20;

std::vector<int64_t> checked(const NodeContext &n, const std::string &name, std::size_t length, int64_t fallback,
                             int64_t lowest) {
  std::vector<int64_t> values = n.integers(name, std::vector<int64_t>(length, fallback));
  if (values.size() != length) {
    throw InputError("attribute '" + name + "' " + to_text(values) + " must have " + std::to_string(length) +
                     " entries");
  }
  for (int64_t value : values) {
    if (value < lowest || value > kLargest) {
      throw InputError("attribute '" + name + "' " + to_text(values) + " is out of range");
    }
  }
  return values;
}

}  // namespace

Window read_window(const NodeContext &n, std::vector<int64_t> kernel, const std::vector<int64_t> &spatial) {
  const std::size_t rank = spatial.size();
  if (kernel.size() != rank) {
    throw InputError("kernel " + to_text(kernel) + " does not fit spatial dimensions " + to_text(spatial));
  }
  for (int64_t size : kernel) {
    if (size < 1 || size > kLargest) throw InputError("kernel " + to_text(kernel) + " is out of range");
  }
  Window window;
  window.kernel = std::move(kernel);
  window.strides = checked(n, "strides", rank, 1, 1);
  window.dilations = checked(n, "dilations", rank, 1, 1);
  for (std::size_t d = 0; d < rank; ++d) {
    if (window.extent(d) > kLargest) throw InputError("dilated kernel is out of range");
  }
  const std::string automatic = n.text("auto_pad", "NOTSET");
  if (automatic == "NOTSET" || automatic.empty()) {
    const auto pads = checked(n, "pads", 2 * rank, 0, 0);
    window.begin.assign(pads.begin(), pads.begin() + static_cast<long>(rank));
    window.end.assign(pads.begin() + static_cast<long>(rank), pads.end());
    return window;
  }
  if (automatic != "VALID" && automatic != "SAME_UPPER" && automatic != "SAME_LOWER") {
    throw InputError("attribute 'auto_pad' is '" + automatic + "'");
  }
  for (std::size_t d = 0; d < rank; ++d) {
    int64_t total = 0;
    if (automatic != "VALID") {
      const int64_t outputs = (spatial[d] + window.strides[d] - 1) / window.strides[d];
      total = std::max<int64_t>(0, (outputs - 1) * window.strides[d] + window.extent(d) - spatial[d]);
    }
    const int64_t smaller = total / 2;
    window.begin.push_back(automatic == "SAME_UPPER" ? smaller : total - smaller);
    window.end.push_back(total - window.begin.back());
  }
  return window;
}

}  // namespace cx::compiler
