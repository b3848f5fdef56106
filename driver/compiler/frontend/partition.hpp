// A model in parts: what lies between the nodes that only the host computes.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "driver/compiler/frontend/frontend.hpp"

namespace cx::compiler {

/// One node of the main graph that the host computes.
struct HostNode {
  int index = -1;  ///< in the file
  std::string name, op;
  std::vector<std::string> inputs;  ///< that it reads and that follow from what is known at run time only
};

/// The next step of a run.
struct Part {
  std::vector<std::string> wanted;   ///< tensors that the device computes from those there are; may be empty
  std::vector<HostNode> host_nodes;  ///< that can run after it
};

class Partition {
 public:
  explicit Partition(const Model &model);

  void add_host_node(int index);
  bool empty() const { return host_.empty(); }  ///< the model runs in one part
  /// Whether a node may be computed on the host when the values that it needs would leave nothing to the device: its
  /// result's shape follows from these values.
  bool shape_from_values(int index) const;

  /// What to do when the graph inputs and the tensors `available` are there and `outputs` are asked for. Nothing wanted
  /// and no host nodes: all outputs are there.
  Part next(const std::set<std::string> &available, const std::vector<std::string> &outputs) const;

 private:
  struct Entry {
    HostNode node;
    std::vector<std::string> reads, outputs;
  };
  std::vector<Entry> nodes_;
  std::map<std::string, int> producers_;
  std::set<std::string> inputs_;   // of the graph, known at run time only
  std::set<std::string> dynamic_;  // tensors that follow from those
  std::set<int> host_;
};

}  // namespace cx::compiler
