#include "driver/collective/cost.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <map>

namespace cx::collective {
namespace {

/// Of a message of one packet, about: RoCEv2 with an immediate.
constexpr double kHeaders = 86;

struct Cost {
  double time = 0;
  std::vector<double> busy;   ///< of every link, seconds
  double engine = 0;          ///< of a REDUCE engine, seconds
  double step = 0, wait = 0;  ///< of the longest step: its fullest link or REDUCE, and its latency, seconds
};

class Estimator {
 public:
  explicit Estimator(const Cluster &cluster) : cluster_(cluster) {}

  /// Steps that all groups of the phase do at the same time; bytes: of every member's range.
  Cost phase(const Phase &phase, double bytes) {
    Cost cost;
    cost.busy.assign(cluster_.links().size(), 0);
    const std::size_t members = phase.groups.empty() ? 0 : phase.groups.front().size();
    if (members < 2) return cost;
    const auto k = static_cast<uint32_t>(members);
    const uint32_t active = std::bit_floor(k);  // where a fold came before
    const auto shifted = [&](uint32_t by) { return [k, by](uint32_t i) { return (i + by) % k; }; };
    const auto paired = [](uint32_t bit) { return [bit](uint32_t i) { return i ^ bit; }; };
    const bool sums = phase.kind == Phase::Kind::kReduceScatter || phase.kind == Phase::Kind::kAllReduce ||
                      phase.kind == Phase::Kind::kReduce || phase.kind == Phase::Kind::kFold;
    switch (phase.kind) {
      case Phase::Kind::kReduceScatter:
      case Phase::Kind::kAllGather:
        if (phase.algorithm == Phase::Algorithm::kRing) {
          step(cost, phase, bytes / k, sums, k - 1, {shifted(1)}, 0, k);
        } else if (phase.algorithm == Phase::Algorithm::kDirect) {
          std::vector<std::function<uint32_t(uint32_t)>> peers;
          for (uint32_t d = 1; d < k; ++d) peers.emplace_back(shifted(d));
          step(cost, phase, bytes / k, sums, 1, peers, 0, k);
        } else {
          double part = bytes / 2;
          for (uint32_t bit = 1; bit < active; bit *= 2) {
            step(cost, phase, part, sums, 1, {paired(phase.in_order ? active / 2 / bit : bit)}, 0, active);
            part /= 2;
          }
        }
        break;
      case Phase::Kind::kAllReduce:
        for (uint32_t bit = 1; bit < active; bit *= 2) step(cost, phase, bytes, true, 1, {paired(bit)}, 0, active);
        break;
      case Phase::Kind::kReduce:
      case Phase::Kind::kBroadcast:
        if (phase.algorithm == Phase::Algorithm::kTree) {
          // Served at once, children share their parent's link: the farthest waits for as many as there are.
          double share = 1;
          for (uint32_t bit = 1; bit < k; bit *= 2) {
            tree_step(cost, phase, bytes, sums, bit, share);
            if (!sums && !phase.serial) ++share;
          }
        } else {
          step(cost, phase, bytes, false, k - 1, {shifted(1)}, 0, k - 1);
        }
        break;
      case Phase::Kind::kFold:
      case Phase::Kind::kUnfold: {
        const uint32_t extra = k - active;
        if (extra > 0) step(cost, phase, bytes, sums, 1, {paired(1)}, 0, 2 * extra);
        break;
      }
      case Phase::Kind::kScatter: {
        std::vector<std::pair<uint32_t, uint32_t>> messages;
        const auto &group = phase.groups[phase.root_group];
        for (uint32_t d = 1; d < k; ++d) messages.emplace_back(group[phase.root], group[(phase.root + d) % k]);
        count(cost, messages, bytes / k, 0, 1);
        break;
      }
      case Phase::Kind::kSort:
      case Phase::Kind::kSortPart:
      case Phase::Kind::kUnsort:
      case Phase::Kind::kUnsortPart: {
        const cx_cluster_shape &shape = cluster_.shape();
        const double own = phase.kind == Phase::Kind::kSortPart ? bytes / k : bytes;
        cost.time += shape.command_s + own / shape.reduce_bytes_per_s;
        cost.engine += shape.command_s + own / shape.reduce_bytes_per_s;
        break;
      }
      case Phase::Kind::kAllToAll: {
        std::vector<std::function<uint32_t(uint32_t)>> peers;
        for (uint32_t d = 1; d < k; ++d) peers.emplace_back(shifted(d));
        step(cost, phase, bytes / k, false, 1, peers, 0, k);
        break;
      }
    }
    return cost;
  }

