// Collects device operations in program order and turns them into one instruction stream per engine.
//
// The order of the calls defines what the program means: as if every operation were complete before the next one.
// Streams run concurrently on the device; finish() finds every dependence between operations of different engines from
// the bytes they touch (read after write, write after read, write after write, in the scratchpad and in memory) and
// enforces it by a semaphore of the pair of engines. Prefetch and overlap therefore follow from where buffers lie, not
// from hand-made protocols.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "driver/compiler/backend/operation.hpp"
#include "driver/compiler/backend/views.hpp"
#include "driver/runtime/image_builder.hpp"
#include "driver/runtime/program.hpp"
#include "driver/umd/target.hpp"
#include "hw/common/sparse/sparse.hpp"

namespace cx::compiler::backend {

struct Activation {
  isa::Activation kind = isa::Activation::NONE;
  float lo = 0;
  float hi = 0;
};

/// Elements that a padded load fills instead of fetching.
struct Padding {
  int64_t top = 0;
  int64_t bottom = 0;
  int64_t left = 0;
  int64_t right = 0;
  uint32_t fill = 0;
  bool any() const { return top != 0 || bottom != 0 || left != 0 || right != 0; }
};

/// Tiles that share a product: rows over m_split, columns over n_split.
struct TileSplit {
  int64_t m = 1;
  int64_t n = 1;
};

/// Compressed weights in the scratchpad: a stream of whole groups (hw/common/sparse/README.md).
struct WeightStream {
  sparse::Layout layout;
  Dtype dtype{};
  int64_t k = 0;
  int64_t n = 0;
  int64_t base = 0;  ///< a multiple of sparse::kAlignment
  int64_t bytes = 0;
  int64_t cycles = 0;  ///< that the product takes in the slowest tile, for estimates
};

/// Where the results of a product leave the accumulators.
struct DrainSource {
  isa::Engine engine = isa::Engine::DMMU;  ///< or SCA
  TileSplit split;
  int64_t acc_row = 0;
};

class Emitter {
 public:
  /// Transfers take memory for about 200 cycles, so that their setup hardly counts, within 32 to 128 KiB, behind which
  /// others, instruction fetches among them, have to wait.
  explicit Emitter(const Target &target);

  /// While dry, operations are not recorded.
  void set_dry(bool dry) { dry_ = dry; }
  bool dry() const { return dry_; }

  /// A place in the program to which rollback() returns, as if nothing had been emitted since.
  struct Mark {
    std::size_t operations = 0, nodes = 0, tile_begin = 0;
    std::optional<std::size_t> products_begin;
    uint64_t load_bytes = 0, store_bytes = 0;
  };
  Mark mark() const;
  void rollback(const Mark &mark);

  /// Operations from here on belong to this node.
  void set_node(const std::string &name);

  /// Tiles of a pass follow. Those whose kernel calls operands_ready() are interleaved: the VPU prepares a tile's
  /// operands before it turns to the results of the tile before, so that it and the DMMU work at the same time.
  void begin_pass();
  void begin_tile();
  /// What the tile has emitted so far loads and converts operands; its products follow.
  void operands_ready();

  /// Views of equal dims and element size, of any rank. Loads and stores move bytes, in transfers of moderate size.
  /// Where the memory is the scratchpad itself the VPU copies, and nothing happens if both views are the same.
  void load(const SpmView &dst, const MemView &src);
  void store(const MemView &dst, const SpmView &src);
  void fill(const SpmView &dst, uint32_t pattern);
  /// Four dimensions as they are; padding in dims[1] and dims[2]; src.dims are ignored.
  void load_padded(const Descriptor &dst, const MemDescriptor &src, const Padding &padding);

  void load_weights(const Descriptor &w, TileSplit split);
  void multiply(const Descriptor &a, bool accumulate, TileSplit split, int64_t n, int64_t acc_row);
  void multiply_output_stationary(const Descriptor &a, const Descriptor &w, bool accumulate, TileSplit split,
                                  int64_t acc_row);
  /// Activations of the sparse products that follow.
  void load_activations(const Descriptor &a, TileSplit split);
  void multiply_sparse(const WeightStream &w, bool accumulate, TileSplit split, int64_t acc_row);
  void drain(const Descriptor &dst, const std::optional<Descriptor> &scale, const std::optional<Descriptor> &bias,
             const Activation &act, const DrainSource &source);

