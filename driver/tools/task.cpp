#include "driver/tools/task.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>

#include "driver/include/cx/error.hpp"

namespace cx::tools {
namespace {

std::span<const float> floats(const HostTensor &tensor) {
  if (tensor.type != "float32") throw InputError("output " + tensor.name + " is " + tensor.type + ", not float32");
  return {reinterpret_cast<const float *>(tensor.bytes.data()), tensor.bytes.size() / sizeof(float)};
}

HostTensor tensor_of(const std::string &name, std::vector<int64_t> shape, const std::vector<float> &values) {
  HostTensor tensor;
  tensor.name = name;
  tensor.type = "float32";
  tensor.shape = std::move(shape);
  tensor.bytes.resize(values.size() * sizeof(float));
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

void expect_rank_4(const std::string &task, const std::string &name, const std::vector<int64_t> &shape,
                   int64_t channels) {
  if (shape.size() != 4 || (shape[1] >= 0 && shape[1] != channels)) {
    throw InputError("task " + task + " needs an input of shape [1, " + std::to_string(channels) +
                     ", height, width], but " + name + " has another one");
  }
}

const HostTensor &output_of(const std::vector<HostTensor> &outputs, const std::string &task, std::size_t rank,
                            int64_t last) {
  for (const HostTensor &tensor : outputs) {
    if (tensor.shape.size() == rank && (last < 0 || tensor.shape.back() == last)) return tensor;
  }
  throw InputError("task " + task + ": the model has no output of rank " + std::to_string(rank) +
                   (last < 0 ? "" : " with a last dimension of " + std::to_string(last)));
}

std::string fixed(float value, int digits) {
  std::ostringstream out;
  out.setf(std::ios::fixed);
  out.precision(digits);
  out << value;
  return out.str();
}

/// A text line for a CTC recogniser: height 48, aspect kept, at least 320 wide, (x / 255 - 0.5) / 0.5, BGR, zero
/// padded.
class OcrLine : public Task {
 public:
  explicit OcrLine(std::vector<std::string> labels) : labels_(std::move(labels)) {}

  HostTensor prepare(const Picture &picture, const std::string &name,
                     const std::vector<int64_t> &shape) const override {
    expect_rank_4("ocr-line", name, shape, 3);
    const int height = shape[2] > 0 ? static_cast<int>(shape[2]) : 48;
    const int natural = (picture.width * height + picture.height - 1) / picture.height;
    const int width = shape[3] > 0 ? static_cast<int>(shape[3]) : std::max(320, (natural + 7) / 8 * 8);
    const Picture scaled = resize(picture, std::clamp(natural, 1, width), height);
    return tensor_of(name, {1, 3, height, width}, to_planes(scaled, Channels::Bgr, 127.5F, 1.0F / 127.5F, width));
  }

  Answer read(const std::vector<HostTensor> &outputs) const override {
    const auto [text, confidence] = decode(outputs);
    Answer answer;
    answer.lines = {"text: " + text, "confidence: " + fixed(confidence, 4)};
    answer.json = nlohmann::json{{"text", text}, {"confidence", confidence}}.dump();
    return answer;
  }

  bool agree(const std::vector<HostTensor> &a, const std::vector<HostTensor> &b) const override {
    return decode(a).first == decode(b).first;
  }

 private:
  /// Greedy CTC: class 0 is blank, classes 1..n are the labels, the last one is a space.
  std::pair<std::string, float> decode(const std::vector<HostTensor> &outputs) const {
    const auto classes = static_cast<int64_t>(labels_.size()) + 2;
    const HostTensor &tensor = output_of(outputs, "ocr-line", 3, classes);
    const std::span<const float> values = floats(tensor);
    std::string text;
    float sum = 0;
    int count = 0;
    int64_t previous = 0;
    for (int64_t t = 0; t < tensor.shape[1]; ++t) {
      const auto row = values.subspan(t * classes, classes);
      const int64_t best = std::max_element(row.begin(), row.end()) - row.begin();
      if (best != 0 && best != previous) {
        text += best == classes - 1 ? " " : labels_[best - 1];
        sum += row[best];
        ++count;
      }
      previous = best;
    }
    return {text, count == 0 ? 0.0F : sum / static_cast<float>(count)};
  }

  std::vector<std::string> labels_;
};

/// Upright or upside down: 48 x 192, aspect kept, zero padded, normalised as for a text line.
class OcrDirection : public Task {
 public:
  HostTensor prepare(const Picture &picture, const std::string &name,
                     const std::vector<int64_t> &shape) const override {
    expect_rank_4("ocr-direction", name, shape, 3);
    const int height = shape[2] > 0 ? static_cast<int>(shape[2]) : 48;
    const int width = shape[3] > 0 ? static_cast<int>(shape[3]) : 192;
    const int natural = (picture.width * height + picture.height - 1) / picture.height;
    const Picture scaled = resize(picture, std::clamp(natural, 1, width), height);
    return tensor_of(name, {1, 3, height, width}, to_planes(scaled, Channels::Bgr, 127.5F, 1.0F / 127.5F, width));
  }

  Answer read(const std::vector<HostTensor> &outputs) const override {
    const std::span<const float> p = floats(output_of(outputs, "ocr-direction", 2, 2));
    const int degrees = p[0] >= p[1] ? 0 : 180;
    return {{"direction: " + std::to_string(degrees) + " degrees (probability " + fixed(std::max(p[0], p[1]), 4) + ")"},
            nlohmann::json{{"degrees", degrees}, {"probability", std::max(p[0], p[1])}}.dump()};
  }

  bool agree(const std::vector<HostTensor> &a, const std::vector<HostTensor> &b) const override {
    const auto pa = floats(output_of(a, "ocr-direction", 2, 2));
    const auto pb = floats(output_of(b, "ocr-direction", 2, 2));
    return (pa[0] >= pa[1]) == (pb[0] >= pb[1]);
  }
};

/// A face detector with decoded boxes: scores [1, n, 2], boxes [1, n, 4] as fractions; input RGB (x - 127) / 128.
class Faces : public Task {
 public:
  HostTensor prepare(const Picture &picture, const std::string &name,
                     const std::vector<int64_t> &shape) const override {
    expect_rank_4("faces", name, shape, 3);
    const int height = shape[2] > 0 ? static_cast<int>(shape[2]) : 240;
    const int width = shape[3] > 0 ? static_cast<int>(shape[3]) : 320;
    return tensor_of(name, {1, 3, height, width},
                     to_planes(resize(picture, width, height), Channels::Rgb, 127.0F, 1.0F / 128.0F, width));
  }

  Answer read(const std::vector<HostTensor> &outputs) const override {
    Answer answer;
    nlohmann::json list = nlohmann::json::array();
    const std::vector<Box> boxes = find(outputs);
    answer.lines.push_back("faces: " + std::to_string(boxes.size()));
    for (const Box &box : boxes) {
      answer.lines.push_back("  score " + fixed(box.score, 3) + "  box " + fixed(box.x0, 3) + " " + fixed(box.y0, 3) +
                             " " + fixed(box.x1, 3) + " " + fixed(box.y1, 3));
      list.push_back({{"score", box.score}, {"box", {box.x0, box.y0, box.x1, box.y1}}});
    }
    answer.json = list.dump();
    return answer;
  }

  bool agree(const std::vector<HostTensor> &a, const std::vector<HostTensor> &b) const override {
    const std::vector<Box> fa = find(a);
    const std::vector<Box> fb = find(b);
    if (fa.size() != fb.size()) return false;
    return std::all_of(fa.begin(), fa.end(), [&](const Box &box) {
      return std::any_of(fb.begin(), fb.end(), [&](const Box &other) { return overlap(box, other) > 0.9F; });
    });
  }

 private:
  struct Box {
    float score, x0, y0, x1, y1;
  };

  static constexpr float kScore = 0.7F;  // the detector's own demonstration uses these two
  static constexpr float kOverlap = 0.5F;

  static float overlap(const Box &a, const Box &b) {
    const float w = std::min(a.x1, b.x1) - std::max(a.x0, b.x0);
    const float h = std::min(a.y1, b.y1) - std::max(a.y0, b.y0);
    if (w <= 0 || h <= 0) return 0;
    const float area_a = (a.x1 - a.x0) * (a.y1 - a.y0);
    const float area_b = (b.x1 - b.x0) * (b.y1 - b.y0);
    return w * h / (area_a + area_b - w * h);
  }

  /// Non-maximum suppression, best score first.
  static std::vector<Box> find(const std::vector<HostTensor> &outputs) {
    const auto scores = floats(output_of(outputs, "faces", 3, 2));
    const auto corners = floats(output_of(outputs, "faces", 3, 4));
    std::vector<Box> candidates;
    for (std::size_t i = 0; 2 * i + 1 < scores.size() && 4 * i + 3 < corners.size(); ++i) {
      if (scores[2 * i + 1] > kScore) {
        candidates.push_back(
            {scores[2 * i + 1], corners[4 * i], corners[4 * i + 1], corners[4 * i + 2], corners[4 * i + 3]});
      }
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Box &a, const Box &b) { return a.score > b.score; });
    std::vector<Box> kept;
    for (const Box &box : candidates) {
      if (std::none_of(kept.begin(), kept.end(), [&](const Box &k) { return overlap(box, k) > kOverlap; })) {
        kept.push_back(box);
      }
    }
    return kept;
  }
};

/// Classification: the largest value of the last output. Pictures: gray or RGB planes of raw 0..255 at the model's
/// size.
class Classify : public Task {
 public:
  explicit Classify(std::vector<std::string> labels) : labels_(std::move(labels)) {}

