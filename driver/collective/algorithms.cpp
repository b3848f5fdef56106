#include "driver/collective/algorithms.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace cx::collective {
namespace {

using Kind = Phase::Kind;
using Algorithm = Phase::Algorithm;
using Groups = std::vector<std::vector<uint32_t>>;

constexpr uint32_t kChunkChoices[] = {1, 2, 4, 8};
/// Chunks below that many bytes are not worth a command.
constexpr uint64_t kLeastChunk = 4096;
/// An all-to-all inside of a group needs a scratch slot and a message for each pair.
constexpr uint32_t kMostDirect = 64;
constexpr uint32_t kMostDigit = 65535;  // of a sort
/// More chunks cost commands; they have to promise that much.
constexpr double kChunkGain = 0.01;
/// So many plans, those of the best estimates, are simulated as flows, while their commands times the ranks, all of
/// which may have flows that share links with each other, are no more than that.
constexpr std::size_t kTried = 16;
/// So many of them, the fastest as flows that share links and no slower than that model may err, also as trains of
/// packets (hw/cluster).
constexpr std::size_t kFollowed = 6;
constexpr double kSharesError = 0.15;
constexpr std::size_t kMostWork = 8'000'000;

Groups everyone(uint32_t ranks) {
  Groups groups(1);
  for (uint32_t r = 0; r < ranks; ++r) groups[0].push_back(r);
  return groups;
}

Phase phase(Kind kind, Algorithm algorithm, Groups groups) {
  Phase out{kind, algorithm, std::move(groups)};
  return out;
}

/// Reduce-scatter along each dimension in turn, and gathers back: as many parts as dimensions, each begins with another
/// one, so that all links are in use.
Plan torus(const Cluster &cluster) {
  const uint32_t ranks = cluster.ranks();
  std::vector<uint32_t> dims;
  std::string shape;
  const cx_cluster_shape &of = cluster.shape();
  if (of.dim_count >= 2) {
    for (uint32_t d = 0; d < of.dim_count; ++d) dims.push_back(of.dims[d]);
    const uint32_t per_port = ranks / (of.nodes * of.ports_per_node);
    if (per_port > 1) dims.insert(dims.begin(), per_port);
  } else {
    uint32_t x = static_cast<uint32_t>(std::sqrt(static_cast<double>(ranks)));
    while (ranks % x != 0) --x;
    dims = {ranks / x, x};
  }
  std::vector<uint32_t> strides{1};
  for (const uint32_t length : dims) {
    shape += (shape.empty() ? "" : " x ") + std::to_string(length);
    strides.push_back(strides.back() * length);
  }
  Plan plan{"torus " + shape, {}, 1};
  for (std::size_t first = 0; first < dims.size(); ++first) {
    std::vector<Phase> phases;
    for (std::size_t i = 0; i < dims.size(); ++i) {
      const std::size_t d = (first + i) % dims.size();
      phases.push_back(phase(Kind::kReduceScatter, Algorithm::kRing, digit_groups(ranks, strides[d], dims[d])));
    }
    for (std::size_t i = dims.size(); i-- > 0;) {
      Phase back = phases[i];
      back.kind = Kind::kAllGather;
      phases.push_back(back);
    }
    plan.parts.push_back(std::move(phases));
  }
  return plan;
}

std::vector<Algorithm> level_choices(uint32_t size) {
  std::vector<Algorithm> out{Algorithm::kRing};
  if (std::has_single_bit(size)) out.push_back(Algorithm::kHalving);
  if (size <= kMostDirect) out.push_back(Algorithm::kDirect);
  return out;
}

/// All ways to carry out the levels: reduce-scatters inwards out, an all-reduce at the top, gathers back; or whole
/// ranges by doubling on every level, which has the least steps for small messages.
std::vector<Plan> hierarchical(const Cluster &cluster) {
  const std::vector<uint32_t> sizes = levels(cluster);
  const uint32_t ranks = cluster.ranks();
  std::vector<Plan> plans;
  const std::size_t top = sizes.size() - 1;
  std::vector<std::vector<Algorithm>> choices;
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    choices.push_back(level_choices(sizes[l]));
    if (l == top) choices.back().push_back(Algorithm::kDoubling);
  }
  std::vector<std::size_t> at(sizes.size(), 0);
  for (;;) {
    Plan plan{"hcp (", {{}}, 1};
    std::vector<Phase> inwards;
    uint32_t stride = 1;
    for (std::size_t l = 0; l < sizes.size(); ++l) {
      const Algorithm algorithm = choices[l][at[l]];
      plan.name += fmt::format("{}{} {}", l > 0 ? ", " : "", sizes[l], to_string(algorithm));
      const Groups groups = digit_groups(ranks, stride, sizes[l]);
      stride *= sizes[l];
      if (l < top) {
        inwards.push_back(phase(Kind::kReduceScatter, algorithm, groups));
        plan.parts[0].push_back(inwards.back());
      } else {
        for (Phase &p : all_reduce(algorithm, groups)) plan.parts[0].push_back(std::move(p));
      }
    }
    for (std::size_t l = inwards.size(); l-- > 0;) {
      inwards[l].kind = Kind::kAllGather;
      plan.parts[0].push_back(inwards[l]);
    }
    plan.name += ")";
    plans.push_back(std::move(plan));
    std::size_t l = 0;
    while (l < at.size() && ++at[l] == choices[l].size()) at[l++] = 0;
    if (l == at.size()) break;
  }
  Plan small{"hcp (", {{}}, 1};
  uint32_t stride = 1;
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    small.name += fmt::format("{}{} doubling", l > 0 ? ", " : "", sizes[l]);
    for (Phase &p : all_reduce(Algorithm::kDoubling, digit_groups(ranks, stride, sizes[l]))) {
      small.parts[0].push_back(std::move(p));
    }
    stride *= sizes[l];
  }
  small.name += ")";
  plans.push_back(std::move(small));
  return plans;
}

