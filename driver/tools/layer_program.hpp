// A layer's passes through one MAC tile as a program, with nothing around them.
#pragma once

#include <cstdint>

#include "driver/runtime/program.hpp"
#include "driver/tools/layers.hpp"
#include "driver/umd/target.hpp"

namespace cx::tools {

/// Passes and drains of the layer on one tile, in the target's dataflow, in FP16. Every fold takes the whole array, as
/// SCALE-Sim's do: what the layer leaves over is filled up. All folds use the same few operands in the scratchpad, so
/// that data are at hand whatever the size of the layer: the program takes the time of the layer and has no result.
/// Weight stationary: for each C columns of N, each R rows of K, all of M; what exceeds the accumulators is split into
/// equal blocks of M. Output stationary: for each R rows of M, each C columns of N. Accumulators are drained when the
/// next fold would not fit.
/// Throws InputError for an output-stationary layer with k above 65535.
Program layer_program(const Layer &layer, const Target &target);

/// Folds of the layer that the program has.
uint64_t folds_of(const Layer &layer, const Target &target);

}  // namespace cx::tools
