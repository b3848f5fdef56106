#include "driver/tools/layer_program.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "driver/include/cx/error.hpp"
#include "driver/runtime/image_builder.hpp"
#include "hw/common/num/whole.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx::tools {
namespace {

constexpr int64_t kLongestStep = 65535;  // K of MM_MUL_OS
constexpr uint8_t kActivations = 0, kWeights = 1, kResults = 2;
constexpr uint8_t kResultSlots = 4;

/// Rows of M that go through the array together, weight stationary.
int64_t block_rows(const Layer &layer, const Target &target) {
  return num::ceil_div(layer.m, num::ceil_div(layer.m, target.tile_acc_rows));
}

constexpr uint8_t kWorkspace = 1;       // segment of operands and results
constexpr int64_t kElementBytes = 2;    // FP16
constexpr int64_t kAlign = 4096;        // of operands in memory
constexpr int64_t kLargestDim = 65535;  // of a descriptor
constexpr int64_t kPlaces = 2;          // of what is not held whole

/// A layer as a convolution; a product is one over a map of M x 1 points with K channels.
Layer::Conv map_of(const Layer &layer) {
  if (layer.is_conv) return layer.conv;
  return {layer.m, 1, 1, 1, layer.k, layer.n, 1};
}

struct Range {
  int64_t begin = 0, end = 0;
};

/// Instructions of one engine.
class Stream {
 public:
  template <class Instruction>
  void add(const Instruction &instruction) {
    instructions_.push_back(instruction.encode());
  }
  void wait(uint8_t semaphore) {
    isa::SemWait wait;
    wait.sem = semaphore;
    wait.count = 1;
    add(wait);
  }
  void post(uint8_t semaphore) {
    isa::SemPost post;
    post.sem = semaphore;
    post.count = 1;
    add(post);
  }
  bool empty() const { return instructions_.empty(); }
  std::vector<isa::Inst> end() {
    add(isa::End{});
    return std::move(instructions_);
  }

 private:
  std::vector<isa::Inst> instructions_;
};

/// Loads and stores of a layer: what is where in memory and in the scratchpad, and who waits for whom.
class Traffic {
 public:
  Traffic(const Layer &layer, const Target &target, int64_t block, uint32_t scratchpad)
      : layer_(layer),
        map_(map_of(layer)),
        columns_(target.tile_cols),
        depth_(target.output_stationary ? layer.k : target.tile_rows),
        chunk_(std::min<int64_t>(map_.channels, target.output_stationary ? kLargestDim : target.tile_rows)),
        out_width_(layer.is_conv ? (map_.width - map_.filter_width + map_.stride - 1) / map_.stride + 1 : 1),
        k_folds_(num::ceil_div(layer.k, depth_)),
        n_folds_(num::ceil_div(layer.n, columns_)),
        m_folds_(num::ceil_div(layer.m, block)),
        rows_loaded_(static_cast<std::size_t>(num::ceil_div(map_.channels, chunk_))) {
    if (map_.width > kLargestDim || map_.width * map_.channels * kElementBytes > INT32_MAX ||
        layer.n * kElementBytes > INT32_MAX) {
      throw InputError(fmt::format("layer {}: too wide for a transfer's descriptor", layer.name));
    }
    const int64_t map_bytes = map_.height * map_.width * map_.channels * kElementBytes;
    weight_bytes_ = depth_ * columns_ * kElementBytes;
    result_bytes_ = block * columns_ * kElementBytes;
    const int64_t all_weights = k_folds_ * n_folds_ * weight_bytes_;
    // As many rows of the map as the output points of a block can see, and all chunks that a part of K can touch.
    const int64_t seen =
        std::min(map_.height, (num::ceil_div(block - 1, out_width_) + 1) * map_.stride + map_.filter_height);
    const bool aligned = map_.channels % chunk_ == 0 && depth_ % chunk_ == 0;
    const int64_t chunks =
        std::min<int64_t>(static_cast<int64_t>(rows_loaded_.size()), depth_ / chunk_ + (aligned ? 0 : 2));
    place_bytes_ = seen * map_.width * chunk_ * chunks * kElementBytes;
    int64_t room = static_cast<int64_t>(target.spm_bytes) - scratchpad - kPlaces * result_bytes_;
    const int64_t least = kPlaces * (weight_bytes_ + place_bytes_);
    const auto whole = [&](int64_t bytes, int64_t place) {
      const bool fits = room - least + kPlaces * place >= bytes;
      if (fits) room -= bytes - kPlaces * place;
      return fits;
    };
    if (room < std::min(least, kPlaces * weight_bytes_ + map_bytes)) {
      throw InputError(fmt::format("layer {}: two folds take {} bytes of scratchpad, there are {}", layer.name,
                                   scratchpad + kPlaces * result_bytes_ + least, target.spm_bytes));
    }
    weights_held_ = target.output_stationary && whole(all_weights, weight_bytes_);
    map_held_ = whole(map_bytes, place_bytes_);
    results_at_ = scratchpad;
    weights_at_ = results_at_ + kPlaces * result_bytes_;
    map_at_ = weights_at_ + (weights_held_ ? all_weights : kPlaces * weight_bytes_);
    map_in_memory_ = 0;
    weights_in_memory_ = num::ceil_div(map_bytes, kAlign) * kAlign;
    results_in_memory_ = weights_in_memory_ + num::ceil_div(all_weights, kAlign) * kAlign;
    workspace_ = results_in_memory_ + layer.m * layer.n * kElementBytes;
  }