std::string described(const std::vector<uint32_t> &sizes, const std::vector<Algorithm> &chosen) {
  std::string text = "hcp (";
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    text += fmt::format("{}{} {}", l > 0 ? ", " : "", sizes[l], to_string(chosen[l]));
  }
  return text + ")";
}

/// All combinations of one of `choices[level]` for every level.
std::vector<std::vector<Algorithm>> combinations(const std::vector<std::vector<Algorithm>> &choices) {
  std::vector<std::vector<Algorithm>> all{{}};
  for (const auto &of_level : choices) {
    std::vector<std::vector<Algorithm>> longer;
    for (const auto &begun : all) {
      for (const Algorithm algorithm : of_level) {
        longer.push_back(begun);
        longer.back().push_back(algorithm);
      }
    }
    all = std::move(longer);
  }
  return all;
}

/// Levels as sorts take them: at most four.
std::vector<uint32_t> sortable(std::vector<uint32_t> sizes) {
  while (sizes.size() > 4) {
    const uint32_t outermost = sizes.back();
    sizes.pop_back();
    sizes.back() *= outermost;
  }
  return sizes;
}

/// From the inside out, so that a level moves what the levels inside have left; gathers the other way round. Parts are
/// sorted by the ranks' inner digits first, so that what a level passes on lies together.
std::vector<Plan> hierarchical_scatter(const Cluster &cluster, bool gather) {
  const std::vector<uint32_t> sizes = sortable(levels(cluster));
  const uint32_t ranks = cluster.ranks();
  std::vector<std::vector<Algorithm>> choices;
  for (const uint32_t size : sizes) choices.push_back(level_choices(size));
  std::vector<Plan> plans;
  for (const std::vector<Algorithm> &chosen : combinations(choices)) {
    std::vector<Phase> phases;
    uint32_t stride = 1;
    for (std::size_t l = 0; l < sizes.size(); ++l) {
      Phase level =
          phase(gather ? Kind::kAllGather : Kind::kReduceScatter, chosen[l], digit_groups(ranks, stride, sizes[l]));
      level.in_order = true;
      phases.push_back(std::move(level));
      stride *= sizes[l];
    }
    if (gather) std::reverse(phases.begin(), phases.end());
    if (sizes.size() > 1) {
      Phase sort = phase(gather ? Kind::kSortPart : Kind::kSort, Algorithm::kDirect, everyone(ranks));
      sort.levels = sizes;
      Phase back = sort;
      back.kind = gather ? Kind::kUnsort : Kind::kUnsortPart;
      phases.insert(phases.begin(), std::move(sort));
      phases.push_back(std::move(back));
    }
    plans.push_back({described(sizes, chosen), {std::move(phases)}, 1});
  }
  return plans;
}

