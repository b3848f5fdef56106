// cx ocr: a photographed page through detection, direction and recognition on the chip.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/tools/calibration.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/picture_input.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/task.hpp"
#include "driver/tools/tensor_file.hpp"
#include "driver/tools/text_boxes.hpp"
#include "driver/umd/shipped_files.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char *kDetector = "ch_PP-OCRv4_det_infer.onnx";
constexpr const char *kDirection = "ch_ppocr_mobile_v2.0_cls_infer.onnx";
constexpr const char *kRecogniser = "ch_PP-OCRv4_rec_infer.onnx";

/// A line is turned when the classifier is as sure as this that it is upside down.
constexpr float kSureOfDirection = 0.9F;
/// The recogniser's widths are multiples of this, so that few programs serve all lines.
constexpr int kWidthStep = 160;
constexpr int kLineHeight = 48;
/// The detector halves its input five times.
constexpr int kDetectorStep = 32;

struct OcrOptions {
  ChipOptions chip;
  std::string page, models = shipped_folder("models") / "ocr", precision = "fp16", output, save_maps;
  int side = 960;
  double smallest_score = 0.5;
  bool json = false;
};

/// A network on the device: compiled once for every shape of its input.
class Stage {
 public:
  Stage(std::string name, Device &device, const fs::path &model, compiler::Precision precision)
      : name_(std::move(name)), device_(device), model_(model), precision_(precision) {
    const std::vector<compiler::InputInfo> infos = model_.inputs();
    if (infos.size() != 1) throw InputError(model.string() + ": has other inputs than the pipeline expects");
    input_ = infos.front().name;
  }

  const std::string &input() const { return input_; }

  std::vector<HostTensor> run(HostTensor value) {
    value.name = input_;
    Executable &executable = program_for(value);
    progress(name_ + ": running");
    std::vector<HostTensor> outputs = executable.run({&value, 1});
    const RunReport &report = executable.report();
    ++runs_;
    latency_us_ += report.latency_us;
    cycles_ += report.cycles;
    macs_ += report.macs;
    return outputs;
  }

  Json json() const {
    return {{"stage", name_}, {"model", model_.path().filename()}, {"programs", programs_.size()},
            {"runs", runs_},  {"latency_us", latency_us_},         {"cycles", cycles_},
            {"macs", macs_}};
  }

  std::string row() const {
    return fmt::format("  {:<12}{:>6}{:>16.2f}{:>16}{:>18}\n", name_, runs_, latency_us_, grouped(cycles_),
                       grouped(macs_));
  }

  double latency_us() const { return latency_us_; }

 private:
  Executable &program_for(const HostTensor &value) {
    if (const auto found = programs_.find(value.shape); found != programs_.end()) return *found->second;
    progress(fmt::format("{}: compiling for {}", name_, shape_text(value.shape)));
    compiler::CompileOptions options;
    options.precision = precision_;
    if (compiler::needs_ranges(precision_)) options.ranges = calibrate(device_, model_, {{value}}).ranges;
    compiler::ImportOptions import;
    import.input_shapes[input_] = value.shape;
    auto executable = std::make_unique<Executable>(
        device_, compiler::compile(compiler::import_onnx(model_, import), device_.target(), options));
    return *programs_.emplace(value.shape, std::move(executable)).first->second;
  }

  std::string name_;
  Device &device_;
  compiler::Model model_;
  compiler::Precision precision_;
  std::string input_;
  std::map<std::vector<int64_t>, std::unique_ptr<Executable>> programs_;
  uint64_t runs_ = 0, cycles_ = 0, macs_ = 0;
  double latency_us_ = 0;
};

