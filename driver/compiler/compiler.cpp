#include "driver/compiler/compiler.hpp"

#include <algorithm>

#include "driver/compiler/backend/fusion.hpp"
#include "driver/compiler/backend/kernel.hpp"
#include "driver/compiler/backend/layout.hpp"
#include "driver/compiler/backend/memory_plan.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {

namespace {

using namespace backend;

Dtype element_of(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return Dtype::FP32;
    case Precision::fp16:
      return Dtype::FP16;
    case Precision::bf16:
      return Dtype::BF16;
  }
  throw UsageError("unknown precision");
}

uint64_t count_macs(const Graph &graph) {
  int64_t macs = 0;
  for (const Node &node : graph.nodes) {
    const int64_t results = elements(graph[node.outputs[0]].shape);
    if (node.op == "Conv") {
      const Shape &w = graph[node.inputs[1]].shape;
      macs += results * w[1] * w[2] * w[3];
    } else if (node.op == "MatMul") {
      macs += results * graph[node.inputs[0]].shape.back();
    }
  }
  return static_cast<uint64_t>(macs);
}

std::unique_ptr<Kernel> make_kernel(Context &context, const Group &group) {
  switch (group.kind) {
    case GroupKind::convolution:
      return is_depthwise(context, group) ? lower_depthwise(context, group) : lower_conv(context, group);
    case GroupKind::matmul:
      return lower_matmul(context, group);
    case GroupKind::pool:
      return lower_pool(context, group);
    case GroupKind::reduce:
      return lower_reduce(context, group);
    case GroupKind::softmax:
      return lower_softmax(context, group);
    default:
      return lower_elementwise(context, group);
  }
}

void emit_group(Context &context, GroupEmitter &emitter, const Group &group) {
  context.emitter.set_node(group.name);
  if (group.kind == GroupKind::move) {
    lower_move(context, emitter, group);
  } else if (!group.outputs.empty() && elements(group.shape) != 0) {
    const std::unique_ptr<Kernel> kernel = make_kernel(context, group);
    emitter.emit(group.name, *kernel);
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

}  // namespace

const char *name_of(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return "fp32";
    case Precision::fp16:
      return "fp16";
    case Precision::bf16:
      return "bf16";
  }
  throw UsageError("unknown precision");
}

Precision precision_from(const std::string &text) {
  for (Precision precision : {Precision::fp32, Precision::fp16, Precision::bf16}) {
    if (text == name_of(precision)) return precision;
  }
  throw UsageError("unknown precision " + text + "; known are fp32, fp16 and bf16");
}

Program compile(const Graph &graph, const Target &target, const CompileOptions &options,
                CompileStatistics *statistics) {
  const Dtype element = element_of(options.precision);
  if ((target.formats >> static_cast<unsigned>(element) & 1U) == 0) {
    throw InputError(std::string("the target's DMMU does not multiply ") + name_of(options.precision));
  }
  const std::vector<Group> groups = fuse(graph);
  Layout layout(graph, groups, element);
  const MemoryPlan plan = plan_memory(layout.storages());
  ImageBuilder image;
  ConstantPool constants(image);
  Emitter emitter;
  Context context{graph, target, element, layout, constants, emitter};
  GroupEmitter group_emitter(context);
  for (const Group &group : groups) emit_group(context, group_emitter, group);

  Program program;
  program.name = options.name.empty() ? graph.name : options.name;
  program.precision = name_of(options.precision);
  program.arch_hash = target.arch_hash;
  program.workspace_bytes = static_cast<uint64_t>(plan.bytes);
  uint32_t segment = kFirstBindingSegment;
  for (TensorId id : graph.inputs) program.inputs.push_back(binding_of(graph[id], segment++));
  for (TensorId id : graph.outputs) program.outputs.push_back(binding_of(graph[id], segment++));
  if (segment > 64)
    throw InputError("the model has " + std::to_string(segment - 2) + " inputs and outputs, at most 62 fit");
  program.macs = count_macs(graph);
  const uint64_t instructions = emitter.finish(target, image, program.debug);
  program.image = image.finish(target.arch_hash, segment);
  if (statistics != nullptr) {
    statistics->groups = groups.size();
    statistics->nodes = graph.nodes.size();
    statistics->instructions = instructions;
    statistics->constant_bytes = constants.bytes();
    statistics->workspace_bytes = program.workspace_bytes;
    statistics->workspace_bytes_no_reuse = static_cast<uint64_t>(plan.bytes_no_reuse);
    statistics->dma_load_bytes = emitter.load_bytes();
    statistics->dma_store_bytes = emitter.store_bytes();
  }
  return program;
}

Program compile_onnx(const std::filesystem::path &path, const ImportOptions &import, const Target &target,
                     const CompileOptions &options, CompileStatistics *statistics) {
  return compile(import_onnx(path, import), target, options, statistics);
}

}  // namespace cx::compiler