  HostTensor prepare(const Picture &picture, const std::string &name,
                     const std::vector<int64_t> &shape) const override {
    if (shape.size() != 4 || shape[2] <= 0 || shape[3] <= 0 || (shape[1] != 1 && shape[1] != 3)) {
      throw InputError("task classify needs an input of shape [1, 1 or 3, height, width], but " + name +
                       " has another one");
    }
    const Picture scaled = resize(picture, static_cast<int>(shape[3]), static_cast<int>(shape[2]));
    return tensor_of(
        name, {1, shape[1], shape[2], shape[3]},
        to_planes(scaled, shape[1] == 1 ? Channels::Gray : Channels::Rgb, 0.0F, 1.0F, static_cast<int>(shape[3])));
  }

  Answer read(const std::vector<HostTensor> &outputs) const override {
    const std::size_t best = top(outputs);
    const std::string label = best < labels_.size() ? labels_[best] : std::to_string(best);
    return {{"class: " + label}, nlohmann::json{{"class", best}, {"label", label}}.dump()};
  }

  bool agree(const std::vector<HostTensor> &a, const std::vector<HostTensor> &b) const override {
    return top(a) == top(b);
  }

 private:
  static std::size_t top(const std::vector<HostTensor> &outputs) {
    if (outputs.empty()) throw InputError("task classify: the model has no output");
    const auto values = floats(outputs.front());
    return std::max_element(values.begin(), values.end()) - values.begin();
  }

  std::vector<std::string> labels_;
};

std::vector<std::string> read_labels(const std::filesystem::path &path) {
  std::ifstream in(path);
  if (!in) throw InputError(path.string() + ": cannot be read (label file, one label a line)");
  std::vector<std::string> labels;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    labels.push_back(line);
  }
  if (labels.empty()) throw InputError(path.string() + ": holds no labels");
  return labels;
}

}  // namespace

std::vector<std::string> task_names() { return {"ocr-line", "ocr-direction", "faces", "classify"}; }

std::unique_ptr<Task> make_task(const std::string &name, const std::filesystem::path &model,
                                const std::filesystem::path &labels) {
  if (name == "ocr-line") {
    return std::make_unique<OcrLine>(read_labels(labels.empty() ? model.parent_path() / "ppocr_keys_v1.txt" : labels));
  }
  if (name == "ocr-direction") return std::make_unique<OcrDirection>();
  if (name == "faces") return std::make_unique<Faces>();
  if (name == "classify") {
    return std::make_unique<Classify>(labels.empty() ? std::vector<std::string>{} : read_labels(labels));
  }
  throw InputError("unknown task '" + name + "': ocr-line, ocr-direction, faces or classify");
}

}  // namespace cx::tools
