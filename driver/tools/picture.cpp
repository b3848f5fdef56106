#include "driver/tools/picture.hpp"

#include <stb/stb_image.h>
#include <stb/stb_image_write.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "driver/include/cx/error.hpp"

namespace cx::tools {

Picture load_picture(const std::filesystem::path &path) {
  Picture picture;
  int channels = 0;
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> data(
      stbi_load(path.c_str(), &picture.width, &picture.height, &channels, 3), stbi_image_free);
  if (!data) {
    throw InputError(path.string() + ": not a readable PNG or JPEG picture (" + stbi_failure_reason() + ")");
  }
  const std::size_t bytes = std::size_t{3} * picture.width * picture.height;
  picture.rgb.assign(data.get(), data.get() + bytes);
  return picture;
}

void save_picture(const Picture &picture, const std::filesystem::path &path) {
  if (stbi_write_png(path.c_str(), picture.width, picture.height, 3, picture.rgb.data(), 3 * picture.width) == 0) {
    throw InputError(path.string() + ": cannot be written");
  }
}

namespace {

/// Weights of the source positions that make one target position: first, first + 1, ...
struct Taps {
  int first = 0;
  std::vector<float> weights;
};

/// A triangle as wide as the coarser of the two grids; positions beyond the ends are the ends.
std::vector<Taps> triangle_taps(int from, int to) {
  const double step = static_cast<double>(from) / to;
  const double reach = std::max(1.0, step);
  std::vector<Taps> all(static_cast<std::size_t>(to));
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * step - 0.5;
    const int low = static_cast<int>(std::ceil(centre - reach));
    const int high = static_cast<int>(std::floor(centre + reach));
    Taps &taps = all[static_cast<std::size_t>(i)];
    taps.first = std::clamp(low, 0, from - 1);
    taps.weights.assign(static_cast<std::size_t>(std::clamp(high, 0, from - 1) - taps.first) + 1, 0.0F);
    double sum = 0;
    for (int at = low; at <= high; ++at) sum += 1 - std::abs(at - centre) / reach;
    for (int at = low; at <= high; ++at) {
      const int source = std::clamp(at, 0, from - 1) - taps.first;
      taps.weights[static_cast<std::size_t>(source)] += static_cast<float>((1 - std::abs(at - centre) / reach) / sum);
    }
  }
  return all;
}

}  // namespace

Picture resize(const Picture &picture, int width, int height) {
  if (picture.width == width && picture.height == height) return picture;
  if (width <= 0 || height <= 0) throw InputError("a picture cannot have the size 0");
  const std::vector<Taps> columns = triangle_taps(picture.width, width);
  const std::vector<Taps> rows = triangle_taps(picture.height, height);
  const std::size_t line = std::size_t{3} * width;
  std::vector<float> wide(line * picture.height, 0.0F);  // the right width, the old height
  for (int y = 0; y < picture.height; ++y) {
    const uint8_t *source = &picture.rgb[std::size_t{3} * picture.width * y];
    for (int x = 0; x < width; ++x) {
      const Taps &taps = columns[static_cast<std::size_t>(x)];
      float *target = &wide[line * y + std::size_t{3} * x];
      for (std::size_t t = 0; t < taps.weights.size(); ++t) {
        const uint8_t *pixel = source + 3 * (static_cast<std::size_t>(taps.first) + t);
        for (int c = 0; c < 3; ++c) target[c] += taps.weights[t] * static_cast<float>(pixel[c]);
      }
    }
  }
  Picture out{width, height, std::vector<uint8_t>(line * height)};
  std::vector<float> sums(line);
  for (int y = 0; y < height; ++y) {
    const Taps &taps = rows[static_cast<std::size_t>(y)];
    std::fill(sums.begin(), sums.end(), 0.0F);
    for (std::size_t t = 0; t < taps.weights.size(); ++t) {
      const float *source = &wide[line * (static_cast<std::size_t>(taps.first) + t)];
      for (std::size_t i = 0; i < line; ++i) sums[i] += taps.weights[t] * source[i];
    }
    for (std::size_t i = 0; i < line; ++i) {
      out.rgb[line * y + i] = static_cast<uint8_t>(std::clamp(std::lround(sums[i]), 0L, 255L));
    }
  }
  return out;
}

std::vector<float> to_planes(const Picture &picture, Channels channels, float mean, float scale, int width) {
  const int planes = channels == Channels::Gray ? 1 : 3;
  const std::size_t plane = std::size_t(width) * picture.height;
  std::vector<float> out(planes * plane, 0.0F);
  for (int y = 0; y < picture.height; ++y) {
    for (int x = 0; x < std::min(width, picture.width); ++x) {
      const uint8_t *pixel = &picture.rgb[(std::size_t(y) * picture.width + x) * 3];
      const std::size_t at = std::size_t(y) * width + x;
      if (channels == Channels::Gray) {
        // Luma weights of ITU-R BT.601.
        out[at] = (0.299F * pixel[0] + 0.587F * pixel[1] + 0.114F * pixel[2] - mean) * scale;
        continue;
      }
      for (int c = 0; c < 3; ++c) {
        const int source = channels == Channels::Bgr ? 2 - c : c;
        out[c * plane + at] = (static_cast<float>(pixel[source]) - mean) * scale;
      }
    }
  }
  return out;
}

}  // namespace cx::tools