/// Groups of a level whose members have the root's digits below it, from digit `from_level` on.
Groups towards_root(const std::vector<uint32_t> &sizes, uint32_t ranks, std::size_t level, uint32_t root,
                    std::size_t from_level) {
  uint32_t stride = 1, free = 1;
  for (std::size_t l = 0; l < level; ++l) {
    if (l < from_level) free *= sizes[l];
    stride *= sizes[l];
  }
  Groups groups = digit_groups(ranks, stride, sizes[level]);
  std::erase_if(groups,
                [&](const std::vector<uint32_t> &group) { return group[0] % stride / free != root % stride / free; });
  return groups;
}

/// From the outside in: the root to one rank of every group of the outermost level, these to one of every group of the
/// next. Or the root's data in parts to the cards of its node, each part by its card to the other nodes, and gathered
/// there: every card's port carries a part.
std::vector<Plan> hierarchical_broadcast(const Cluster &cluster, uint32_t root) {
  const std::vector<uint32_t> sizes = levels(cluster);
  const uint32_t ranks = cluster.ranks();
  const std::vector<Algorithm> ways = {Algorithm::kTree, Algorithm::kRing};
  std::vector<Plan> plans;
  const auto outwards = [&](std::size_t inner, const std::vector<Algorithm> &chosen, std::vector<Phase> &phases) {
    for (std::size_t l = sizes.size(); l-- > inner;) {
      uint32_t stride = 1;
      for (std::size_t below = 0; below < l; ++below) stride *= sizes[below];
      phases.push_back(phase(Kind::kBroadcast, chosen[l], towards_root(sizes, ranks, l, root, inner)));
      phases.back().root = root / stride % sizes[l];
    }
  };
  for (const std::vector<Algorithm> &chosen : combinations(std::vector<std::vector<Algorithm>>(sizes.size(), ways))) {
    std::vector<Phase> phases;
    outwards(0, chosen, phases);
    plans.push_back({described(sizes, chosen), {std::move(phases)}, 1});
  }
  const uint32_t cards = sizes[0];
  if (sizes.size() < 2 || cards != cluster.shape().cards_per_node) return plans;
  std::vector<std::vector<Algorithm>> choices(sizes.size(), ways);
  choices[0] = level_choices(cards);
  for (const std::vector<Algorithm> &chosen : combinations(choices)) {
    const Groups nodes = digit_groups(ranks, 1, cards);
    std::vector<Phase> phases{phase(Kind::kScatter, Algorithm::kDirect, nodes)};
    phases[0].root = root % cards;
    phases[0].root_group = root / cards;
    outwards(1, chosen, phases);
    phases.push_back(phase(Kind::kAllGather, chosen[0], nodes));
    phases.back().in_order = true;
    plans.push_back({described(sizes, chosen) + " in parts", {std::move(phases)}, 1});
  }
  return plans;
}

/// Everything for one card position of all groups goes through the rank of the own group that has this position; then
/// between groups in one message for each pair. By the innermost levels that a group has.
std::vector<Plan> hierarchical_exchange(const Cluster &cluster) {
  const std::vector<uint32_t> sizes = levels(cluster);
  const uint32_t ranks = cluster.ranks();
  std::vector<Plan> plans;
  uint32_t inner = 1;
  for (std::size_t l = 0; l + 1 < sizes.size(); ++l) {
    inner *= sizes[l];
    const uint32_t outer = ranks / inner;
    if (inner > kMostDigit || outer > kMostDigit) continue;
    std::vector<Phase> phases{phase(Kind::kSort, Algorithm::kDirect, everyone(ranks)),
                              phase(Kind::kAllToAll, Algorithm::kDirect, digit_groups(ranks, 1, inner)),
                              phase(Kind::kSort, Algorithm::kDirect, everyone(ranks)),
                              phase(Kind::kAllToAll, Algorithm::kDirect, digit_groups(ranks, inner, outer))};
    phases[0].levels = {inner, outer};
    phases[2].levels = {outer, inner};
    plans.push_back({fmt::format("hcp ({} direct, {} direct)", inner, outer), {std::move(phases)}, 1});
  }
  if (plans.empty()) {
    plans.push_back(
        {fmt::format("hcp ({} direct)", ranks), {{phase(Kind::kAllToAll, Algorithm::kDirect, everyone(ranks))}}, 1});
  }
  return plans;
}

