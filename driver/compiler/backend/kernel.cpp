#include "driver/compiler/backend/kernel.hpp"

#include <algorithm>
#include <limits>

#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kMaxSlots = 8;
/// Tiles of a pass that let loads, arithmetic and stores, also those of neighbouring groups, overlap.
constexpr int64_t kWantedTiles = 4;

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
  need.tiles = 1;
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

Tiling GroupEmitter::choose(const std::string &name, Kernel &kernel, Need &need) {
  const auto bytes = static_cast<int64_t>(context_.target.spm_bytes);
  int64_t smallest = std::numeric_limits<int64_t>::max();
  std::optional<Tiling> single;
  Need single_need;
  std::optional<Tiling> best;
  Need best_need;
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
      best_need = here;
      if (here.tiles >= kWantedTiles) break;
    } else if (!single && once <= bytes) {
      single = tiling;
      single_need = here;
    }
  }
  if (best) {
    need = best_need;
    return *best;
  }
  if (!single) {
    throw InputError("node " + name + " needs at least " + std::to_string(smallest) +
                     " bytes of scratchpad, the target has " + std::to_string(bytes));
  }
  need = single_need;
  return *single;
}

void GroupEmitter::emit_pass(Kernel &kernel, const Tiling &tiling, const Need &need, const Box &range) {
  const auto bytes = static_cast<int64_t>(context_.target.spm_bytes);
  const bool high = residents_high_;
  residents_high_ = !residents_high_;
  const int64_t resident_begin = high ? bytes - need.resident : 0;
  Arena residents(resident_begin, resident_begin + need.resident);
  kernel.resident(residents, range);
  // Room for the residents of the next pass, at the other end, is left alone while two tile buffers remain.
  const int64_t tile_bytes = std::max<int64_t>(need.tile, 1);
  int64_t slots = (bytes - 2 * need.resident) / tile_bytes;
  if (slots < 2) slots = (bytes - need.resident) / tile_bytes;
  slots = std::clamp<int64_t>(slots, 1, kMaxSlots);
  const int64_t first = high ? bytes - need.resident - slots * need.tile : need.resident;
  context_.emitter.begin_pass();
  for (const Box &box : split(range, tiling)) {
    context_.emitter.begin_tile();
    const int64_t begin = first + (next_slot_++ % slots) * need.tile;
    Arena arena(begin, begin + need.tile);
    kernel.tile(arena, box);
  }
}

void GroupEmitter::emit(const std::string &name, Kernel &kernel) {
  Need need;
  const Tiling tiling = choose(name, kernel, need);
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
