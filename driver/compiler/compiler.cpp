#include "driver/compiler/compiler.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "driver/compiler/backend/cost_model.hpp"
#include "driver/compiler/backend/describe.hpp"
#include "driver/compiler/backend/fusion.hpp"
#include "driver/compiler/backend/in_place.hpp"
#include "driver/compiler/backend/kernel.hpp"
#include "driver/compiler/backend/layout.hpp"
#include "driver/compiler/backend/memory_plan.hpp"
#include "driver/compiler/backend/residency.hpp"
#include "driver/compiler/backend/sparse_product.hpp"
#include "driver/compiler/calibration.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/umd/host_trace.hpp"

namespace cx::compiler {

namespace {

using namespace backend;

struct PrecisionEntry {
  Precision precision;
  const char *name;
  Dtype product;  ///< what the DMMU multiplies
};

constexpr PrecisionEntry kPrecisions[] = {
    {Precision::fp32, "fp32", Dtype::FP32},
    {Precision::tf32, "tf32", Dtype::FP32},
    {Precision::fp16, "fp16", Dtype::FP16},
    {Precision::bf16, "bf16", Dtype::BF16},
    {Precision::fp8_e4m3, "fp8_e4m3", Dtype::FP8_E4M3},
    {Precision::fp8_e5m2, "fp8_e5m2", Dtype::FP8_E5M2},
    {Precision::int8, "int8", Dtype::INT8},
};

/// Sixteenths of the scratchpad that tensors may take between groups, by turns until every group fits.
constexpr int64_t kResidentShares[] = {10, 6, 0};

/// Device type of FP32 tensors in memory.
Dtype element_of(Dtype product) { return is_8_bit(product) ? Dtype::FP16 : product; }

const PrecisionEntry &entry_of(Precision precision) {
  for (const PrecisionEntry &entry : kPrecisions) {
    if (entry.precision == precision) return entry;
  }
  throw UsageError("unknown precision");
}

bool multiplies(const Target &target, Dtype dtype) {
  return (target.formats >> static_cast<unsigned>(dtype) & 1U) != 0;
}

std::map<TensorId, float> ranges_of(const Graph &graph, const CompileOptions &options) {
  std::map<TensorId, float> ranges;
  if (!needs_ranges(options.precision)) return ranges;
  for (const RangedTensor &tensor : ranged_tensors(graph)) {
    const auto found = options.ranges.find(tensor.name);
    const std::string precision = name_of(options.precision);
    if (found == options.ranges.end()) {
      throw InputError("tensor " + tensor.name + " has no range: precision " + precision +
                       " needs the largest magnitude of everything that products multiply; calibrate the model");
    }
    if (!std::isfinite(found->second) || found->second < 0) {
      throw InputError("tensor " + tensor.name + ": its range " + std::to_string(found->second) +
                       " is not a finite magnitude, precision " + precision + " cannot hold it");
    }
    ranges[tensor.id] = found->second;
  }
  if (options.constant_range && (!std::isfinite(*options.constant_range) || *options.constant_range < 0)) {
    throw UsageError("constant_range is not a finite magnitude");
  }
  return ranges;
}

uint64_t macs_of(const Graph &graph, const Node &node) {
  const int64_t results = elements(graph[node.outputs[0]].shape);
  if (node.op == "Conv") {
    const Shape &w = graph[node.inputs[1]].shape;
    return static_cast<uint64_t>(results * w[1] * w[2] * w[3]);
  }
  if (node.op == "MatMul") return static_cast<uint64_t>(results * graph[node.inputs[0]].shape.back());
  return 0;
}

uint64_t count_macs(const Graph &graph) {
  uint64_t macs = 0;
  for (const Node &node : graph.nodes) macs += macs_of(graph, node);
  return macs;
}

/// What no program can avoid to move: constants and bound tensors, each once, at the group that meets it first.
class MinimumTraffic {
 public:
  /// streams: bytes of the weights that are stored compressed.
  MinimumTraffic(const Graph &graph, Dtype element, Dtype product, std::map<TensorId, uint64_t> streams)
      : graph_(graph),
        element_(element),
        product_(product),
        streams_(std::move(streams)),
        consumers_(graph.consumers()),
        seen_(graph.tensors.size(), false) {}

