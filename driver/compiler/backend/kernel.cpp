#include "driver/compiler/backend/kernel.hpp"

#include <algorithm>
#include <limits>

#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kMaxSlots = 8;

Box whole_box(const Shape &shape) { return {Dims(shape.size(), 0), shape}; }

}  // namespace

std::vector<Box> split(const Box &range, const Tiling &tiling) {
  std::vector<Box> boxes;
  Dims at(range.size.size(), 0);
  for (;;) {
    Box box;
    for (std::size_t d = 0; d < at.size(); ++d) {
      box.start.push_back(range.start[d] + at[d]);
      box.size.push_back(std::min(tiling[d], range.size[d] - at[d]));
    }
    boxes.push_back(box);
    std::size_t d = at.size();
    for (;;) {
      if (d == 0) return boxes;
      --d;
      at[d] += tiling[d];
      if (at[d] < range.size[d]) break;
      at[d] = 0;
    }
  }
}

std::vector<Tiling> free_tilings(const Shape &shape, const std::vector<int> &order, int64_t limit,
                                 const std::vector<bool> &whole) {
  std::vector<Tiling> result;
  for (int64_t bound = limit;; bound /= 2) {
    Tiling tiling = shape;
    int64_t count = product(tiling);
    for (int dimension : order) {
      const auto d = static_cast<std::size_t>(dimension);
      if (count <= bound) break;
      if (whole[d]) continue;
      const int64_t rest = count / tiling[d];
      const int64_t fits = std::clamp<int64_t>(bound / rest, 1, tiling[d]);
      // Equal parts instead of a small last one.
      const int64_t parts = (tiling[d] + fits - 1) / fits;
      tiling[d] = (tiling[d] + parts - 1) / parts;
      count = rest * tiling[d];
    }
    if (result.empty() || result.back() != tiling) result.push_back(tiling);
    if (bound <= 1) return result;
  }
}

GroupEmitter::Need GroupEmitter::measure(Kernel &kernel, const Tiling &tiling) {
  const Shape shape = kernel.shape();
  Box pass = whole_box(shape);
  if (kernel.pass_dimension() >= 0) {
    const auto d = static_cast<std::size_t>(kernel.pass_dimension());
    pass.size[d] = std::min(tiling[d], shape[d]);
  }
  Need need;
  if (kernel.pass_dimension() >= 0) {
    const auto d = static_cast<std::size_t>(kernel.pass_dimension());
    need.passes = (shape[d] + pass.size[d] - 1) / pass.size[d];
  }
  for (std::size_t d = 0; d < shape.size(); ++d) need.tiles *= (pass.size[d] + tiling[d] - 1) / tiling[d];
  const bool was_dry = context_.emitter.dry();
  context_.emitter.set_dry(true);
  Arena residents(0, std::numeric_limits<int64_t>::max() / 2);
  kernel.resident(residents, pass);
  need.resident = residents.used();
  Box first = pass;
  for (std::size_t d = 0; d < shape.size(); ++d) first.size[d] = std::min(tiling[d], pass.size[d]);
  // The tile in the middle needs most where windows reach over the border.
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const int64_t tiles = (pass.size[d] + tiling[d] - 1) / tiling[d];
    first.start[d] = tiles > 2 ? tiling[d] : 0;
  }
  Arena tile(0, std::numeric_limits<int64_t>::max() / 2);
  kernel.tile(tile, first);
  need.tile = tile.used();
  context_.emitter.set_dry(was_dry);
  return need;
}

GroupEmitter::GroupEmitter(Context &context)
    : context_(context), free_{0, static_cast<int64_t>(context.target.spm_bytes)}, quiet_(free_), region_(free_) {}

void GroupEmitter::set_region(const Region &free, const Region &quiet) {
  free_ = free;
  quiet_ = quiet;
}

