#include "hw/vpu/vpu.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "hw/common/num/whole.hpp"
#include "hw/regs/gen/packets.h"

namespace cx::hw {
namespace {

// Adders of the tree that joins 16 partial results.
constexpr Cycles kTreeLevels = 4;
constexpr uint64_t kTreeAdders = 15;

const VpuParams &checked(const VpuParams &params) {
  if (params.lanes == 0) throw std::invalid_argument("vpu: at least one lane");
  if (!(params.special_cycles >= 1)) throw std::invalid_argument("vpu: special functions take at least one cycle");
  return params;
}

uint32_t status_of(vpu::OperandError::Kind kind) {
  switch (kind) {
    case vpu::OperandError::Kind::SPM:
      return CX_STATUS_SPM_FAULT;
    case vpu::OperandError::Kind::INDEX:
      return CX_STATUS_INDEX_RANGE;
    case vpu::OperandError::Kind::ILLEGAL:
      break;
  }
  return CX_STATUS_ILLEGAL_INSTRUCTION;
}

/// Descriptor fields of an instruction, in the order of its encoding; 0xFF is no operand.
std::array<unsigned, 4> operands_of(const isa::Inst &inst) {
  constexpr unsigned kNone = 0xFF;
  switch (isa::opcode_of(inst)) {
    case isa::Opcode::V_BINARY: {
      const auto in = isa::VBinary::decode(inst);
      return {in.dst, in.a, in.b, kNone};
    }
    case isa::Opcode::V_WINDOW: {
      const auto in = isa::VWindow::decode(inst);
      return {in.dst, in.src, in.w, in.bias};
    }
    case isa::Opcode::V_SELECT: {
      const auto in = isa::VSelect::decode(inst);
      return {in.dst, in.cond, in.a, in.b};
    }
    case isa::Opcode::V_GATHER: {
      const auto in = isa::VGather::decode(inst);
      return {in.dst, in.src, in.idx, kNone};
    }
    case isa::Opcode::V_SCATTER: {
      const auto in = isa::VScatter::decode(inst);
      return {in.dst, in.src, in.idx, kNone};
    }
    default:
      return {inst[2], inst[3], kNone, kNone};
  }
}

}  // namespace

Cycles vpu_compute_cycles(const VpuParams &params, const vpu::Work &work) {
  const uint64_t steps = num::ceil_div(work.elements, params.lanes);
  const uint64_t divided = num::ceil_div(work.divided_results, params.lanes);
  const double special = static_cast<double>(steps * work.special_passes + divided) * params.special_cycles;
  return params.startup_cycles + std::max(steps * work.simple_passes, work.addresses) +
         static_cast<Cycles>(std::ceil(special)) + kTreeLevels * work.trees;
}

Vpu::Vpu(sc_core::sc_module_name name, const EngineContext &context, const VpuParams &params)
    : Engine(name, isa::Engine::VPU, context), scratchpad_(context.spm), params_(checked(params)) {}

Timing Vpu::execute(const isa::Inst &inst) {
  vpu::Views views;
  for (const unsigned index : operands_of(inst)) {
    if (index == 0xFF) continue;
    const TensorView &view = tensor_unchecked(index);
    views[index] = vpu::View{static_cast<num::DType>(view.dtype), view.base, view.dims, view.strides};
  }
  vpu::Work work;
  unit_.set_computes(!timing_only());
  try {
    work = unit_.run({spm(), scratchpad_.bytes()}, views, inst);
  } catch (const vpu::OperandError &error) {
    throw UnitFault(status_of(error.kind), error.where);
  }
  count_operations(work.operations);
  count_read(work.bytes_read);
  count_written(work.bytes_written);
  activity_.simple += work.elements * work.simple_passes + kTreeAdders * work.trees;
  activity_.special += work.elements * work.special_passes + work.divided_results;

  const Cycles now = now_cycles();
  const Cycles computed = now + vpu_compute_cycles(params_, work);
  const Cycles read = reserve_spm(now, work.bytes_read, false);
  const Cycles written = reserve_spm(now + params_.startup_cycles, work.bytes_written, true);
  const Cycles end = std::max({computed + scratchpad_.params().latency_cycles, read, written});
  const Cycles cycles = std::max<Cycles>(1, end - now);
  limited_by(end > computed + scratchpad_.params().latency_cycles ? Limit::scratchpad : Limit::compute);
  return {cycles, cycles};
}

}  // namespace cx::hw