 private:
  const Cluster::Path &path(uint32_t source, uint32_t target, uint64_t bytes) {
    // Latency depends on the size below a packet only.
    const uint64_t kind = std::min<uint64_t>(bytes, cluster_.shape().mtu);
    const auto key = std::make_pair(uint64_t{source} << 32 | target, kind);
    const auto found = paths_.find(key);
    if (found != paths_.end()) return found->second;
    return paths_.emplace(key, cluster_.path(source, target, 0, kind)).first->second;
  }

  /// `times` equal steps in which positions from..to-1 send `bytes` to each of their peers.
  void step(Cost &cost, const Phase &phase, double bytes, bool sums, uint32_t times,
            const std::vector<std::function<uint32_t(uint32_t)>> &peers, uint32_t from, uint32_t to) {
    std::vector<std::pair<uint32_t, uint32_t>> messages;
    for (const auto &group : phase.groups) {
      for (uint32_t i = from; i < to; ++i) {
        for (const auto &peer : peers) messages.emplace_back(group[i], group[peer(i)]);
      }
    }
    count(cost, messages, bytes, sums ? peers.size() : 0, times);
  }

  void tree_step(Cost &cost, const Phase &phase, double bytes, bool sums, uint32_t bit, double share) {
    std::vector<std::pair<uint32_t, uint32_t>> messages;
    for (const auto &group : phase.groups) {
      const auto k = static_cast<uint32_t>(group.size());
      for (uint32_t v = 0; v + bit < k; v += 2 * bit) {
        const uint32_t parent = group[(v + phase.root) % k], child = group[(v + bit + phase.root) % k];
        sums ? messages.emplace_back(child, parent) : messages.emplace_back(parent, child);
      }
    }
    count(cost, messages, bytes, sums ? 1 : 0, 1, share, phase.serial ? 1 : 0);
  }

  void count(Cost &cost, const std::vector<std::pair<uint32_t, uint32_t>> &messages, double bytes, std::size_t reduces,
             uint32_t times, double share = 1, double acknowledged = 0) {
    std::map<uint32_t, double> load;
    double latency = 0;
    for (const auto &[source, target] : messages) {
      const Cluster::Path &way = path(source, target, static_cast<uint64_t>(bytes));
      latency = std::max(latency, way.latency_s);
      for (const uint32_t link : way.links) {
        const Cluster::Link &of = cluster_.links()[link];
        load[link] +=
            bytes < cluster_.shape().mtu ? (bytes + kHeaders) / of.bytes_per_s : bytes / of.payload_bytes_per_s;
      }
    }
    double fullest = 0;
    for (const auto &[link, busy] : load) {
      fullest = std::max(fullest, busy);
      cost.busy[link] += busy * times;
    }
    const cx_cluster_shape &shape = cluster_.shape();
    const double reduce = static_cast<double>(reduces) * (shape.command_s + bytes / shape.reduce_bytes_per_s);
    cost.time += times * (latency * (1 + acknowledged) + fullest * share + reduce);
    cost.engine += times * reduce;
    cost.step = std::max({cost.step, fullest * share, reduce});
    cost.wait = std::max(cost.wait, latency);
  }

