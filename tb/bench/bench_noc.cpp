// Latency of the chip's network on chip against offered load, flit by flit and over calendars of links.
//
//   cx_noc_bench [--config CHIP.yaml] [--set KEY=VALUE]... [--pattern uniform|transpose|hotspot] [--flits N]
//                [--load L,L,...] [--seed N] [--cycles N] [--json] [--svg FILE]
//   cx_noc_bench --reference FILE.csv [--json] [--svg-folder DIR]
//
// The second form runs the networks of a file of reference latencies and tells how far they are apart, in Markdown.
#include <fmt/core.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "driver/tools/plot.hpp"
#include "hw/config/config.hpp"
#include "tb/hw/noc/load_curve.hpp"

namespace {

using namespace cx;

struct Options {
  std::string config = "configs/chips/cx3210.yaml";
  std::vector<std::string> sets;
  tb::Traffic traffic;
  std::vector<double> loads;
  std::string svg, svg_folder, reference;
  bool json = false;
};

struct Row {
  double load;
  tb::LoadPoint routers, calendars;
};

std::vector<double> numbers(const std::string &text) {
  std::vector<double> out;
  std::istringstream in(text);
  for (std::string item; std::getline(in, item, ',');) {
    size_t used = 0;
    const double value = std::stod(item, &used);
    if (used != item.size() || !(value > 0 && value <= 1))
      throw std::invalid_argument("load '" + item + "': above 0, at most 1");
    out.push_back(value);
  }
  if (out.empty()) throw std::invalid_argument("--load: expected numbers");
  return out;
}

Options options_of(int count, char **arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string name = arguments[i];
    const auto value = [&]() -> std::string {
      if (++i >= count) throw std::invalid_argument(name + " needs a value");
      return arguments[i];
    };
    const auto number = [&] { return static_cast<unsigned>(std::stoul(value())); };
    if (name == "--config") {
      options.config = value();
    } else if (name == "--set") {
      options.sets.push_back(value());
    } else if (name == "--pattern") {
      options.traffic.pattern = tb::pattern_of(value());
    } else if (name == "--flits") {
      options.traffic.flits = number();
      if (options.traffic.flits == 0) throw std::invalid_argument("--flits: at least 1");
    } else if (name == "--load") {
      options.loads = numbers(value());
    } else if (name == "--seed") {
      options.traffic.seed = number();
    } else if (name == "--cycles") {
      options.traffic.measured = number();
    } else if (name == "--reference") {
      options.reference = value();
    } else if (name == "--svg") {
      options.svg = value();
    } else if (name == "--svg-folder") {
      options.svg_folder = value();
    } else if (name == "--json") {
      options.json = true;
    } else {
      throw std::invalid_argument("unknown option " + name);
    }
  }
  return options;
}