  uint64_t of(const Group &group) {
    int64_t bytes = 0;
    for (int n : group.nodes) {
      const Node &node = graph_.nodes[static_cast<std::size_t>(n)];
      const bool multiplies = node.op == "Conv" || node.op == "MatMul";
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        const TensorId id = node.inputs[i];
        if (id != kNoTensor && reads_memory(id)) bytes += once(id, multiplies && i < 2);
      }
      for (TensorId id : node.outputs) {
        if (graph_.is_output(id)) bytes += elements(graph_[id].shape) * static_cast<int64_t>(bytes_of(graph_[id].type));
      }
    }
    return static_cast<uint64_t>(bytes);
  }

 private:
  bool reads_memory(TensorId id) const {
    if (std::find(graph_.inputs.begin(), graph_.inputs.end(), id) != graph_.inputs.end()) return true;
    // Scalars travel in instructions.
    return graph_[id].is_constant() && elements(graph_[id].shape) > 1;
  }

  int64_t once(TensorId id, bool of_product) {
    if (seen_[static_cast<std::size_t>(id)]) return 0;
    seen_[static_cast<std::size_t>(id)] = true;
    if (const auto found = streams_.find(id); found != streams_.end()) return static_cast<int64_t>(found->second);
    const Tensor &tensor = graph_[id];
    const int64_t all = elements(tensor.shape);
    int64_t used = 0;
    for (int n : consumers_[static_cast<std::size_t>(id)]) {
      const Node &node = graph_.nodes[static_cast<std::size_t>(n)];
      const bool part = node.op == "Slice" || node.op == "Gather" || node.op == "TakeAlong";
      used += part ? elements(graph_[node.outputs[0]].shape) : all;
    }
    int64_t size = static_cast<int64_t>(bytes_of(tensor.type));
    if (tensor.is_constant() && tensor.type == Type::F32) size = element_bytes(of_product ? product_ : element_);
    return std::min(all, used) * size;
  }

