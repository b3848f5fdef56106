// Pictures as network inputs: loading, resizing, normalising.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace cx::tools {

/// Interleaved 8-bit RGB, row by row.
struct Picture {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;
};

/// PNG or JPEG. Throws InputError with the decoder's reason.
Picture load_picture(const std::filesystem::path &path);

/// As PNG. Throws InputError when the file cannot be written.
void save_picture(const Picture &picture, const std::filesystem::path &path);

/// Triangle filter (bilinear, with area averaging when it shrinks).
Picture resize(const Picture &picture, int width, int height);

enum class Channels { Rgb, Bgr, Gray };

/// Planes of (value - mean) * scale, channel by channel, `width` columns wide: columns beyond the picture are 0.
std::vector<float> to_planes(const Picture &picture, Channels channels, float mean, float scale, int width);

}  // namespace cx::tools
