// Pictures as inputs of any model, prepared as options say.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "driver/runtime/tensor.hpp"
#include "driver/tools/picture.hpp"

namespace cx::tools {

/// How a picture becomes a tensor. An element is ((pixel / 255 * range) - mean) / std, per channel in the tensor's
/// order.
struct PictureOptions {
  enum class Resize {
    stretch,    ///< to the input's size, whatever the shapes
    letterbox,  ///< whole, aspect kept, centred, the rest filled with `pad`
    corner,     ///< the same with the picture at the top left
    crop,       ///< aspect kept, the middle fills the input, what stands out is cut
  };
  enum class Layout { nchw, nhwc };
  Resize resize = Resize::stretch;
  std::optional<Layout> layout;   ///< absent: by which dimension of the input is 1 or 3, nchw where both are
  std::optional<Channels> order;  ///< absent: grey for one channel, RGB for three
  std::vector<float> mean{0};     ///< one, or one a channel
  std::vector<float> std{1};
  float range = 255;                        ///< the value of the brightest pixel before mean and std
  float pad = 0;                            ///< pixel value, 0 to 255
  std::optional<std::pair<int, int>> size;  ///< width, height of an input that leaves them open
};

/// Whether a file's name is that of a picture: .png, .jpg, .jpeg, .bmp.
bool is_picture(const std::string &path);

/// "resize=crop,mean=0.485/0.456/0.406,std=0.229/0.224/0.225,range=1,order=rgb". Keys: resize (stretch, letterbox or
/// fit, corner, crop), layout (nchw, nhwc), order (rgb, bgr, grey), mean and std, or scale and shift (element = pixel ·
/// scale + shift), range, pad, size (640x480). Throws InputError naming what is wrong.
PictureOptions parse_picture_options(const std::string &text);

/// Options of --picture: "NAME:resize=..." for one input, "resize=..." for all others, under the name "".
std::map<std::string, PictureOptions> parse_picture_options(const std::vector<std::string> &options);

/// One picture for each element of the batch. shape: declared, -1 where it is open; rank 4, or for one picture 3 or 2
/// (grey). type: float32, float16, bfloat16, or uint8 and int8, which take values as they are, rounded. Throws
/// InputError when shape, type, options and pictures do not fit.
HostTensor picture_tensor(const std::vector<Picture> &pictures, const PictureOptions &options, const std::string &name,
                          const std::string &type, const std::vector<int64_t> &shape);

}  // namespace cx::tools
