// Pictures as tensors: every option against values worked out from single pixels.
#include "driver/tools/picture_input.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>

#include "driver/include/cx/error.hpp"
#include "hw/common/num/formats.hpp"

using cx::HostTensor;
using cx::tools::parse_picture_options;
using cx::tools::Picture;
using cx::tools::picture_tensor;
using Shape = std::vector<int64_t>;

namespace {

/// 3 x 2: red grows to the right, green downwards, blue is 7.
Picture small() {
  Picture picture{3, 2, {}};
  for (int y = 0; y < 2; ++y) {
    for (int x = 0; x < 3; ++x) {
      for (const int value : {10 * x, 100 * y, 7}) picture.rgb.push_back(static_cast<uint8_t>(value));
    }
  }
  return picture;
}

Picture plain(int width, int height, uint8_t value) {
  return {width, height, std::vector<uint8_t>(std::size_t{3} * width * height, value)};
}

std::vector<float> floats(const HostTensor &tensor) {
  REQUIRE(tensor.type == "float32");
  std::vector<float> values(tensor.bytes.size() / 4);
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

HostTensor prepared(const std::string &options, const Shape &shape, const std::vector<Picture> &pictures) {
  return picture_tensor(pictures, parse_picture_options(options), "x", "float32", shape);
}

}  // namespace

TEST_CASE("layout and order follow the shape and the options") {
  const HostTensor planes = prepared("range=255", {1, 3, 2, 3}, {small()});
  CHECK(planes.shape == Shape{1, 3, 2, 3});
  CHECK(floats(planes) == std::vector<float>{0, 10, 20, 0, 10, 20, 0, 0, 0, 100, 100, 100, 7, 7, 7, 7, 7, 7});
  const std::vector<float> interleaved = {0, 0, 7, 10, 0, 7, 20, 0, 7, 0, 100, 7, 10, 100, 7, 20, 100, 7};
  CHECK(floats(prepared("range=255", {1, 2, 3, 3}, {small()})) == interleaved);  // 2 cannot be the channels
  CHECK(floats(prepared("layout=nhwc", {-1, -1, -1, 3}, {small()})) == interleaved);
  CHECK(floats(prepared("order=bgr,layout=nhwc", {2, 3, 3}, {small()}))[0] == 7);
  // Open dimensions take the picture's.
  CHECK(prepared("range=255", {-1, 3, -1, -1}, {small(), small()}).shape == Shape{2, 3, 2, 3});
  CHECK(prepared("size=6x4", {-1, 3, -1, -1}, {small()}).shape == Shape{1, 3, 4, 6});
  const HostTensor grey = prepared("range=255", {2, 3}, {small()});
  CHECK(grey.shape == Shape{2, 3});
  CHECK(floats(grey)[4] == Approx(0.299 * 10 + 0.587 * 100 + 0.114 * 7));
  CHECK(prepared("order=grey", {1, -1, 2, 5}, {small()}).shape == Shape{1, 1, 2, 5});
}

TEST_CASE("values are scaled as the options say") {
  CHECK(floats(prepared("mean=127,std=128", {1, 1, 1, 1}, {plain(1, 1, 255)}))[0] == Approx(1.0));
  CHECK(floats(prepared("scale=0.5,shift=-3", {1, 1, 1, 1}, {plain(1, 1, 10)}))[0] == Approx(2.0));
  const auto values =
      floats(prepared("range=1,mean=0.485/0.456/0.406,std=0.229/0.224/0.225", {1, 3, 1, 1}, {plain(1, 1, 51)}));
  CHECK(values[0] == Approx((0.2 - 0.485) / 0.229));
  CHECK(values[1] == Approx((0.2 - 0.456) / 0.224));
  CHECK(values[2] == Approx((0.2 - 0.406) / 0.225));

  const auto typed = [](const std::string &type, const std::string &options) {
    return picture_tensor({plain(1, 1, 200)}, parse_picture_options(options), "x", type, {1, 1, 1, 1}).bytes;
  };
  CHECK(std::to_integer<int>(typed("uint8", "range=255")[0]) == 200);
  CHECK(std::to_integer<int>(typed("int8", "shift=-128")[0]) == 72);
  uint16_t half = 0;
  std::memcpy(&half, typed("float16", "range=1").data(), 2);
  CHECK(cx::num::decode_fp16(half) == Approx(200.0 / 255).epsilon(1e-3));
}

TEST_CASE("a picture of another shape is stretched, fitted or cut") {
  // 8 x 4 with a left half of 0 and a right half of 200, into 4 x 4.
  Picture wide = plain(8, 4, 0);
  for (int y = 0; y < 4; ++y) {
    for (int x = 4; x < 8; ++x) std::memset(&wide.rgb[(y * 8 + x) * 3], 200, 3);
  }
  const Shape shape = {1, 1, 4, 4};
  const auto stretched = floats(prepared("resize=stretch", shape, {wide}));
  CHECK(stretched[0] == Approx(0).margin(1));
  CHECK(stretched[3] == Approx(200).margin(1));
  CHECK(stretched[15] == Approx(200).margin(1));
  // Whole: 4 x 2 in the middle, the border filled.
  for (const char *name : {"letterbox", "fit"}) {
    const auto boxed = floats(prepared(std::string("pad=50,resize=") + name, shape, {wide}));
    for (const int i : {0, 3, 12, 15}) CHECK(boxed[i] == Approx(50).margin(1));
    CHECK(boxed[4] == Approx(0).margin(1));
    CHECK(boxed[7] == Approx(200).margin(1));
  }
  const auto corner = floats(prepared("pad=50,resize=corner", shape, {wide}));
  CHECK(corner[0] == Approx(0).margin(1));
  CHECK(corner[3] == Approx(200).margin(1));
  CHECK(corner[8] == Approx(50).margin(1));
  // The middle four columns.
  const auto cropped = floats(prepared("resize=crop", shape, {wide}));
  CHECK(cropped[0] == Approx(0).margin(1));
  CHECK(cropped[1] == Approx(0).margin(1));
  CHECK(cropped[2] == Approx(200).margin(1));
  CHECK(cropped[12] == Approx(0).margin(1));
}

TEST_CASE("a batch takes one picture for each element") {
  const HostTensor batch = prepared("range=255", {2, 1, 1, 1}, {plain(5, 5, 3), plain(2, 9, 4)});
  CHECK(floats(batch) == std::vector<float>{3, 4});
  CHECK_THROWS_WITH(prepared("range=255", {2, 1, 1, 1}, {small()}),
                    Catch::Contains("1 picture given for a batch of 2"));
  CHECK_THROWS_AS(prepared("range=255", {3, 4, 4}, {small(), small()}), cx::InputError);
}

TEST_CASE("inputs that take no picture and options that do not fit are named") {
  const auto options = parse_picture_options("range=1");
  CHECK_THROWS_WITH(picture_tensor({small()}, options, "ids", "int64", {1, 3, 4, 4}),
                    Catch::Contains("ids") && Catch::Contains("int64"));
  CHECK_THROWS_WITH(prepared("range=1", {1, 10}, {}), Catch::Contains("no picture"));
  CHECK_THROWS_WITH(prepared("range=1", {10}, {small()}), Catch::Contains("rank 1"));
  CHECK_THROWS_WITH(prepared("range=1", {1, 4, 8, 8}, {small()}), Catch::Contains("channels"));
  CHECK_THROWS_WITH(prepared("order=grey", {1, 3, 8, 8}, {small()}), Catch::Contains("order=grey"));
  CHECK_THROWS_WITH(prepared("mean=1/2/3", {1, 1, 8, 8}, {small()}), Catch::Contains("one channel"));
  CHECK_THROWS_AS(prepared("range=1", {1, 3, 100000, 8}, {small()}), cx::InputError);
  for (const char *text :
       {"",         "resize",       "resize=", "resize=squash", "layout=hwc",      "order=cmyk",     "mean=a",
        "mean=1/2", "mean=nan",     "std=0",   "std=1/0/1",     "scale=0",         "scale=1,mean=2", "size=3",
        "size=0x4", "size=99999x4", "pad=-1",  "pad=256",       "range=1,range=2", "colour=1"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_picture_options(std::string(text)), cx::InputError);
  }
}

TEST_CASE("options are for one input, whose name may hold a colon, or for all") {
  const auto parsed =
      parse_picture_options(std::vector<std::string>{"x:resize=crop", "serving:0:order=bgr", "range=1,mean=0.5"});
  REQUIRE(parsed.size() == 3);
  CHECK(parsed.at("x").resize == cx::tools::PictureOptions::Resize::crop);
  CHECK(parsed.at("serving:0").order == cx::tools::Channels::Bgr);
  CHECK(parsed.at("").range == 1);
  CHECK_THROWS_AS(parse_picture_options(std::vector<std::string>{"x:range=1", "x:range=2"}), cx::InputError);
  CHECK(cx::tools::is_picture("a/B.JPG"));
  CHECK_FALSE(cx::tools::is_picture("a.npy"));
}

TEST_CASE("resizing keeps what is plain or a slope, whatever the sizes") {
  for (int from = 1; from <= 40; ++from) {
    for (int to = 1; to <= 40; ++to) {
      const Picture flat = cx::tools::resize(plain(from, 3, 201), to, 2);
      REQUIRE(flat.rgb.size() == std::size_t{6} * to);
      CHECK(std::all_of(flat.rgb.begin(), flat.rgb.end(), [](uint8_t value) { return value == 201; }));
    }
  }
  // Away from the ends, a slope stays one: pixel centres map to pixel centres.
  Picture slope{60, 1, {}};
  for (int x = 0; x < 60; ++x) {
    for (int c = 0; c < 3; ++c) slope.rgb.push_back(static_cast<uint8_t>(4 * x));
  }
  for (const int to : {20, 33, 47, 90, 120}) {
    const Picture out = cx::tools::resize(slope, to, 1);
    for (int x = to / 10; x < to - to / 10; ++x) {
      CHECK(out.rgb[3 * x] == Approx(4 * ((x + 0.5) * 60 / to - 0.5)).margin(1.2));
    }
  }
  // Shrinking by two weighs neighbours by the distance to the middle: 1, 3, 3, 1.
  Picture dots = plain(8, 1, 0);
  for (int c = 0; c < 3; ++c) dots.rgb[3 * 3 + c] = 80;
  const Picture half = cx::tools::resize(dots, 4, 1);
  CHECK(half.rgb[0] == 0);
  CHECK(half.rgb[3] == 30);
  CHECK(half.rgb[6] == 10);
  CHECK(half.rgb[9] == 0);
  CHECK_THROWS_AS(cx::tools::resize(dots, 0, 1), cx::InputError);
}
