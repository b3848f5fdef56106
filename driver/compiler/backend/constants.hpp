// Constants of the program: converted to device types at compile time, each content stored once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "driver/compiler/backend/views.hpp"
#include "driver/compiler/graph.hpp"
#include "driver/runtime/content_index.hpp"
#include "driver/runtime/image_builder.hpp"
#include "driver/runtime/shared_constants.hpp"

namespace cx::compiler::backend {

/// Elements of a constant of any numeric type as floats.
std::vector<float> constant_as_floats(const Tensor &tensor);

float element_as_float(Type type, const std::byte *element);

/// Floats as elements of a floating-point or 8-bit device type, rounded to nearest even; 8-bit types saturate.
std::vector<std::byte> encode_floats(const std::vector<float> &values, Dtype dtype);
/// The same into memory that has room.
void encode_floats(std::span<const float> values, Dtype dtype, std::byte *to);

class ConstantPool {
 public:
  using FillBytes = SharedConstants::FillBytes;

  explicit ConstantPool(ImageBuilder &image) : image_(image) {}
  /// Of a program that shares its constants, in a segment of their own.
  ConstantPool(ImageBuilder &image, SharedConstants *shared, int segment)
      : image_(image), shared_(shared), segment_(shared ? segment : 0) {}

  /// Offset in segment() of `size` bytes that fill() writes. Equal contents share one place. During a trial nothing is
  /// written or placed: the offset is about where they would be.
  int64_t place(std::size_t size, const FillBytes &fill);
  /// What is placed from here on is not kept, until end_trial() is called as often as begin_trial().
  void begin_trial() {
    if (trials_++ == 0) pretended_ = 0;
  }
  void end_trial() { --trials_; }
  bool on_trial() const { return trials_ != 0; }
  /// Bytes of the trial so far, and the way back to them.
  uint64_t pretended() const { return pretended_; }
  void return_to(uint64_t pretended) { pretended_ = pretended; }
  int segment() const { return segment_; }
  uint64_t bytes() const { return bytes_; }

 private:
  int64_t place_in_image(std::size_t size, const FillBytes &fill);
  int64_t place_among_shared(std::size_t size, const FillBytes &fill);

  ImageBuilder &image_;
  SharedConstants *shared_ = nullptr;
  int segment_ = 0;  // the image
  ContentIndex in_image_;
  std::set<std::pair<uint64_t, std::size_t>> shared_places_;  ///< offsets and sizes that the program has
  uint64_t bytes_ = 0;
  int trials_ = 0;
  uint64_t pretended_ = 0;  ///< bytes of the trial
};

}  // namespace cx::compiler::backend
