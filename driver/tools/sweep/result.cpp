#include "driver/tools/sweep/result.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "driver/include/cx/error.hpp"

namespace cx::tools {

const char *name_of(SweepResult::State state) {
  switch (state) {
    case SweepResult::State::ok:
      return "ok";
    case SweepResult::State::infeasible:
      return "infeasible";
    case SweepResult::State::failed:
      break;
  }
  return "failed";
}

SweepResult::State state_from(const std::string &text) {
  for (const auto state : {SweepResult::State::ok, SweepResult::State::infeasible, SweepResult::State::failed}) {
    if (text == name_of(state)) return state;
  }
  throw InputError("'" + text + "' is no state of a point, expected ok, infeasible or failed");
}

std::string to_json_line(const SweepResult &result) {
  // Text of other programs may hold bytes that are no UTF-8.
  return nlohmann::json{{"id", result.point.id},    {"values", result.point.values}, {"state", name_of(result.state)},
                        {"reason", result.reason},  {"attempts", result.attempts},   {"wall_s", result.wall_s},
                        {"metrics", result.metrics}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

SweepResult from_json_line(const std::string &line) {
  try {
    const auto json = nlohmann::json::parse(line);
    SweepResult result;
    result.point.id = json.at("id");
    result.point.values = json.at("values").get<std::vector<std::string>>();
    result.state = state_from(json.at("state"));
    result.reason = json.at("reason");
    result.attempts = json.at("attempts");
    result.wall_s = json.at("wall_s");
    result.metrics = json.at("metrics").get<std::map<std::string, double>>();
    return result;
  } catch (const nlohmann::json::exception &error) {
    throw InputError(fmt::format("no result of a point: {}", error.what()));
  }
}

std::vector<std::size_t> pareto_ranks(const SweepSpec &spec, const std::vector<const SweepResult *> &results) {
  constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> ranks(results.size(), kNone);
  std::vector<std::vector<double>> costs(results.size());
  std::vector<std::size_t> left;
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i]->state != SweepResult::State::ok) continue;
    for (const SweepObjective &objective : spec.objectives) {
      const double value = results[i]->metrics.at(objective.metric);
      costs[i].push_back(objective.maximize ? -value : value);
    }
    left.push_back(i);
  }
  const auto beats = [&](std::size_t a, std::size_t b) {
    bool better = false;
    for (std::size_t o = 0; o < costs[a].size(); ++o) {
      if (costs[a][o] > costs[b][o]) return false;
      better = better || costs[a][o] < costs[b][o];
    }
    return better;
  };
  std::size_t rank = 0;
  for (; !left.empty(); ++rank) {
    // In this order nothing is beaten by what follows it, so that one pass over the front so far decides.
    std::sort(left.begin(), left.end(), [&](std::size_t a, std::size_t b) { return costs[a] < costs[b]; });
    std::vector<std::size_t> front, behind;
    for (const std::size_t i : left) {
      const bool beaten = std::any_of(front.begin(), front.end(), [&](std::size_t f) { return beats(f, i); });
      (beaten ? behind : front).push_back(i);
    }
    for (const std::size_t i : front) ranks[i] = rank;
    left = std::move(behind);
  }
  for (std::size_t &r : ranks) {
    if (r == kNone) r = rank;
  }
  return ranks;
}

}  // namespace cx::tools
