#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/passes.hpp"
#include "driver/compiler/frontend/rewriter.hpp"

namespace cx::compiler {

void fuse_affine(Graph &graph) {
  Rewriter rewriter(graph);
  rewriter.run([&rewriter](Node node) {
    float offset = 0;
    float factor = 0;
    const bool sum = node.op == "Binary" && is_float(rewriter[node.outputs[0]].type) &&
                     node.text("func", "") == "add" && rewriter.is_scalar(node.inputs[1], &offset) &&
                     rewriter.other_uses(node.inputs[0]) == 0;
    const Node *product = sum ? rewriter.producer(node.inputs[0], "Binary") : nullptr;
    if (product != nullptr && product->text("func", "") == "mul" && rewriter.is_scalar(product->inputs[1], &factor) &&
        rewriter[product->inputs[0]].shape == rewriter[node.outputs[0]].shape) {
      node.op = "Unary";
      node.inputs = {product->inputs[0]};
      node.attributes = {{"func", std::string("affine")}, {"alpha", factor}, {"beta", offset}};
    }
    rewriter.keep(std::move(node));
  });
}

}  // namespace cx::compiler
