// Clusters for tests, of a text instead of a file, and what runs on them.
#pragma once

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "driver/collective/collective.hpp"

namespace cx::tb {

/// Of a cluster file's text without its name.
inline Cluster cluster(const std::string &text, const std::vector<std::string> &sets = {}) {
  static std::atomic<int> number = 0;
  const auto file = std::filesystem::temp_directory_path() /
                    ("cx-cluster-" + std::to_string(getpid()) + "-" + std::to_string(number++) + ".yaml");
  std::ofstream(file) << "name: test\n" << text;
  Cluster made = Cluster::open(file.string(), sets);
  std::filesystem::remove(file);
  return made;
}

/// One card a node, all at one switch.
inline Cluster plain(uint32_t ranks, const std::vector<std::string> &sets = {}) {
  return cluster("nodes: " + std::to_string(ranks) + "\ntopology: {kind: switch}\n", sets);
}

inline collective::Spec spec_of(collective::Operation operation, const std::string &algorithm, uint64_t count,
                                Fidelity fidelity = Fidelity::kPacket) {
  collective::Spec spec;
  spec.operation = operation;
  spec.algorithm = algorithm;
  spec.count = count;
  spec.fidelity = fidelity;
  return spec;
}

}  // namespace cx::tb
