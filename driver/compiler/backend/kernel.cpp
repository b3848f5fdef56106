#include "driver/compiler/backend/kernel.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kMaxSlots = 8;
/// Groups before the one that is tiled whose operations a trial contains.
constexpr std::size_t kGroupsBefore = 2;
/// Alternatives of a variant beside the rule's, about.
constexpr std::size_t kAlternatives = 6;
/// Those that are the fastest alone are tried among their neighbours.
constexpr std::size_t kFinalists = 3;
/// Tiles of a group at most: each is instructions.
constexpr int64_t kMostTiles = 64;
/// Part of the scratchpad by which buffers of an alternative may take more than the rule's.
constexpr int64_t kSpareShare = 64;
/// What an alternative has to gain over the rule's to be taken, as a part of the group's time.
constexpr int64_t kWorthwhile = 200;
/// Sixteenths of the scratchpad for the ring of tile buffers without a search.
constexpr int64_t kRingShare = 2;
/// Those that a search compares, the first of equal ones taken: a ring keeps bytes from what runs ahead, which the
/// estimate does not see in full, so it has to gain something.
constexpr int64_t kRingShares[] = {0, 1, 2};
/// Passes of a group at most, in the count of time.
constexpr int64_t kGroupTime = int64_t{1} << 32;

Box whole_box(const Shape &shape) { return {Dims(shape.size(), 0), shape}; }

/// Buffers for tiles of a pass. Room for the residents of the next pass is left alone while two of them remain.
int64_t slots_of(const Alternative &alternative) {
  const int64_t tile_bytes = std::max<int64_t>(alternative.tile, 1);
  int64_t slots = (alternative.region.size() - 2 * alternative.resident) / tile_bytes;
  if (slots < 2) slots = (alternative.region.size() - alternative.resident) / tile_bytes;
  return std::clamp<int64_t>(slots, 1, std::min(kMaxSlots, alternative.tiles));
}

/// One tile can be loaded while another one is worked on.
bool fits_twice(const Alternative &alternative) {
  return alternative.resident + alternative.tile + (alternative.tiles > 1 ? alternative.tile : 0) <=
         alternative.region.size();
}

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

GroupEmitter::GroupEmitter(Context &context, const Residency &residency, std::map<std::string, std::size_t> forced)
    : context_(context),
      residency_(residency),
      model_(context.target),
      forced_(std::move(forced)),
      places_(context.target.spm_bytes),
      ring_(context.target.spm_bytes * kRingShare / 16) {}

void GroupEmitter::enter(std::size_t group) {
  const auto end = static_cast<int64_t>(context_.target.spm_bytes);
  free_ = {residency_.floor[group], end};
  quiet_ = {residency_.quiet_floor[group], end};
  time_ = static_cast<int64_t>(group) * kGroupTime;
  for (const Resident &resident : residency_.residents_from(static_cast<int>(group))) {
    places_.use(resident.region, (resident.last_use + 1) * kGroupTime - 1);
  }
}

GroupEmitter::Place GroupEmitter::place() const {
  return {context_.emitter.mark(),
          context_.acc_toggle,
          context_.sca_toggle,
          context_.constants.pretended(),
          places_,
          time_,
          ring_cursor_,
          free_,
          quiet_};
}

void GroupEmitter::return_to(const Place &place) {
  context_.emitter.rollback(place.mark);
  context_.acc_toggle = place.acc_toggle;
  context_.sca_toggle = place.sca_toggle;
  context_.constants.return_to(place.constants);
  places_ = place.places;
  time_ = place.time;
  ring_cursor_ = place.ring_cursor;
  free_ = place.free;
  quiet_ = place.quiet;
}

bool GroupEmitter::uses_ring(const Alternative &alternative) const {
  return alternative.resident <= alternative.region.size() - ring_ &&
         std::min<int64_t>(alternative.tiles, 2) * alternative.tile <= ring_;
}

int64_t GroupEmitter::footprint(const Alternative &alternative) const {
  const int64_t tiles = uses_ring(alternative) ? 0 : slots_of(alternative) * alternative.tile;
  return alternative.passes * (alternative.resident + tiles);
}

