// Tasks: what goes into a network for a picture, and what its outputs mean.
#include "driver/tools/task.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>

#include "driver/include/cx/error.hpp"

namespace fs = std::filesystem;
using cx::HostTensor;
using namespace cx::tools;

namespace {

HostTensor floats(std::vector<int64_t> shape, const std::vector<float> &values) {
  HostTensor out{"t", "float32", std::move(shape), std::vector<std::byte>(values.size() * sizeof(float))};
  std::memcpy(out.bytes.data(), values.data(), out.bytes.size());
  return out;
}

float at(const HostTensor &tensor, std::size_t index) {
  float value = 0;
  std::memcpy(&value, tensor.bytes.data() + index * sizeof(float), sizeof(float));
  return value;
}

Picture flat(int width, int height, uint8_t r, uint8_t g, uint8_t b) {
  Picture picture{width, height, {}};
  for (int i = 0; i < width * height; ++i) picture.rgb.insert(picture.rgb.end(), {r, g, b});
  return picture;
}

}  // namespace

TEST_CASE("a text line keeps its aspect, is at least 320 wide, blue first, and padded with zeros") {
  const fs::path labels = fs::temp_directory_path() / ("cx_labels_" + std::to_string(getpid()));
  std::ofstream(labels) << "a\nb\n";
  const auto task = make_task("ocr-line", "", labels);
  const HostTensor narrow = task->prepare(flat(96, 96, 255, 0, 127), "x", {-1, 3, 48, -1});
  CHECK(narrow.shape == std::vector<int64_t>{1, 3, 48, 320});
  CHECK(at(narrow, 0) == Approx((127 - 127.5) / 127.5));
  CHECK(at(narrow, 2 * 48 * 320) == Approx(1.0));
  CHECK(at(narrow, 48) == 0.0F);
  CHECK(task->prepare(flat(1000, 100, 0, 0, 0), "x", {-1, 3, 48, -1}).shape[3] == 480);

  // Classes: blank, a, b, space. Repeats merge unless a blank lies between.
  std::vector<float> steps;
  for (const int best : {1, 1, 0, 1, 3, 2, 0, 0}) {
    for (int c = 0; c < 4; ++c) steps.push_back(c == best ? 0.9F : 0.03F);
  }
  CHECK(task->read({floats({1, 8, 4}, steps)}).lines.at(0) == "text: aa b");
  CHECK_THROWS_AS(task->read({floats({1, 4}, {1, 0, 0, 0})}), cx::InputError);
  fs::remove(labels);
  CHECK_THROWS_AS(make_task("ocr-line", "", labels), cx::InputError);
}

TEST_CASE("faces are suppressed by overlap and compared by place") {
  const auto task = make_task("faces", "", "");
  const HostTensor scores = floats({1, 4, 2}, {0.1F, 0.9F, 0.2F, 0.8F, 0.05F, 0.95F, 0.9F, 0.1F});
  const HostTensor boxes =
      floats({1, 4, 4}, {0.1F, 0.1F, 0.3F, 0.3F, 0.11F, 0.1F, 0.3F, 0.3F, 0.6F, 0.6F, 0.8F, 0.8F, 0, 0, 1, 1});
  const Answer answer = task->read({scores, boxes});
  CHECK(answer.lines.at(0) == "faces: 2");
  CHECK(task->agree({scores, boxes}, {scores, boxes}));
  const HostTensor moved =
      floats({1, 4, 4}, {0.2F, 0.2F, 0.4F, 0.4F, 0.2F, 0.2F, 0.4F, 0.4F, 0.6F, 0.6F, 0.8F, 0.8F, 0, 0, 1, 1});
  CHECK_FALSE(task->agree({scores, boxes}, {scores, moved}));
}

TEST_CASE("direction and class are the larger probability") {
  const auto direction = make_task("ocr-direction", "", "");
  CHECK(direction->prepare(flat(500, 50, 1, 2, 3), "x", {-1, 3, -1, -1}).shape == std::vector<int64_t>{1, 3, 48, 192});
  CHECK(direction->read({floats({1, 2}, {0.25F, 0.75F})}).lines.at(0) == "direction: 180 degrees (probability 0.7500)");
  CHECK_FALSE(direction->agree({floats({1, 2}, {0.25F, 0.75F})}, {floats({1, 2}, {0.75F, 0.25F})}));
  const auto classify = make_task("classify", "", "");
  CHECK(classify->read({floats({1, 3}, {0, 5, 1})}).lines.at(0) == "class: 1");
  CHECK(classify->prepare(flat(56, 56, 255, 255, 255), "x", {1, 1, 28, 28}).shape ==
        std::vector<int64_t>{1, 1, 28, 28});
  CHECK_THROWS_AS(classify->prepare(flat(8, 8, 0, 0, 0), "x", {1, 10}), cx::InputError);
  CHECK_THROWS_WITH(make_task("poetry", "", ""), Catch::Contains("ocr-line"));
}

TEST_CASE("a file that is no picture is named with the decoder's reason") {
  CHECK_THROWS_WITH(load_picture("/absent.png"), Catch::Contains("/absent.png"));
}
