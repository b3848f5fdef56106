#include "driver/compiler/backend/cost_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <limits>

#include "driver/compiler/backend/descriptor_cache.hpp"
#include "hw/common/num/whole.hpp"
#include "hw/common/vmath/passes.hpp"

namespace cx::compiler::backend {

namespace {

// What a device does not tell of itself, as the configurations have it unless they say otherwise.
constexpr int64_t kSetup = 8;          ///< of a transfer
constexpr int64_t kVpuStartup = 12;    ///< from an instruction's start to its first result
constexpr int64_t kSpecialCycles = 4;  ///< of a special function, for each step
constexpr int64_t kSpmLatency = 4;     ///< of the scratchpad
constexpr int64_t kBurst = 64;
constexpr int64_t kKeptBursts = 64;      ///< that a transfer of short runs does not fetch twice
constexpr double kLinkForMemory = 1.25;  ///< width of links and datapaths for that of memory
constexpr int64_t kDrainPipeline = 4;
constexpr int64_t kScaFlush = 3;  ///< from the last weight of a sparse product until its sums are there
constexpr int64_t kTreeCycles = 4;
constexpr int64_t kBlockInstructions = 16;
constexpr int64_t kBlocksAhead = 2;
constexpr std::size_t kPosts = 16;  ///< that may wait for completion

using num::ceil_div;

/// Passes first come, first served.
class Server {
 public:
  explicit Server(double bytes_per_cycle) : rate_(bytes_per_cycle) {}
  /// Cycle by which the bytes have passed.
  double reserve(double start, double bytes) {
    free_ = std::max(free_, start) + bytes / rate_;
    return free_;
  }

 private:
  double rate_;
  double free_ = 0;
};

struct Loop {
  int64_t count = 1;
  int64_t first = 0;   ///< stride of one side
  int64_t second = 0;  ///< of the other
};

/// A view as runs that are dense on both sides, and loops over them, inner ones first.
struct Runs {
  int64_t bytes = 0;
  std::vector<Loop> loops;
  int64_t count() const {
    int64_t runs = 1;
    for (const Loop &loop : loops) runs *= loop.count;
    return runs;
  }
};

Runs runs_of(const std::array<int64_t, 4> &dims, const std::array<int32_t, 4> &first,
             const std::array<int32_t, 4> &second, int64_t size) {
  Runs runs{size, {}};
  for (std::size_t d = 4; d-- > 0;) {
    if (dims[d] == 1) continue;
    if (runs.loops.empty() && first[d] == runs.bytes && second[d] == runs.bytes) {
      runs.bytes *= dims[d];
    } else if (!runs.loops.empty() && runs.loops.back().first * runs.loops.back().count == first[d] &&
               runs.loops.back().second * runs.loops.back().count == second[d]) {
      runs.loops.back().count *= dims[d];
    } else {
      runs.loops.push_back({dims[d], first[d], second[d]});
    }
  }
  return runs;
}

std::array<int64_t, 4> wide(const std::array<uint16_t, 4> &dims) { return {dims[0], dims[1], dims[2], dims[3]}; }

int64_t product_of(const std::array<int64_t, 4> &dims) { return dims[0] * dims[1] * dims[2] * dims[3]; }

/// Bytes of whole bursts that memory moves.
int64_t bytes_on_memory(const MemDescriptor &memory, const std::array<int64_t, 4> &dims, int64_t size) {
  const Runs runs = runs_of(dims, memory.strides, memory.strides, size);
  if (runs.loops.empty()) return runs.bytes;
  int64_t pieces = 1;
  int64_t piece = static_cast<int64_t>(memory.offset % kBurst) + runs.bytes;
  for (const Loop &loop : runs.loops) {
    const int64_t step = std::abs(loop.first);
    if (step < kBurst && pieces <= kKeptBursts) {
      piece += (loop.count - 1) * step;
    } else {
      pieces *= loop.count;
    }
  }
  return pieces * ceil_div(piece, kBurst) * kBurst;
}

/// DRAM's channels.
class Memory {
 public:
  explicit Memory(const Target &target)
      : latency_(ceil_div(int64_t{target.dram_latency_ns} * target.clock_khz, 1'000'000)),
        bytes_per_cycle_(per_cycle(target, target.dram_stream_mbps)),
        stripe_(std::max(1U, target.dram_stripe_bytes)),
        channels_(std::max(1U, target.dram_channels), Server(bytes_per_cycle_ / std::max(1U, target.dram_channels))) {}
  static double per_cycle(const Target &target, uint32_t mbps) {
    return std::max(static_cast<double>(mbps) * 1e3 / std::max(1U, target.clock_khz), 1e-3);
  }
  int64_t latency() const { return latency_; }
  int64_t stripe() const { return stripe_; }
  /// Cycle by which the channels have passed `bytes`, spread over [offset, offset + span).
  double reserve(double start, int64_t offset, int64_t span, int64_t bytes) {
    const auto count = static_cast<int64_t>(channels_.size());
    const int64_t first = offset / stripe_;
    const int64_t last = (offset + std::max<int64_t>(span, 1) - 1) / stripe_;
    const int64_t covered = std::max<int64_t>(span, 1);
    double end = start;
    for (int64_t i = 0; i < std::min(last - first + 1, count); ++i) {
      // Only the first and the last piece of the span may be partial.
      int64_t part = ((last - first - i) / count + 1) * stripe_;
      if (i == 0) part -= offset - first * stripe_;
      if ((last - first) % count == i) part -= (last + 1) * stripe_ - offset - covered;
      const double share = static_cast<double>(bytes) * static_cast<double>(part) / static_cast<double>(covered);
      end = std::max(end, channels_[static_cast<std::size_t>((first + i) % count)].reserve(start, share));
    }
    return end;
  }

