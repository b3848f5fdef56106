// Cluster files: what is read, and what every wrong value is answered with.
#include "hw/config/config.hpp"

#include <catch2/catch.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "hw/cluster/cluster_config.hpp"
#include "hw/cluster/gen/schema.hpp"
#include "hw/cluster/topology.hpp"

using namespace cx::hw::net;
using cx::config::ConfigError;

namespace {

const std::string kBase = "name: test\nnodes: 4\ntopology:\n  kind: switch\n";

std::string error_of(const std::string &text, const std::vector<std::string> &sets = {}) {
  try {
    load_cluster_text(text, "test.yaml", sets);
  } catch (const ConfigError &error) {
    return error.what();
  }
  return "";
}

bool has(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the clusters that ship load, and load again from what they print") {
  unsigned count = 0;
  for (const auto &entry : std::filesystem::directory_iterator("configs/clusters")) {
    if (entry.path().extension() != ".yaml") continue;
    INFO(entry.path());
    const ClusterConfig config = load_cluster(entry.path().string());
    CHECK(config.name == entry.path().stem().string());
    const std::string text = to_yaml(config);
    CHECK(to_yaml(load_cluster_text(text, "again.yaml")) == text);
    const Topology topology(config);
    CHECK(topology.ranks() == config.nodes * config.node.cards);
    ++count;
  }
  CHECK(count >= 1);
}

TEST_CASE("every key refuses what is outside of its range") {
  for (const ClusterKey &info : kClusterKeys) {
    INFO(info.key);
    std::vector<std::string> wrong = {"[[1]]", "{a: 1}"};
    if (info.type == ClusterKeyType::int_ || info.type == ClusterKeyType::float_) {
      char text[64];
      std::snprintf(text, sizeof text, "%.17g", info.max * 2 + 1);
      wrong.emplace_back(text);
      std::snprintf(text, sizeof text, "%.17g", info.min - 1);
      wrong.emplace_back(text);
      wrong.insert(wrong.end(), {"twelve", "~", "''", "[1]", "nan"});
      if (info.type == ClusterKeyType::int_) wrong.emplace_back("1.5");
    } else if (info.type == ClusterKeyType::bool_) {
      wrong.insert(wrong.end(), {"1", "yes", "~"});
    } else if (info.type == ClusterKeyType::enum_) {
      wrong.insert(wrong.end(), {"other", "~"});
    } else if (info.type == ClusterKeyType::ints_) {
      wrong.insert(wrong.end(), {"[0]", "[1, x]", "7"});
    } else {
      wrong.insert(wrong.end(), {"''", "~"});
    }
    for (const std::string &value : wrong) {
      const std::string error = error_of(kBase, {std::string(info.key) + "=" + value});
      INFO(value << " gave '" << error << "'");
      CHECK(has(error, "--set"));
      CHECK(has(error, info.key));
      CHECK(has(error, std::string("expected ") + info.expected));
    }
  }
}

TEST_CASE("errors name file, line, column and key") {
  CHECK(has(error_of("name: test\nnodes: 4\nlink:\n  gbps: fast\ntopology: {kind: switch}\n"),
            "test.yaml:4:9: link.gbps: 'fast', expected a number from 0.001 to 100000"));
  CHECK(has(error_of(kBase + "lnk:\n  gbps: 3\n"), "test.yaml:5:1: lnk: unknown key"));
  CHECK(has(error_of(kBase + "link:\n  gbs: 3\n"), "the nearest known one is 'link.gbps'"));
  CHECK(has(error_of(kBase + "nodes: 5\n"), "written twice"));
  CHECK(has(error_of("name: test\nnodes: 4\n"), "topology.kind: is missing"));
  CHECK(has(error_of("nodes: 4\ntopology: {kind: switch}\n"), "name: is missing"));
  CHECK(has(error_of("- 1\n"), "expected a mapping"));
  CHECK(has(error_of("name: [\n"), "not valid YAML"));
  CHECK(has(error_of(kBase + "include: nowhere.yaml\n"), "nowhere.yaml is no file"));
  CHECK(has(error_of(kBase + "link: 7\n"), "expected a mapping of its keys"));
  CHECK(has(error_of(kBase, {"nodes"}), "expected key.path=value"));
  CHECK(has(error_of(kBase, {"nodez=3"}), "nodez: unknown key"));
}

TEST_CASE("relations between keys are checked") {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"pcie.width=3"}, "pcie.width: 3, expected 1, 2, 4, 8 or 16"},
      {{"pcie.mps=200"}, "pcie.mps: 200, expected a power of two"},
      {{"rdma.mtu=1000"}, "rdma.mtu: 1000, expected a power of two"},
      {{"pcie.credit_kib=4"}, "pcie.credit_kib: 4 KiB hold less than two packets"},
      {{"rdma.window_kib=4", "rdma.mtu=4096"}, ""},
      {{"pfc.xon_kib=128"}, "pfc.xon_kib: expected less than pfc.xoff_kib"},
      {{"ecn.low_kib=1600"}, "ecn.low_kib: expected less than ecn.high_kib"},
      {{"link.medium=optical", "link.latency_ns=300"}, "link.latency_ns: link.medium gives the latency"},
      {{"link.metres=7"}, "link.metres: expected link.medium"},
      {{"link.medium=copper", "link.metres=2"}, ""},
      {{"dcqcn.on=true"}, "dcqcn.on: rate control follows marks"},
      {{"node.cards=4", "node.nic=pcie", "node.nics=3"}, "node.nics: 4 cards do not share 3 adapters evenly"},
      {{"node.nics=2"}, "node.nics: expected this key with node.nic: pcie only"},
      {{"nodes=65536", "node.cards=64"}, "nodes: expected at most 65536 cards"},
      {{"topology.kind=ring", "pfc.on=true"}, "pfc.on: pauses can wait for each other in a circle"},
      {{"topology.kind=torus", "topology.dims=[2, 3]"}, "topology.dims: expected 2 or 3 lengths"},
      {{"topology.kind=torus", "topology.dims=[4]"}, "topology.dims: expected 2 or 3 lengths"},
      {{"topology.kind=torus", "topology.dims=[2, 2]"}, ""},
      {{"topology.kind=fat_tree", "topology.tiers=3", "topology.down=1", "topology.pod_leaves=3"},
       "topology.pod_leaves: 4 leaves are not whole pods"},
      {{"topology.kind=dragonfly", "topology.routers=3"}, "4 network ports are not whole groups"},
      {{"topology.kind=dragonfly", "topology.routers=1", "topology.ports=1", "topology.global_links=2"},
       "topology.global_links: 4 groups are not reached"},
      {{"pfc.on=true", "switch.buffer_kib=256"}, "switch.buffer_kib: the buffer does not hold"},
  };
  for (const auto &[sets, expected] : cases) {
    const std::string error = error_of(kBase, sets);
    INFO(sets.front() << ": " << error);
    if (expected.empty()) {
      CHECK(error.empty());
    } else {
      CHECK(has(error, expected));
    }
  }
}