  int64_t workspace_bytes() const { return workspace_; }

  /// Before the fold's weights are used by `array`: those of columns `n`, part `k` of the depth.
  void weights(Stream &array, int64_t n, int64_t k) {
    const int64_t number = n * k_folds_ + k;
    if (weights_held_ && weights_used_ >= k_folds_ * n_folds_) return;
    const int64_t place = weights_held_ ? number : weights_used_ % kPlaces;
    if (!weights_held_ && weights_used_ >= kPlaces) load_.wait(kWeightsFree);
    transfer(load_, isa::DmaLoad{}, {1, 1, depth_, columns_}, weights_at_ + place * weight_bytes_,
             weights_in_memory_ + number * weight_bytes_, {0, 0, columns_ * kElementBytes, kElementBytes});
    load_.post(kWeightsReady);
    array.wait(kWeightsReady);
    ++weights_used_;
  }
  void weights_done(Stream &array) {
    if (!weights_held_ && weights_used_ + kPlaces <= k_folds_ * n_folds_ * m_folds_) array.post(kWeightsFree);
  }

  /// Before the fold's part of the map is used: that of output points `m`, part `k` of the depth.
  void activations(Stream &array, Range m, int64_t k) {
    const Range rows = {m.begin / out_width_ * map_.stride,
                        std::min(map_.height, (m.end - 1) / out_width_ * map_.stride + map_.filter_height)};
    const std::vector<bool> touched = chunks_of({k * depth_, std::min(layer_.k, (k + 1) * depth_)});
    if (!map_held_ && parts_used_ >= kPlaces) load_.wait(kPartFree);
    int64_t at = map_at_ + (map_held_ ? 0 : parts_used_ % kPlaces * place_bytes_);
    bool loads = false;
    for (std::size_t i = 0; i < touched.size(); ++i) {
      if (!touched[i]) continue;
      int64_t &done = rows_loaded_[i];
      const Range missing = map_held_ ? Range{std::max(rows.begin, done), rows.end} : rows;
      if (missing.end <= missing.begin) continue;
      load_map(static_cast<int64_t>(i), missing, at);
      done = std::max(done, missing.end);
      loads = true;
      at += (missing.end - missing.begin) * map_.width * chunk_ * kElementBytes;
    }
    if (!map_held_) ++parts_used_;
    if (!loads) return;
    load_.post(kPartReady);
    array.wait(kPartReady);
  }
  void activations_done(Stream &array) {
    const int64_t parts = m_folds_ * n_folds_ * k_folds_;
    if (!map_held_ && parts_used_ + kPlaces <= parts) array.post(kPartFree);
  }

  void result_place(Stream &array) {
    if (results_ >= kPlaces) array.wait(kResultFree);
  }
  /// After the drain: results of output points `m`, columns `n`.
  void result(Stream &array, Range m, int64_t n) {
    array.post(kResultReady);
    store_.wait(kResultReady);
    const int64_t first = n * columns_;
    const int64_t count = std::min(columns_, layer_.n - first);
    transfer(store_, isa::DmaStore{}, {1, 1, m.end - m.begin, count}, results_at_ + results_ % kPlaces * result_bytes_,
             results_in_memory_ + (m.begin * layer_.n + first) * kElementBytes,
             {0, 0, layer_.n * kElementBytes, kElementBytes});
    ++results_;
    if (results_ + kPlaces <= m_folds_ * n_folds_) store_.post(kResultFree);
  }

  Stream &loads() { return load_; }
  Stream &stores() { return store_; }

 private:
  enum Semaphore : uint8_t { kWeightsReady, kWeightsFree, kPartReady, kPartFree, kResultReady, kResultFree };

  std::vector<bool> chunks_of(Range k) const {
    std::vector<bool> touched(rows_loaded_.size());
    if (k.end - k.begin >= map_.channels) {
      touched.assign(touched.size(), true);
      return touched;
    }
    for (int64_t at = k.begin; at < k.end;) {
      const int64_t channel = at % map_.channels;
      touched[static_cast<std::size_t>(channel / chunk_)] = true;
      at += std::min(chunk_ - channel % chunk_, map_.channels - channel);
    }
    return touched;
  }

