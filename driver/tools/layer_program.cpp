#include "driver/tools/layer_program.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "driver/include/cx/error.hpp"
#include "driver/runtime/image_builder.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx::tools {
namespace {

constexpr int64_t kLongestStep = 65535;  // K of MM_MUL_OS
constexpr uint8_t kActivations = 0, kWeights = 1, kResults = 2;
constexpr uint8_t kResultSlots = 4;

int64_t divided(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Rows of M that go through the array together, weight stationary.
int64_t block_rows(const Layer &layer, const Target &target) {
  return divided(layer.m, divided(layer.m, target.tile_acc_rows));
}

class Passes {
 public:
  Passes(const Layer &layer, const Target &target)
      : rows_(target.tile_rows), columns_(target.tile_cols), depth_(target.tile_acc_rows) {
    // All rows of an operand are the same row: strides of 0.
    row_bytes_ = 2 * static_cast<uint32_t>(std::max<int64_t>({layer.k, rows_, columns_}));
  }

  std::vector<isa::Inst> weight_stationary(const Layer &layer, int64_t block) {
    view(kActivations, 0, block, rows_);
    view(kWeights, row_bytes_, rows_, columns_);
    results(block);
    const int64_t k_folds = divided(layer.k, rows_);
    for (int64_t m = 0; m < layer.m; m += block) {
      for (int64_t n = 0; n < layer.n; n += columns_) {
        make_room(block);
        for (int64_t fold = 0; fold < k_folds; ++fold) {
          isa::MmLdw load;
          load.w = kWeights;
          load.scale = 0xFF;
          load.m_split = load.n_split = 1;
          add(load);
          isa::MmMul pass;
          pass.a = kActivations;
          pass.accumulate = fold != 0 ? 1 : 0;
          pass.m_split = pass.n_split = 1;
          pass.n = static_cast<uint16_t>(columns_);
          pass.acc_row = static_cast<uint16_t>(filled_.empty() ? 0 : filled_.size() * block);
          add(pass);
        }
        filled_.push_back(block);
      }
    }
    return end();
  }

  std::vector<isa::Inst> output_stationary(const Layer &layer) {
    view(kActivations, 0, rows_, layer.k);
    view(kWeights, row_bytes_, layer.k, columns_);
    results(rows_);
    for (int64_t m = 0; m < layer.m; m += rows_) {
      for (int64_t n = 0; n < layer.n; n += columns_) {
        make_room(rows_);
        isa::MmMulOs pass;
        pass.a = kActivations;
        pass.w = kWeights;
        pass.m_split = pass.n_split = 1;
        pass.acc_row = static_cast<uint16_t>(filled_.size() * rows_);
        add(pass);
        filled_.push_back(rows_);
      }
    }
    return end();
  }

 private:
  template <class Instruction>
  void add(const Instruction &instruction) {
    stream_.push_back(instruction.encode());
  }

  void view(uint8_t index, uint32_t base, int64_t rows, int64_t columns) {
    isa::Tdesc descriptor;
    descriptor.index = index;
    descriptor.dtype = isa::DType::FP16;
    descriptor.base = base;
    descriptor.dims = {1, 1, static_cast<uint16_t>(rows), static_cast<uint16_t>(columns)};
    descriptor.strides = {0, 0, 0, 2};
    add(descriptor);
  }

  /// Several places, so that a drain does not wait for the one before.
  void results(int64_t rows) {
    for (uint8_t slot = 0; slot < kResultSlots; ++slot) {
      view(kResults + slot, (2u + slot) * row_bytes_, rows, columns_);
    }
  }

  void make_room(int64_t rows) {
    if (static_cast<int64_t>(filled_.size() + 1) * rows > depth_) drain();
  }

  void drain() {
    int64_t row = 0;
    for (const int64_t rows : filled_) {
      isa::MmDrain instruction;
      instruction.dst = kResults + next_slot_++ % kResultSlots;
      instruction.scale = instruction.bias = 0xFF;
      instruction.m_split = instruction.n_split = 1;
      instruction.acc_row = static_cast<uint16_t>(row);
      add(instruction);
      row += rows;
    }
    filled_.clear();
  }

  std::vector<isa::Inst> end() {
    drain();
    add(isa::End{});
    return std::move(stream_);
  }

  int64_t rows_, columns_, depth_;
  uint32_t row_bytes_;
  std::vector<isa::Inst> stream_;
  std::vector<int64_t> filled_;  // rows of the results that wait in the accumulators
  uint8_t next_slot_ = 0;
};

}  // namespace

Program layer_program(const Layer &layer, const Target &target) {
  if (target.output_stationary && layer.k > kLongestStep) {
    throw InputError(
        fmt::format("layer {}: k {}; an output-stationary pass takes at most {}", layer.name, layer.k, kLongestStep));
  }
  const uint64_t row_bytes =
      2 * static_cast<uint64_t>(std::max<int64_t>({layer.k, target.tile_rows, target.tile_cols}));
  if ((2 + kResultSlots) * row_bytes > target.spm_bytes) {
    throw InputError(fmt::format("layer {}: rows of k {} need {} bytes of scratchpad, there are {}", layer.name,
                                 layer.k, (2 + kResultSlots) * row_bytes, target.spm_bytes));
  }
  Passes passes(layer, target);
  ImageBuilder image;
  image.add_stream(static_cast<uint32_t>(isa::Engine::DMMU),
                   target.output_stationary ? passes.output_stationary(layer)
                                            : passes.weight_stationary(layer, block_rows(layer, target)));
  Program program;
  program.name = layer.name;
  program.precision = "fp16";
  program.arch_hash = target.arch_hash;
  program.macs = layer.macs();
  program.image = image.finish(target.arch_hash, 1);
  return program;
}

uint64_t folds_of(const Layer &layer, const Target &target) {
  const auto count = [](int64_t size, int64_t part) { return static_cast<uint64_t>(divided(size, part)); };
  const uint64_t columns = count(layer.n, target.tile_cols);
  if (target.output_stationary) return count(layer.m, target.tile_rows) * columns;
  return count(layer.k, target.tile_rows) * columns * count(layer.m, block_rows(layer, target));
}

}  // namespace cx::tools
