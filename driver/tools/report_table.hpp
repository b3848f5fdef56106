// A run's report for people and for tools.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "driver/compiler/compiler.hpp"
#include "driver/runtime/report.hpp"

namespace cx::tools {

/// The report as JSON without what depends on the speed of the host, with a list of what is not modelled.
nlohmann::ordered_json report_json(const RunReport &report);

std::string report_table(const RunReport &report, const compiler::CompileStatistics &statistics, double prepare_s,
                         double wall_s);

/// Energy by domain with its range, watts, operations a joule.
std::string energy_table(const RunReport &report);
/// The busiest links of the network on chip; empty with a crossbar.
std::string noc_table(const RunReport &report);

/// 1234567 as "1,234,567".
std::string grouped(uint64_t value);

}  // namespace cx::tools
