// Scratchpad buffers of one tile and the operations that all kinds of groups share: loading operands, the element-wise
// tail, storing results.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "driver/compiler/backend/constants.hpp"
#include "driver/compiler/backend/emitter.hpp"
#include "driver/compiler/backend/fusion.hpp"
#include "driver/compiler/backend/layout.hpp"
#include "driver/compiler/backend/quantise.hpp"
#include "driver/compiler/sca.hpp"

namespace cx::compiler::backend {

/// What lowering a program needs to know and to write to.
struct Context {
  const Graph &graph;
  const Target &target;
  Dtype element;  ///< of activations in memory, and of weights of other operations than products
  Dtype product;  ///< what the DMMU multiplies
  Layout &layout;
  ConstantPool &constants;
  Emitter &emitter;
  std::map<TensorId, float> ranges;     ///< largest magnitudes of what products of 8-bit formats multiply
  std::optional<float> constant_range;  ///< instead of the largest magnitudes of constants
  bool tf32 = false;                    ///< operands of products are rounded to 10 bits of mantissa
  int64_t acc_toggle = 0;               ///< part of the accumulators that the next product uses
  int64_t sca_toggle = 0;               ///< likewise, of the sparse unit
  ScaOptions sca = {};
  /// Of the groups with products, as their kernels decide.
  std::map<const Group *, ProductChoice> products = {};
  /// Of constants, by tensor and axis, as quantiser_of() has found them.
  std::map<std::pair<TensorId, int>, Quantiser> quantisers = {};
  std::string *tilings = nullptr;  ///< takes a line for each group that is tiled, where somebody looks
};

/// Whether a tensor lies in the scratchpad from group to group.
bool stays_in_scratchpad(const Context &context, TensorId id);

/// Hands out scratchpad bytes one after the other.
class Arena {
 public:
  Arena(int64_t begin, int64_t end) : begin_(begin), at_(begin), end_(end) {}
  /// Throws cx::Error beyond the end.
  int64_t take(int64_t bytes);
  int64_t used() const { return at_ - begin_; }

