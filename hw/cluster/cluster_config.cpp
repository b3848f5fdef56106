#include "hw/cluster/cluster_config.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <type_traits>
#include <vector>

#include "hw/cluster/gen/schema.hpp"
#include "hw/config/config.hpp"
#include "hw/config/yaml_text.hpp"
#include "hw/link/media.hpp"

namespace cx::hw::net {

namespace {

namespace fs = std::filesystem;
using config::ConfigError;

struct Written {
  YAML::Node node;
  std::string file;
};

const ClusterKey *find_key(std::string_view key) { return config::find_key(kClusterKeys, key); }
bool is_section(std::string_view name) { return config::is_section(kClusterKeys, name); }

std::string unknown(std::string_view key) {
  config::NearestName nearest(key);
  for (const ClusterKey &info : kClusterKeys) nearest.consider(info.key);
  return "unknown key, expected a key of a cluster" + nearest.hint();
}

// Collects the keys of a file, of what it includes, and of overrides.
class Reader {
 public:
  void file(const fs::path &path) {
    const fs::path canonical = fs::weakly_canonical(path);
    if (std::find(open_.begin(), open_.end(), canonical) != open_.end()) {
      throw ConfigError(path.string(), 0, 0, "include", "includes itself");
    }
    std::ifstream in(path, std::ios::binary);
    if (!in) throw ConfigError(path.string(), 0, 0, "", "cannot be read");
    open_.push_back(canonical);
    text({std::istreambuf_iterator<char>(in), {}}, path.string());
    open_.pop_back();
  }

  void text(const std::string &text, const std::string &name) {
    const YAML::Node root = config::load_document(text, name);
    if (!root.IsMap()) throw ConfigError(name, 1, 1, "", "expected a mapping of the keys of a cluster");
    if (const YAML::Node include = root["include"]) {
      const auto one = [&](const YAML::Node &node) {
        if (!node.IsScalar()) config::fail_at(node, name, "include", "expected a path or a list of paths");
        const fs::path path = fs::path(name).parent_path() / node.Scalar();
        if (!fs::is_regular_file(path)) config::fail_at(node, name, "include", path.string() + " is no file");
        file(path);
      };
      if (include.IsSequence()) {
        for (const YAML::Node &node : include) one(node);
      } else {
        one(include);
      }
    }
    std::set<std::string> seen;
    const auto add = [&](const YAML::Node &at, const std::string &key, const YAML::Node &value) {
      if (find_key(key) == nullptr) config::fail_at(at, name, key, unknown(key));
      if (!seen.insert(key).second) config::fail_at(at, name, key, "is written twice, expected once");
      write(key, value, name);
    };
    for (const auto &entry : root) {
      const std::string key = entry.first.Scalar();
      if (key == "include") continue;
      if (!is_section(key)) {
        add(entry.first, key, entry.second);
        continue;
      }
      if (!entry.second.IsMap()) config::fail_at(entry.first, name, key, "expected a mapping of its keys");
      for (const auto &inner : entry.second) add(inner.first, key + "." + inner.first.Scalar(), inner.second);
    }
  }

  void set(const std::string &text) {
    const std::string name = "--set " + text;
    const size_t equal = text.find('=');
    if (equal == std::string::npos || equal == 0) throw ConfigError(name, 0, 0, "", "expected key.path=value");
    const std::string key = text.substr(0, equal);
    if (find_key(key) == nullptr) throw ConfigError(name, 0, 0, key, unknown(key));
    write(key, config::load_document(text.substr(equal + 1), name), name);
  }

  ClusterConfig resolve(const std::string &name) {
    ClusterConfig config;
    visit(config, [&](unsigned index, auto &value) {
      const ClusterKey &info = kClusterKeys[index];
      const auto found = values_.find(info.key);
      if (found == values_.end()) {
        if (info.required)
          throw ConfigError(name, 0, 0, info.key, std::string("is missing, expected ") + info.expected);
        return;
      }
      take(found->second, info, value);
    });
    apply_medium(config);
    check(config);
    return config;
  }

