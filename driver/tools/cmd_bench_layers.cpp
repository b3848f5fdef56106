// cx bench layers: layers of SCALE-Sim's topology files on one MAC tile, folds one after the other and overlapped.
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/tools/bench.hpp"
#include "driver/tools/csv.hpp"
#include "driver/tools/layer_program.hpp"
#include "driver/tools/layers.hpp"
#include "driver/tools/report_table.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

struct LayersOptions {
  ChipOptions chip;
  std::vector<std::string> files, arrays = {"32x32", "128x128"}, dataflows = {"ws", "os"};
  std::string reference, dram;
  bool timing_only = false, json = false;
};

struct Array {
  uint32_t rows = 0, cols = 0;
};

Array array_from(const std::string &text) {
  const auto number = [&](const char *begin, const char *end, uint32_t &value) {
    const auto [rest, error] = std::from_chars(begin, end, value);
    return error == std::errc() && rest == end && value >= 1 && value <= 256;
  };
  const char *const begin = text.data(), *const end = begin + text.size();
  const std::size_t by = std::min(text.find('x'), text.size());
  Array array;
  if (by == text.size() || !number(begin, begin + by, array.rows) || !number(begin + by + 1, end, array.cols)) {
    throw UsageError(fmt::format("--array {}: expected ROWSxCOLS, each 1 to 256, such as 32x32", text));
  }
  return array;
}

/// Cycles that another simulator gives, by dataflow, array and layer.
class Reference {
 public:
  Reference() = default;
  explicit Reference(const std::string &path) : Reference(path, read_csv(path)) {}
  Reference(const std::string &path, const std::vector<CsvLine> &lines) : path_(path) {
    if (lines.empty()) throw InputError(path + ":1:1: the file is empty; " + kExpected);
    if (const char *column = missing_column(lines[0]); column != nullptr) {
      throw InputError(fmt::format("{}:1:1: no column '{}'; {}", path, column, kExpected));
    }
    std::map<std::string, std::size_t> place;
    for (std::size_t i = 0; i < lines[0].cells.size(); ++i) place.emplace(column_key(lines[0].cells[i].text), i);
    for (std::size_t i = 1; i < lines.size(); ++i) {
      const auto cell = [&](const char *column) -> const CsvCell & {
        const std::size_t index = place.at(column);
        if (index < lines[i].cells.size()) return lines[i].cells[index];
        throw InputError(fmt::format("{}:{}:1: no cell of column '{}'", path, lines[i].number, column));
      };
      const auto number = [&](const char *column) {
        const CsvCell &at = cell(column);
        int64_t value = 0;
        const char *const end = at.text.data() + at.text.size();
        const auto [rest, error] = std::from_chars(at.text.data(), end, value);
        if (error != std::errc() || rest != end || value < 0) {
          throw InputError(fmt::format("{}:{}:{}: {}: '{}', expected a whole number", path, lines[i].number, at.column,
                                       column, at.text));
        }
        return value;
      };
      std::string array = cell("array").text;
      if (array.find('x') == std::string::npos) array += "x" + array;
      cycles_[{cell("dataflow").text, array, cell("layer").text, number("m"), number("n"), number("k")}] =
          static_cast<uint64_t>(number("compute_cycles"));
    }
  }

  /// The first column that a header lacks; nullptr when it has all of a reference.
  static const char *missing_column(const CsvLine &header) {
    for (const char *column : {"dataflow", "array", "layer", "m", "n", "k", "compute_cycles"}) {
      const auto named = [&](const CsvCell &cell) { return column_key(cell.text) == column; };
      if (std::none_of(header.cells.begin(), header.cells.end(), named)) return column;
    }
    return nullptr;
  }

  std::optional<uint64_t> of(const std::string &dataflow, const std::string &array, const Layer &layer) const {
    const auto found = cycles_.find({dataflow, array, layer.name, layer.m, layer.n, layer.k});
    if (found == cycles_.end()) return std::nullopt;
    return found->second;
  }
  const std::string &path() const { return path_; }

