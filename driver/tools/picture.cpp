#include "driver/tools/picture.hpp"

#include <stb/stb_image.h>
#include <stb/stb_image_resize.h>

#include <algorithm>
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

Picture resize(const Picture &picture, int width, int height) {
  if (picture.width == width && picture.height == height) return picture;
  Picture out{width, height, std::vector<uint8_t>(std::size_t{3} * width * height)};
  const int done = stbir_resize_uint8_generic(picture.rgb.data(), picture.width, picture.height, 0, out.rgb.data(),
                                              width, height, 0, 3, STBIR_ALPHA_CHANNEL_NONE, 0, STBIR_EDGE_CLAMP,
                                              STBIR_FILTER_TRIANGLE, STBIR_COLORSPACE_LINEAR, nullptr);
  if (done == 0) throw Error("resizing a picture failed: out of memory");
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