 private:
  int64_t latency_;
  double bytes_per_cycle_;
  int64_t stripe_;
  std::vector<Server> channels_;
};

struct Timing {
  int64_t accept = 0;  ///< cycle in which the engine takes the next one
  int64_t complete = 0;
};

int64_t up(double cycles) { return static_cast<int64_t>(std::ceil(cycles)); }

/// The array, whose tiles work in step.
struct Array {
  int64_t next = 0, load_free = 0, mul_free = 0, steps_free = 0, drain_free = 0, written = 0;
  std::array<int64_t, 2> bank_free{};
  bool active = false, shadow = false;
};

/// The sparse tiles, which work in step too. A drain holds back the products of its half of the accumulators only.
struct SparseArray {
  int64_t next = 0, load_free = 0, mul_free = 0, drain_free = 0, written = 0;
  bool upper_drained = false;
};

struct Drained {
  int64_t begin = 0, end = 0, complete = 0;
};

int64_t distinct_bytes(const Descriptor &view) {
  int64_t bytes = element_bytes(view.dtype);
  for (std::size_t d = 0; d < 4; ++d) {
    if (view.strides[d] != 0) bytes *= view.dims[d];
  }
  return bytes;
}

/// What the VPU's time depends on.
struct Work {
  int64_t elements = 0;
  int64_t simple = 1, special = 0;  ///< passes over them
  int64_t addresses = 0;            ///< by index, one a cycle
  int64_t divided = 0;              ///< results of a reduction that are divided
  int64_t trees = 0;
};

class Simulation {
 public:
  Simulation(const Target &target, std::span<const Operation> operations)
      : target_(target),
        operations_(operations),
        sources_(dependences(operations)),
        memory_(target),
        link_(Memory::per_cycle(target, target.dram_mbps) * kLinkForMemory),
        hops_(target.noc_way_cycles),
        port_(std::max<double>(target.spm_bytes_per_cycle, 1)) {
    for (Engine &engine : engines_) {
      engine.read = Server(port_);
      engine.write = Server(port_);
      engine.links = Server(link_);
    }
    timings_.resize(operations.size());
    due_.resize(operations.size());
    posts_.resize(operations.size());
    for (std::size_t i = 0; i < operations.size(); ++i) {
      queue(operations[i].engine).push_back(i);
      for (std::size_t e = 0; e < kEngines; ++e) {
        if (sources_[i][e] >= 0) ++posts_[static_cast<std::size_t>(sources_[i][e])];
      }
    }
    issue_.assign(operations.size(), -1);
  }