  const Graph &graph_;
  Dtype element_;
  Dtype product_;
  std::map<TensorId, uint64_t> streams_;
  std::vector<std::vector<int>> consumers_;
  std::vector<bool> seen_;
};

/// Bytes of the weights that are nowhere read but as streams.
std::map<TensorId, uint64_t> streams_of(const Graph &graph, const std::vector<Group> &groups, const Context &context) {
  std::map<TensorId, uint64_t> streams;
  std::map<TensorId, std::size_t> readers;
  for (const Group &group : groups) {
    const auto found = context.products.find(&group);
    if (found == context.products.end() || found->second.engine != "sca") continue;
    const TensorId id = graph.nodes[static_cast<std::size_t>(group.nodes.front())].inputs[1];
    ++readers[id];
    const auto place = streams.emplace(id, found->second.stream_bytes).first;
    place->second = std::min(place->second, found->second.stream_bytes);
  }
  for (const auto &[id, count] : readers) {
    if (graph.consumers(id).size() != count) streams.erase(id);
  }
  return streams;
}

std::vector<GroupStatistics> details_of(const Graph &graph, const std::vector<Group> &groups, const Context &context) {
  MinimumTraffic traffic(graph, context.element, context.product, streams_of(graph, groups, context));
  std::vector<GroupStatistics> details;
  for (const Group &group : groups) {
    GroupStatistics &detail = details.emplace_back();
    detail.name = group.name;
    detail.op = graph.nodes[static_cast<std::size_t>(group.nodes.front())].op;
    for (int n : group.nodes) {
      const Node &node = graph.nodes[static_cast<std::size_t>(n)];
      detail.nodes.push_back(node.name);
      detail.macs += macs_of(graph, node);
    }
    detail.minimum_bytes = traffic.of(group);
    const auto choice = context.products.find(&group);
    if (choice != context.products.end()) detail.product = choice->second;
  }
  return details;
}

std::unique_ptr<Kernel> make_kernel(Context &context, const Group &group) {
  switch (group.kind) {
    case GroupKind::convolution:
      if (!is_depthwise(context, group)) return lower_conv(context, group);
      context.products[&group].engine = "vpu";
      context.products[&group].reason = "one channel in, one out";
      return lower_depthwise(context, group);
    case GroupKind::matmul:
      return lower_matmul(context, group);
    case GroupKind::pool:
      return lower_pool(context, group);
    case GroupKind::reduce:
      return lower_reduce(context, group);
    case GroupKind::softmax:
      return lower_softmax(context, group);
    case GroupKind::take_along:
      return lower_take_along(context, group);
    case GroupKind::scatter_along:
      return lower_scatter_along(context, group);
    case GroupKind::scan:
      return lower_scan(context, group);
    case GroupKind::arg_reduce:
      return lower_arg_reduce(context, group);
    case GroupKind::top_k:
      return lower_top_k(context, group);
    default:
      return lower_elementwise(context, group);
  }
}

void emit_group(Context &context, GroupEmitter &emitter, const Group &group) {
  context.emitter.set_node(group.name);
  if (group.kind == GroupKind::move) {
    lower_move(context, emitter, group);
  } else if (!group.outputs.empty() && elements(group.shape) != 0) {
    try {
      emitter.emit(group.name, *make_kernel(context, group));
    } catch (const DoesNotFit &) {
      // Nothing has been emitted. Dense products can go by in pieces of K.
      ProductChoice &choice = context.products[&group];
      if (choice.engine != "sca") throw;
      choice.engine = "dmmu";
      choice.reason = "does not fit the scratchpad";
      choice.macs_skipped = 0;
      emitter.emit(group.name, *make_kernel(context, group));
    }
  }
}

Binding binding_of(const Tensor &tensor, uint32_t segment) {
  Binding binding;
  binding.name = tensor.name;
  binding.type = name_of(tensor.type);
  binding.shape = tensor.shape;
  binding.segment = segment;
  binding.bytes = static_cast<uint64_t>(elements(tensor.shape)) * bytes_of(tensor.type);
  return binding;
}

/// About what a program's image takes.
uint64_t expected_bytes(const Graph &graph, Dtype product) {
  constexpr uint64_t kStreams = 1 << 20;
  int64_t bytes = 0;
  for (const Tensor &tensor : graph.tensors) {
    if (tensor.is_constant()) bytes += elements(tensor.shape) * std::max<int64_t>(element_bytes(product), 2);
  }
  return static_cast<uint64_t>(bytes) + static_cast<uint64_t>(bytes) / 16 + kStreams;
}

/// What the cost model says of the program, in total and by group.
void add_estimate(const Target &target, const Emitter &emitter, CompileStatistics &statistics) {
  const Estimate estimate = CostModel(target).estimate(emitter.operations());
  statistics.estimated_cycles = static_cast<uint64_t>(estimate.cycles);
  std::map<std::string, uint64_t> by_name;
  for (std::size_t n = 0; n < estimate.by_node.size(); ++n) {
    by_name[emitter.nodes()[n]] += static_cast<uint64_t>(estimate.by_node[n]);
  }
  for (GroupStatistics &detail : statistics.details) detail.estimated_cycles = by_name[detail.name];
}

/// A program for a split that leaves no MAC tiles multiplies on them.
struct NeedsMacTiles {};

/// The chip as a program has it while `sca_tiles` slots of its shared array are sparse tiles.
Target with_split(Target target, uint32_t sca_tiles) {
  // Kernels size their dense alternatives even where there are no MAC tiles; see NeedsMacTiles.
  target.tiles = std::max(target.tiles - sca_tiles, 1U);
  target.sca_tiles = sca_tiles;
  return target;
}

/// Splits of a shared array to weigh: the most sparse tiles first, none last. Those between are by quarters, because
/// each is a compilation.
std::vector<uint32_t> splits_to_weigh(const Target &target) {
  std::set<uint32_t, std::greater<>> splits;
  for (const uint32_t tiles :
       {target.tiles, target.tiles - 1, 3 * target.tiles / 4, target.tiles / 2, target.tiles / 4, 1U, 0U}) {
    splits.insert(std::min(tiles, target.sca_tiles));
  }
  return {splits.begin(), splits.end()};
}

std::vector<PlannedBuffer> planned_buffers(const Graph &graph, const Layout &layout, const Residency &residency) {
  std::vector<std::string> names(layout.storages().size());
  for (std::size_t id = 0; id < graph.tensors.size(); ++id) {
    const auto tensor = static_cast<TensorId>(id);
    if (!layout.has_memory(tensor)) continue;
    std::string &name = names[static_cast<std::size_t>(layout.value(tensor).storage)];
    if (name.empty()) name = graph[tensor].name;
  }
  std::vector<PlannedBuffer> buffers;
  for (std::size_t s = 0; s < names.size(); ++s) {
    const Storage &storage = layout.storages()[s];
    if (storage.place != Place::workspace || storage.first_use < 0) continue;
    buffers.push_back({names[s], false, static_cast<uint64_t>(storage.offset), static_cast<uint64_t>(storage.bytes),
                       static_cast<uint32_t>(storage.first_use), static_cast<uint32_t>(storage.last_use)});
  }
  for (const Resident &resident : residency.residents) {
    buffers.push_back({names[resident.storage], true, static_cast<uint64_t>(resident.region.begin),
                       static_cast<uint64_t>(resident.region.size()), static_cast<uint32_t>(resident.first_use),
                       static_cast<uint32_t>(resident.last_use)});
  }
  return buffers;
}

/// `most`: bytes of the scratchpad that tensors may take between groups. Throws NeedsMacTiles only if not
/// `mac_tiles`.
Program emit_program(const Graph &graph, const std::vector<Group> &groups, const Updates &updates, const Target &target,
                     const CompileOptions &options, int64_t most, bool mac_tiles, CompileStatistics *statistics) {
  const Dtype product = entry_of(options.precision).product;
  const Dtype element = element_of(product);
  Layout layout(graph, groups, element, updates);
  verify_updates(graph, updates, groups, layout);
  const Residency residency = plan_residency(graph, groups, layout, most);
  const MemoryPlan plan = plan_memory(layout.storages());
  ImageBuilder image;
  const auto bindings = static_cast<uint32_t>(graph.inputs.size() + graph.outputs.size() - updates.size());
  const uint32_t segments = kFirstBindingSegment + bindings + (options.constants ? 1 : 0);
  if (segments > 64) {
    throw InputError("the model has " + std::to_string(bindings) + " inputs and outputs, at most " +
                     (options.constants ? "61" : "62") + " fit");
  }
  if (!options.constants) image.reserve(expected_bytes(graph, product));
  ConstantPool constants(image, options.constants.get(), static_cast<int>(segments) - 1);
  Emitter emitter(target);
  Context context{
      graph, target, element, product, layout, constants, emitter, ranges_of(graph, options), options.constant_range};
  context.tf32 = options.precision == Precision::tf32;
  context.sca = options.sca;
  GroupEmitter group_emitter(context, residency, options.tilings);
  std::string tilings;
  if (wants_steps(options.observer)) context.tilings = &tilings;
  if (!groups.empty()) emitter.set_node(groups.front().name);
  prepare_borders(context);
  const auto emit_one = [&](std::size_t g) {
    group_emitter.enter(g);
    context.emitter.set_node(groups[g].name);
    fill_borders(context, residency, static_cast<int>(g));
    load_copies(context, residency, static_cast<int>(g));
    emit_group(context, group_emitter, groups[g]);
  };
  if (options.search_tilings) group_emitter.search(groups.size(), emit_one);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (options.observer != nullptr) options.observer->progress("emitting", g, groups.size());
    emit_one(g);
  }
  const auto on_dmmu = [](const Operation &op) { return op.engine == isa::Engine::DMMU; };
  if (!mac_tiles && std::any_of(emitter.operations().begin(), emitter.operations().end(), on_dmmu)) {
    throw NeedsMacTiles{};
  }
  if (wants_steps(options.observer)) {
    options.observer->step("groups", describe_groups(graph, groups));
    options.observer->step("layout", describe_layout(graph, layout));
    options.observer->step("memory_plan", describe_plan(layout, plan));
  }