[[noreturn]] void refuse(Operation operation, const std::string &algorithm, const std::string &why) {
  throw UnsupportedError(to_string(operation), fmt::format("{} by {}: {}", to_string(operation), algorithm, why));
}

}  // namespace

std::vector<Plan> candidates(const Cluster &cluster, Operation operation, const std::string &algorithm, uint32_t root) {
  const uint32_t ranks = cluster.ranks();
  const std::vector<std::string> known = algorithms(operation);
  if (std::find(known.begin(), known.end(), algorithm) == known.end()) {
    std::string list;
    for (const std::string &name : known) list += (list.empty() ? "" : ", ") + name;
    if (algorithm != "ring" && algorithm != "tree" && algorithm != "halving" && algorithm != "doubling" &&
        algorithm != "direct" && algorithm != "torus" && algorithm != "hcp") {
      throw UsageError(fmt::format("there is no algorithm '{}', expected {}", algorithm, list));
    }
    refuse(operation, algorithm, "is not offered, expected " + list);
  }
  const Groups all = everyone(ranks);
  const auto single = [&](std::vector<Phase> phases) { return std::vector<Plan>{{algorithm, {std::move(phases)}, 1}}; };
  const Algorithm flat = algorithm == "ring"       ? Algorithm::kRing
                         : algorithm == "halving"  ? Algorithm::kHalving
                         : algorithm == "doubling" ? Algorithm::kDoubling
                         : algorithm == "direct"   ? Algorithm::kDirect
                                                   : Algorithm::kTree;
  switch (operation) {
    case Operation::kAllReduce:
      if (algorithm == "torus") return {torus(cluster)};
      if (algorithm == "hcp") return hierarchical(cluster);
      if (algorithm == "tree") {
        std::vector<Plan> plans = {{algorithm, {all_reduce(flat, all)}, 1},
                                   {algorithm + ", serial", {all_reduce(flat, all)}, 1}};
        plans[1].parts[0][1].serial = true;
        return plans;
      }
      return single(all_reduce(flat, all));
    case Operation::kReduceScatter:
    case Operation::kAllGather: {
      if (algorithm == "hcp") return hierarchical_scatter(cluster, operation == Operation::kAllGather);
      Phase only = phase(operation == Operation::kReduceScatter ? Kind::kReduceScatter : Kind::kAllGather, flat, all);
      only.in_order = true;
      if (flat == Algorithm::kHalving && !std::has_single_bit(ranks)) {
        refuse(operation, algorithm, fmt::format("{} ranks are no power of two", ranks));
      }
      return single({only});
    }
    case Operation::kBroadcast: {
      if (algorithm == "hcp") return hierarchical_broadcast(cluster, root);
      Phase only = phase(Kind::kBroadcast, flat, all);
      only.root = root;
      std::vector<Plan> plans = single({only});
      only.serial = true;
      if (algorithm == "tree") plans.push_back({algorithm + ", serial", {{only}}, 1});
      return plans;
    }
    case Operation::kAllToAll:
      if (algorithm == "hcp") return hierarchical_exchange(cluster);
      return single({phase(Kind::kAllToAll, Algorithm::kDirect, all)});
  }
  return {};
}

const char *to_string(Phase::Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kRing:
      return "ring";
    case Algorithm::kHalving:
      return "halving";
    case Algorithm::kDirect:
      return "direct";
    case Algorithm::kDoubling:
      return "doubling";
    case Algorithm::kTree:
      return "tree";
  }
  return "?";
}

std::vector<std::vector<uint32_t>> digit_groups(uint32_t ranks, uint32_t stride, uint32_t size) {
  Groups groups;
  for (uint32_t base = 0; base < ranks; ++base) {
    if (base / stride % size != 0) continue;
    groups.emplace_back();
    for (uint32_t j = 0; j < size; ++j) groups.back().push_back(base + j * stride);
  }
  return groups;
}