  Estimate run() {
    for (Engine &engine : engines_) {
      if (!engine.queue.empty()) prepare(engine);
    }
    for (std::size_t done = 0; done < operations_.size(); ++done) step();
    return summary();
  }

 private:
  struct Engine {
    std::vector<std::size_t> queue;
    std::size_t next = 0;
    int64_t front = 0, unit_free = 0, complete = 0, instructions = 0;
    std::deque<int64_t> posts;
    std::array<int64_t, kBlocksAhead + 1> ready{};
    DescriptorCache<Descriptor> tensors;
    DescriptorCache<MemDescriptor> memories;
    Server read{1}, write{1}, links{1};
  };

  std::vector<std::size_t> &queue(isa::Engine engine) { return engines_[static_cast<std::size_t>(engine)].queue; }

  /// The engine whose next operation can start first issues it.
  void step() {
    std::size_t best = kEngines;
    int64_t earliest = std::numeric_limits<int64_t>::max();
    for (std::size_t e = 0; e < kEngines; ++e) {
      const Engine &engine = engines_[e];
      if (engine.next == engine.queue.size()) continue;
      const std::size_t op = engine.queue[engine.next];
      int64_t start = std::max(engine.front, engine.unit_free);
      bool ready = true;
      for (int64_t source : sources_[op]) {
        if (source < 0) continue;
        ready = ready && issue_[static_cast<std::size_t>(source)] >= 0;
        if (ready) start = std::max(start, due_[static_cast<std::size_t>(source)]);
      }
      if (ready && start < earliest) {
        earliest = start;
        best = e;
      }
    }
    issue(engines_[best]);
  }

  /// An instruction passes the front end.
  void pass(Engine &engine) {
    if (engine.instructions % kBlockInstructions == 0) {
      // The first blocks are fetched before any engine has started to work.
      const int64_t block = engine.instructions / kBlockInstructions;
      engine.front = std::max(engine.front, engine.ready[static_cast<std::size_t>(block % (kBlocksAhead + 1))]);
      fetch(engine, block + kBlocksAhead);
    }
    ++engine.instructions;
    ++engine.front;
  }

  void fetch(Engine &engine, int64_t block) {
    constexpr int64_t kBytes = kBlockInstructions * isa::kInstructionBytes;
    const auto start = static_cast<double>(engine.front + hops_);
    const int64_t stream = (&engine - engines_.data()) * memory_.stripe();
    const double end =
        memory_.reserve(start, stream + block * kBytes, kBytes, kBytes) + static_cast<double>(memory_.latency());
    engine.ready[static_cast<std::size_t>(block % (kBlocksAhead + 1))] = up(end) + hops_;
  }

  /// The front end reads descriptors while the unit is busy.
  void prepare(Engine &engine) {
    const Operation &op = operations_[engine.queue[engine.next]];
    bool missing = false;
    for (const Operand &operand : op.operands) {
      engine.tensors.slot(operand.view, missing);
      if (missing) pass(engine);
    }
    if (!op.memory) return;
    engine.memories.slot(op.memory->second, missing);
    if (missing) pass(engine);
  }