Alternative GroupEmitter::measure(Kernel &kernel, const Tiling &tiling) {
  const Shape shape = kernel.shape();
  Box pass = whole_box(shape);
  Alternative result;
  result.tiling = tiling;
  if (kernel.pass_dimension() >= 0) {
    const auto d = static_cast<std::size_t>(kernel.pass_dimension());
    pass.size[d] = std::min(tiling[d], shape[d]);
    result.passes = (shape[d] + pass.size[d] - 1) / pass.size[d];
  }
  for (std::size_t d = 0; d < shape.size(); ++d) result.tiles *= (pass.size[d] + tiling[d] - 1) / tiling[d];
  const bool was_dry = context_.emitter.dry();
  context_.emitter.set_dry(true);
  Arena residents(0, std::numeric_limits<int64_t>::max() / 2);
  kernel.resident(residents, pass);
  result.resident = residents.used();
  Box first = pass;
  for (std::size_t d = 0; d < shape.size(); ++d) first.size[d] = std::min(tiling[d], pass.size[d]);
  // The tile in the middle needs most where windows reach over the border.
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const int64_t tiles = (pass.size[d] + tiling[d] - 1) / tiling[d];
    first.start[d] = tiles > 2 ? tiling[d] : 0;
  }
  Arena tile(0, std::numeric_limits<int64_t>::max() / 2);
  kernel.tile(tile, first);
  result.tile = tile.used();
  context_.emitter.set_dry(was_dry);
  return result;
}

std::optional<Alternative> GroupEmitter::choose(Kernel &kernel, const Region &region, int64_t &smallest) {
  std::optional<Alternative> single;
  std::optional<Alternative> best;
  const int pass = kernel.pass_dimension();
  bool best_is_useful = false;
  for (const Tiling &tiling : kernel.tilings()) {
    if (best && !best_is_useful && product(tiling) <= product(best->tiling)) continue;
    if (best_is_useful) {
      const bool other_pass =
          pass >= 0 && tiling[static_cast<std::size_t>(pass)] != best->tiling[static_cast<std::size_t>(pass)];
      if (other_pass || product(tiling) < kernel.smallest_useful_tile()) break;
    }
    Alternative here = measure(kernel, tiling);
    here.region = region;
    smallest = std::min(smallest, here.resident + here.tile);
    if (fits_twice(here)) {
      best = here;
      // Of tiles that are all much too small the largest is taken: narrower passes have room for more rows.
      best_is_useful = product(tiling) >= std::min(kernel.smallest_tile(), product(kernel.shape()));
      if (best_is_useful && here.tiles * here.passes >= kernel.wanted_tiles()) break;
    } else if (!single && here.resident + here.tile <= region.size()) {
      single = here;
    }
  }
  return best ? best : single;
}

Alternative GroupEmitter::choose(const std::string &name, Kernel &kernel) {
  int64_t smallest = std::numeric_limits<int64_t>::max();
  for (const Region &region : {quiet_, free_}) {
    if (const auto chosen = choose(kernel, region, smallest)) return *chosen;
  }
  throw DoesNotFit("node " + name + " needs at least " + std::to_string(smallest) +
                   " bytes of scratchpad, the target has " + std::to_string(context_.target.spm_bytes));
}

std::vector<Alternative> GroupEmitter::alternatives(Kernel &kernel, const Alternative &first) {
  std::vector<Alternative> result{first};
  for (int variant = 0; variant < kernel.variants(); ++variant) {
    kernel.choose_variant(variant);
    std::vector<Alternative> fitting;
    for (const Tiling &tiling : kernel.tilings()) {
      const bool is_first = variant == first.variant && tiling == first.tiling;
      if (is_first || 4 * product(tiling) < std::min(kernel.smallest_useful_tile(), product(kernel.shape()))) continue;
      Alternative here = measure(kernel, tiling);
      here.variant = variant;
      here.region = first.region;
      if (footprint(here) > footprint(first) + first.region.size() / kSpareShare) continue;
      if (fits_twice(here) && here.tiles * here.passes <= kMostTiles) fitting.push_back(here);
    }
    const std::size_t step = fitting.size() / kAlternatives + 1;
    for (std::size_t i = 0; i < fitting.size(); i += step) result.push_back(fitting[i]);
  }
  kernel.choose_variant(first.variant);
  return result;
}

void GroupEmitter::foresee(std::size_t groups, const std::function<void(std::size_t)> &emit) {
  const Place here = place();
  cycles_by_rule_ = std::numeric_limits<int64_t>::max();
  int64_t best = ring_;
  for (const int64_t share : kRingShares) {
    ring_ = context_.target.spm_bytes * share / 16;
    std::vector<std::size_t> begins;
    for (std::size_t g = 0; g < groups; ++g) {
      begins.push_back(context_.emitter.operations().size());
      emit(g);
    }
    const std::vector<Operation> &operations = context_.emitter.operations();
    const Estimate estimate = model_.estimate(operations);
    if (estimate.cycles < cycles_by_rule_) {
      best = ring_;
      cycles_by_rule_ = estimate.cycles;
      left_.assign(groups + 2, {});
      for (std::size_t g = groups; g-- > 0;) {
        left_[g] = left_[g + 1];
        const std::size_t end = g + 1 < groups ? begins[g + 1] : operations.size();
        for (std::size_t i = begins[g]; i < end; ++i) {
          left_[g][static_cast<std::size_t>(operations[i].engine)] += estimate.taken[i];
        }
      }
    }
    return_to(here);
  }
  ring_ = best;
}