 private:
  int64_t begin_;
  int64_t at_;
  int64_t end_;
};

/// Runs `count` steps that each take scratchpad of their own: f(arena, step). Two buffers take turns, so that a step
/// loads while the one before computes. f(arena, 0) has to need as much as any other step.
void in_turns(Context &context, Arena &arena, int64_t count, const std::function<void(Arena &, int64_t)> &f);

/// Dense buffer whose dimensions nest in `order`.
SpmView allocate(Arena &arena, Dtype dtype, const Dims &dims, const std::vector<int> &order);

/// A box of a buffer that holds `whole`.
SpmView sub_view(const SpmView &view, const Box &whole, const Box &box);

/// The view with other strides: broadcast on the left and where it has size 1.
SpmView broadcast(const SpmView &view, const Dims &dims);

/// Whether a transfer between memory that lies with strides `memory` and the scratchpad pays for so many more runs with
/// the strides `scratchpad` than with a dense buffer that nests as the memory, that the VPU had better bring the
/// elements into order. Strides in bytes.
bool pays_to_nest(const Context &context, const Dims &dims, const Dims &memory, const Dims &scratchpad, Dtype dtype);

/// The part of an operand that a box of the result needs, by NumPy's broadcasting rules.
Box operand_box(const Shape &operand, const Box &box);

/// A box of a tensor in the scratchpad. Constants come from the image, converted to `wanted`; other tensors are
/// converted on the VPU when they are stored as another type. `order` is how a constant's buffer nests; others nest as
/// in memory.
SpmView load_box(Context &context, Arena &arena, TensorId id, const Box &box, std::optional<Dtype> wanted,
                 const std::vector<int> &order);

/// The same for an operand of a product.
SpmView load_operand(Context &context, Arena &arena, TensorId id, const Box &box, const Quantiser &quantiser,
                     const std::vector<int> &order);

/// The node's bias, or the constant of the group that is one.
TensorId anchor_bias(const Group &group, const Node &node);

/// FP32 values [first, first + count) of a tensor with one value for each channel, of any rank, dense.
SpmView load_channels(Context &context, Arena &arena, TensorId id, int64_t first, int64_t count);

/// Dense FP32 values from the image.
SpmView load_floats(Context &context, Arena &arena, const std::vector<float> &values);

/// src times factor in the type of dst.
void convert(Context &context, const SpmView &dst, const SpmView &src, float factor);

/// Rounds the FP32 elements of a buffer in place to 10 bits of mantissa, to nearest even, by integer arithmetic on
/// their bits. A NaN whose payload lies in the other 13 bits alone becomes infinite.
void round_to_tf32(Context &context, Arena &arena, const SpmView &buffer);

/// Elements of a box of a constant, dense in `order`, as bytes of the quantiser's type, of which `to` has as many.
void write_constant(const Tensor &tensor, const Box &box, const std::vector<int> &order, const Quantiser &quantiser,
                    std::span<std::byte> to);
std::vector<std::byte> constant_elements(const Tensor &tensor, const Box &box, const std::vector<int> &order,
                                         const Quantiser &quantiser);

/// The same elements a part after the other, in any order.
void visit_constant(const Tensor &tensor, const Box &box, const Quantiser &quantiser,
                    const std::function<void(std::span<const std::byte>)> &visit);

/// Bytes of the image that are loaded into a buffer.
MemView constant_memory(const Context &context, const SpmView &buffer, int64_t offset);

/// A box of a constant as dense row-major elements of the image.
MemView constant_view(Context &context, TensorId id, const Box &box, Dtype dtype);

/// Temporary type of a value inside a group: FP32 for F32 and F64, else its own.
Dtype temporary_dtype(const Context &context, TensorId id);

/// Type in which an operand comes from memory.
Dtype operand_dtype(const Context &context, TensorId id);

/// The view in another type: itself, or converted by the VPU.
SpmView converted(Context &context, Arena &arena, const SpmView &view, Dtype dtype);

/// Runs the steps of a group on one tile and stores the results.
class Tail {
 public:
  Tail(Context &context, const Group &group);

  /// Loads small constant operands that all tiles of a pass share; `range` is the box that the tiles cover.
  void load_resident(Arena &arena, const Box &range);

  /// Where the anchor leaves its result for the box. A value that is stored nests as in memory, so that the store moves
  /// long runs; others nest in `order`.
  SpmView anchor_buffer(Arena &arena, const Box &box, const std::vector<int> &order) const;

  /// result: the anchor's buffer for the box (in the group's dimensions), empty for groups without an anchor. order:
  /// how buffers of the tile nest.
  void run(Arena &arena, const Box &box, const std::optional<SpmView> &result, const std::vector<int> &order);

 private:
  struct Live {
    SpmView view;
    bool temporary = false;
  };
  struct Operands {
    std::optional<SpmView> a;
    std::optional<SpmView> b;
    std::optional<SpmView> cond;
  };

  bool is_resident(TensorId id) const;
  Dtype result_dtype(TensorId id) const;
  bool is_output(TensorId id) const;
  bool used_after(TensorId id, std::size_t step) const;
  SpmView operand(Arena &arena, TensorId id, const Box &box, const std::vector<int> &order);
  SpmView output_buffer(Arena &arena, TensorId id, const Box &box) const;
  SpmView place_result(Arena &arena, std::size_t index, const Box &box, const std::vector<int> &order);
  void emit(const Step &step, const SpmView &dst, const Operands &operands);

  Context &context_;
  const Group &group_;
  std::map<TensorId, std::pair<Box, SpmView>> resident_;
  std::map<TensorId, Live> live_;               ///< values of the tile
  std::map<Dtype, std::vector<SpmView>> free_;  ///< temporaries to use again
};

}  // namespace cx::compiler::backend
