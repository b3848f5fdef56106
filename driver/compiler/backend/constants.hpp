// Constants of the program: converted to device types at compile time, each content stored once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "driver/compiler/backend/views.hpp"
#include "driver/compiler/graph.hpp"
#include "driver/runtime/image_builder.hpp"
#include "driver/runtime/shared_constants.hpp"

namespace cx::compiler::backend {

/// Elements of a constant of any numeric type as floats.
std::vector<float> constant_as_floats(const Tensor &tensor);

float element_as_float(Type type, const std::byte *element);

/// Floats as elements of a floating-point or 8-bit device type, rounded to nearest even; 8-bit types saturate.
std::vector<std::byte> encode_floats(const std::vector<float> &values, Dtype dtype);

class ConstantPool {
 public:
  explicit ConstantPool(ImageBuilder &image) : image_(image) {}
  /// Of a program that shares its constants, in a segment of their own.
  ConstantPool(ImageBuilder &image, SharedConstants *shared, int segment)
      : image_(image), shared_(shared), segment_(shared ? segment : 0) {}

  /// Offset of the bytes in segment(). Equal contents share one place.
  int64_t place(const std::vector<std::byte> &bytes);
  /// The same for `size` bytes that make() gives. During a trial nothing is made or placed: the offset is about where
  /// they would be.
  int64_t place(std::size_t size, const std::function<std::vector<std::byte>()> &make);
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
  struct Place {
    int64_t offset = 0;
    std::size_t bytes = 0;
  };
  ImageBuilder &image_;
  SharedConstants *shared_ = nullptr;
  int segment_ = 0;                        // the image
  std::multimap<uint64_t, Place> places_;  ///< by a hash of the content
  uint64_t bytes_ = 0;
  int trials_ = 0;
  uint64_t pretended_ = 0;  ///< bytes of the trial
};

}  // namespace cx::compiler::backend