 private:
  static constexpr const char *kExpected =
      "expected a first line with dataflow, array, layer, M, N, K and compute_cycles among its columns";
  std::string path_;
  std::map<std::tuple<std::string, std::string, std::string, int64_t, int64_t, int64_t>, uint64_t> cycles_;
};

/// As SCALE-Sim counts: its cycles have numbers from 0, and the last one is what it reports.
uint64_t last_cycle(uint64_t array_cycles) { return array_cycles == 0 ? 0 : array_cycles - 1; }

struct LayerCycles {
  uint64_t compute = 0;  ///< number of the last cycle in which the array was filled or multiplied
  uint64_t tile = 0;     ///< from the first command until the last drain is complete
  uint64_t folds = 0;
  uint64_t launch = 0;                         ///< of the whole launch
  uint64_t read_bytes = 0, written_bytes = 0;  ///< of DRAM
};

/// The chip whose tile runs the layers. Whatever is not the tile or the DRAM is wide enough not to count, unless --set
/// says otherwise.
ChipOptions chip_of(const LayersOptions &options, const std::vector<Layer> &layers, const Array &array,
                    const std::string &dataflow, bool overlap) {
  int64_t deepest = 4 * int64_t{array.rows};
  for (const Layer &layer : layers) deepest = std::max(deepest, layer.m);
  ChipOptions chip = options.chip;
  chip.sets = {"spm.bytes_per_cycle=65536",
               "spm.latency_cycles=0",
               "spm.banks=64",
               "spm.kib=4096",
               "sca.tiles=0",
               fmt::format("dmmu.tile.acc_rows={}", std::min<int64_t>(deepest, 32768))};
  if (!options.dram.empty()) {
    chip.sets.insert(chip.sets.end(), {"spm.kib=16384", "dram.mib=4096", "noc.bytes_per_cycle=4096",
                                       "dma.bytes_per_cycle=4096", "dram.preset=" + options.dram});
  }
  chip.sets.insert(chip.sets.end(), options.chip.sets.begin(), options.chip.sets.end());
  chip.sets.insert(chip.sets.end(), {"dmmu.tiles=1", fmt::format("dmmu.tile.rows={}", array.rows),
                                     fmt::format("dmmu.tile.cols={}", array.cols), "dmmu.dataflow=" + dataflow,
                                     fmt::format("dmmu.overlap_folds={}", overlap)});
  return chip;
}

std::vector<LayerCycles> run_layers(const LayersOptions &options, Device &device, const std::vector<Layer> &layers,
                                    Operands operands) {
  std::vector<LayerCycles> result;
  for (const Layer &layer : layers) {
    // No launch of a layer takes longer than this watchdog allows.
    Executable executable(device, layer_program(layer, device.target(), operands),
                          {.timeout_kcycles = 1u << 30, .timing_only = options.timing_only});
    executable.run({});
    const RunReport &report = executable.report();
    const Counters &counters = report.counters;
    result.push_back({last_cycle(counters.array_cycles), counters.engines[2].busy_cycles,
                      folds_of(layer, device.target()), report.launch_cycles, counters.dram_read,
                      counters.dram_written});
  }
  return result;
}

/// A layer whose operands come from DRAM beside the same with data at hand: what it waits for them.
struct MemoryTime {
  uint64_t cycles = 0, stalls = 0;
  uint64_t read_bytes = 0, written_bytes = 0;
};

MemoryTime memory_time(const LayerCycles &at_hand, const LayerCycles &in_memory) {
  const uint64_t stalls = in_memory.launch - std::min(in_memory.launch, at_hand.launch);
  // Of the tile's own time and the wait: a launch has the firmware's besides.
  return {at_hand.tile + stalls, stalls, in_memory.read_bytes - std::min(in_memory.read_bytes, at_hand.read_bytes),
          in_memory.written_bytes - std::min(in_memory.written_bytes, at_hand.written_bytes)};
}