/// The page in a size that the detector takes.
HostTensor detector_input(const Picture &page, int side, const std::string &name) {
  const double factor = std::min(1.0, static_cast<double>(side) / std::max(page.width, page.height));
  const auto rounded = [&](int length) {
    return std::max(1, static_cast<int>(std::lround(length * factor / kDetectorStep))) * kDetectorStep;
  };
  PictureOptions options;
  options.order = Channels::Bgr;
  options.range = 1;
  options.mean = {0.485F, 0.456F, 0.406F};  // as the network was trained: by position, not by colour
  options.std = {0.229F, 0.224F, 0.225F};
  return picture_tensor({page}, options, name, "float32", {1, 3, rounded(page.height), rounded(page.width)});
}

std::vector<TextBox> find_boxes(const HostTensor &map, const Picture &page) {
  if (map.type != "float32" || map.shape.size() != 4 || map.shape[0] != 1 || map.shape[1] != 1) {
    throw InputError("the detector's output is " + map.type + " " + shape_text(map.shape) +
                     ", expected one map of probabilities");
  }
  const int height = static_cast<int>(map.shape[2]);
  const int width = static_cast<int>(map.shape[3]);
  const std::span<const float> values(reinterpret_cast<const float *>(map.bytes.data()),
                                      map.bytes.size() / sizeof(float));
  std::vector<TextBox> boxes = text_boxes(values, width, height);
  const double sx = static_cast<double>(page.width) / width;
  const double sy = static_cast<double>(page.height) / height;
  for (TextBox &box : boxes) {
    for (Point &corner : box.corners) {
      corner.x = std::clamp((corner.x + 0.5) * sx - 0.5, 0.0, page.width - 1.0);
      corner.y = std::clamp((corner.y + 0.5) * sy - 0.5, 0.0, page.height - 1.0);
    }
  }
  return boxes;
}

struct Line {
  TextBox box;
  std::string text;
  double score = 0;
  bool upside_down = false;
};

Json corners_json(const Quad &quad) {
  Json list = Json::array();
  for (const Point &p : quad) list.push_back({std::round(p.x * 10) / 10, std::round(p.y * 10) / 10});
  return list;
}