void write(const std::string &path, const std::string &text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

Row measure(const hw::Topology &topology, const hw::RouterParams &params, tb::Traffic traffic, double load) {
  traffic.load = load;
  return {load, tb::measure_routers(topology, params, traffic), tb::measure_calendars(topology, params, traffic)};
}

// ---- the chip's network ----

int run_chip(const Options &options) {
  const auto chip = config::load(options.config, options.sets);
  const auto &noc = chip.noc;
  if (noc.topology == "crossbar") {
    throw std::invalid_argument(options.config + " has a crossbar: try --set noc.topology=mesh");
  }
  const auto topology =
      noc.topology == "ring" ? hw::Topology::ring(noc.columns) : hw::Topology::mesh(noc.columns, noc.rows);
  const hw::RouterParams params{noc.vcs, noc.vc_buffer_flits, noc.router_cycles, noc.link_cycles};
  std::vector<double> loads = options.loads;
  if (loads.empty()) {
    for (int i = 1; i <= 14; ++i) loads.push_back(0.05 * i);
  }
  const double idle = tb::idle_latency(topology, params, options.traffic);
  tools::Series flits{"flit by flit", {}}, calendars{"calendars of links", {}, tools::Series::Line::straight, true};
  nlohmann::ordered_json json = {{"name", chip.name},
                                 {"topology", noc.topology},
                                 {"columns", noc.columns},
                                 {"rows", noc.rows},
                                 {"pattern", tb::to_string(options.traffic.pattern)},
                                 {"flits", options.traffic.flits},
                                 {"seed", options.traffic.seed},
                                 {"idle_latency", idle},
                                 {"points", nlohmann::ordered_json::array()}};
  if (!options.json) {
    fmt::print("{} of {} x {}, {}, packets of {} flits; idle {:.2f} cycles; seed {}\n", noc.topology, noc.columns,
               noc.rows, tb::to_string(options.traffic.pattern), options.traffic.flits, idle, options.traffic.seed);
    fmt::print("{:>8}{:>14}{:>14}{:>14}{:>14}\n", "load", "latency", "throughput", "calendars", "throughput");
  }
  for (const double load : loads) {
    const Row row = measure(topology, params, options.traffic, load);
    json["points"].push_back({{"load", load},
                              {"latency", row.routers.latency},
                              {"throughput", row.routers.throughput},
                              {"calendar_latency", row.calendars.latency},
                              {"calendar_throughput", row.calendars.throughput}});
    if (!options.json) {
      fmt::print("{:>8.3f}{:>14.2f}{:>14.4f}{:>14.2f}{:>14.4f}\n", load, row.routers.latency, row.routers.throughput,
                 row.calendars.latency, row.calendars.throughput);
    }
    if (row.routers.latency < 5 * idle) flits.points.emplace_back(load, row.routers.latency);
    if (row.calendars.latency < 5 * idle) calendars.points.emplace_back(load, row.calendars.latency);
  }
  if (options.json) fmt::print("{}\n", json.dump(2));
  if (!options.svg.empty()) {
    tools::Plot plot;
    plot.title = fmt::format("{}: {} of {} x {}, {}", chip.name, noc.topology, noc.columns, noc.rows,
                             tb::to_string(options.traffic.pattern));
    plot.x_label = "offered load, flits a cycle and terminal";
    plot.y_label = "latency, cycles";
    plot.series = {flits, calendars};
    write(options.svg, tools::to_svg(plot));
  }
  return 0;
}

// ---- against a reference ----

struct Key {
  std::string topology, pattern;
  unsigned flits;
  auto operator<=>(const Key &) const = default;
};

struct Curve {
  std::vector<std::pair<double, double>> points;
  double saturation = 0;
};

std::map<Key, Curve> read_reference(const std::string &path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::map<Key, Curve> curves;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#') || line.starts_with("topology")) continue;
    std::vector<std::string> fields;
    std::istringstream in(line);
    for (std::string field; std::getline(in, field, ',');) fields.push_back(field);
    if (fields.size() < 5) throw std::runtime_error(path + ": a line has too few fields: " + line);
    Curve &curve = curves[{fields[0], fields[1], static_cast<unsigned>(std::stoul(fields[2]))}];
    if (fields[3] == "saturation") {
      curve.saturation = std::stod(fields[4]);
    } else {
      curve.points.emplace_back(std::stod(fields[4]), std::stod(fields.at(5)));
    }
  }
  return curves;
}

// Load at which the latency of the routers, or of calendars, is three times that at load 0.05.
double saturation(const hw::Topology &topology, tb::Traffic traffic, bool calendars) {
  const auto latency = [&](double load) {
    traffic.load = load;
    return (calendars ? tb::measure_calendars(topology, {}, traffic) : tb::measure_routers(topology, {}, traffic))
        .latency;
  };
  const double limit = 3 * latency(0.05);
  double low = 0.05, high = 1;
  while (high - low > 0.004) {
    const double middle = (low + high) / 2;
    (latency(middle) < limit ? low : high) = middle;
  }
  return (low + high) / 2;
}