void GroupEmitter::search(std::size_t groups, const std::function<void(std::size_t)> &emit) {
  const Place here = place();
  context_.constants.begin_trial();
  foresee(groups, emit);
  for (std::size_t g = 0; g < groups; ++g) {
    begins_.push_back(context_.emitter.operations().size());
    follow_ = [&emit, groups, g] {
      if (g + 1 < groups) emit(g + 1);
    };
    mode_ = Mode::searching;
    emit(g);
  }
  const bool gained = model_.estimate(context_.emitter.operations()).cycles <= cycles_by_rule_;
  return_to(here);
  context_.constants.end_trial();
  mode_ = Mode::as_found;
  if (gained || !forced_.empty()) return;
  mode_ = Mode::by_rule;
  if (context_.tilings != nullptr) context_.tilings->clear();
}

int64_t GroupEmitter::cycles_alone(Kernel &kernel, const Alternative &alternative) {
  const Place here = place();
  emit(kernel, alternative);
  const std::span<const Operation> all = context_.emitter.operations();
  const int64_t result = model_.estimate(all.subspan(here.mark.operations)).cycles;
  return_to(here);
  return result;
}

int64_t GroupEmitter::cycles_in_place(Kernel &kernel, const Alternative &alternative) {
  const std::size_t group = begins_.size() - 1;
  const std::size_t begin = begins_[group - std::min(group, kGroupsBefore)];
  const Place here = place();
  emit(kernel, alternative);
  follow_();
  const std::span<const Operation> all = context_.emitter.operations();
  const Estimate estimate = model_.estimate(all.subspan(begin));
  return_to(here);
  int64_t result = estimate.cycles;
  for (std::size_t e = 0; e < kEngines; ++e) result = std::max(result, estimate.free[e] + left_[group + 2][e]);
  // Half of it is how soon the next group ends: what limits the whole may be another engine for a while.
  return (result + estimate.cycles) / 2;
}

std::size_t GroupEmitter::signature(Kernel &kernel, const Alternative &first) {
  const Place here = place();
  emit(kernel, first);
  std::size_t hash = signature_;
  const auto mix = [&hash](uint64_t value) { hash = (hash ^ value) * 1099511628211U; };
  const std::vector<Operation> &operations = context_.emitter.operations();
  for (std::size_t i = here.mark.operations; i < operations.size(); ++i) {
    const Operation &op = operations[i];
    for (uint8_t byte : op.inst) mix(byte);
    for (const Operand &operand : op.operands) {
      mix(static_cast<uint64_t>(operand.view.dtype));
      for (uint16_t dim : operand.view.dims) mix(dim);
      for (int32_t stride : operand.view.strides) mix(static_cast<uint64_t>(stride));
    }
    if (op.memory) {
      for (int32_t stride : op.memory->second.strides) mix(static_cast<uint64_t>(stride));
    }
  }
  return_to(here);
  return hash;
}

Alternative GroupEmitter::find(const std::string &name, Kernel &kernel, const Alternative &first) {
  mode_ = Mode::by_rule;
  signature_ = signature(kernel, first);
  std::optional<Alternative> chosen;
  if (const auto found = known_.find(signature_); found != known_.end()) {
    kernel.choose_variant(found->second.variant);
    Alternative again = measure(kernel, found->second.tiling);
    again.variant = found->second.variant;
    again.region = first.region;
    if (again.tiling == first.tiling || fits_twice(again)) chosen = again;
  }
  const bool is_known = chosen.has_value();
  if (!chosen) chosen = known_[signature_] = compare(name, kernel, first);
  mode_ = Mode::searching;
  if (is_known) report(name, kernel, *chosen, "; like an earlier group");
  return *chosen;
}