  void issue(Engine &engine) {
    const std::size_t index = engine.queue[engine.next++];
    const Operation &op = operations_[index];
    for (int64_t source : sources_[index]) {
      if (source < 0) continue;
      engine.front = std::max(engine.front, due_[static_cast<std::size_t>(source)]);
      pass(engine);
    }
    engine.front = std::max(engine.front, engine.unit_free);
    const int64_t now = engine.front;
    pass(engine);
    const Timing timing = execute(engine, op, now);
    issue_[index] = now;
    timings_[index] = timing;
    engine.unit_free = std::max(timing.accept, now + 1);
    engine.complete = std::max(engine.complete, timing.complete);
    due_[index] = std::max(engine.front, engine.complete);
    for (int posts = posts_[index]; posts > 0; --posts) {
      if (engine.posts.size() == kPosts) {
        engine.front = std::max(engine.front, engine.posts.front());
        engine.posts.pop_front();
      }
      due_[index] = std::max(engine.front + 1, engine.complete);
      engine.posts.push_back(due_[index]);
      pass(engine);
    }
    if (engine.next < engine.queue.size()) prepare(engine);
  }

  Timing execute(Engine &engine, const Operation &op, int64_t now) {
    switch (op.engine) {
      case isa::Engine::LOAD:
        return load(engine, op, now);
      case isa::Engine::STORE:
        return transfer(engine, op, now, wide(op.operands[0].view.dims), 0, true);
      case isa::Engine::DMMU:
        return multiply(engine, op, now);
      case isa::Engine::SCA:
        return multiply_sparse(engine, op, now);
      default:
        return compute(engine, op, now);
    }
  }

  // ---- load and store ----

  Timing load(Engine &engine, const Operation &op, int64_t now) {
    const Descriptor &view = op.operands[0].view;
    if (isa::opcode_of(op.inst) == isa::Opcode::DMA_GATHER) return gather(engine, op, now);
    const isa::DmaLoad inst = isa::DmaLoad::decode(op.inst);
    std::array<int64_t, 4> fetched = wide(view.dims);
    const std::array<int64_t, 4> whole = fetched;
    fetched[1] = std::max<int64_t>(0, fetched[1] - inst.pad_top - inst.pad_bottom);
    fetched[2] = std::max<int64_t>(0, fetched[2] - inst.pad_left - inst.pad_right);
    int64_t fills = 0;
    const auto fill = [&](int64_t rows, int64_t columns) {
      if (rows == 0 || columns == 0) return;
      fills +=
          runs_of({whole[0], rows, columns, whole[3]}, view.strides, view.strides, element_bytes(view.dtype)).count();
    };
    if (product_of(fetched) == 0) {
      fill(whole[1], whole[2]);
    } else {
      fill(inst.pad_top, whole[2]);
      fill(inst.pad_bottom, whole[2]);
      fill(fetched[1], inst.pad_left);
      fill(fetched[1], inst.pad_right);
    }
    return transfer(engine, op, now, fetched, fills, false);
  }

  /// Each row by an index is an access of its own.
  Timing gather(Engine &engine, const Operation &op, int64_t now) {
    const Descriptor &view = op.operands[0].view;
    const Descriptor &indices = op.operands[1].view;
    int64_t rows = 1;
    for (std::size_t d = 0; d < 4; ++d) {
      if (indices.strides[d] != 0) rows *= view.dims[d];
    }
    const auto bytes = static_cast<int64_t>(count(view.dims)) * element_bytes(view.dtype);
    const double begin = engine.read.reserve(static_cast<double>(now + kSetup),
                                             static_cast<double>(rows * element_bytes(indices.dtype))) +
                         kSpmLatency;
    const int64_t moved = rows * ceil_div(bytes / std::max<int64_t>(rows, 1), kBurst) * kBurst;
    return moves(engine, now, begin, {rows, bytes, moved, op.memory->second.offset, moved}, false);
  }