void print_memory(const LayersOptions &options, const std::vector<Layer> &layers,
                  const std::vector<LayerCycles> &at_hand, const std::vector<LayerCycles> &in_memory,
                  const Target &target) {
  fmt::print("  operands and results in {}, peak {:.1f} GB/s\n", options.dram, target.dram_mbps / 1000.0);
  fmt::print("  {:<18}{:>14}{:>14}{:>9}{:>14}{:>14}{:>9}\n", "layer", "cycles", "stalls", "", "bytes read", "written",
             "GB/s");
  MemoryTime all;
  const auto line = [&](const std::string &name, const MemoryTime &time) {
    const double seconds = static_cast<double>(time.cycles) / (1e3 * target.clock_khz);
    fmt::print("  {:<18}{:>14}{:>14}{:>8.1f}%{:>14}{:>14}{:>9.1f}\n", name, grouped(time.cycles), grouped(time.stalls),
               100.0 * static_cast<double>(time.stalls) / static_cast<double>(std::max<uint64_t>(time.cycles, 1)),
               grouped(time.read_bytes), grouped(time.written_bytes),
               static_cast<double>(time.read_bytes + time.written_bytes) / std::max(seconds, 1e-12) / 1e9);
  };
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const MemoryTime time = memory_time(at_hand[i], in_memory[i]);
    line(layers[i].name, time);
    all = {all.cycles + time.cycles, all.stalls + time.stalls, all.read_bytes + time.read_bytes,
           all.written_bytes + time.written_bytes};
  }
  line("all", all);
  fmt::print("\n");
}

double gain(uint64_t serial, uint64_t overlapped) {
  return overlapped == 0 ? 1 : static_cast<double>(serial) / static_cast<double>(overlapped);
}

/// What the files of a folder are, by the names of their columns.
struct Files {
  std::vector<std::string> topologies, others;
  std::vector<Layer> layers;       ///< of all topologies
  std::vector<std::string> files;  ///< of each layer
  Reference reference;
};

/// A file that is given alone, and others where there is no topology, are taken for topologies: reading them says what
/// is wrong.
Files read_files(const LayersOptions &options) {
  struct File {
    const std::string &path;
    std::vector<CsvLine> lines;
  };
  std::vector<File> topologies, others;
  Files result;
  if (!options.reference.empty()) result.reference = Reference(options.reference);
  for (const std::string &path : options.files) {
    File file{path, read_csv(path)};
    const std::vector<CsvLine> &lines = file.lines;
    if (options.files.size() == 1 || lines.empty() || column_key(lines[0].cells[0].text).starts_with("layer")) {
      topologies.push_back(std::move(file));
    } else if (result.reference.path().empty() && Reference::missing_column(lines[0]) == nullptr) {
      result.reference = Reference(path, lines);
    } else {
      others.push_back(std::move(file));
    }
  }
  if (topologies.empty()) topologies.swap(others);
  for (File &file : topologies) {
    result.topologies.push_back(file.path);
    for (Layer &layer : layers_of(std::move(file.lines), file.path)) {
      result.layers.push_back(std::move(layer));
      result.files.push_back(file.path);
    }
  }
  for (const File &file : others) result.others.push_back(file.path);
  return result;
}