 private:
  // Assignment to a node would change the document that it belongs to, which others read.
  void write(const std::string &key, const YAML::Node &node, const std::string &file) {
    Written &written = values_[key];
    written.node.reset(node);
    written.file = file;
  }

  // What is resolved has the latency and no preset: it reads the same again.
  void apply_medium(ClusterConfig &config) {
    const auto metres = values_.find("link.metres");
    const LinkMedium *medium = find_medium(config.link.medium);
    if (medium == nullptr) {
      if (metres != values_.end() && config.link.metres != ClusterConfig{}.link.metres) {
        config::fail_at(metres->second.node, metres->second.file, "link.metres",
                        "expected link.medium: optical or another preset beside it");
      }
      return;
    }
    const auto latency = values_.find("link.latency_ns");
    if (latency != values_.end()) {
      config::fail_at(latency->second.node, latency->second.file, "link.latency_ns",
                      "link.medium gives the latency, expected one of the two");
    }
    config.link.latency_ns = latency_ns(*medium, config.link.metres);
    config.link.medium = "custom";
    config.link.metres = ClusterConfig{}.link.metres;
  }

  [[noreturn]] static void unexpected(const Written &written, const ClusterKey &info) {
    const YAML::Node &node = written.node;
    const std::string is = !node || node.IsNull() ? "nothing"
                           : node.IsScalar()      ? "'" + node.Scalar() + "'"
                                                  : "a collection";
    config::fail_at(node, written.file, info.key, is + ", expected " + info.expected);
  }

  template <class Number>
  static Number parse(const Written &written, const YAML::Node &node, const ClusterKey &info) {
    if (!node.IsScalar()) unexpected(written, info);
    const std::string &text = node.Scalar();
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(value >= info.min && value <= info.max) ||
        (std::is_integral_v<Number> && value != std::floor(value))) {
      unexpected({node, written.file}, info);
    }
    return static_cast<Number>(value);
  }

  static void take(const Written &written, const ClusterKey &info, uint32_t &value) {
    value = parse<uint32_t>(written, written.node, info);
  }
  static void take(const Written &written, const ClusterKey &info, double &value) {
    value = parse<double>(written, written.node, info);
  }
  static void take(const Written &written, const ClusterKey &info, bool &value) {
    if (!written.node.IsScalar() || (written.node.Scalar() != "true" && written.node.Scalar() != "false")) {
      unexpected(written, info);
    }
    value = written.node.Scalar() == "true";
  }
  static void take(const Written &written, const ClusterKey &info, std::string &value) {
    if (!written.node.IsScalar() || written.node.Scalar().empty()) unexpected(written, info);
    value = written.node.Scalar();
    if (!info.allowed.empty() && std::find(info.allowed.begin(), info.allowed.end(), value) == info.allowed.end()) {
      unexpected(written, info);
    }
  }
  static void take(const Written &written, const ClusterKey &info, std::vector<uint32_t> &value) {
    if (!written.node.IsSequence()) unexpected(written, info);
    value.clear();
    for (const YAML::Node &node : written.node) value.push_back(parse<uint32_t>(written, node, info));
  }

  // Names the first of `keys` that was written.
  void require(bool ok, std::initializer_list<const char *> keys, const std::string &message) const {
    if (ok) return;
    for (const char *key : keys) {
      const auto found = values_.find(key);
      if (found != values_.end()) config::fail_at(found->second.node, found->second.file, key, message);
    }
    throw ConfigError("cluster", 0, 0, *keys.begin(), message);
  }