  void unary(isa::Unary func, const SpmView &dst, const SpmView &src, float imm0 = 0, float imm1 = 0);
  /// Operand strides may be 0.
  void binary(isa::Binary func, const SpmView &dst, const SpmView &a, const SpmView &b, const Activation &act = {});
  /// swap: func(scalar, a).
  void binary_scalar(isa::Binary func, const SpmView &dst, const SpmView &a, float scalar, bool swap,
                     const Activation &act = {});
  /// cond ? a : b; an absent side is its scalar. a and b have dst's type.
  void select(const SpmView &dst, const SpmView &cond, const std::optional<SpmView> &a, const std::optional<SpmView> &b,
              float scalar_a, float scalar_b);
  /// Along a dimension of views of one rank: dst[i] = src[i with i[axis] = idx[i]]. src and idx are dst's dims, with
  /// stride 0 where they are broadcast; src has its own size along the axis. dst and src have one type.
  void gather(const SpmView &dst, const SpmView &src, const SpmView &idx, std::size_t axis);
  /// The same from memory, by the load engine.
  void gather(const SpmView &dst, const MemView &src, const SpmView &idx, std::size_t axis);
  /// dst[i with i[axis] = idx[i]] = func(that, src[i]) for every i of src.
  void scatter(isa::Scatter func, const SpmView &dst, const SpmView &src, const SpmView &idx, std::size_t axis);
  /// dst and src have the same dims.
  void scan(const SpmView &dst, const SpmView &src, std::size_t axis, bool exclusive, bool reverse);
  /// dst is 1 along the axis.
  void arg(isa::Order order, const SpmView &dst, const SpmView &src, std::size_t axis, bool last);
  /// dst is k along the axis.
  void top(isa::Order order, const SpmView &dst, const SpmView &src, std::size_t axis);
  void reduce(isa::Reduce func, const Descriptor &dst, const Descriptor &src, unsigned axes, float divisor);
  void window(const isa::VWindow &shape, const Descriptor &dst, const Descriptor &src,
              const std::optional<Descriptor> &w, const std::optional<Descriptor> &bias);
  void softmax(const Descriptor &dst, const Descriptor &src);

  /// In program order. What operands_ready() put in another order is in it.
  const std::vector<Operation> &operations() const { return operations_; }
  /// Names of the nodes that operations belong to, by Operation::node.
  const std::vector<std::string> &nodes() const { return nodes_; }

  uint64_t load_bytes() const { return load_bytes_; }
  uint64_t store_bytes() const { return store_bytes_; }

  /// Adds the streams to the image and fills `debug`. Returns the number of instructions. Throws InputError if the
  /// target has fewer semaphores than the program needs.
  uint64_t finish(const Target &target, ImageBuilder &image, std::vector<DebugEntry> &debug);

 private:
  Operation &add(isa::Engine engine, const isa::Inst &inst);
  static void use(Operation &op, uint8_t at, const Descriptor &view, bool write);
  static void use_memory(Operation &op, uint8_t at, const MemDescriptor &memory, const std::array<uint16_t, 4> &dims,
                         int64_t size, bool write);
  void synchronize();
  std::vector<isa::Inst> encode(int engine, std::vector<DebugEntry> &debug) const;

  int64_t transfer_bytes_ = 0;
  bool dry_ = false;
  std::vector<std::string> nodes_;
  std::vector<Operation> operations_;
  Operation scratch_;
  std::size_t tile_begin_ = 0;                 ///< first operation of the tile
  std::optional<std::size_t> products_begin_;  ///< of the tile before, which end at tile_begin_
  uint64_t load_bytes_ = 0;
  uint64_t store_bytes_ = 0;
};

/// The descriptor of a view with four dimensions or fewer (missing ones are 1, on the left).
Descriptor descriptor(const SpmView &view);

}  // namespace cx::compiler::backend