  Timing transfer(Engine &engine, const Operation &op, int64_t now, const std::array<int64_t, 4> &dims, int64_t fills,
                  bool to_memory) {
    const Descriptor &view = op.operands[0].view;
    const int64_t size = element_bytes(view.dtype);
    const auto begin = static_cast<double>(now + kSetup);
    const auto bytes = static_cast<int64_t>(count(view.dims)) * size;
    if (product_of(dims) == 0) return moves(engine, now, begin, {fills, bytes, 0, 0, 0}, to_memory);
    const MemDescriptor &memory = op.memory->second;
    const int64_t runs = runs_of(dims, view.strides, memory.strides, size).count();
    int64_t span = size;
    for (std::size_t d = 0; d < 4; ++d) span += (dims[d] - 1) * std::abs(memory.strides[d]);
    return moves(engine, now, begin, {runs + fills, bytes, bytes_on_memory(memory, dims, size), memory.offset, span},
                 to_memory);
  }

  struct Move {
    int64_t runs, bytes;  ///< of the scratchpad
    int64_t moved;        ///< bytes on memory, which lie in [offset, offset + span)
    uint64_t offset;
    int64_t span;
  };

  Timing moves(Engine &engine, int64_t now, double begin, const Move &move, bool to_memory) {
    const double data = static_cast<double>(move.bytes) / link_;
    Server &port = to_memory ? engine.read : engine.write;
    const double work = std::max(
        {begin + static_cast<double>(move.runs), begin + data, port.reserve(begin, static_cast<double>(move.bytes))});
    Timing timing{up(work), up(work) + kSpmLatency};
    if (move.moved != 0) {
      const double start = begin + (to_memory ? kSpmLatency : 0) + hops_;
      const double channels = memory_.reserve(start, static_cast<int64_t>(move.offset), move.span, move.moved);
      const double links = engine.links.reserve(start, static_cast<double>(move.moved));
      const int64_t latency = memory_.latency() + (to_memory ? 1 : 2) * hops_;
      // A busy memory holds the engine back; latency alone does not.
      const int64_t end = up(std::max(channels, links)) - hops_;
      timing.accept = std::max(timing.accept, end);
      timing.complete = std::max(timing.complete, end) + latency + kSpmLatency;
    }
    timing.accept = std::max(timing.accept, now + 1);
    return timing;
  }

  // ---- DMMU ----

  int64_t words(Dtype dtype, int64_t k) const {
    const bool narrow = element_bytes(dtype) == 1;
    return ceil_div(k, narrow ? std::max<int64_t>(target_.tile_pack, 1) : 1);
  }

  /// Later than all drains that write bytes which the operation touches.
  int64_t after_drains(const Operation &op, int64_t now) {
    std::erase_if(drains_, [now](const Drained &drain) { return drain.complete <= now; });
    int64_t start = now;
    for (const Drained &drain : drains_) {
      for (const Access &access : op.accesses) {
        if (access.begin < drain.end && drain.begin < access.end) start = std::max(start, drain.complete);
      }
    }
    return start;
  }

  /// Cycle by which an operand has come through the port.
  int64_t operand_read(Engine &engine, int64_t now, int64_t written, int64_t bytes) {
    const double booked = engine.read.reserve(static_cast<double>(now), static_cast<double>(bytes)) + kSpmLatency;
    if (written <= now) return up(booked);
    return std::max(up(booked), written + up(static_cast<double>(bytes) / port_) + kSpmLatency);
  }