int bench_layers(const LayersOptions &options) {
  const Files given = read_files(options);
  for (const std::string &path : given.others) {
    if (options.json) break;
    fmt::print(stderr, "{}: left out, its columns are those of neither layers nor a reference\n", path);
  }
  const std::vector<Layer> &layers = given.layers;
  const Reference &reference = given.reference;
  Json results = Json::array();
  uint64_t differences = 0, compared = 0;
  for (const std::string &name : options.arrays) {
    const Array array = array_from(name);
    for (const std::string &dataflow : options.dataflows) {
      progress(fmt::format("bench layers: {} {}", name, dataflow));
      const auto begin = std::chrono::steady_clock::now();
      const auto device = chip_of(options, layers, array, dataflow, true).open();
      const std::vector<LayerCycles> serial =
          run_layers(options, *chip_of(options, layers, array, dataflow, false).open(), layers, Operands::at_hand);
      const std::vector<LayerCycles> overlapped = run_layers(options, *device, layers, Operands::at_hand);
      std::vector<LayerCycles> with_memory;
      if (!options.dram.empty()) with_memory = run_layers(options, *device, layers, Operands::in_memory);
      const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      Json rows = Json::array();
      uint64_t totals[5] = {};
      MemoryTime in_memory;
      if (!options.json) {
        fmt::print("{} array, {} stationary\n", name, dataflow == "ws" ? "weight" : "output");
        fmt::print("  {:<18}{:>9}{:>7}{:>7}{:>8}{:>14}{:>12}{:>14}{:>7}{:>14}{:>14}{:>7}\n", "layer", "M", "N", "K",
                   "folds", "fold by fold", "reference", "overlapped", "gain", "tile, by fold", "overlapped", "gain");
      }
      for (std::size_t i = 0; i < layers.size(); ++i) {
        const Layer &layer = layers[i];
        const std::optional<uint64_t> expected = reference.of(dataflow, name, layer);
        if (expected) {
          ++compared;
          differences += *expected != serial[i].compute ? 1 : 0;
        }
        const uint64_t amounts[] = {layer.macs(), serial[i].compute, overlapped[i].compute, serial[i].tile,
                                    overlapped[i].tile};
        for (std::size_t t = 0; t < std::size(totals); ++t) totals[t] += amounts[t];
        rows.push_back({{"layer", layer.name},
                        {"file", given.files[i]},
                        {"m", layer.m},
                        {"n", layer.n},
                        {"k", layer.k},
                        {"macs", layer.macs()},
                        {"folds", serial[i].folds},
                        {"compute_cycles", serial[i].compute},
                        {"reference_cycles", expected ? Json(*expected) : Json()},
                        {"overlap_compute_cycles", overlapped[i].compute},
                        {"gain", gain(serial[i].compute, overlapped[i].compute)},
                        {"tile_cycles", serial[i].tile},
                        {"overlap_tile_cycles", overlapped[i].tile},
                        {"tile_gain", gain(serial[i].tile, overlapped[i].tile)}});
        if (!with_memory.empty()) {
          const MemoryTime memory = memory_time(overlapped[i], with_memory[i]);
          rows.back()["memory"] = {{"cycles", memory.cycles},
                                   {"stall_cycles", memory.stalls},
                                   {"read_bytes", memory.read_bytes},
                                   {"written_bytes", memory.written_bytes}};
          in_memory.cycles += memory.cycles;
          in_memory.stalls += memory.stalls;
          in_memory.read_bytes += memory.read_bytes;
          in_memory.written_bytes += memory.written_bytes;
        }
        if (options.json) continue;
        fmt::print("  {:<18}{:>9}{:>7}{:>7}{:>8}{:>14}{:>12}{:>14}{:>7.2f}{:>14}{:>14}{:>7.2f}\n", layer.name, layer.m,
                   layer.n, layer.k, serial[i].folds, grouped(serial[i].compute), expected ? grouped(*expected) : "",
                   grouped(overlapped[i].compute), gain(serial[i].compute, overlapped[i].compute),
                   grouped(serial[i].tile), grouped(overlapped[i].tile), gain(serial[i].tile, overlapped[i].tile));
      }
      if (!options.json) {
        fmt::print("  {:<18}{:>31}{:>14}{:>12}{:>14}{:>7.2f}{:>14}{:>14}{:>7.2f}\n\n", "all", "", grouped(totals[1]),
                   "", grouped(totals[2]), gain(totals[1], totals[2]), grouped(totals[3]), grouped(totals[4]),
                   gain(totals[3], totals[4]));
        if (!with_memory.empty()) print_memory(options, layers, overlapped, with_memory, device->target());
      }
      results.push_back({{"array", {{"rows", array.rows}, {"cols", array.cols}}},
                         {"dataflow", dataflow},
                         {"macs", totals[0]},
                         {"compute_cycles", totals[1]},
                         {"overlap_compute_cycles", totals[2]},
                         {"tile_cycles", totals[3]},
                         {"overlap_tile_cycles", totals[4]},
                         {"wall_s", wall_s},
                         {"layers", std::move(rows)}});
      if (!with_memory.empty()) {
        results.back()["memory"] = {{"part", options.dram},
                                    {"peak_gbps", device->target().dram_mbps / 1000.0},
                                    {"cycles", in_memory.cycles},
                                    {"stall_cycles", in_memory.stalls},
                                    {"read_bytes", in_memory.read_bytes},
                                    {"written_bytes", in_memory.written_bytes}};
      }
    }
  }
  if (!reference.path().empty() && compared == 0) {
    throw InputError(reference.path() + ": has none of the layers, arrays and dataflows");
  }
  if (options.json) {
    Json json = {{"files", given.topologies},
                 {"left_out", given.others},
                 {"config", options.chip.name()},
                 {"results", std::move(results)}};
    if (!reference.path().empty()) {
      json["reference"] = {{"file", reference.path()}, {"compared", compared}, {"different", differences}};
    }
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print(
        "fold by fold, overlapped: last cycle (from 0) in which weights enter the array or an element multiplies, "
        "without and with dmmu.overlap_folds\ntile: from the first command until the last result is out\n");
    if (!options.dram.empty()) {
      fmt::print(
          "operands and results in DRAM: the tile's overlapped cycles and its stalls, by which a launch is longer than "
          "with operands at hand\n");
    }
    if (!reference.path().empty()) {
      fmt::print("{} of {} layers differ from {}\n", differences, compared, reference.path());
    }
  }
  return differences == 0 ? kDone : kCheckFailed;
}

}  // namespace

