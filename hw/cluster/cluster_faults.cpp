#include "hw/cluster/cluster_faults.hpp"

#include <charconv>
#include <cmath>
#include <map>

namespace cx::hw::net {

namespace {

[[noreturn]] void wrong(std::string_view text, const std::string &message) {
  throw ClusterFaultError("fault '" + std::string(text) + "': " + message);
}

}  // namespace

ClusterFault parse_cluster_fault(const Topology &topology, std::string_view text) {
  const std::size_t at = text.find('@');
  const std::string_view name = text.substr(0, at);
  ClusterFault fault;
  if (name == "link_down") {
    fault.kind = ClusterFault::Kind::link_down;
  } else if (name == "slow_link") {
    fault.kind = ClusterFault::Kind::slow_link;
  } else if (name == "lossy_link") {
    fault.kind = ClusterFault::Kind::lossy_link;
  } else if (name == "dead_node") {
    fault.kind = ClusterFault::Kind::dead_node;
  } else {
    wrong(text, "expected link_down, slow_link, lossy_link or dead_node before '@'");
  }
  std::map<std::string, std::string, std::less<>> values;
  std::string_view rest = at == std::string_view::npos ? std::string_view{} : text.substr(at + 1);
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    const std::size_t equal = part.find('=');
    if (equal == std::string_view::npos) wrong(text, "'" + std::string(part) + "', expected key=value");
    if (!values.emplace(part.substr(0, equal), part.substr(equal + 1)).second) {
      wrong(text, std::string(part.substr(0, equal)) + " is written twice");
    }
  }
  const auto number = [&](const char *key, double least, double most, double otherwise, bool required) {
    const auto found = values.find(key);
    if (found == values.end()) {
      if (required) wrong(text, std::string(key) + " is missing");
      return otherwise;
    }
    const std::string &given = found->second;
    double value = 0;
    const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), value);
    if (error != std::errc() || end != given.data() + given.size() || !(value >= least && value <= most)) {
      char range[80];
      std::snprintf(range, sizeof range, "expected a number from %g to %g", least, most);
      wrong(text, std::string(key) + ": '" + given + "', " + range);
    }
    values.erase(found);
    return value;
  };
  const auto time = [](double us) { return static_cast<Ps>(std::llround(us * 1e6)); };
  constexpr double kMostUs = 1e12;
  fault.at = time(number("at_us", 0, kMostUs, 0, false));
  if (values.count("until_us") != 0) {
    fault.until = time(number("until_us", 0, kMostUs, 0, false));
    if (fault.kind == ClusterFault::Kind::dead_node) wrong(text, "until_us: a dead node stays dead");
    if (fault.until <= fault.at) wrong(text, "until_us: expected more than at_us");
  }
  if (fault.kind == ClusterFault::Kind::dead_node) {
    const double node = number("node", 0, topology.config().nodes - 1.0, 0, true);
    if (node != std::floor(node)) wrong(text, "node: expected a whole number");
    fault.node = static_cast<std::uint32_t>(node);
  } else {
    const auto link = values.find("link");
    if (link == values.end()) wrong(text, "link is missing");
    fault.edge = topology.find_edge(link->second);
    if (fault.edge == topology.edges().size()) {
      wrong(text, "link: there is no '" + link->second + "', expected a name like " + topology.edges().front().name);
    }
    values.erase(link);
  }
  if (fault.kind == ClusterFault::Kind::slow_link) fault.factor = number("factor", 1e-6, 1, 1, true);
  if (fault.kind == ClusterFault::Kind::lossy_link) fault.loss = number("loss", 0, 1, 0, true);
  if (!values.empty()) wrong(text, "unknown key " + values.begin()->first);
  return fault;
}

}  // namespace cx::hw::net