  void load_map(int64_t chunk, Range rows, int64_t at) {
    const int64_t first = chunk * chunk_;
    const int64_t channels = std::min(chunk_, map_.channels - first);
    const int64_t row = map_.width * map_.channels * kElementBytes;
    for (int64_t from = rows.begin; from < rows.end; from += kLargestDim) {
      const int64_t count = std::min(kLargestDim, rows.end - from);
      transfer(load_, isa::DmaLoad{}, {1, count, map_.width, channels}, at,
               map_in_memory_ + from * row + first * kElementBytes,
               {0, row, map_.channels * kElementBytes, kElementBytes});
    }
  }

  /// Dense in the scratchpad at `at`.
  template <class Transfer>
  static void transfer(Stream &stream, Transfer instruction, const std::array<int64_t, 4> &dims, int64_t at,
                       int64_t offset, const std::array<int64_t, 4> &strides) {
    isa::Tdesc dense;
    isa::Mdesc memory;
    dense.dtype = isa::DType::FP16;
    dense.base = static_cast<uint32_t>(at);
    memory.segment = kWorkspace;
    memory.offset = static_cast<uint64_t>(offset);
    int64_t step = kElementBytes;
    for (std::size_t d = 4; d-- > 0;) {
      dense.dims[d] = static_cast<uint16_t>(dims[d]);
      dense.strides[d] = static_cast<int32_t>(step);
      memory.strides[d] = static_cast<int32_t>(strides[d]);
      step *= dims[d];
    }
    stream.add(dense);
    stream.add(memory);
    stream.add(instruction);
  }

  const Layer &layer_;
  Layer::Conv map_;
  int64_t columns_;
  int64_t depth_;  ///< of K in a fold
  int64_t chunk_;  ///< channels that are loaded together
  int64_t out_width_;
  int64_t k_folds_, n_folds_, m_folds_;
  int64_t weight_bytes_ = 0, place_bytes_ = 0, result_bytes_ = 0;
  bool weights_held_ = false, map_held_ = false;
  int64_t results_at_ = 0, weights_at_ = 0, map_at_ = 0;
  int64_t map_in_memory_ = 0, weights_in_memory_ = 0, results_in_memory_ = 0, workspace_ = 0;
  int64_t weights_used_ = 0, parts_used_ = 0, results_ = 0;
  std::vector<int64_t> rows_loaded_;  ///< of the map held, by chunk
  Stream load_, store_;
};

class Passes {
 public:
  Passes(const Layer &layer, const Target &target, Traffic *traffic)
      : layer_(layer),
        traffic_(traffic),
        rows_(target.tile_rows),
        columns_(target.tile_cols),
        depth_(target.tile_acc_rows),
        row_bytes_(row_bytes(layer, target)) {}

  /// All rows of an operand are the same row: strides of 0.
  static uint32_t row_bytes(const Layer &layer, const Target &target) {
    return kElementBytes * static_cast<uint32_t>(std::max<int64_t>({layer.k, target.tile_rows, target.tile_cols}));
  }

  std::vector<isa::Inst> weight_stationary(int64_t block) {
    view(kActivations, 0, block, rows_);
    view(kWeights, row_bytes_, rows_, columns_);
    results(block);
    const int64_t k_folds = num::ceil_div(layer_.k, rows_);
    for (int64_t m = 0; m < layer_.m; m += block) {
      const Range points = {m, std::min(m + block, layer_.m)};
      for (int64_t n = 0; n * columns_ < layer_.n; ++n) {
        make_room(block);
        for (int64_t fold = 0; fold < k_folds; ++fold) {
          if (traffic_ != nullptr) traffic_->weights(stream_, n, fold);
          isa::MmLdw load;
          load.w = kWeights;
          load.scale = 0xFF;
          load.m_split = load.n_split = 1;
          stream_.add(load);
          if (traffic_ != nullptr) {
            traffic_->weights_done(stream_);
            traffic_->activations(stream_, points, fold);
          }
          isa::MmMul pass;
          pass.a = kActivations;
          pass.accumulate = fold != 0 ? 1 : 0;
          pass.m_split = pass.n_split = 1;
          pass.n = static_cast<uint16_t>(columns_);
          pass.acc_row = static_cast<uint16_t>(static_cast<int64_t>(filled_.size()) * block);
          stream_.add(pass);
          if (traffic_ != nullptr) traffic_->activations_done(stream_);
        }
        filled_.push_back({block, points, n});
      }
    }
    drain();
    return stream_.end();
  }

