#include "driver/tools/sweep/report.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "driver/include/cx/error.hpp"
#include "driver/tools/plot.hpp"
#include "driver/tools/xml_text.hpp"

namespace cx::tools {
namespace {

/// Without keys of the chip that are parameters as well.
std::vector<std::string> metric_names(const SweepSpec &spec, const std::vector<SweepResult> &results) {
  std::set<std::string> names;
  for (const SweepResult &result : results) {
    for (const auto &[name, value] : result.metrics) names.insert(name);
  }
  for (const SweepParameter &parameter : spec.parameters) names.erase(parameter.key);
  return {names.begin(), names.end()};
}

std::string csv_cell(const std::string &text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string result = "\"";
  for (const char c : text) result += c == '"' ? "\"\"" : std::string(1, c);
  return result + "\"";
}

/// What a point is, line by line.
std::string label_of(const SweepSpec &spec, const SweepResult &result) {
  std::string text = fmt::format("point {}", result.point.id);
  for (const SweepObjective &objective : spec.objectives) {
    text += fmt::format("\n{}: {:.6g}", objective.metric, result.metrics.at(objective.metric));
  }
  for (std::size_t i = 0; i < spec.parameters.size(); ++i) {
    text += "\n" + spec.parameters[i].key + "=" + result.point.values[i];
  }
  return text;
}

/// All points by two objectives, those of the front, and the front of these two alone as a line. `x` null: by id.
std::string picture(const SweepSpec &spec, const std::vector<SweepResult> &results, const SweepObjective *x,
                    const SweepObjective &y, const std::vector<const SweepResult *> &front) {
  Plot plot;
  plot.title = spec.name + (x == nullptr ? "" : ": " + y.metric + " against " + x->metric);
  plot.x_label = x == nullptr ? "point" : x->metric;
  plot.y_label = y.metric;
  const auto place = [&](const SweepResult &result) {
    return std::pair{x == nullptr ? static_cast<double>(result.point.id) : result.metrics.at(x->metric),
                     result.metrics.at(y.metric)};
  };
  const auto series = [&](const char *name, std::vector<const SweepResult *> of) {
    std::sort(of.begin(), of.end(), [&](const SweepResult *a, const SweepResult *b) { return place(*a) < place(*b); });
    Series out;
    out.name = name;
    out.line = Series::Line::none;
    for (const SweepResult *result : of) {
      out.points.push_back(place(*result));
      out.labels.push_back(label_of(spec, *result));
    }
    return out;
  };
  std::vector<const SweepResult *> all;
  uint64_t infeasible = 0, failed = 0;
  for (const SweepResult &result : results) {
    if (result.state == SweepResult::State::ok) all.push_back(&result);
    infeasible += result.state == SweepResult::State::infeasible ? 1 : 0;
    failed += result.state == SweepResult::State::failed ? 1 : 0;
  }
  if (all.empty()) return "";
  plot.notes = {fmt::format("{} points, {} on the front, {} infeasible, {} failed", results.size(), front.size(),
                            infeasible, failed)};
  plot.series = {series("points", all)};
  plot.series.back().faint = true;
  if (spec.objectives.size() != 2) {
    plot.series.push_back(series(x == nullptr ? "best" : "front of all objectives", front));
  }
  if (x != nullptr) {
    SweepSpec two = spec;
    two.objectives = {*x, y};
    plot.series.push_back(series("front of these two", pareto_front(two, results)));
    // Between two points of it something is as good as the worse of both, in either objective.
    Series &line = plot.series.back();
    line.line = Series::Line::steps;
    if (x->maximize) {
      std::reverse(line.points.begin(), line.points.end());
      std::reverse(line.labels.begin(), line.labels.end());
    }
  }
  return to_svg(plot);
}

std::string objective_text(const SweepObjective &objective) {
  return (objective.maximize ? "maximize " : "minimize ") + objective.metric;
}

}  // namespace

std::vector<const SweepResult *> pareto_front(const SweepSpec &spec, const std::vector<SweepResult> &results) {
  std::vector<const SweepResult *> all, front;
  for (const SweepResult &result : results) all.push_back(&result);
  const std::vector<std::size_t> ranks = pareto_ranks(spec, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (ranks[i] == 0 && all[i]->state == SweepResult::State::ok) front.push_back(all[i]);
  }
  const SweepObjective &first = spec.objectives.front();
  std::stable_sort(front.begin(), front.end(), [&](const SweepResult *a, const SweepResult *b) {
    const double x = a->metrics.at(first.metric), y = b->metrics.at(first.metric);
    return first.maximize ? x > y : x < y;
  });
  return front;
}

std::string to_csv(const SweepSpec &spec, const std::vector<SweepResult> &results) {
  const std::vector<std::string> metrics = metric_names(spec, results);
  std::string text = "id,state,reason";
  for (const SweepParameter &parameter : spec.parameters) text += "," + csv_cell(parameter.key);
  for (const std::string &metric : metrics) text += "," + csv_cell(metric);
  text += "\n";
  for (const SweepResult &result : results) {
    text += fmt::format("{},{},{}", result.point.id, name_of(result.state), csv_cell(result.reason));
    for (const std::string &value : result.point.values) text += "," + csv_cell(value);
    for (const std::string &metric : metrics) {
      const auto found = result.metrics.find(metric);
      text += found == result.metrics.end() ? "," : fmt::format(",{}", found->second);
    }
    text += "\n";
  }
  return text;
}

std::string to_json(const SweepSpec &spec, const std::vector<SweepResult> &results) {
  nlohmann::ordered_json json;
  json["name"] = spec.name;
  json["objectives"] = nlohmann::json::array();
  for (const SweepObjective &objective : spec.objectives) json["objectives"].push_back(objective_text(objective));
  json["front"] = nlohmann::json::array();
  for (const SweepResult *result : pareto_front(spec, results)) json["front"].push_back(result->point.id);
  json["points"] = nlohmann::json::array();
  for (const SweepResult &result : results) {
    nlohmann::ordered_json parameters;
    for (std::size_t i = 0; i < spec.parameters.size(); ++i)
      parameters[spec.parameters[i].key] = result.point.values[i];
    json["points"].push_back({{"id", result.point.id},
                              {"state", name_of(result.state)},
                              {"reason", result.reason},
                              {"parameters", std::move(parameters)},
                              {"metrics", result.metrics}});
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string pareto_svg(const SweepSpec &spec, const std::vector<SweepResult> &results) {
  const auto front = pareto_front(spec, results);
  if (spec.objectives.size() == 1) return picture(spec, results, nullptr, spec.objectives[0], front);
  return picture(spec, results, &spec.objectives[0], spec.objectives[1], front);
}

std::string to_html(const SweepSpec &spec, const std::vector<SweepResult> &results) {
  const auto front = pareto_front(spec, results);
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\n<style>body {{ "
      "font-family: "
      "sans-serif; margin: 2em; }} table {{ border-collapse: collapse; }} td, th {{ padding: 0.2em 0.8em; "
      "border-bottom: "
      "1px solid #ccc; text-align: right; }} th {{ background: #f4f4f4; }}</style></head><body>\n<h1>{0}</h1>\n<p>",
      xml_text(spec.name));
  for (const SweepObjective &objective : spec.objectives) page += xml_text(objective_text(objective)) + "; ";
  for (const SweepConstraint &constraint : spec.constraints) page += xml_text(constraint.text) + "; ";
  page += fmt::format("{} points</p>\n", results.size());
  if (spec.objectives.size() == 1) {
    page += pareto_svg(spec, results);
  } else {
    for (std::size_t a = 0; a < spec.objectives.size(); ++a) {
      for (std::size_t b = a + 1; b < spec.objectives.size(); ++b) {
        page += picture(spec, results, &spec.objectives[a], spec.objectives[b], front);
      }
    }
  }
  page += "<h2>Pareto front</h2>\n<table><tr><th>point</th>";
  for (const SweepParameter &parameter : spec.parameters) page += "<th>" + xml_text(parameter.key) + "</th>";
  for (const SweepObjective &objective : spec.objectives) page += "<th>" + xml_text(objective.metric) + "</th>";
  page += "</tr>\n";
  for (const SweepResult *result : front) {
    page += fmt::format("<tr><td>{}</td>", result->point.id);
    for (const std::string &value : result->point.values) page += "<td>" + xml_text(value) + "</td>";
    for (const SweepObjective &objective : spec.objectives) {
      page += fmt::format("<td>{:.6g}</td>", result->metrics.at(objective.metric));
    }
    page += "</tr>\n";
  }
  page += "</table>\n";
  std::map<std::string, uint64_t> reasons;
  for (const SweepResult &result : results) {
    if (result.state != SweepResult::State::ok) ++reasons[std::string(name_of(result.state)) + ": " + result.reason];
  }
  if (!reasons.empty()) {
    page +=
        "<h2>Infeasible and failed</h2>\n<table><tr><th>points</th><th style=\"text-align: left\">reason</th></tr>\n";
    for (const auto &[reason, count] : reasons) {
      page += fmt::format("<tr><td>{}</td><td style=\"text-align: left\">{}</td></tr>\n", count, xml_text(reason));
    }
    page += "</table>\n";
  }
  return page + "</body></html>\n";
}

void write_reports(const SweepSpec &spec, const std::vector<SweepResult> &results,
                   const std::filesystem::path &folder) {
  const auto write = [&](const char *name, const std::string &text) {
    std::ofstream out(folder / name, std::ios::binary);
    out << text;
    if (!out.flush()) throw InputError((folder / name).string() + ": cannot be written");
  };
  write("points.csv", to_csv(spec, results));
  write("points.json", to_json(spec, results));
  if (const std::string svg = pareto_svg(spec, results); !svg.empty()) write("pareto.svg", svg);
  write("report.html", to_html(spec, results));
}

}  // namespace cx::tools