  Timing multiply(Engine &engine, const Operation &op, int64_t now) {
    const Descriptor &view = op.operands[0].view;
    const int64_t size = element_bytes(view.dtype);
    const int64_t rows = int64_t{view.dims[0]} * view.dims[1] * view.dims[2];
    const int64_t inner = view.dims[3];
    const int64_t written = after_drains(op, now);
    Array &array = array_;
    switch (isa::opcode_of(op.inst)) {
      case isa::Opcode::MM_LDW: {
        const int64_t start = std::max({written, array.next, array.load_free, array.steps_free,
                                        array.bank_free[static_cast<std::size_t>(!array.active)]});
        const int64_t read = operand_read(engine, now, written, rows * inner * size);
        const int64_t stream = std::max(words(view.dtype, view.dims[2]), read - start);
        array.load_free = start + stream;
        array.shadow = true;
        array.next = start + 1;
        return {start + 1, start + stream + 2};
      }
      case isa::Opcode::MM_MUL: {
        const isa::MmMul inst = isa::MmMul::decode(op.inst);
        const int64_t columns = std::min<int64_t>(inst.n, target_.tile_cols);
        const int64_t start = std::max({written, array.next, array.load_free, array.mul_free, array.drain_free});
        const int64_t read = operand_read(engine, now, written, rows * inner * size);
        const int64_t stream = std::max(ceil_div(rows, inst.m_split), read - start);
        if (array.shadow) array.active = !array.active;
        array.shadow = false;
        array.mul_free = start + stream;
        int64_t &bank = array.bank_free[static_cast<std::size_t>(array.active)];
        bank = std::max(bank, start + stream + std::max<int64_t>(columns - 2, 0));
        array.written = std::max<int64_t>(array.written, start + stream + target_.tile_rows + columns);
        array.next = start + 1;
        return {start + 1, start + stream + target_.tile_rows + columns + 1};
      }
      case isa::Opcode::MM_MUL_OS: {
        const Descriptor &weights = op.operands[1].view;
        const isa::MmMulOs inst = isa::MmMulOs::decode(op.inst);
        const int64_t n = weights.dims[3];
        const int64_t columns = std::min<int64_t>(ceil_div(n, std::max<int64_t>(inst.n_split, 1)), target_.tile_cols);
        const int64_t start = std::max({written, array.next, array.load_free, array.mul_free, array.drain_free});
        const int64_t read = operand_read(engine, now, written, (rows + n) * inner * size);
        const int64_t last = start + std::max(words(view.dtype, inner), read - start);
        array.steps_free = last;
        array.mul_free = last + target_.tile_rows;
        array.written = std::max<int64_t>(array.written, last + 2 * target_.tile_rows - 1 + columns);
        array.next = start + 1;
        return {start + 1, last + 2 * target_.tile_rows + columns};
      }
      default: {
        const isa::MmDrain inst = isa::MmDrain::decode(op.inst);
        const auto parameters = static_cast<int64_t>(op.operands.size()) - 1;
        int64_t start = std::max({written, array.next, array.mul_free + 1, array.drain_free, array.written});
        if (parameters > 0) start = std::max(start, operand_read(engine, now, written, parameters * inner * 4));
        const int64_t bytes = rows * inner * size;
        const int64_t first = start + parameters + kDrainPipeline + 1;
        const int64_t leaving = std::max(up(static_cast<double>(bytes) / port_), ceil_div(rows, inst.m_split));
        const double booked = engine.write.reserve(static_cast<double>(now), static_cast<double>(bytes));
        const int64_t end = std::max(up(booked), first + leaving);
        array.drain_free = std::max(start + parameters + kDrainPipeline, end - 1);
        array.next = start + 1;
        const Access &target = op.accesses.front();
        drains_.push_back({target.begin, target.end, end + kSpmLatency});
        return {start + 1, end + kSpmLatency};
      }
    }
  }

  // ---- SCA ----

  bool in_upper_half(int64_t acc_row) const { return 2 * acc_row >= target_.sca_acc_rows; }