std::vector<Phase> all_reduce(Phase::Algorithm algorithm, const Groups &groups) {
  const bool whole = std::has_single_bit(groups.front().size());
  std::vector<Phase> phases;
  const auto folded = [&](Phase middle) {
    if (!whole) phases.push_back(phase(Kind::kFold, Algorithm::kDirect, groups));
    phases.push_back(std::move(middle));
  };
  switch (algorithm) {
    case Algorithm::kRing:
    case Algorithm::kDirect:
      return {phase(Kind::kReduceScatter, algorithm, groups), phase(Kind::kAllGather, algorithm, groups)};
    case Algorithm::kTree:
      return {phase(Kind::kReduce, algorithm, groups), phase(Kind::kBroadcast, algorithm, groups)};
    case Algorithm::kHalving:
      folded(phase(Kind::kReduceScatter, algorithm, groups));
      phases.push_back(phase(Kind::kAllGather, algorithm, groups));
      break;
    case Algorithm::kDoubling:
      folded(phase(Kind::kAllReduce, algorithm, groups));
      break;
  }
  if (!whole) phases.push_back(phase(Kind::kUnfold, Algorithm::kDirect, groups));
  return phases;
}

Phase::Algorithm best_scatter(const Cluster &cluster, const std::vector<std::vector<uint32_t>> &groups, uint64_t count,
                              ElementType type) {
  Algorithm best = Algorithm::kRing;
  double least = 0;
  for (const Algorithm algorithm : level_choices(static_cast<uint32_t>(groups.front().size()))) {
    const Plan plan{"", {{phase(Kind::kReduceScatter, algorithm, groups), phase(Kind::kAllGather, algorithm, groups)}}};
    const double time = estimate(cluster, plan, count, type);
    if (least == 0 || time < least) {
      least = time;
      best = algorithm;
    }
  }
  return best;
}

std::vector<std::string> algorithms(Operation operation) {
  switch (operation) {
    case Operation::kAllReduce:
      return {"ring", "tree", "halving", "doubling", "direct", "torus", "hcp"};
    case Operation::kReduceScatter:
    case Operation::kAllGather:
      return {"ring", "halving", "direct", "hcp"};
    case Operation::kBroadcast:
      return {"tree", "ring", "hcp"};
    case Operation::kAllToAll:
      return {"direct", "hcp"};
  }
  return {};
}

std::vector<uint32_t> levels(const Cluster &cluster) {
  std::vector<uint32_t> sizes;  // ranks of a group, rising
  for (const Cluster::Cut &cut : cluster.cuts()) {
    if (cut.level == "card" || cut.level == "half") continue;
    if (std::find(sizes.begin(), sizes.end(), cut.count) == sizes.end()) sizes.push_back(cut.count);
  }
  std::sort(sizes.begin(), sizes.end());
  std::vector<uint32_t> factors;
  uint32_t inside = 1;
  const cx_cluster_shape &shape = cluster.shape();
  if (shape.dim_count >= 2) {
    // A torus has its dimensions, and the cards that share a port.
    const uint32_t per_port = shape.ranks / (shape.nodes * shape.ports_per_node);
    if (per_port > 1) factors.push_back(per_port);
    for (uint32_t d = 0; d < shape.dim_count; ++d) {
      if (shape.dims[d] > 1) factors.push_back(shape.dims[d]);
    }
    return factors;
  }
  sizes.push_back(cluster.ranks());
  for (const uint32_t size : sizes) {
    if (size <= inside || size % inside != 0 || cluster.ranks() % size != 0) continue;
    factors.push_back(size / inside);
    inside = size;
  }
  if (factors.empty()) factors.push_back(cluster.ranks());
  return factors;
}