  Program program;
  program.name = options.name.empty() ? graph.name : options.name;
  program.precision = name_of(options.precision);
  program.arch_hash = target.arch_hash;
  program.workspace_bytes = static_cast<uint64_t>(plan.bytes);
  uint32_t segment = kFirstBindingSegment;
  for (TensorId id : graph.inputs) program.inputs.push_back(binding_of(graph[id], segment++));
  for (TensorId id : graph.outputs) {
    program.outputs.push_back(
        binding_of(graph[id], updates.count(id) != 0 ? static_cast<uint32_t>(layout.storage(id).segment) : segment++));
  }
  if (options.constants) {
    program.constants = options.constants;
    program.constants_segment = segments - 1;
    program.constants_bytes = options.constants->bytes().size();
  }
  program.macs = count_macs(graph);
  const HostSpan span("encode", program.name);
  const uint64_t instructions = emitter.finish(target, image, program.debug);
  program.image = image.finish(target.arch_hash, segments, target.shared_array ? target.sca_tiles : 0);
  if (wants_steps(options.observer)) {
    options.observer->step("tiling", tilings);
    options.observer->step("streams", disassemble(program));
  }
  if (statistics != nullptr) {
    statistics->groups = groups.size();
    statistics->nodes = graph.nodes.size();
    statistics->instructions = instructions;
    statistics->constant_bytes = constants.bytes();
    statistics->workspace_bytes = program.workspace_bytes;
    statistics->workspace_bytes_no_reuse = static_cast<uint64_t>(plan.bytes_no_reuse);
    statistics->scratchpad_bytes = static_cast<uint64_t>(residency.bytes);
    statistics->dma_load_bytes = emitter.load_bytes();
    statistics->dma_store_bytes = emitter.store_bytes();
    statistics->details = details_of(graph, groups, context);
    statistics->buffers = planned_buffers(graph, layout, residency);
    statistics->sca_tiles = target.sca_tiles;
    for (const GroupStatistics &detail : statistics->details) {
      statistics->minimum_bytes += detail.minimum_bytes;
      statistics->sparse_products += detail.product.engine == "sca" ? 1 : 0;
      statistics->macs_skipped += detail.product.macs_skipped;
      statistics->sparse_bytes_saved += detail.product.bytes_saved();
    }
    add_estimate(target, emitter, *statistics);
    for (GroupStatistics &detail : statistics->details) {
      const auto found = group_emitter.alternatives().find(detail.name);
      if (found != group_emitter.alternatives().end()) detail.alternatives = found->second;
    }
  }
  return program;
}

}  // namespace