int ocr(const OcrOptions &options) {
  const auto begin = std::chrono::steady_clock::now();
  const compiler::Precision precision = compiler::precision_from(options.precision);
  const Picture page = load_picture(options.page);
  const fs::path models = options.models;
  for (const char *file : {kDetector, kDirection, kRecogniser}) {
    if (!fs::exists(models / file)) {
      throw InputError((models / file).string() + " is absent: scripts/setup.sh fetches it, or give --models");
    }
  }
  const std::unique_ptr<Task> direction_task = make_task("ocr-direction", models / kDirection, "");
  const std::unique_ptr<Task> line_task = make_task("ocr-line", models / kRecogniser, "");
  progress("booting the chip");
  const std::unique_ptr<Device> device = options.chip.open();
  compiler::require_precision(device->target(), precision);
  Stage detector("detection", *device, models / kDetector, precision);
  Stage direction("direction", *device, models / kDirection, precision);
  Stage recogniser("recognition", *device, models / kRecogniser, precision);

  const HostTensor input = detector_input(page, options.side, detector.input());
  const std::vector<HostTensor> maps = detector.run(input);
  if (!options.save_maps.empty()) {
    fs::create_directories(options.save_maps);
    save_tensor(input, fs::path(options.save_maps) / "input_0.pb");
    save_tensor(maps.at(0), fs::path(options.save_maps) / "output_0.pb");
  }
  std::vector<Line> lines;
  uint64_t unreadable = 0;
  for (const TextBox &box : find_boxes(maps.at(0), page)) {
    Line line;
    line.box = box;
    Picture picture = straightened(page, box.corners);
    const auto side = Json::parse(
        direction_task->read(direction.run(direction_task->prepare(picture, direction.input(), {1, 3, -1, -1}))).json);
    line.upside_down = side.at("degrees") == 180 && side.at("probability") > kSureOfDirection;
    if (line.upside_down) picture = turned_by_180(picture);
    const int natural = (picture.width * kLineHeight + picture.height - 1) / picture.height;
    const int64_t width = std::max(2, (natural + kWidthStep - 1) / kWidthStep) * kWidthStep;
    const auto read = Json::parse(
        line_task->read(recogniser.run(line_task->prepare(picture, recogniser.input(), {1, 3, kLineHeight, width})))
            .json);
    line.text = read.at("text");
    line.score = read.at("confidence");
    if (line.score < options.smallest_score) {
      ++unreadable;
    } else {
      lines.push_back(std::move(line));
    }
  }
  if (!options.output.empty()) {
    Picture drawn = page;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      draw(drawn, lines[i].box.corners, static_cast<int>(i + 1), {220, 30, 30});
    }
    save_picture(drawn, options.output);
  }

  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double latency_us = detector.latency_us() + direction.latency_us() + recogniser.latency_us();
  const std::string host =
      "decoding and resizing pictures, boxes from the map, straightening lines, letters from class scores";
  if (options.json) {
    Json json = {{"page", options.page},
                 {"config", fs::path(options.chip.config).stem()},
                 {"precision", options.precision},
                 {"lines", Json::array()}};
    for (const Line &line : lines) {
      json["lines"].push_back({{"text", line.text},
                               {"score", line.score},
                               {"box", corners_json(line.box.corners)},
                               {"box_score", line.box.score},
                               {"upside_down", line.upside_down}});
    }
    json["boxes_without_text"] = unreadable;
    json["stages"] = {detector.json(), direction.json(), recogniser.json()};
    json["latency_us"] = latency_us;
    json["on_host"] = host;
    json["wall_s"] = wall_s;
    fmt::print("{}\n", json.dump(2));
    return kDone;
  }
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Line &line = lines[i];
    fmt::print("{:>3}  {:<48}  score {:.3f}  box", i + 1, line.text, line.score);
    for (const Point &p : line.box.corners) fmt::print(" {:.0f},{:.0f}", p.x, p.y);
    fmt::print("{}\n", line.upside_down ? "  upside down" : "");
  }
  if (unreadable != 0) fmt::print("{} more boxes hold nothing that reads like text\n", unreadable);
  fmt::print("\n  {:<12}{:>6}{:>16}{:>16}{:>18}\n", "network", "runs", "latency us", "cycles", "multiply-adds");
  fmt::print("{}{}{}", detector.row(), direction.row(), recogniser.row());
  fmt::print("  {:<12}{:>6}{:>16.2f}   simulated, on {} in {}\n", "all", "", latency_us, options.chip.config,
             options.precision);
  fmt::print("\nall network arithmetic ran on the device; on the host: {}\n", host);
  fmt::print("this computer: {:.2f} s\n", wall_s);
  if (!options.output.empty()) fmt::print("boxes drawn in {}\n", options.output);
  return kDone;
}

}  // namespace

void add_ocr(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<OcrOptions>();
  CLI::App *command =
      app.add_subcommand("ocr", "Read a photographed page: text lines are found, turned upright and read on the chip");
  command->add_option("page", options->page, "Picture: PNG, JPEG or BMP")->required();
  options->chip.add_to(*command);
  command
      ->add_option("--precision", options->precision,
                   "Weights and activations on the device: " + compiler::precision_names() +
                       "; 8-bit ones are calibrated on the page itself")
      ->capture_default_str();
  command->add_option("--models", options->models, "Folder of the three PP-OCR networks and the list of characters")
      ->capture_default_str();
  command
      ->add_option("--side", options->side,
                   "Longest side of the picture that the detector sees; a larger one is shrunk")
      ->check(CLI::Range(kDetectorStep, 4096))
      ->capture_default_str();
  command->add_option("--min-score", options->smallest_score, "Lines below this score are left out")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--output", options->output, "PNG file for the page with numbered boxes");
  command->add_option("--save-map", options->save_maps, "Folder for the detector's input_0.pb and output_0.pb");
  command->add_flag("--json", options->json, "Print JSON instead of lines and a table");
  command->callback([options, &invocation] { invocation.action = [options] { return ocr(*options); }; });
}

}  // namespace cx::tools
