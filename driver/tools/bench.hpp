// Subcommands of cx bench that are files of their own.
#pragma once

#include "driver/tools/command.hpp"

namespace cx::tools {

void add_bench_claims(CLI::App &bench, Invocation &invocation);
void add_bench_layers(CLI::App &bench, Invocation &invocation);
void add_bench_operators(CLI::App &bench, Invocation &invocation);
void add_bench_spmm(CLI::App &bench, Invocation &invocation);
void add_bench_sparse(CLI::App &bench, Invocation &invocation);

}  // namespace cx::tools