namespace {

/// Of all lists, before those of a thousand ranks are built in vain.
std::size_t least_commands(const Plan &plan, uint32_t ranks) {
  std::size_t of_rank = 0;
  for (const auto &part : plan.parts) {
    for (const Phase &phase : part) {
      const bool each = phase.algorithm == Algorithm::kRing || phase.algorithm == Algorithm::kDirect;
      of_rank += each && !phase.groups.empty() ? 2 * (phase.groups.front().size() - 1) : 1;
    }
  }
  return of_rank * plan.chunks * ranks;
}

/// At flow level, which knows what meets on links and ranks that are out of step: the fastest of the choices, as many
/// as there is room for, becomes `best`.
void simulate(const Cluster &cluster, std::vector<Choice> choices, uint64_t count, ElementType type, Choice &best) {
  std::vector<Schedule> schedules;
  std::size_t commands = 0;
  for (const Choice &choice : choices) {
    if ((commands + least_commands(choice.plan, cluster.ranks())) * cluster.ranks() > kMostWork) break;
    schedules.push_back(build(choice.plan, cluster.ranks(), count, type));
    for (const auto &list : schedules.back().ranks) commands += list.size();
  }
  if (schedules.size() < 2) return;
  const auto time = [&](std::size_t i, Fidelity fidelity) {
    std::vector<cx_comm_program> programs;
    for (std::size_t rank = 0; rank < schedules[i].ranks.size(); ++rank) {
      const auto &list = schedules[i].ranks[rank];
      programs.push_back({list.data(), list.size(), nullptr, schedules[i].memory_bytes[rank], 0});
    }
    return cluster.run(programs, type, fidelity).time_s;
  };
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < schedules.size(); ++i) {
    choices[i].estimate_s = time(i, Fidelity::kShares);
    order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return choices[a].estimate_s < choices[b].estimate_s; });
  const double limit = choices[order[0]].estimate_s * (1 + kSharesError);
  best.estimate_s = std::numeric_limits<double>::infinity();
  for (std::size_t place = 0; place < std::min(order.size(), kFollowed); ++place) {
    Choice &choice = choices[order[place]];
    if (choice.estimate_s > limit) break;
    choice.estimate_s = time(order[place], Fidelity::kFlow);
    if (choice.estimate_s < best.estimate_s) best = choice;
  }
}

}  // namespace

Choice choose(const Cluster &cluster, Operation operation, const std::string &algorithm, uint64_t count,
              ElementType type, uint32_t chunks, uint32_t root) {
  std::vector<Plan> plans;
  if (algorithm == "auto") {
    for (const std::string &name : algorithms(operation)) {
      if (name == "direct" && cluster.ranks() > kMostDirect && operation != Operation::kAllToAll) continue;
      try {
        for (Plan &plan : candidates(cluster, operation, name, root)) plans.push_back(std::move(plan));
      } catch (const UnsupportedError &) {
        // Not for this number of ranks.
      }
    }
  } else {
    plans = candidates(cluster, operation, algorithm, root);
  }
  const uint64_t bytes = count * bytes_of(type);
  const bool whole =
      operation == Operation::kReduceScatter || operation == Operation::kAllGather || operation == Operation::kAllToAll;
  if (whole && chunks > 1) {
    throw UsageError(std::string(to_string(operation)) + ": a rank's part is one piece, expected 1 chunk");
  }
  struct Candidate {
    std::vector<Choice> choices;  ///< one plan with rising numbers of chunks
    double best_s = 0;
  };
  std::vector<Candidate> tried;
  for (const Plan &plan : plans) {
    Candidate candidate;
    for (const uint32_t choice : kChunkChoices) {
      const bool fixed = chunks != 0 || whole;
      if (!fixed && choice > 1 && bytes / cluster.ranks() / choice < kLeastChunk) break;
      Plan chunked = plan;
      chunked.chunks = fixed ? std::max(1u, chunks) : choice;
      const double time = estimate(cluster, chunked, count, type);
      if (candidate.choices.empty() || time < candidate.best_s * (1 - kChunkGain)) candidate.best_s = time;
      candidate.choices.push_back({std::move(chunked), time});
      if (fixed) break;
    }
    tried.push_back(std::move(candidate));
  }
  std::stable_sort(tried.begin(), tried.end(),
                   [](const Candidate &a, const Candidate &b) { return a.best_s < b.best_s; });
  if (tried.size() > kTried) tried.resize(kTried);
  const double least = tried[0].best_s;
  Choice best = *std::find_if(tried[0].choices.begin(), tried[0].choices.end(),
                              [&](const Choice &choice) { return choice.estimate_s == least; });
  std::vector<Choice> choices;
  for (Candidate &candidate : tried) {
    for (Choice &choice : candidate.choices) choices.push_back(std::move(choice));
  }
  if (choices.size() > 1) simulate(cluster, std::move(choices), count, type, best);
  if (best.plan.chunks > 1) best.plan.name += fmt::format(", {} chunks", best.plan.chunks);
  return best;
}

Plan make_plan(const Cluster &cluster, Operation operation, const std::string &algorithm, uint64_t count,
               ElementType type, uint32_t chunks, uint32_t root) {
  return choose(cluster, operation, algorithm, count, type, chunks, root).plan;
}

}  // namespace cx::collective
