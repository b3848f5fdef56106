// How a group becomes tiles: what each kind of group provides and the driver that picks a tiling and emits it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "driver/compiler/backend/tile.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

/// Largest tile in every dimension of the group's shape.
using Tiling = Dims;

/// One group's way onto the device. The box of a tile is in the dimensions of shape().
class Kernel {
 public:
  virtual ~Kernel() = default;

  /// What is tiled.
  virtual Shape shape() const = 0;
  /// Dimension whose parts are passes of their own, with constants that stay in the scratchpad during the pass; -1:
  /// none.
  virtual int pass_dimension() const { return -1; }
  /// Tilings to try, the best first.
  virtual std::vector<Tiling> tilings() const = 0;
  /// Elements of the group's shape below which a tile costs more than overlapping with others gains.
  virtual int64_t smallest_useful_tile() const { return 8192; }
  /// Tiles of the group that let loads, arithmetic and stores, also those of neighbouring groups, overlap.
  virtual int64_t wanted_tiles() const { return 4; }
  /// Loads what all tiles of a pass share.
  virtual void resident(Arena &arena, const Box &range) = 0;
  /// Loads, computes and stores one tile.
  virtual void tile(Arena &arena, const Box &box) = 0;
};

/// A part of the scratchpad: [begin, end).
struct Region {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

/// No tiling of a group fits the scratchpad that is left for it.
class DoesNotFit : public InputError {
 public:
  using InputError::InputError;
};

/// Emits groups. What a pass holds and the ring of its tile buffers come one after the other in the free part of the
/// scratchpad, pass after pass, round and round: what is overwritten is what was used longest ago, so that the loads of
/// the next passes and groups can run ahead.
class GroupEmitter {
 public:
  explicit GroupEmitter(Context &context);
  /// The free part of the scratchpad for the groups that follow; `quiet` is the part of it that neighbouring groups
  /// leave free too, taken if it is large enough.
  void set_region(const Region &free, const Region &quiet);
  /// Throws DoesNotFit naming the node if no tiling fits the scratchpad.
  void emit(const std::string &name, Kernel &kernel);

 private:
  struct Need {
    int64_t resident = 0;
    int64_t tile = 0;
    int64_t tiles = 1;   ///< of a pass
    int64_t passes = 1;  ///< of the group
  };
  Need measure(Kernel &kernel, const Tiling &tiling);
  std::optional<Tiling> choose(Kernel &kernel, int64_t bytes, Need &need, int64_t &smallest);
  void emit_pass(Kernel &kernel, const Tiling &tiling, const Need &need, const Box &range);

  Context &context_;
  Region free_;
  Region quiet_;
  Region region_;       ///< of the group
  int64_t cursor_ = 0;  ///< where the next pass begins
};

/// All boxes of `tiling` that cover `range`, in row-major order.
std::vector<Box> split(const Box &range, const Tiling &tiling);

/// Tilings of a tensor of which any part can be computed alone: from `limit` elements downwards, outer dimensions (in
/// `order`) split first. Dimensions in `whole` are never split.
std::vector<Tiling> free_tilings(const Shape &shape, const std::vector<int> &order, int64_t limit,
                                 const std::vector<bool> &whole);

std::unique_ptr<Kernel> lower_conv(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_matmul(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_pool(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_depthwise(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_reduce(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_softmax(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_take_along(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_scatter_along(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_scan(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_arg_reduce(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_top_k(Context &context, const Group &group);
std::unique_ptr<Kernel> lower_elementwise(Context &context, const Group &group);

/// True for a convolution that the VPU computes: one channel in, one channel out.
bool is_depthwise(const Context &context, const Group &group);

/// Emits a node that only moves elements; nothing if the layout made it a view.
void lower_move(Context &context, GroupEmitter &emitter, const Group &group);

}  // namespace cx::compiler::backend