TEST_CASE("presets of links give their latency") {
  const auto latency = [](const char *medium, const char *metres) {
    return load_cluster_text(
               kBase, "test.yaml",
               std::vector<std::string>{std::string("link.medium=") + medium, std::string("link.metres=") + metres})
        .link.latency_ns;
  };
  CHECK(latency("copper", "2") == Approx(108.6));
  CHECK(latency("optical", "100") == Approx(690));
  CHECK(latency("optical_linear", "100") == Approx(595));
}

TEST_CASE("included files come first") {
  const auto folder = std::filesystem::temp_directory_path() / "cx-cluster-include";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "base.yaml") << "name: base\nnodes: 3\nlink: {gbps: 400}\ntopology: {kind: switch}\n";
  std::ofstream(folder / "own.yaml") << "include: base.yaml\nnodes: 6\n";
  std::ofstream(folder / "loop.yaml") << "include: loop.yaml\n";
  const ClusterConfig config = load_cluster((folder / "own.yaml").string(), std::vector<std::string>{"seed=9"});
  CHECK(config.nodes == 6);
  CHECK(config.link.gbps == 400);
  CHECK(config.seed == 9);
  CHECK_THROWS_AS(load_cluster((folder / "loop.yaml").string()), ConfigError);
  CHECK_THROWS_AS(load_cluster((folder / "none.yaml").string()), ConfigError);
  std::filesystem::remove_all(folder);
}

TEST_CASE("a topology without a way between two ranks names them") {
  // Cards of a node share no switch here: rails without spines, one card a rail.
  const ClusterConfig config =
      load_cluster_text("name: rails\nnodes: 3\nnode: {cards: 2}\ntopology: {kind: rail}\n", "rails.yaml");
  try {
    Topology topology(config);
    FAIL("no error");
  } catch (const UnreachableError &error) {
    CHECK(has(error.what(), "there is no way from node0.card0 (rank 0) to node1.card1 (rank 3)"));
  }
}

TEST_CASE("help explains keys") {
  CHECK(has(cluster_help("link.gbps"), "Gbit/s"));
  CHECK(has(cluster_help("dcqcn"), "dcqcn.timer_us"));
  CHECK(has(cluster_help(), "topology.kind"));
  CHECK_THROWS_AS(cluster_help("link.gbits"), ConfigError);
}