Alternative GroupEmitter::compare(const std::string &name, Kernel &kernel, const Alternative &first) {
  const std::vector<Alternative> all = alternatives(kernel, first);
  counts_[name] = all.size();
  if (const auto forced = forced_.find(name); forced != forced_.end()) {
    if (forced->second >= all.size()) {
      throw InputError("node " + name + " has " + std::to_string(all.size()) +
                       " ways to be tiled, there is no number " + std::to_string(forced->second));
    }
    report(name, kernel, all[forced->second], "; as asked for");
    return all[forced->second];
  }
  if (all.size() == 1) {
    report(name, kernel, first, "");
    return first;
  }
  std::vector<std::pair<int64_t, std::size_t>> alone;
  for (std::size_t i = 0; i < all.size(); ++i) alone.emplace_back(cycles_alone(kernel, all[i]), i);
  const int64_t by_rule = cycles_in_place(kernel, first);
  std::map<std::size_t, int64_t> tried{{0, by_rule}};
  std::size_t best = 0;
  int64_t best_cycles = by_rule - alone.front().first / kWorthwhile;
  std::sort(alone.begin(), alone.end());
  for (std::size_t i = 0; i < std::min(alone.size(), kFinalists); ++i) {
    const std::size_t number = alone[i].second;
    if (number == 0) continue;
    tried[number] = cycles_in_place(kernel, all[number]);
    if (tried[number] >= best_cycles) continue;
    best_cycles = tried[number];
    best = number;
  }
  for (const auto &[cost, number] : alone) {
    std::string remark = "; estimated " + std::to_string(cost) + " cycles alone";
    if (tried.contains(number)) remark += ", " + std::to_string(tried[number]) + " to the end of the program";
    if (number == 0) remark += ", by rule";
    if (number == best) remark += ", taken";
    report(name, kernel, all[number], remark);
  }
  return all[best];
}

void GroupEmitter::report(const std::string &name, Kernel &kernel, const Alternative &alternative,
                          const std::string &remark) {
  if (context_.tilings == nullptr) return;
  kernel.choose_variant(alternative.variant);
  const std::string variant = kernel.variant_text();
  *context_.tilings += name + ": " + to_text(kernel.shape()) + " in tiles of " + to_text(alternative.tiling) + ", " +
                       std::to_string(alternative.tiles) + " in a pass" + (variant.empty() ? "" : ", " + variant) +
                       "; scratchpad " + std::to_string(alternative.resident) + " bytes resident, " +
                       std::to_string(alternative.tile) + " a tile" + remark + "\n";
}

void GroupEmitter::emit_pass(Kernel &kernel, const Alternative &alternative, const Box &range) {
  const Region &region = alternative.region;
  const Region below{region.begin, region.end - ring_};
  const int64_t tile_bytes = std::max<int64_t>(alternative.tile, 1);
  int64_t slots = slots_of(alternative);
  int64_t resident = 0;
  int64_t first = 0;
  if (uses_ring(alternative)) {
    resident = places_.earliest(below, alternative.resident);
    places_.use({resident, resident + alternative.resident}, time_);
    slots = std::clamp<int64_t>(ring_ / tile_bytes, 1, std::min(kMaxSlots, alternative.tiles));
    if (ring_cursor_ < below.end || ring_cursor_ + slots * alternative.tile > region.end) ring_cursor_ = below.end;
    first = ring_cursor_;
    ring_cursor_ += slots * alternative.tile;
  } else {
    const auto bytes = [&] { return alternative.resident + slots * alternative.tile; };
    while (slots > 1 && bytes() > region.size()) --slots;
    resident = places_.earliest(bytes() <= below.size() ? below : region, bytes());
    first = resident + alternative.resident;
    places_.use({resident, resident + bytes()}, time_);
  }
  ++time_;
  Arena residents(resident, resident + alternative.resident);
  kernel.resident(residents, range);
  context_.emitter.begin_pass();
  int64_t slot = 0;
  for (const Box &box : split(range, alternative.tiling)) {
    context_.emitter.begin_tile();
    const int64_t begin = first + (slot++ % slots) * alternative.tile;
    Arena arena(begin, begin + alternative.tile);
    kernel.tile(arena, box);
  }
}

void GroupEmitter::emit(Kernel &kernel, const Alternative &alternative) {
  kernel.choose_variant(alternative.variant);
  const Shape shape = kernel.shape();
  Tiling passes = shape;
  if (kernel.pass_dimension() >= 0) {
    const auto d = static_cast<std::size_t>(kernel.pass_dimension());
    passes[d] = alternative.tiling[d];
  }
  for (const Box &range : split(whole_box(shape), passes)) emit_pass(kernel, alternative, range);
}

void GroupEmitter::emit(const std::string &name, Kernel &kernel) {
  Alternative chosen = choose(name, kernel);
  if (mode_ == Mode::as_found) {
    chosen = found_[next_found_++];
  } else if (mode_ == Mode::searching && kernel.is_searched()) {
    chosen = find(name, kernel, chosen);
  } else if (!context_.constants.on_trial() || mode_ == Mode::searching) {
    report(name, kernel, chosen, "");
  }
  if (mode_ == Mode::searching) found_.push_back(chosen);
  emit(kernel, chosen);
}

}  // namespace cx::compiler::backend