int run_reference(const Options &options) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  std::map<std::string, tools::Plot> plots;
  if (!options.json) {
    fmt::print("| network | traffic | flits | load | BookSim 2 | flit by flit | error | calendars | error |\n");
    fmt::print("|---|---|---|---|---|---|---|---|---|\n");
  }
  for (const auto &[key, curve] : read_reference(options.reference)) {
    const auto topology = key.topology == "ring" ? hw::Topology::ring(16) : hw::Topology::mesh(8, 8);
    const std::string network = key.topology == "ring" ? "ring of 16" : "mesh of 8 x 8";
    tb::Traffic traffic = options.traffic;
    traffic.pattern = tb::pattern_of(key.pattern);
    traffic.flits = key.flits;
    const std::string label = fmt::format("{}, {} flit{}", key.pattern, key.flits, key.flits == 1 ? "" : "s");
    tools::Series outside{"BookSim 2: " + label, {}, tools::Series::Line::none}, flits{"flit by flit: " + label, {}},
        calendars{"calendars: " + label, {}, tools::Series::Line::straight, true};
    constexpr double kHighest = 120;
    for (const auto &[load, latency] : curve.points) {
      const Row row = measure(topology, {}, traffic, load);
      const auto error = [&, reference = latency](double value) { return 100 * (value / reference - 1); };
      if (!options.json) {
        fmt::print("| {} | {} | {} | {:.3f} | {:.2f} | {:.2f} | {:+.1f} % | {:.2f} | {:+.1f} % |\n", network,
                   key.pattern, key.flits, load, latency, row.routers.latency, error(row.routers.latency),
                   row.calendars.latency, error(row.calendars.latency));
      }
      json.push_back({{"network", network},
                      {"pattern", key.pattern},
                      {"flits", key.flits},
                      {"load", load},
                      {"reference", latency},
                      {"routers", row.routers.latency},
                      {"calendars", row.calendars.latency}});
      if (latency <= kHighest) outside.points.emplace_back(load, latency);
      if (row.routers.latency <= kHighest) flits.points.emplace_back(load, row.routers.latency);
      if (row.calendars.latency <= kHighest) calendars.points.emplace_back(load, row.calendars.latency);
    }
    const double routers = saturation(topology, traffic, false), links = saturation(topology, traffic, true);
    if (!options.json) {
      fmt::print("| {} | {} | {} | saturation | {:.3f} | {:.3f} | {:+.1f} % | {:.3f} | {:+.1f} % |\n", network,
                 key.pattern, key.flits, curve.saturation, routers, 100 * (routers / curve.saturation - 1), links,
                 100 * (links / curve.saturation - 1));
    }
    json.push_back({{"network", network},
                    {"pattern", key.pattern},
                    {"flits", key.flits},
                    {"saturation", {{"reference", curve.saturation}, {"routers", routers}, {"calendars", links}}}});
    tools::Plot &plot = plots[key.topology + "_" + key.pattern];
    plot.title = fmt::format("{}, {} traffic: latency against load", network, key.pattern);
    plot.notes = {"4 virtual channels of 8 flits, routers of 3 cycles, links of 1"};
    plot.x_label = "offered load, flits a cycle and terminal";
    plot.y_label = "latency, cycles";
    for (auto *series : {&outside, &flits, &calendars}) plot.series.push_back(*series);
  }
  if (options.json) fmt::print("{}\n", json.dump(2));
  if (!options.svg_folder.empty()) {
    for (const auto &[name, plot] : plots) write(options.svg_folder + "/" + name + ".svg", tools::to_svg(plot));
  }
  return 0;
}

}  // namespace

int main(int count, char **arguments) {
  try {
    const Options options = options_of(count, arguments);
    return options.reference.empty() ? run_chip(options) : run_reference(options);
  } catch (const std::exception &error) {
    fmt::print(stderr, "cx_noc_bench: {}\n", error.what());
    return 2;
  }
}
