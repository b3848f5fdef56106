// Work between two moments.
#pragma once

#include "hw/power/activity.hpp"

namespace cx::tb {

inline hw::MatrixActivity operator-(hw::MatrixActivity later, const hw::MatrixActivity &earlier) {
  for (unsigned format = 0; format < hw::MatrixActivity::kFormats; ++format) {
    later.products[format] -= earlier.products[format];
  }
  later.float_sums -= earlier.float_sums;
  later.integer_sums -= earlier.integer_sums;
  later.gated -= earlier.gated;
  later.accumulator_words -= earlier.accumulator_words;
  later.drained -= earlier.drained;
  later.decoded -= earlier.decoded;
  later.selected_bits -= earlier.selected_bits;
  later.buffer_bits -= earlier.buffer_bits;
  return later;
}

}  // namespace cx::tb
