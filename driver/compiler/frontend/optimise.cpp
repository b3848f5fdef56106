#include "driver/compiler/frontend/passes.hpp"

namespace cx::compiler {

void optimise(Graph &graph) {
  constexpr int kMaximumRounds = 8;
  eliminate_dead_code(graph);
  std::size_t before = graph.nodes.size() + 1;
  // Each pass exposes work to the others; a round that removes no node is the last.
  for (int round = 0; round < kMaximumRounds && graph.nodes.size() != before; ++round) {
    before = graph.nodes.size();
    canonicalise(graph);
    fuse_functions(graph);
    fold_batchnorm(graph);
    fold_constants(graph);
  }
  fuse_affine(graph);
  share_constants(graph);
  elide_copies(graph);
}

}  // namespace cx::compiler
