#include "driver/tools/picture_input.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "driver/include/cx/error.hpp"
#include "hw/common/num/formats.hpp"

namespace cx::tools {
namespace {

constexpr int64_t kLargestSide = 16384;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::vector<std::string> split(const std::string &text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(separator, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

float number(const std::string &key, const std::string &text) {
  try {
    std::size_t used = 0;
    const float value = std::stof(text, &used);
    if (used == text.size() && std::isfinite(value)) return value;
  } catch (const std::logic_error &) {
  }
  throw InputError("--picture: " + key + "=" + text + " is not a number");
}

std::vector<float> numbers(const std::string &key, const std::string &text) {
  std::vector<float> values;
  for (const std::string &part : split(text, '/')) values.push_back(number(key, part));
  if (values.size() != 1 && values.size() != 3) {
    throw InputError("--picture: " + key + "=" + text + ": give one number, or three with / between them");
  }
  return values;
}

std::pair<int, int> parse_size(const std::string &text) {
  const std::vector<std::string> parts = split(text, 'x');
  const auto side = [&](const std::string &part) {
    if (part.empty() || part.size() > 5 || part.find_first_not_of("0123456789") != std::string::npos) return 0;
    return std::stoi(part);
  };
  if (parts.size() == 2 && side(parts[0]) > 0 && side(parts[1]) > 0 && side(parts[0]) <= kLargestSide &&
      side(parts[1]) <= kLargestSide) {
    return {side(parts[0]), side(parts[1])};
  }
  throw InputError("--picture: size=" + text + " is not a width and height such as 640x480");
}

template <class Value>
Value choose(const std::string &key, const std::string &text, const std::map<std::string, Value> &known) {
  if (const auto found = known.find(text); found != known.end()) return found->second;
  std::string names;
  for (const auto &[name, value] : known) names += (names.empty() ? "" : ", ") + name;
  throw InputError("--picture: " + key + "=" + text + ": known are " + names);
}

/// Where an input has its dimensions, and how large they are.
struct Place {
  int batch = -1, channel = -1, row = 0, column = 0;  ///< dimension, -1: none
  int channels = 1, width = 0, height = 0;
};

Place place_of(const PictureOptions &options, const std::string &name, const std::vector<int64_t> &shape,
               std::size_t pictures, const Picture &first) {
  using Layout = PictureOptions::Layout;
  const auto misfit = [&](const std::string &why) {
    return InputError("input " + name + " of shape " + shape_text(shape) + " does not take a picture: " + why);
  };
  Place place;
  const int rank = static_cast<int>(shape.size());
  if (rank < 2 || rank > 4) throw misfit("it has rank " + std::to_string(rank) + ", not 2, 3 or 4");
  if (rank == 4) place.batch = 0;
  if (rank == 2) {
    place.row = 0;
    place.column = 1;
  } else {
    const int front = rank - 3;
    const auto may_be_channels = [&](int d) { return shape[d] == 1 || shape[d] == 3; };
    Layout layout = Layout::nchw;
    if (options.layout) {
      layout = *options.layout;
    } else if (!may_be_channels(front) && may_be_channels(rank - 1)) {
      layout = Layout::nhwc;
    }
    place.channel = layout == Layout::nchw ? front : rank - 1;
    place.row = layout == Layout::nchw ? front + 1 : front;
    place.column = place.row + 1;
    const int64_t channels = shape[place.channel];
    if (channels >= 0 && channels != 1 && channels != 3) {
      throw misfit(fmt::format("dimension {} would be the channels, of which a picture has 1 or 3", place.channel));
    }
    place.channels = channels > 0 ? static_cast<int>(channels) : options.order == Channels::Gray ? 1 : 3;
  }
  if (options.order && (*options.order == Channels::Gray) != (place.channels == 1)) {
    throw misfit(fmt::format("order={} does not make {} channel{}", *options.order == Channels::Gray ? "grey" : "rgb",
                             place.channels, place.channels == 1 ? "" : "s"));
  }
  const int64_t width = shape[place.column];
  const int64_t height = shape[place.row];
  place.width = static_cast<int>(width >= 0 ? width : options.size ? options.size->first : first.width);
  place.height = static_cast<int>(height >= 0 ? height : options.size ? options.size->second : first.height);
  if (width > kLargestSide || height > kLargestSide || place.width <= 0 || place.height <= 0) {
    throw misfit("its height and width are not those of a picture");
  }
  const int64_t batch = place.batch >= 0 ? shape[place.batch] : 1;
  if (batch >= 0 && static_cast<std::size_t>(batch) != pictures) {
    throw misfit(fmt::format("{} picture{} given for a batch of {}", pictures, pictures == 1 ? "" : "s", batch));
  }
  return place;
}

/// The picture in the input's size.
Picture fitted(const Picture &picture, const PictureOptions &options, int width, int height) {
  using Resize = PictureOptions::Resize;
  if (options.resize == Resize::stretch) return resize(picture, width, height);
  const double by_width = static_cast<double>(width) / picture.width;
  const double by_height = static_cast<double>(height) / picture.height;
  const double factor = options.resize == Resize::crop ? std::max(by_width, by_height) : std::min(by_width, by_height);
  int inner_width = std::max(1, static_cast<int>(std::lround(picture.width * factor)));
  int inner_height = std::max(1, static_cast<int>(std::lround(picture.height * factor)));
  if (options.resize == Resize::crop) {
    inner_width = std::max(inner_width, width);
    inner_height = std::max(inner_height, height);
  } else {
    inner_width = std::min(inner_width, width);
    inner_height = std::min(inner_height, height);
  }
  const Picture scaled = resize(picture, inner_width, inner_height);
  Picture out{width, height,
              std::vector<uint8_t>(std::size_t{3} * width * height,
                                   static_cast<uint8_t>(std::clamp(options.pad, 0.0F, 255.0F)))};
  const bool corner = options.resize == Resize::corner;
  // Of the scaled picture's pixel that comes to the top left; negative where the border is.
  const int left = corner ? 0 : (inner_width - width) / 2;
  const int top = corner ? 0 : (inner_height - height) / 2;
  const int first = std::max(0, -left);
  const int count = std::min(width, inner_width - left) - first;
  for (int y = std::max(0, -top); y < std::min(height, inner_height - top); ++y) {
    std::memcpy(&out.rgb[(std::size_t(y) * width + first) * 3],
                &scaled.rgb[(std::size_t(y + top) * inner_width + first + left) * 3], std::size_t(count) * 3);
  }
  return out;
}

void store(std::byte *at, const std::string &type, float value) {
  const auto put = [at](auto element) { std::memcpy(at, &element, sizeof element); };
  if (type == "float32") put(value);
  if (type == "float16") put(num::encode_fp16(value));
  if (type == "bfloat16") put(num::encode_bf16(value));
  if (type == "uint8") put(num::encode_uint8(value));
  if (type == "int8") put(num::encode_int8(value));
}

}  // namespace

bool is_picture(const std::string &path) {
  const std::string extension = lower(std::filesystem::path(path).extension());
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg" || extension == ".bmp";
}

PictureOptions parse_picture_options(const std::string &text) {
  using Resize = PictureOptions::Resize;
  using Layout = PictureOptions::Layout;
  static const std::map<std::string, Resize> kResizes = {{"stretch", Resize::stretch},
                                                         {"letterbox", Resize::letterbox},
                                                         {"fit", Resize::letterbox},
                                                         {"corner", Resize::corner},
                                                         {"crop", Resize::crop}};
  static const std::map<std::string, Layout> kLayouts = {{"nchw", Layout::nchw}, {"nhwc", Layout::nhwc}};
  static const std::map<std::string, Channels> kOrders = {
      {"rgb", Channels::Rgb}, {"bgr", Channels::Bgr}, {"grey", Channels::Gray}, {"gray", Channels::Gray}};
  PictureOptions options;
  std::map<std::string, std::string> given;
  for (const std::string &item : split(text, ',')) {
    const std::size_t at = item.find('=');
    const std::string key = item.substr(0, at);
    if (at == std::string::npos || at + 1 == item.size())
      throw InputError("--picture: '" + item + "' is not KEY=VALUE");
    if (!given.emplace(key, item.substr(at + 1)).second) throw InputError("--picture: " + key + " is given twice");
  }
  for (const auto &[key, value] : given) {
    if (key == "resize") {
      options.resize = choose(key, value, kResizes);
    } else if (key == "layout") {
      options.layout = choose(key, value, kLayouts);
    } else if (key == "order") {
      options.order = choose(key, value, kOrders);
    } else if (key == "mean") {
      options.mean = numbers(key, value);
    } else if (key == "std") {
      options.std = numbers(key, value);
    } else if (key == "range") {
      options.range = number(key, value);
    } else if (key == "pad") {
      options.pad = number(key, value);
      if (options.pad < 0 || options.pad > 255) throw InputError("--picture: pad=" + value + " is not within 0 to 255");
    } else if (key == "size") {
      options.size = parse_size(value);
    } else if (key != "scale" && key != "shift") {
      throw InputError("--picture: unknown key '" + key +
                       "'; known are resize, layout, order, mean, std, scale, shift, range, pad and size");
    }
  }
  if (given.count("scale") != 0 || given.count("shift") != 0) {
    if (given.count("mean") != 0 || given.count("std") != 0) {
      throw InputError("--picture: scale and shift exclude mean and std");
    }
    // pixel * scale + shift = (pixel - mean) / std.
    std::vector<float> scale = given.count("scale") != 0 ? numbers("scale", given["scale"]) : std::vector<float>{1};
    std::vector<float> shift = given.count("shift") != 0 ? numbers("shift", given["shift"]) : std::vector<float>{0};
    const std::size_t count = std::max(scale.size(), shift.size());
    scale.resize(count, scale[0]);
    shift.resize(count, shift[0]);
    options.mean.clear();
    options.std.clear();
    for (std::size_t i = 0; i < count; ++i) {
      if (scale[i] == 0) throw InputError("--picture: scale is 0");
      options.mean.push_back(-shift[i] / scale[i]);
      options.std.push_back(1.0F / scale[i]);
    }
  }
  if (std::find(options.std.begin(), options.std.end(), 0.0F) != options.std.end()) {
    throw InputError("--picture: std is 0");
  }
  return options;
}

std::map<std::string, PictureOptions> parse_picture_options(const std::vector<std::string> &options) {
  std::map<std::string, PictureOptions> parsed;
  for (const std::string &text : options) {
    // Names may hold a colon, keys do not.
    const std::size_t equals = text.find('=');
    const std::size_t colon = equals == std::string::npos ? text.rfind(':') : text.rfind(':', equals);
    const std::string name = colon == std::string::npos ? "" : text.substr(0, colon);
    const PictureOptions value = parse_picture_options(colon == std::string::npos ? text : text.substr(colon + 1));
    if (!parsed.emplace(name, value).second) {
      throw InputError("--picture is given twice " + (name.empty() ? "without a name" : "for " + name));
    }
  }
  return parsed;
}

HostTensor picture_tensor(const std::vector<Picture> &pictures, const PictureOptions &options, const std::string &name,
                          const std::string &type, const std::vector<int64_t> &shape) {
  static const std::vector<std::string> kTypes = {"float32", "float16", "bfloat16", "uint8", "int8"};
  if (std::find(kTypes.begin(), kTypes.end(), type) == kTypes.end()) {
    throw InputError("input " + name + " is " + type + ": a picture makes float32, float16, bfloat16, uint8 or int8");
  }
  if (pictures.empty()) throw InputError("input " + name + ": no picture");
  const Place place = place_of(options, name, shape, pictures.size(), pictures.front());
  const Channels order = options.order.value_or(place.channels == 1 ? Channels::Gray : Channels::Rgb);
  const auto channel_value = [](const std::vector<float> &values, int channel) {
    return values.size() == 1 ? values[0] : values[static_cast<std::size_t>(channel)];
  };
  if (place.channels == 1 && (options.mean.size() != 1 || options.std.size() != 1)) {
    throw InputError("input " + name + " has one channel, mean or std has three");
  }

  HostTensor tensor{name, type, shape, {}};
  if (place.batch >= 0) tensor.shape[place.batch] = static_cast<int64_t>(pictures.size());
  if (place.channel >= 0) tensor.shape[place.channel] = place.channels;
  tensor.shape[place.row] = place.height;
  tensor.shape[place.column] = place.width;
  const std::size_t size = element_bytes(type);
  tensor.bytes.resize(element_count(tensor.shape) * size);
  std::vector<std::size_t> strides(tensor.shape.size(), 1);
  for (std::size_t d = strides.size() - 1; d-- > 0;) {
    strides[d] = strides[d + 1] * static_cast<std::size_t>(tensor.shape[d + 1]);
  }
  for (std::size_t n = 0; n < pictures.size(); ++n) {
    const Picture picture = fitted(pictures[n], options, place.width, place.height);
    const std::size_t base = place.batch >= 0 ? n * strides[place.batch] : 0;
    for (int y = 0; y < place.height; ++y) {
      for (int x = 0; x < place.width; ++x) {
        const uint8_t *pixel = &picture.rgb[(std::size_t(y) * place.width + x) * 3];
        for (int c = 0; c < place.channels; ++c) {
          // Grey: luma weights of ITU-R BT.601.
          const float raw = order == Channels::Gray ? 0.299F * pixel[0] + 0.587F * pixel[1] + 0.114F * pixel[2]
                                                    : pixel[order == Channels::Bgr ? 2 - c : c];
          const float value =
              (raw * (options.range / 255.0F) - channel_value(options.mean, c)) / channel_value(options.std, c);
          const std::size_t at = base + y * strides[place.row] + x * strides[place.column] +
                                 (place.channel >= 0 ? c * strides[place.channel] : 0);
          store(&tensor.bytes[at * size], type, value);
        }
      }
    }
  }
  return tensor;
}

}  // namespace cx::tools