  const Cluster &cluster_;
  std::map<std::pair<uint64_t, uint64_t>, Cluster::Path> paths_;
};

}  // namespace

double estimate(const Cluster &cluster, const Plan &plan, uint64_t count, ElementType type) {
  Estimator estimator(cluster);
  const double whole = static_cast<double>(count * bytes_of(type));
  double longest = 0, step = 0, wait = 0;
  std::vector<double> busy(cluster.links().size(), 0);
  double engine = 0;
  for (const auto &part : plan.parts) {
    double bytes = whole / static_cast<double>(plan.parts.size()) / plan.chunks;
    double time = 0;
    for (const Phase &phase : part) {
      const double k = phase.groups.empty() ? 1 : static_cast<double>(phase.groups.front().size());
      const double members =
          phase.algorithm == Phase::Algorithm::kHalving ? std::bit_floor(static_cast<uint32_t>(k)) : k;
      if (phase.kind == Phase::Kind::kAllGather &&
          bytes < whole / static_cast<double>(plan.parts.size()) / plan.chunks) {
        bytes *= members;
      }
      const Cost cost = estimator.phase(phase, bytes);
      if (phase.kind == Phase::Kind::kReduceScatter || phase.kind == Phase::Kind::kScatter ||
          phase.kind == Phase::Kind::kSortPart) {
        bytes /= members;
      }
      time += cost.time;
      engine += cost.engine * plan.chunks;
      step = std::max(step, cost.step);
      wait = std::max(wait, cost.wait);
      for (std::size_t l = 0; l < busy.size(); ++l) busy[l] += cost.busy[l] * plan.chunks;
    }
    longest = std::max(longest, time);
  }
  double fullest = 0;
  for (const double b : busy) fullest = std::max(fullest, b);
  const double chunks = static_cast<double>(plan.parts.size()) * plan.chunks;
  if (chunks <= 1) return longest;
  // At best the fullest link or engine is busy all the time; at worst it idles while the first chunk is under way.
  const double busiest = std::max(fullest, engine);
  const double best = std::max(longest + (chunks - 1) * step, busiest + wait);
  const double worst = longest + busiest * (1 - 1 / chunks);
  return (best + std::max(best, worst)) / 2;
}

double bus_factor(Operation operation, uint32_t ranks) {
  const double n = ranks;
  switch (operation) {
    case Operation::kAllReduce:
      return 2 * (n - 1) / n;
    case Operation::kReduceScatter:
    case Operation::kAllGather:
    case Operation::kAllToAll:
      return (n - 1) / n;
    case Operation::kBroadcast:
      return 1;
  }
  return 1;
}

Bound lower_bound(const Cluster &cluster, Operation operation, uint64_t count, ElementType type, uint32_t root) {
  const double n = cluster.ranks();
  if (cluster.ranks() < 2) return {0, "one rank"};
  const double bytes = static_cast<double>(count * bytes_of(type));
  double nearest = 1e300, farthest = 0;
  for (uint32_t rank = 1; rank < cluster.ranks(); ++rank) {
    const double latency = cluster.path(0, rank, 0, 0).latency_s;
    nearest = std::min(nearest, latency);
    farthest = std::max(farthest, latency);
  }
  Bound best{farthest, fmt::format("latency to the farthest rank, {:.3f} us", farthest * 1e6)};
  const auto consider = [&](double crossing, double rate, const std::string &name) {
    const double time = crossing / rate + nearest;
    if (time <= best.time_s) return;
    best = {time, fmt::format("{} cut: {:.0f} bytes at {:.3f} GB/s, and {:.3f} us", name, crossing, rate * 1e-9,
                              nearest * 1e6)};
  };
  std::map<std::string, std::pair<uint32_t, double>> levels;  // cuts and the sum of their rates
  for (const Cluster::Cut &cut : cluster.cuts()) {
    const double a = cut.count, out_of = n - a;
    double out = 0, in = 0;
    switch (operation) {
      case Operation::kAllReduce:
        out = in = bytes;
        break;
      case Operation::kReduceScatter:
        out = bytes * out_of / n;
        in = bytes * a / n;
        break;
      case Operation::kAllGather:
        out = bytes * a / n;
        in = bytes * out_of / n;
        break;
      case Operation::kBroadcast:
        (root >= cut.first && root - cut.first < cut.count ? out : in) = bytes;
        break;
      case Operation::kAllToAll:
        out = in = bytes / n * a * out_of;
        break;
    }
    consider(out, cut.out_bytes_per_s, cut.level);
    consider(in, cut.in_bytes_per_s, cut.level);
    auto &[cuts, rate] = levels[cut.level];
    ++cuts;
    rate += cut.out_bytes_per_s;
  }
  if (operation == Operation::kAllReduce) {
    for (const auto &[level, sums] : levels) {
      const auto &[cuts, rate] = sums;
      const Cluster::Cut &one = *std::find_if(cluster.cuts().begin(), cluster.cuts().end(),
                                              [&](const Cluster::Cut &cut) { return cut.level == level; });
      if (cuts < 2 || uint64_t{cuts} * one.count != cluster.ranks()) continue;
      const double m = cuts;
      consider(2 * (m - 1) * bytes / m, rate / m, level);
    }
  }
  return best;
}

}  // namespace cx::collective
