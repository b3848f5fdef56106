#include "driver/tools/sca_report.hpp"

#include <fmt/core.h>

#include "driver/tools/report_table.hpp"

namespace cx::tools {
namespace {

double share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

nlohmann::ordered_json sca_json(const compiler::CompileStatistics &statistics) {
  using Json = nlohmann::ordered_json;
  Json products = Json::array();
  for (const compiler::GroupStatistics &group : statistics.details) {
    const compiler::ProductChoice &choice = group.product;
    if (choice.engine.empty()) continue;
    products.push_back({{"name", group.name},
                        {"op", group.op},
                        {"engine", choice.engine},
                        {"reason", choice.reason},
                        {"format", choice.format},
                        {"weights", choice.weights},
                        {"zeros", choice.zeros},
                        {"macs", group.macs},
                        {"macs_skipped", choice.macs_skipped},
                        {"dense_bytes", choice.dense_bytes},
                        {"stream_bytes", choice.stream_bytes},
                        {"bytes_saved", choice.bytes_saved()},
                        {"dense_cycles_estimate", choice.dense_cycles},
                        {"sca_cycles_estimate", choice.sca_cycles}});
  }
  Json splits = Json::array();
  for (const compiler::SplitEstimate &split : statistics.splits) {
    splits.push_back({{"sca_tiles", split.sca_tiles}, {"cycles_estimate", split.cycles}});
  }
  return {{"products", std::move(products)},
          {"sca_tiles", statistics.sca_tiles},
          {"splits", std::move(splits)},
          {"on_sca", statistics.sparse_products},
          {"macs_skipped", statistics.macs_skipped},
          {"bytes_saved", statistics.sparse_bytes_saved}};
}

std::string sca_table(const compiler::CompileStatistics &statistics) {
  std::string out;
  if (statistics.splits.size() > 1) {
    out += fmt::format("{} slots of the shared array are sparse tiles; estimated cycles with the change:",
                       statistics.sca_tiles);
    for (const compiler::SplitEstimate &split : statistics.splits) {
      out += fmt::format(" {}: {}", split.sca_tiles, grouped(split.cycles));
    }
    out += "\n";
  }
  if (statistics.sparse_products == 0) return out;
  out += fmt::format("{:<28}{:<7}{:<13}{:>8}{:>12}{:>12}{:>14}{:>14} {}\n", "product", "engine", "weights as", "zeros",
                     "MMAC", "skipped", "KiB of dense", "KiB saved", "why not SCA");
  for (const compiler::GroupStatistics &group : statistics.details) {
    const compiler::ProductChoice &choice = group.product;
    if (choice.engine.empty()) continue;
    std::string name = group.name;
    if (name.size() > 27) name = name.substr(0, 24) + "...";
    out += fmt::format("{:<28}{:<7}{:<13}{:>6.1f} %{:>12.3f}{:>12.3f}{:>14.1f}{:>14.1f} {}\n", name, choice.engine,
                       choice.format.empty() ? "dense" : choice.format, 100 * share(choice.zeros, choice.weights),
                       static_cast<double>(group.macs) / 1e6, static_cast<double>(choice.macs_skipped) / 1e6,
                       static_cast<double>(choice.dense_bytes) / 1024, static_cast<double>(choice.bytes_saved()) / 1024,
                       choice.reason);
  }
  out += fmt::format("{} products on the SCA: {} multiply-accumulates skipped, {} bytes of weights saved\n",
                     statistics.sparse_products, grouped(statistics.macs_skipped),
                     statistics.sparse_bytes_saved < 0
                         ? "-" + grouped(static_cast<uint64_t>(-statistics.sparse_bytes_saved))
                         : grouped(static_cast<uint64_t>(statistics.sparse_bytes_saved)));
  return out;
}

}  // namespace cx::tools