  void check(const ClusterConfig &c) const {
    const auto power_of_two = [](uint32_t value) { return (value & (value - 1)) == 0; };
    const auto text = [](uint64_t value) { return std::to_string(value); };
    require(power_of_two(c.pcie.width), {"pcie.width"}, text(c.pcie.width) + ", expected 1, 2, 4, 8 or 16");
    require(power_of_two(c.pcie.mps), {"pcie.mps"}, text(c.pcie.mps) + ", expected a power of two");
    require(power_of_two(c.rdma.mtu), {"rdma.mtu"}, text(c.rdma.mtu) + ", expected a power of two");
    require(c.pcie.credit_kib * 1024 >= 2 * c.rdma.mtu, {"pcie.credit_kib"},
            text(c.pcie.credit_kib) + " KiB hold less than two packets of rdma.mtu, expected " +
                text((2 * c.rdma.mtu + 1023) / 1024) + " or more");
    require(c.rdma.window_kib * 1024 >= c.rdma.mtu, {"rdma.window_kib"},
            text(c.rdma.window_kib) + " KiB hold no packet of rdma.mtu, expected " + text((c.rdma.mtu + 1023) / 1024) +
                " or more");
    require(c.pfc.xon_kib < c.pfc.xoff_kib, {"pfc.xon_kib", "pfc.xoff_kib"},
            "expected less than pfc.xoff_kib, " + text(c.pfc.xoff_kib));
    require(c.ecn.low_kib < c.ecn.high_kib, {"ecn.low_kib", "ecn.high_kib"},
            "expected less than ecn.high_kib, " + text(c.ecn.high_kib));
    require(!c.dcqcn.on || c.ecn.on, {"dcqcn.on", "ecn.on"},
            "rate control follows marks, expected ecn.on: true with it");
    require(c.node.nic != "pcie" || c.node.cards % c.node.nics == 0, {"node.nics", "node.cards"},
            text(c.node.cards) + " cards do not share " + text(c.node.nics) +
                " adapters evenly, expected a divisor of node.cards");
    require(c.node.nic == "pcie" || c.node.nics == 1, {"node.nics"}, "expected this key with node.nic: pcie only");
    require(uint64_t{c.nodes} * c.node.cards <= 65536, {"nodes", "node.cards"}, "expected at most 65536 cards");
    const uint64_t ports = network_ports(c);
    const std::string &kind = c.topology.kind;
    const bool cyclic = kind == "ring" || kind == "torus" || kind == "dragonfly";
    require(!(cyclic && c.pfc.on), {"pfc.on", "topology.kind"},
            "pauses can wait for each other in a circle on a " + kind + ", expected pfc.on: false there");
    if (kind == "torus") {
      uint64_t product = 1;
      for (const uint32_t length : c.topology.dims) product *= length;
      require((c.topology.dims.size() == 2 || c.topology.dims.size() == 3) && product == ports,
              {"topology.dims", "topology.kind"},
              "expected 2 or 3 lengths whose product is the number of network ports, " + text(ports));
    }
    if (kind == "fat_tree") {
      const uint64_t leaves = (ports + c.topology.down - 1) / c.topology.down;
      require(c.topology.tiers == 2 || leaves % c.topology.pod_leaves == 0 || leaves < c.topology.pod_leaves,
              {"topology.pod_leaves", "topology.tiers"},
              text(leaves) + " leaves are not whole pods, expected a divisor of that");
    }
    if (kind == "dragonfly") {
      const uint64_t per_group = uint64_t{c.topology.routers} * c.topology.ports;
      require(ports % per_group == 0, {"topology.ports", "topology.routers", "nodes"},
              text(ports) + " network ports are not whole groups of " + text(per_group) +
                  " (topology.routers times topology.ports)");
      const uint64_t groups = ports / per_group;
      require(groups <= 1 || uint64_t{c.topology.routers} * c.topology.global_links >= groups - 1,
              {"topology.global_links", "topology.routers"},
              text(groups) + " groups are not reached, expected topology.routers times topology.global_links to be " +
                  text(groups - 1) + " or more");
    }
    if (kind == "rail") {
      const uint32_t rails = c.node.nic == "pcie" ? c.node.nics : c.node.cards;
      require(rails == 1 || c.topology.spines > 0 || c.node.cards > 1, {"topology.spines"},
              "rails do not meet anywhere");
    }
    require(!c.pfc.on || switch_room(c), {"switch.buffer_kib", "pfc.xoff_kib", "pfc.on"},
            "the buffer does not hold what its ports may hold before pauses take effect, expected more, or less "
            "pfc.xoff_kib");
  }

