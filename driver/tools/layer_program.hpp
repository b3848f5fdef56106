// A layer's passes through one MAC tile as a program, with nothing around them.
#pragma once

#include <cstdint>

#include "driver/runtime/program.hpp"
#include "driver/tools/layers.hpp"
#include "driver/umd/target.hpp"

namespace cx::tools {

/// Where a layer's operands come from and its results go to.
enum class Operands {
  at_hand,    ///< all folds use the same few in the scratchpad
  in_memory,  ///< each fold's are loaded from DRAM, results are stored there
};

/// Passes and drains of the layer on one tile, in the target's dataflow, in FP16. Every fold takes the whole array, as
/// SCALE-Sim's do: what the layer leaves over is filled up. The program takes the time of the layer and has no result.
/// Weight stationary: for each C columns of N, each R rows of K, all of M; what exceeds the accumulators is split into
/// equal blocks of M. Output stationary: for each R rows of M, each C columns of N. Accumulators are drained when the
/// next fold would not fit.
///
/// Operands in memory: weights lie fold by fold, as they are constants; maps as height, width, channels, a product's
/// rows as a map one wide. A fold needs the rows of the map that its output points see, of the channels (in chunks of
/// R, all of them output stationary) that its part of K has. The scratchpad has two places for each operand and for
/// results, of which one is filled or emptied while the array uses the other; a map, and output stationary the weights,
/// of which there is room for the whole, are loaded once.
///
/// Throws InputError for an output-stationary layer with k above 65535, and for one whose two places the scratchpad
/// does not hold.
Program layer_program(const Layer &layer, const Target &target, Operands operands);

/// Folds of the layer that the program has.
uint64_t folds_of(const Layer &layer, const Target &target);

}  // namespace cx::tools