std::optional<Tiling> GroupEmitter::choose(Kernel &kernel, int64_t bytes, Need &need, int64_t &smallest) {
  std::optional<Tiling> single;
  Need single_need;
  std::optional<Tiling> best;
  const int pass = kernel.pass_dimension();
  for (const Tiling &tiling : kernel.tilings()) {
    if (best) {
      const bool other_pass =
          pass >= 0 && tiling[static_cast<std::size_t>(pass)] != (*best)[static_cast<std::size_t>(pass)];
      if (other_pass || product(tiling) < kernel.smallest_useful_tile()) break;
    }
    const Need here = measure(kernel, tiling);
    const int64_t once = here.resident + here.tile;
    smallest = std::min(smallest, once);
    if (once + (here.tiles > 1 ? here.tile : 0) <= bytes) {
      best = tiling;
      need = here;
      if (here.tiles * here.passes >= kernel.wanted_tiles()) break;
    } else if (!single && once <= bytes) {
      single = tiling;
      single_need = here;
    }
  }
  if (best || !single) return best;
  need = single_need;
  return single;
}

void GroupEmitter::emit_pass(Kernel &kernel, const Tiling &tiling, const Need &need, const Box &range) {
  const int64_t tile_bytes = std::max<int64_t>(need.tile, 1);
  // Room for the residents of the next pass is left alone while two tile buffers remain.
  int64_t slots = (region_.size() - 2 * need.resident) / tile_bytes;
  if (slots < 2) slots = (region_.size() - need.resident) / tile_bytes;
  slots = std::clamp<int64_t>(slots, 1, std::min(kMaxSlots, need.tiles));
  if (cursor_ < region_.begin || cursor_ + need.resident > region_.end) cursor_ = region_.begin;
  int64_t resident = cursor_;
  // The tile buffers follow; if there is no room for them, they begin again below the residents.
  int64_t first = resident + need.resident;
  const int64_t above = (region_.end - first) / tile_bytes;
  const int64_t below = (resident - region_.begin) / tile_bytes;
  if (above >= slots || above >= below) {
    slots = std::min(slots, above);
  } else {
    first = region_.begin;
    slots = std::min(slots, below);
  }
  if (slots == 0) {
    // The residents lie where neither side has room.
    resident = region_.begin;
    first = resident + need.resident;
    slots = 1;
  }
  cursor_ = first + slots * need.tile;
  Arena residents(resident, resident + need.resident);
  kernel.resident(residents, range);
  context_.emitter.begin_pass();
  int64_t slot = 0;
  for (const Box &box : split(range, tiling)) {
    context_.emitter.begin_tile();
    const int64_t begin = first + (slot++ % slots) * need.tile;
    Arena arena(begin, begin + need.tile);
    kernel.tile(arena, box);
  }
}

void GroupEmitter::emit(const std::string &name, Kernel &kernel) {
  Need need;
  int64_t smallest = std::numeric_limits<int64_t>::max();
  region_ = quiet_;
  std::optional<Tiling> chosen = choose(kernel, region_.size(), need, smallest);
  if (!chosen) {
    region_ = free_;
    chosen = choose(kernel, region_.size(), need, smallest);
  }
  if (!chosen) {
    throw DoesNotFit("node " + name + " needs at least " + std::to_string(smallest) +
                     " bytes of scratchpad, the target has " + std::to_string(context_.target.spm_bytes));
  }
  const Tiling tiling = *chosen;
  const Shape shape = kernel.shape();
  if (context_.tilings != nullptr) {
    *context_.tilings += name + ": " + to_text(shape) + " in tiles of " + to_text(tiling) + ", " +
                         std::to_string(need.tiles) + " in a pass; scratchpad " + std::to_string(need.resident) +
                         " bytes resident, " + std::to_string(need.tile) + " a tile\n";
  }
  Tiling passes = shape;
  if (kernel.pass_dimension() >= 0) {
    const auto d = static_cast<std::size_t>(kernel.pass_dimension());
    passes[d] = tiling[d];
  }
  for (const Box &range : split(whole_box(shape), passes)) emit_pass(kernel, tiling, need, range);
}

}  // namespace cx::compiler::backend