  Timing multiply_sparse(Engine &engine, const Operation &op, int64_t now) {
    SparseArray &array = sparse_array_;
    const int64_t written = after_drains(op, now);
    if (isa::opcode_of(op.inst) == isa::Opcode::SP_MUL) {
      const isa::SpMul inst = isa::SpMul::decode(op.inst);
      int64_t start = std::max({written, array.next, array.load_free, array.mul_free});
      if (in_upper_half(inst.acc_row) == array.upper_drained) start = std::max(start, array.drain_free);
      const int64_t end = std::max(start + op.work, operand_read(engine, now, written, inst.bytes));
      array.mul_free = end + 1;
      array.written = end + kScaFlush - 1;
      array.next = start + 1;
      return {start + 1, end + kScaFlush};
    }
    const Descriptor &view = op.operands[0].view;
    const int64_t bytes = static_cast<int64_t>(count(view.dims)) * element_bytes(view.dtype);
    const int64_t inner = view.dims[3];
    if (isa::opcode_of(op.inst) == isa::Opcode::SP_LDA) {
      const int64_t start = std::max({written, array.next, array.load_free});
      const int64_t stream = std::max(inner, operand_read(engine, now, written, bytes) - start);
      array.load_free = start + stream + 1;
      array.next = start + 1;
      return {start + 1, start + stream + 2};
    }
    const isa::SpDrain inst = isa::SpDrain::decode(op.inst);
    const auto parameters = static_cast<int64_t>(op.operands.size()) - 1;
    int64_t start = std::max({written, array.next, array.written, array.drain_free});
    if (parameters > 0) start = std::max(start, operand_read(engine, now, written, parameters * inner * 4));
    const int64_t groups = ceil_div(ceil_div(inner, target_.sca_cols), std::max<int64_t>(inst.n_split, 1));
    const int64_t leaving =
        std::max(up(static_cast<double>(bytes) / port_), std::min<int64_t>(inner, groups * target_.sca_cols));
    const double booked = engine.write.reserve(static_cast<double>(now), static_cast<double>(bytes));
    const int64_t end = std::max(up(booked), start + kDrainPipeline + 1 + leaving);
    array.drain_free = end - 1;
    array.upper_drained = in_upper_half(inst.acc_row);
    array.next = start + 1;
    const Access &target = op.accesses.front();
    drains_.push_back({target.begin, target.end, end + kSpmLatency});
    return {start + 1, end + kSpmLatency};
  }

  // ---- VPU ----

  static bool is_wide(const Operation &op) {
    return std::any_of(op.operands.begin(), op.operands.end(),
                       [](const Operand &operand) { return element_bytes(operand.view.dtype) == 8; });
  }

  static Work work_of(const Operation &op) {
    const Descriptor &dst = op.operands[0].view;
    const Descriptor &src = op.operands[1].view;
    const auto results = static_cast<int64_t>(count(dst.dims));
    const auto sources = static_cast<int64_t>(count(src.dims));
    Work work;
    work.elements = results;
    switch (isa::opcode_of(op.inst)) {
      case isa::Opcode::V_UNARY:
        work.special = vmath::special_passes(isa::VUnary::decode(op.inst).func);
        work.simple = work.special == 0 ? 1 : 0;
        break;
      case isa::Opcode::V_BINARY:
        work.special = vmath::special_passes(isa::VBinary::decode(op.inst).func);
        work.simple = work.special == 0 ? 1 : 0;
        break;
      case isa::Opcode::V_REDUCE: {
        const isa::VReduce inst = isa::VReduce::decode(op.inst);
        work.elements = sources;
        work.trees = (inst.axes & 8U) != 0 ? 1 : 0;
        if (inst.div != 1) work.divided = results;
        break;
      }
      case isa::Opcode::V_WINDOW: {
        const isa::VWindow inst = isa::VWindow::decode(op.inst);
        work.simple = int64_t{inst.kernel_y} * inst.kernel_x;
        break;
      }
      case isa::Opcode::V_SOFTMAX:
        work.special = 2;
        work.trees = 2;
        break;
      case isa::Opcode::V_SCATTER:
        work.elements = sources;
        work.simple = isa::VScatter::decode(op.inst).func == isa::Scatter::SET ? 1 : 2;
        work.addresses = work.simple * sources;
        break;
      case isa::Opcode::V_GATHER:
        // Neighbours under one index are one access.
        work.addresses = op.operands[2].view.strides[3] == 0 ? results / dst.dims[3] : results;
        break;
      case isa::Opcode::V_SCAN: {
        const int64_t length = dst.dims[isa::VScan::decode(op.inst).axis];
        work.elements = sources / std::max<int64_t>(length, 1);
        work.simple = length;
        break;
      }
      case isa::Opcode::V_ARG:
        work.elements = sources;
        work.trees = isa::VArg::decode(op.inst).axis == 3 ? 1 : 0;
        break;
      case isa::Opcode::V_TOPK:
        work.elements = dst.dims[3];
        work.simple = sources;
        break;
      default:
        break;
    }
    return work;
  }

