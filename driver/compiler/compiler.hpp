// The compiler's entry points: from a graph, or straight from an ONNX file, to a program for one target.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "driver/compiler/frontend/frontend.hpp"
#include "driver/compiler/graph.hpp"
#include "driver/compiler/sca.hpp"
#include "driver/runtime/program.hpp"

namespace cx::compiler {

/// Element type of weights and activations on the device. The 8-bit precisions multiply in their format, in matrix
/// products and convolutions; everything else is as in fp16: tensors in memory are FP16, arithmetic is FP32.
/// Accumulators are FP32, of int8 INT32. tf32 is fp32 but for operands of products, which are rounded to 10 bits of
/// mantissa first.
enum class Precision { fp32, tf32, fp16, bf16, fp8_e4m3, fp8_e5m2, int8 };

/// "fp32", "tf32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8". The second throws UsageError for another text.
const char *name_of(Precision precision);
Precision precision_from(const std::string &text);

struct CompileOptions {
  Precision precision = Precision::fp32;
  std::string name;  ///< of the program; empty takes the graph's

  /// Of the 8-bit precisions: the largest magnitude of each tensor that a product multiplies, by the names of
  /// ranged_tensors() (driver/compiler/calibration.hpp). What lies outside saturates. Others are ignored.
  std::map<std::string, float> ranges;
  /// Taken for the largest magnitude of every constant that a product multiplies. Absent: the constant's own, of
  /// weights that of each output channel.
  std::optional<float> constant_range;

  /// Products on the sparse computing accelerator.
  ScaOptions sca;

  /// Where the constants go, for programs that share them; null: into the program's image.
  std::shared_ptr<SharedConstants> constants;
  /// False: tiles are chosen by rules alone, without trials by the cost model. Compiling takes less time.
  bool search_tilings = true;
  /// Numbers of alternatives to take instead of the best, by name of the group; see GroupStatistics::alternatives.
  std::map<std::string, std::size_t> tilings;
  /// Outputs that update an input where it lies, {output, input} by name: see docs/compiler-backend.md for what a model
  /// must look like. compile() refuses others.
  std::map<std::string, std::string> in_place;

  /// Sees the groups, the layout, the memory plan, the tiling and the instruction streams.
  StepObserver *observer = nullptr;
};

/// The texts that precision_from() knows, for messages and help: "fp32, fp16, bf16, ...".
std::string precision_names();

/// Throws InputError, naming what the target has, when its DMMU does not multiply in the precision's format.
void require_precision(const Target &target, Precision precision);

/// Whether compile() needs CompileOptions::ranges.
bool needs_ranges(Precision precision);

/// One group of nodes that run together, in the order of execution. Instructions of a program's debug map carry its
/// name.
struct GroupStatistics {
  std::string name;                ///< of its first node
  std::string op;                  ///< of its first node
  std::vector<std::string> nodes;  ///< names
  uint64_t macs = 0;               ///< of its convolutions and matrix products, without padding
  uint64_t minimum_bytes = 0;      ///< that it cannot but move: its constants, bound inputs and outputs, each once
  /// By how much it moves the end of the program on, in cycles, by the cost model. These add up to
  /// CompileStatistics::estimated_cycles.
  uint64_t estimated_cycles = 0;
  /// Ways to tile it that were weighed, the rule's among them as number 0; 0 where there was no choice, or the same one
  /// as for an earlier group.
  std::size_t alternatives = 0;
  ProductChoice product = {};
};

/// A split of a shared array that was weighed.
struct SplitEstimate {
  uint32_t sca_tiles = 0;  ///< slots that are sparse tiles
  uint64_t cycles = 0;     ///< by the cost model, tiled by rules, with the change from a split without sparse tiles
  bool operator==(const SplitEstimate &) const = default;
};

/// Memory that intermediate tensors have, from the first to the last group that uses it (places in
/// CompileStatistics::details). Buffers of tiles while a group runs are not among them.
struct PlannedBuffer {
  std::string tensor;       ///< one of those that lie there
  bool scratchpad = false;  ///< else in the workspace
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint32_t first_group = 0;
  uint32_t last_group = 0;
};

/// What the compiler did, for reports.
struct CompileStatistics {
  uint64_t groups = 0;        ///< fused groups of nodes
  uint64_t nodes = 0;         ///< nodes of the graph
  uint64_t instructions = 0;  ///< over all streams
  uint64_t constant_bytes = 0;
  uint64_t workspace_bytes = 0;           ///< DRAM for intermediate tensors, memory reused when a tensor dies
  uint64_t workspace_bytes_no_reuse = 0;  ///< the same if every tensor had memory of its own
  uint64_t scratchpad_bytes = 0;          ///< that tensors take at most between groups
  uint64_t dma_load_bytes = 0;
  uint64_t dma_store_bytes = 0;
  uint64_t sparse_products = 0;    ///< groups whose product runs on the SCA
  uint64_t macs_skipped = 0;       ///< of CompileStatistics::details, together
  int64_t sparse_bytes_saved = 0;  ///< likewise
  /// That any program for this graph moves between DRAM and chip: constants (weights as they are stored, compressed or
  /// not), bound inputs and outputs, each once.
  uint64_t minimum_bytes = 0;
  uint64_t estimated_cycles = 0;         ///< from the first instruction to the end of the last, by the cost model
  std::vector<GroupStatistics> details;  ///< of the groups
  std::vector<PlannedBuffer> buffers;    ///< of one program
  uint32_t sca_tiles = 0;                ///< sparse tiles of the program: of a shared array the split that it is for
  std::vector<SplitEstimate> splits;     ///< of a shared array, those that were weighed
};

/// Of two programs of one model.
CompileStatistics operator+(CompileStatistics a, const CompileStatistics &b);

/// Compiles a graph that satisfies verify(). Inputs and outputs are bound in their ONNX types, in the graph's order.
/// The same arguments give the same bytes. A product on the SCA sums all of a kernel row's (or a matrix's) K in one
/// chain, if it is at most sca.tile.depth long, as output-stationary products of packing 1 do; weight-stationary ones
/// sum pieces, so that their last bits may differ. For a shared array the split with the least estimate is taken
/// (ScaUse::always: of those with sparse tiles). Throws InputError when a layer does not fit the target (naming node,
/// bytes needed, bytes there), the target's DMMU lacks the precision (naming what it has) or a range is missing or not
/// a magnitude (naming the tensor); UnsupportedError for an operator or type without device code.
Program compile(const Graph &graph, const Target &target, const CompileOptions &options = {},
                CompileStatistics *statistics = nullptr);

/// import_onnx() and compile().
Program compile_onnx(const std::filesystem::path &path, const ImportOptions &import, const Target &target,
                     const CompileOptions &options = {}, CompileStatistics *statistics = nullptr);

}  // namespace cx::compiler