const char *name_of(Precision precision) { return entry_of(precision).name; }

Precision precision_from(const std::string &text) {
  for (const PrecisionEntry &entry : kPrecisions) {
    if (text == entry.name) return entry.precision;
  }
  throw UsageError("unknown precision " + text + "; known are " + precision_names());
}

std::string precision_names() {
  std::string names;
  for (const PrecisionEntry &entry : kPrecisions) names += (names.empty() ? "" : ", ") + std::string(entry.name);
  return names;
}

void require_precision(const Target &target, Precision precision) {
  if (multiplies(target, entry_of(precision).product)) return;
  std::string known;
  for (const PrecisionEntry &entry : kPrecisions) {
    if (multiplies(target, entry.product)) known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw InputError(std::string("the target's DMMU does not multiply ") + name_of(precision) + "; it has " +
                   (known.empty() ? "none of the compiler's precisions" : known));
}

bool needs_ranges(Precision precision) { return is_8_bit(entry_of(precision).product); }

namespace {

/// A model that is ready to be compiled, once or several times.
struct Prepared {
  const Graph &graph;
  const std::vector<Group> &groups;
  const Updates &updates;
};

Program compile_for(const Prepared &model, const Target &target, const CompileOptions &options, bool mac_tiles,
                    CompileStatistics *statistics) {
  // Tensors that stay in the scratchpad leave less of it for the largest layers.
  const uint64_t constants = options.constants ? options.constants->bytes().size() : 0;
  for (const int64_t share : kResidentShares) {
    try {
      return emit_program(model.graph, model.groups, model.updates, target, options, target.spm_bytes * share / 16,
                          mac_tiles, statistics);
    } catch (const DoesNotFit &) {
      if (options.constants) options.constants->cut(constants);
      if (share == 0) throw;
    } catch (...) {
      if (options.constants) options.constants->cut(constants);
      throw;
    }
  }
  throw Error("a graph is tried without residents");
}

/// How products are put on the units in a split: without MAC tiles all on the sparse ones.
CompileOptions options_for(CompileOptions options, bool mac_tiles) {
  if (!mac_tiles) options.sca.use = ScaUse::always;
  return options;
}

/// What the cost model says of the program for each split of the shared array that may be taken, tiled by rules.
std::vector<SplitEstimate> weigh_splits(const Prepared &model, const Target &target, CompileOptions options) {
  if (options.sca.use == ScaUse::never || target.sca_tiles == 0) return {{0, 0}};
  options.search_tilings = false;
  options.tilings.clear();
  options.observer = nullptr;
  const uint64_t constants = options.constants ? options.constants->bytes().size() : 0;
  std::vector<SplitEstimate> estimates;
  bool useful = true;
  for (const uint32_t sca_tiles : splits_to_weigh(target)) {
    if (!useful && sca_tiles != 0) continue;
    const bool mac_tiles = sca_tiles < target.tiles;
    CompileStatistics statistics;
    try {
      compile_for(model, with_split(target, sca_tiles), options_for(options, mac_tiles), mac_tiles, &statistics);
    } catch (const NeedsMacTiles &) {
      continue;
    } catch (const DoesNotFit &) {
      if (sca_tiles == 0 && estimates.empty()) throw;
      continue;
    }
    if (options.constants) options.constants->cut(constants);
    // Fewer sparse tiles beside more MAC tiles would not get a product either.
    useful = statistics.sparse_products != 0;
    if (!useful && sca_tiles != 0) continue;
    estimates.push_back({sca_tiles, statistics.estimated_cycles + (sca_tiles == 0 ? 0 : target.array_switch_cycles)});
  }
  const bool sparse_wanted = options.sca.use == ScaUse::always && estimates.front().sca_tiles != 0;
  if (sparse_wanted && estimates.back().sca_tiles == 0) estimates.pop_back();
  return estimates;
}

/// The one with the least cycles. One with sparse tiles has to be as much faster as a sparse product has to.
uint32_t best_split(const std::vector<SplitEstimate> &splits) {
  const auto cost = [](const SplitEstimate &split) {
    return static_cast<double>(split.cycles) * (split.sca_tiles == 0 ? 1 : kSparseMargin);
  };
  return std::min_element(splits.begin(), splits.end(),
                          [&](const SplitEstimate &a, const SplitEstimate &b) { return cost(a) < cost(b); })
      ->sca_tiles;
}

}  // namespace

Program compile(const Graph &model, const Target &target, const CompileOptions &options,
                CompileStatistics *statistics) {
  require_precision(target, options.precision);
  const Updates updates = find_updates(model, options.in_place);
  const std::optional<Graph> ordered = updates.empty() ? std::nullopt : std::optional(order_updates(model, updates));
  const Graph &graph = ordered ? *ordered : model;
  const std::vector<Group> groups = fuse(graph, !needs_ranges(options.precision), !updates.empty());
  const Prepared prepared{graph, groups, updates};
  if (!target.shared_array) return compile_for(prepared, target, options, true, statistics);
  const std::vector<SplitEstimate> splits = weigh_splits(prepared, target, options);
  const uint32_t sca_tiles = best_split(splits);
  const bool mac_tiles = sca_tiles < target.tiles;
  Program program =
      compile_for(prepared, with_split(target, sca_tiles), options_for(options, mac_tiles), mac_tiles, statistics);
  if (statistics != nullptr) statistics->splits = splits;
  return program;
}

CompileStatistics operator+(CompileStatistics a, const CompileStatistics &b) {
  a.groups += b.groups;
  a.nodes += b.nodes;
  a.instructions += b.instructions;
  a.constant_bytes += b.constant_bytes;
  a.workspace_bytes += b.workspace_bytes;
  a.workspace_bytes_no_reuse += b.workspace_bytes_no_reuse;
  a.scratchpad_bytes = std::max(a.scratchpad_bytes, b.scratchpad_bytes);
  a.dma_load_bytes += b.dma_load_bytes;
  a.dma_store_bytes += b.dma_store_bytes;
  a.minimum_bytes += b.minimum_bytes;
  a.sparse_products += b.sparse_products;
  a.macs_skipped += b.macs_skipped;
  a.sparse_bytes_saved += b.sparse_bytes_saved;
  a.estimated_cycles += b.estimated_cycles;
  a.sca_tiles = std::max(a.sca_tiles, b.sca_tiles);
  a.details.insert(a.details.end(), b.details.begin(), b.details.end());
  return a;
}

Program compile_onnx(const std::filesystem::path &path, const ImportOptions &import, const Target &target,
                     const CompileOptions &options, CompileStatistics *statistics) {
  return compile(import_onnx(path, import), target, options, statistics);
}

}  // namespace cx::compiler