  // Without loss: each port up to its pause threshold, and what still comes until the sender has stopped.
  static bool switch_room(const ClusterConfig &c) {
    const double on_the_way = 2 * c.link.latency_ns * c.link.gbps / 8 + 2.0 * (c.rdma.mtu + 128);
    const double port = c.pfc.xoff_kib * 1024.0 + on_the_way;
    const double most_ports = c.topology.kind == "switch" ? network_ports(c)
                              : c.topology.kind == "rail" ? c.nodes + c.topology.spines
                                                          : c.topology.down + c.topology.up;
    return port * most_ports <= c.switch_.buffer_kib * 1024.0;
  }

  std::vector<fs::path> open_;
  std::map<std::string, Written> values_;
};

ClusterConfig resolved(Reader &reader, const std::string &name, std::span<const std::string> sets) {
  for (const std::string &set : sets) reader.set(set);
  return reader.resolve(name);
}

std::string text_of(uint32_t value) { return std::to_string(value); }
std::string text_of(double value) { return config::number_text(value); }
std::string text_of(bool value) { return value ? "true" : "false"; }
std::string text_of(const std::string &value) { return value; }
std::string text_of(const std::vector<uint32_t> &values) {
  std::string out = "[";
  for (const uint32_t value : values) out += (out.size() > 1 ? ", " : "") + std::to_string(value);
  return out + "]";
}

}  // namespace

ClusterConfig load_cluster(const std::string &path, std::span<const std::string> sets) {
  Reader reader;
  reader.file(path);
  return resolved(reader, path, sets);
}

ClusterConfig load_cluster_text(const std::string &text, const std::string &name, std::span<const std::string> sets) {
  Reader reader;
  reader.text(text, name);
  return resolved(reader, name, sets);
}

std::string to_yaml(const ClusterConfig &config) {
  std::string out;
  visit(config, [&](unsigned index, const auto &value) {
    const std::string text = text_of(value);
    out += std::string(kClusterKeys[index].key) + ": ";
    // A name may hold what YAML would take for something else.
    out += kClusterKeys[index].type == ClusterKeyType::string_ ? "\"" + text + "\"" : text;
    out += "\n";
  });
  // Dotted keys become sections.
  std::string nested, section;
  for (size_t at = 0; at < out.size();) {
    const size_t end = out.find('\n', at);
    const std::string line = out.substr(at, end - at);
    at = end + 1;
    const size_t dot = line.find('.'), colon = line.find(':');
    if (dot == std::string::npos || dot > colon) {
      section.clear();
      nested += line + "\n";
      continue;
    }
    if (line.substr(0, dot) != section) {
      section = line.substr(0, dot);
      nested += section + ":\n";
    }
    nested += "  " + line.substr(dot + 1) + "\n";
  }
  return nested;
}

std::string cluster_help(std::string_view key) {
  std::string out;
  for (const ClusterKey &info : kClusterKeys) {
    const std::string_view path = info.key;
    if (!key.empty() && path != key &&
        !(path.size() > key.size() && path.starts_with(key) && path[key.size()] == '.')) {
      continue;
    }
    out += std::string(info.key) + "\n  " + info.doc + "\n  values: " + info.expected;
    if (*info.unit != '\0') out += std::string("; in ") + info.unit;
    out += info.required ? "\n  required\n" : std::string("\n  default: ") + info.default_text + "\n";
  }
  if (out.empty()) throw ConfigError("cluster", 0, 0, std::string(key), unknown(key));
  return out;
}

}  // namespace cx::hw::net
