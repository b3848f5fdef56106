// How a group becomes tiles: what each kind of group provides and the driver that picks a tiling and emits it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "driver/compiler/backend/cost_model.hpp"
#include "driver/compiler/backend/residency.hpp"
#include "driver/compiler/backend/scratchpad_places.hpp"
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
  /// Ways to compute a tile that give the same bits, such as splits of the array; number 0 is in force at first and is
  /// the best by itself. choose_variant() comes before tilings() and what follows it.
  virtual int variants() const { return 1; }
  virtual void choose_variant(int number) { (void)number; }
  /// Of the variant in force, for reports.
  virtual std::string variant_text() const { return {}; }
  /// Whether all variants and tilings give the same bits, so that the fastest one may be taken.
  virtual bool is_searched() const { return false; }
  /// Elements of the group's shape below which a tile costs more than overlapping with others gains.
  virtual int64_t smallest_useful_tile() const { return 8192; }
  /// Elements of a tile for which another pass is tried that has room for larger ones.
  virtual int64_t smallest_tile() const { return 0; }
  /// Tiles of the group that let loads, arithmetic and stores, also those of neighbouring groups, overlap.
  virtual int64_t wanted_tiles() const { return 4; }
  /// Loads what all tiles of a pass share.
  virtual void resident(Arena &arena, const Box &range) = 0;
  /// Loads, computes and stores one tile.
  virtual void tile(Arena &arena, const Box &box) = 0;
};

/// One way to tile a group.
struct Alternative {
  int variant = 0;  ///< of the kernel
  Tiling tiling;
  int64_t resident = 0;  ///< bytes that all tiles of a pass share
  int64_t tile = 0;      ///< bytes of a tile
  int64_t tiles = 1;     ///< of a pass
  int64_t passes = 1;    ///< of the group
  Region region;         ///< of the scratchpad
};

/// No tiling of a group fits the scratchpad that is left for it.
class DoesNotFit : public InputError {
 public:
  using InputError::InputError;
};

/// Emits groups, tiled by rules or, where a kernel may be searched, as the cost model finds best: the group is emitted
/// on trial in every way, between the groups before it and what follows it. What a pass holds takes the free part of
/// the scratchpad that was used longest ago, so that the loads of the next passes and groups can run ahead. Buffers of
/// tiles, which are in use for a short time only, come round and round in a ring at the scratchpad's end, or with the
/// pass where they do not fit there.
class GroupEmitter {
 public:
  /// residency: places that are taken. forced: alternatives to take by name of the group, whatever they cost; one that
  /// is not there is an InputError.
  GroupEmitter(Context &context, const Residency &residency, std::map<std::string, std::size_t> forced = {});
  /// Alternatives of the groups that were searched, by name; number 0 is the rule's.
  const std::map<std::string, std::size_t> &alternatives() const { return counts_; }
  /// Before the first group is emitted: finds the size of the ring and the tilings that make the program fast, by
  /// emitting groups on trial. emit(n) enters and emits group n of so many.
  void search(std::size_t groups, const std::function<void(std::size_t)> &emit);
  /// Group number n begins: its emit() comes next.
  void enter(std::size_t group);
  /// Throws DoesNotFit naming the node if no tiling fits the scratchpad.
  void emit(const std::string &name, Kernel &kernel);

 private:
  /// What the emitters stand at, to come back to after a trial.
  struct Place {
    Emitter::Mark mark;
    int64_t acc_toggle = 0;
    int64_t sca_toggle = 0;
    uint64_t constants = 0;
    ScratchpadPlaces places;
    int64_t time = 0;
    int64_t ring_cursor = 0;
    Region free, quiet;
  };
  Place place() const;
  void return_to(const Place &place);

  /// Chooses the ring for the tilings by rule, and notes what work is left after each group.
  void foresee(std::size_t groups, const std::function<void(std::size_t)> &emit);
  /// Whether the tiles of a pass can take turns in the ring, and what the pass holds fits below it.
  bool uses_ring(const Alternative &alternative) const;
  /// Bytes of the scratchpad below the ring that the group takes. The more they are, the less far loads of later groups
  /// run ahead.
  int64_t footprint(const Alternative &alternative) const;
  Alternative measure(Kernel &kernel, const Tiling &tiling);
  std::optional<Alternative> choose(Kernel &kernel, const Region &region, int64_t &smallest);
  /// By the rules; throws DoesNotFit.
  Alternative choose(const std::string &name, Kernel &kernel);
  /// `first` and others that fit where it fits.
  std::vector<Alternative> alternatives(Kernel &kernel, const Alternative &first);
  /// Cycles of the group alone.
  int64_t cycles_alone(Kernel &kernel, const Alternative &alternative);
  /// What the group's operations by rule look like but for their places, and those of the group searched before.
  std::size_t signature(Kernel &kernel, const Alternative &first);
  /// Cycles from some groups before this one on: the mean of those to the end of the next group, and of those to the
  /// end of the program if all that is left takes no more than its time on the engine that is the last to finish.
  int64_t cycles_in_place(Kernel &kernel, const Alternative &alternative);
  /// The best one, or that of an earlier group that looks the same.
  Alternative find(const std::string &name, Kernel &kernel, const Alternative &first);
  /// The best one, by trials of all alternatives.
  Alternative compare(const std::string &name, Kernel &kernel, const Alternative &first);
  void report(const std::string &name, Kernel &kernel, const Alternative &alternative, const std::string &remark);
  void emit(Kernel &kernel, const Alternative &alternative);
  void emit_pass(Kernel &kernel, const Alternative &alternative, const Box &range);

  Context &context_;
  const Residency &residency_;
  CostModel model_;
  std::map<std::string, std::size_t> forced_;
  std::map<std::string, std::size_t> counts_;
  enum class Mode { by_rule, searching, as_found };
  Mode mode_ = Mode::by_rule;
  std::vector<Alternative> found_;  ///< what the search took, in the order of emit()
  std::size_t next_found_ = 0;
  std::function<void()> follow_;                     ///< emits the group after the one that is searched
  std::vector<std::size_t> begins_;                  ///< first operations of the groups so far
  std::vector<std::array<int64_t, kEngines>> left_;  ///< cycles for which engines are taken from a group on
  Region free_;                                      ///< what no resident of the group takes
  Region quiet_;  ///< what those of neighbouring groups leave free too, taken if it is large enough
  ScratchpadPlaces places_;
  int64_t time_ = 0;         ///< of the pass that comes next
  int64_t ring_ = 0;         ///< bytes
  int64_t ring_cursor_ = 0;  ///< where the ring's next tile begins
  /// Alternatives found best, by signature.
  std::map<std::size_t, Alternative> known_;
  std::size_t signature_ = 0;  ///< of the group that was searched last
  int64_t cycles_by_rule_ = 0;
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
