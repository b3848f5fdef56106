// Where the products of a program run, dense or sparse, for people and for tools.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "driver/compiler/compiler.hpp"

namespace cx::tools {

/// One entry for each group with a product, and totals.
nlohmann::ordered_json sca_json(const compiler::CompileStatistics &statistics);

/// The same as text; empty for a program without sparse products.
std::string sca_table(const compiler::CompileStatistics &statistics);

}  // namespace cx::tools