  Timing compute(Engine &engine, const Operation &op, int64_t now) {
    const int64_t lanes = std::max<int64_t>(target_.vpu_lanes, 1);
    const Work work = work_of(op);
    const int64_t steps = ceil_div(work.elements, lanes) * (is_wide(op) ? 2 : 1);
    int64_t read = 0;
    for (std::size_t i = 1; i < op.operands.size(); ++i) read += distinct_bytes(op.operands[i].view);
    const Descriptor &dst = op.operands[0].view;
    const int64_t write = static_cast<int64_t>(count(dst.dims)) * element_bytes(dst.dtype);
    const int64_t computed = now + kVpuStartup + std::max(steps * work.simple, work.addresses) +
                             (steps * work.special + ceil_div(work.divided, lanes)) * kSpecialCycles +
                             kTreeCycles * work.trees + kSpmLatency;
    const double in = engine.read.reserve(static_cast<double>(now), static_cast<double>(read)) + kSpmLatency;
    const double out =
        engine.write.reserve(static_cast<double>(now + kVpuStartup), static_cast<double>(write)) + kSpmLatency;
    const int64_t end = std::max({computed, up(in), up(out)});
    return {end, end};
  }

  Estimate summary() const {
    Estimate estimate;
    int64_t first = std::numeric_limits<int64_t>::max();
    int nodes = 0;
    for (std::size_t i = 0; i < operations_.size(); ++i) {
      first = std::min(first, issue_[i]);
      nodes = std::max(nodes, operations_[i].node + 1);
    }
    std::vector<int64_t> last(static_cast<std::size_t>(nodes), 0);
    for (std::size_t i = 0; i < operations_.size(); ++i) {
      const auto engine = static_cast<std::size_t>(operations_[i].engine);
      estimate.taken.push_back(timings_[i].accept - issue_[i]);
      estimate.free[engine] = std::max(estimate.free[engine], timings_[i].accept - first);
      int64_t &end = last[static_cast<std::size_t>(operations_[i].node)];
      end = std::max({end, timings_[i].accept, timings_[i].complete});
    }
    int64_t reached = operations_.empty() ? 0 : first;
    for (int64_t end : last) {
      estimate.by_node.push_back(std::max<int64_t>(0, end - reached));
      reached = std::max(reached, end);
    }
    estimate.cycles = operations_.empty() ? 0 : reached - first;
    return estimate;
  }

  const Target &target_;
  std::span<const Operation> operations_;
  std::vector<Sources> sources_;
  Memory memory_;
  double link_;
  int64_t hops_;  ///< cycles of one way over the network on chip
  double port_;
  std::array<Engine, kEngines> engines_;
  Array array_;
  SparseArray sparse_array_;
  std::vector<Drained> drains_;
  std::vector<Timing> timings_;
  std::vector<int64_t> due_;    ///< cycle of the post
  std::vector<int64_t> issue_;  ///< -1: not yet
  std::vector<int> posts_;
};

}  // namespace

CostModel::CostModel(const Target &target) : target_(target) {}

Estimate CostModel::estimate(std::span<const Operation> operations) const {
  const bool sparse = std::any_of(operations.begin(), operations.end(),
                                  [](const Operation &op) { return op.engine == isa::Engine::SCA; });
  if (!sparse) return Simulation(target_, operations).run();
  const std::vector<std::size_t> order = issue_order(operations);
  std::vector<Operation> ordered;
  for (const std::size_t number : order) ordered.push_back(operations[number]);
  Estimate estimate = Simulation(target_, ordered).run();
  std::vector<int64_t> taken(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) taken[order[i]] = estimate.taken[i];
  estimate.taken = std::move(taken);
  return estimate;
}

}  // namespace cx::compiler::backend