void add_bench_layers(CLI::App &bench, Invocation &invocation) {
  auto options = std::make_shared<LayersOptions>();
  options->chip.config = "tiny";
  CLI::App *command = bench.add_subcommand(
      "layers",
      "Layers of SCALE-Sim topology files (CSV) on one MAC tile: cycles of the array fold by fold, as SCALE-Sim "
      "counts them, and with folds that overlap");
  command
      ->add_option(
          "files", options->files,
          "Topology files: convolutions, or products (Layer, M, N, K). Of several files one may be a --reference; "
          "those of other columns are named and left out")
      ->required();
  command->add_option("--array", options->arrays, "ROWSxCOLS of the tile; may be repeated or a list with commas")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--dataflow", options->dataflows, "ws, os; may be repeated or a list with commas")
      ->delimiter(',')
      ->check(CLI::IsMember({"ws", "os"}))
      ->capture_default_str();
  command->add_option(
      "--reference", options->reference,
      "CSV with dataflow, array, layer, M, N, K and compute_cycles; exit status 1 when a layer's cycles "
      "differ");
  command->add_option("--dram", options->dram,
                      "Part whose timing is modelled (dram.preset; none: bandwidth and latency alone): also runs the "
                      "layers with operands and results in it, folds overlapped, and says what they wait");
  options->chip.add_to(*command, false);
  command->add_flag("--timing-only", options->timing_only, "Same cycles, without moving and multiplying data");
  command->add_flag("--json", options->json, "JSON instead of a table");
  command->callback([options, &invocation] { invocation.action = [options] { return bench_layers(*options); }; });
}

}  // namespace cx::tools
