// Rows that pass the ports of a Verilated tile, dense or sparse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace cx::hw {

/// Rows of one port: how many there are, when each may pass, and their words.
class TilePort {
 public:
  /// `moments`: when each row may pass, in cycles after `first`; empty: evenly.
  void open(uint64_t first, uint64_t stream, uint64_t rows, size_t width, std::vector<uint64_t> moments) {
    first_ = first;
    moments_ = std::move(moments);
    stream_ = stream;
    rows_ = rows;
    width_ = width;
    next_ = 0;
    words_.assign(rows * width, 0);
    if (rows != 0) set_due();
  }
  uint32_t *row(uint64_t i) { return &words_[i * width_]; }
  const uint32_t *head() const { return &words_[next_ * width_]; }
  bool done() const { return next_ == rows_; }
  uint64_t next() const { return next_; }
  /// Cycle from which on the next row may pass: evenly over the stream, the last one at its end, unless there are
  /// moments.
  uint64_t due() const { return due_; }
  void pass() {
    ++next_;
    if (next_ != rows_) set_due();
  }
  size_t width() const { return width_; }

 private:
  void set_due() {
    if (!moments_.empty()) {
      due_ = first_ + moments_[next_];
    } else if (rows_ == stream_) {
      due_ = first_ + next_;
    } else {
      due_ = rows_ == 1 ? first_ + stream_ - 1 : first_ + next_ * (stream_ - 1) / (rows_ - 1);
    }
  }

  uint64_t first_ = 0, stream_ = 0, rows_ = 0, next_ = 0, due_ = 0;
  size_t width_ = 0;
  std::vector<uint64_t> moments_;
  std::vector<uint32_t> words_;
};

/// Irregular moments for the rows of a port, at least `gap` cycles apart, the last at the end of the stream; none if
/// the seed is 0. Changes the seed.
std::vector<uint64_t> tile_moments(uint64_t &seed, uint64_t rows, uint64_t gap, uint64_t stream);

/// Something in the words of a row from `used` on, unless the seed is 0. Changes the seed.
void tile_scribble(uint64_t &seed, TilePort &port, uint64_t row, size_t used);

/// Puts `count` elements of `bytes` each that lie `stride` bytes apart into words that are 0, `pack` to a word.
void tile_spread(const std::byte *from, ptrdiff_t stride, size_t bytes, uint32_t count, uint32_t pack, uint32_t *words,
                 size_t word_step);

}  // namespace cx::hw
