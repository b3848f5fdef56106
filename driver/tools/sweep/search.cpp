#include "driver/tools/sweep/search.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "driver/include/cx/error.hpp"

namespace cx::tools {
namespace {

constexpr uint64_t kMostPoints = 1'000'000;

/// A point as the place of each value among its parameter's.
using Genes = std::vector<std::size_t>;

/// Uniform in [0, count), the same on every standard library.
std::size_t below(std::mt19937_64 &random, std::size_t count) {
  const uint64_t rest = std::numeric_limits<uint64_t>::max() % count;
  for (;;) {
    const uint64_t value = random();
    if (value <= std::numeric_limits<uint64_t>::max() - rest - 1 || rest == count - 1) {
      return static_cast<std::size_t>(value % count);
    }
  }
}
double fraction(std::mt19937_64 &random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

SweepPoint point_of(const SweepSpec &spec, const Genes &genes, uint64_t id) {
  SweepPoint point;
  point.id = id;
  for (std::size_t i = 0; i < genes.size(); ++i) point.values.push_back(spec.parameters[i].values[genes[i]]);
  return point;
}

Genes any_genes(const SweepSpec &spec, std::mt19937_64 &random) {
  Genes genes;
  for (const SweepParameter &parameter : spec.parameters) genes.push_back(below(random, parameter.values.size()));
  return genes;
}

/// The combination with this number; the last parameter changes fastest.
Genes genes_of(const SweepSpec &spec, uint64_t number) {
  Genes genes(spec.parameters.size());
  for (std::size_t i = genes.size(); i-- > 0;) {
    genes[i] = static_cast<std::size_t>(number % spec.parameters[i].values.size());
    number /= spec.parameters[i].values.size();
  }
  return genes;
}

/// All points are known from the start.
class FixedSearch final : public SweepSearch {
 public:
  explicit FixedSearch(std::vector<SweepPoint> points) : points_(std::move(points)) {}
  uint64_t size() const override { return points_.size(); }
  std::vector<SweepPoint> next(const std::vector<SweepResult> &results) override {
    return results.empty() ? points_ : std::vector<SweepPoint>{};
  }

 private:
  std::vector<SweepPoint> points_;
};

std::vector<SweepPoint> grid(const SweepSpec &spec) {
  const uint64_t count = combinations(spec);
  if (count > kMostPoints) {
    throw InputError(fmt::format(
        "{}: search.method: a grid of {} points, expected at most {}; random takes some of them", spec.file.string(),
        count == std::numeric_limits<uint64_t>::max() ? "2^64 or more" : std::to_string(count), kMostPoints));
  }
  std::vector<SweepPoint> points;
  for (uint64_t i = 0; i < count; ++i) points.push_back(point_of(spec, genes_of(spec, i), i));
  return points;
}

std::vector<SweepPoint> random_points(const SweepSpec &spec) {
  const uint64_t all = combinations(spec), count = std::min(spec.points, all);
  std::mt19937_64 random(spec.seed);
  std::vector<SweepPoint> points;
  if (all / 2 < count) {
    // Most combinations: the first of a shuffled list of all.
    std::vector<uint64_t> numbers(static_cast<std::size_t>(all));
    std::iota(numbers.begin(), numbers.end(), 0);
    for (std::size_t i = 0; i < count; ++i) {
      std::swap(numbers[i], numbers[i + below(random, numbers.size() - i)]);
      points.push_back(point_of(spec, genes_of(spec, numbers[i]), i));
    }
    return points;
  }
  std::set<Genes> seen;
  while (points.size() < count) {
    Genes genes = any_genes(spec, random);
    if (seen.insert(genes).second) points.push_back(point_of(spec, genes, points.size()));
  }
  return points;
}

/// The best `population` points so far are parents: two are drawn by tournaments of two, a child takes each parameter
/// from either, and each changes with chance `mutation`. Only points that were not there before count. Points are
/// better by Pareto rank, among equals by the distance to their neighbours in the objectives (crowding distance of
/// NSGA-II: Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002).
class Evolution final : public SweepSearch {
 public:
  explicit Evolution(const SweepSpec &spec)
      : spec_(spec), random_(spec.seed), size_(std::min(spec.points, combinations(spec))) {}

  uint64_t size() const override { return size_; }

  std::vector<SweepPoint> next(const std::vector<SweepResult> &results) override {
    const std::vector<std::size_t> parents = best(results);
    std::vector<SweepPoint> batch;
    while (genes_.size() < size_ && batch.size() < spec_.population) {
      Genes genes = parents.empty() ? any_genes(spec_, random_) : child(parents);
      // Close to the end of a small space children are all known: the next unknown one in the order of the grid.
      for (int tries = 0; seen_.contains(genes) && tries < 100; ++tries) {
        genes = tries % 2 == 0 && !parents.empty() ? child(parents) : any_genes(spec_, random_);
      }
      for (uint64_t i = 0; seen_.contains(genes); ++i) genes = genes_of(spec_, i);
      seen_.insert(genes);
      batch.push_back(point_of(spec_, genes, genes_.size()));
      genes_.push_back(std::move(genes));
    }
    return batch;
  }

 private:
  /// Ids of the best points, best first.
  std::vector<std::size_t> best(const std::vector<SweepResult> &results) const {
    std::vector<const SweepResult *> pointers;
    for (const SweepResult &result : results) pointers.push_back(&result);
    const std::vector<std::size_t> ranks = pareto_ranks(spec_, pointers);
    const std::vector<double> distances = crowding(results, ranks);
    std::vector<std::size_t> order(results.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return ranks[a] != ranks[b] ? ranks[a] < ranks[b] : distances[a] > distances[b];
    });
    order.resize(std::min<std::size_t>(order.size(), spec_.population));
    return order;
  }

  std::vector<double> crowding(const std::vector<SweepResult> &results, const std::vector<std::size_t> &ranks) const {
    std::vector<double> distances(results.size(), 0.0);
    const std::size_t most = ranks.empty() ? 0 : *std::max_element(ranks.begin(), ranks.end());
    for (std::size_t rank = 0; rank <= most; ++rank) {
      std::vector<std::size_t> members;
      for (std::size_t i = 0; i < results.size(); ++i) {
        if (ranks[i] == rank && results[i].state == SweepResult::State::ok) members.push_back(i);
      }
      if (members.empty()) continue;
      for (const SweepObjective &objective : spec_.objectives) {
        const auto value = [&](std::size_t i) { return results[i].metrics.at(objective.metric); };
        std::stable_sort(members.begin(), members.end(),
                         [&](std::size_t a, std::size_t b) { return value(a) < value(b); });
        const double span = value(members.back()) - value(members.front());
        distances[members.front()] = distances[members.back()] = std::numeric_limits<double>::infinity();
        for (std::size_t i = 1; span > 0 && i + 1 < members.size(); ++i) {
          distances[members[i]] += (value(members[i + 1]) - value(members[i - 1])) / span;
        }
      }
    }
    return distances;
  }

  Genes child(const std::vector<std::size_t> &parents) {
    // The smaller place among the best wins the tournament.
    const auto draw = [&]() -> const Genes & {
      return genes_[parents[std::min(below(random_, parents.size()), below(random_, parents.size()))]];
    };
    const Genes a = draw(), &b = draw();
    Genes genes(a.size());
    for (std::size_t i = 0; i < genes.size(); ++i) {
      genes[i] = below(random_, 2) == 0 ? a[i] : b[i];
      const std::size_t count = spec_.parameters[i].values.size();
      if (count == 1 || fraction(random_) >= spec_.mutation) continue;
      if (below(random_, 2) == 0) {
        genes[i] = (genes[i] + 1 + below(random_, count - 1)) % count;
      } else if (genes[i] == 0 || (genes[i] + 1 < count && below(random_, 2) == 0)) {
        ++genes[i];
      } else {
        --genes[i];
      }
    }
    return genes;
  }

  const SweepSpec &spec_;
  std::mt19937_64 random_;
  uint64_t size_;
  std::vector<Genes> genes_;  // of all points so far, by id
  std::set<Genes> seen_;
};

}  // namespace

std::unique_ptr<SweepSearch> make_search(const SweepSpec &spec) {
  switch (spec.method) {
    case SweepSpec::Method::grid:
      return std::make_unique<FixedSearch>(grid(spec));
    case SweepSpec::Method::random:
      return std::make_unique<FixedSearch>(random_points(spec));
    case SweepSpec::Method::list: {
      std::vector<SweepPoint> points;
      for (const auto &row : spec.rows) points.push_back({points.size(), row});
      return std::make_unique<FixedSearch>(std::move(points));
    }
    case SweepSpec::Method::evolution:
      break;
  }
  return std::make_unique<Evolution>(spec);
}

}  // namespace cx::tools
