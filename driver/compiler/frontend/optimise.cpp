#include "driver/compiler/frontend/passes.hpp"

namespace cx::compiler {

void optimise(Graph &graph, StepObserver *observer) {
  constexpr int kMaximumRounds = 8;
  const auto run = [&](const char *name, void (*pass)(Graph &)) {
    pass(graph);
    if (wants_steps(observer)) observer->step(name, to_text(graph));
  };
  run("eliminate_dead_code", eliminate_dead_code);
  std::size_t before = graph.nodes.size() + 1;
  // Each pass exposes work to the others; a round that removes no node is the last.
  for (int round = 0; round < kMaximumRounds && graph.nodes.size() != before; ++round) {
    before = graph.nodes.size();
    run("canonicalise", canonicalise);
    run("fuse_functions", fuse_functions);
    run("fold_batchnorm", fold_batchnorm);
    run("fold_constants", fold_constants);
  }
  run("fuse_statistics", fuse_statistics);
  run("fuse_affine", fuse_affine);
  run("share_constants", share_constants);
  run("elide_copies", elide_copies);
}

}  // namespace cx::compiler