  std::vector<isa::Inst> output_stationary() {
    view(kActivations, 0, rows_, layer_.k);
    view(kWeights, row_bytes_, layer_.k, columns_);
    results(rows_);
    for (int64_t m = 0; m < layer_.m; m += rows_) {
      const Range points = {m, std::min(m + rows_, layer_.m)};
      for (int64_t n = 0; n * columns_ < layer_.n; ++n) {
        make_room(rows_);
        if (traffic_ != nullptr) {
          traffic_->weights(stream_, n, 0);
          traffic_->activations(stream_, points, 0);
        }
        isa::MmMulOs pass;
        pass.a = kActivations;
        pass.w = kWeights;
        pass.m_split = pass.n_split = 1;
        pass.acc_row = static_cast<uint16_t>(static_cast<int64_t>(filled_.size()) * rows_);
        stream_.add(pass);
        if (traffic_ != nullptr) {
          traffic_->weights_done(stream_);
          traffic_->activations_done(stream_);
        }
        filled_.push_back({rows_, points, n});
      }
    }
    drain();
    return stream_.end();
  }

 private:
  struct Filled {
    int64_t rows = 0;  ///< of the accumulators
    Range points;
    int64_t n = 0;
  };

  void view(uint8_t index, uint32_t base, int64_t rows, int64_t columns) {
    isa::Tdesc descriptor;
    descriptor.index = index;
    descriptor.dtype = isa::DType::FP16;
    descriptor.base = base;
    descriptor.dims = {1, 1, static_cast<uint16_t>(rows), static_cast<uint16_t>(columns)};
    descriptor.strides = {0, 0, 0, kElementBytes};
    stream_.add(descriptor);
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
    for (const Filled &filled : filled_) {
      if (traffic_ != nullptr) traffic_->result_place(stream_);
      isa::MmDrain instruction;
      instruction.dst = kResults + next_slot_++ % kResultSlots;
      instruction.scale = instruction.bias = 0xFF;
      instruction.m_split = instruction.n_split = 1;
      instruction.acc_row = static_cast<uint16_t>(row);
      stream_.add(instruction);
      if (traffic_ != nullptr) traffic_->result(stream_, filled.points, filled.n);
      row += filled.rows;
    }
    filled_.clear();
  }

  const Layer &layer_;
  Traffic *traffic_;
  int64_t rows_, columns_, depth_;
  uint32_t row_bytes_;
  Stream stream_;
  std::vector<Filled> filled_;  ///< results that wait in the accumulators
  uint8_t next_slot_ = 0;
};

}  // namespace

Program layer_program(const Layer &layer, const Target &target, Operands operands) {
  if (target.output_stationary && layer.k > kLongestStep) {
    throw InputError(
        fmt::format("layer {}: k {}; an output-stationary pass takes at most {}", layer.name, layer.k, kLongestStep));
  }
  const uint64_t rows_bytes = uint64_t{2 + kResultSlots} * Passes::row_bytes(layer, target);
  if (rows_bytes > target.spm_bytes) {
    throw InputError(fmt::format("layer {}: rows of k {} need {} bytes of scratchpad, there are {}", layer.name,
                                 layer.k, rows_bytes, target.spm_bytes));
  }
  const int64_t block = target.output_stationary ? target.tile_rows : block_rows(layer, target);
  std::optional<Traffic> traffic;
  if (operands == Operands::in_memory) traffic.emplace(layer, target, block, static_cast<uint32_t>(rows_bytes));
  Passes passes(layer, target, traffic ? &*traffic : nullptr);
  ImageBuilder image;
  image.add_stream(static_cast<uint32_t>(isa::Engine::DMMU),
                   target.output_stationary ? passes.output_stationary() : passes.weight_stationary(block));
  Program program;
  if (traffic) {
    image.add_stream(static_cast<uint32_t>(isa::Engine::LOAD), traffic->loads().end());
    image.add_stream(static_cast<uint32_t>(isa::Engine::STORE), traffic->stores().end());
    program.workspace_bytes = static_cast<uint64_t>(traffic->workspace_bytes());
  }
  program.name = layer.name;
  program.precision = "fp16";
  program.arch_hash = target.arch_hash;
  program.macs = layer.macs();
  program.image = image.finish(target.arch_hash, traffic ? 2 : 1);
  return program;
}

uint64_t folds_of(const Layer &layer, const Target &target) {
  const auto count = [](int64_t size, int64_t part) { return static_cast<uint64_t>(num::ceil_div(size, part)); };
  const uint64_t columns = count(layer.n, target.tile_cols);
  if (target.output_stationary) return count(layer.m, target.tile_rows) * columns;
  return count(layer.k, target.tile_rows) * columns * count(layer.m, block_rows(layer, target));
}

}  // namespace cx::tools
