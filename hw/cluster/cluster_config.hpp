// Cluster files: parse, override, check, show.
#ifndef HW_CLUSTER_CLUSTER_CONFIG_HPP
#define HW_CLUSTER_CLUSTER_CONFIG_HPP

#include <span>
#include <string>
#include <string_view>

#include "hw/cluster/gen/cluster.hpp"

namespace cx::hw::net {

// Network ports: adapters, or cards that have their own.
inline uint32_t network_ports(const ClusterConfig &config) {
  return config.nodes * (config.node.nic == "pcie" ? config.node.nics : config.node.cards);
}
inline uint32_t ranks_of(const ClusterConfig &config) { return config.nodes * config.node.cards; }

// A file with what it includes, then overrides "key=value" in order, checked: every key known and written once, values
// in range, relations between keys. Throws config::ConfigError: file, line, column, key, what was expected.
ClusterConfig load_cluster(const std::string &path, std::span<const std::string> sets = {});
// The same for a text; includes are relative to the folder of `name`.
ClusterConfig load_cluster_text(const std::string &text, const std::string &name,
                                std::span<const std::string> sets = {});

// The resolved whole; loads again to an equal cluster.
std::string to_yaml(const ClusterConfig &config);

// Text about one key, a section, or all (""). Throws config::ConfigError for an unknown one.
std::string cluster_help(std::string_view key = {});

}  // namespace cx::hw::net

#endif
