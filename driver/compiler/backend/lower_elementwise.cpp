// Groups without an anchor: only element-wise steps.
#include "driver/compiler/backend/kernel.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kTileElements = 32768;

class ElementwiseKernel : public Kernel {
 public:
  ElementwiseKernel(Context &context, const Group &group)
      : group_(group), tail_(context, group), order_(context.layout.order(group.outputs.front())) {}

  bool is_searched() const override { return true; }
  Shape shape() const override { return group_.shape; }
  std::vector<Tiling> tilings() const override {
    return free_tilings(group_.shape, order_, kTileElements, std::vector<bool>(group_.shape.size(), false));
  }
  void resident(Arena &arena, const Box &range) override { tail_.load_resident(arena, range); }
  void tile(Arena &arena, const Box &box) override { tail_.run(arena, box, std::nullopt, order_); }

 private:
  const Group &group_;
  Tail tail_;
  std::vector<int> order_;
};

}  // namespace

std::unique_ptr<Kernel> lower_elementwise(Context &context, const Group &group) {
  return std::make_unique<ElementwiseKernel>(context, group);
}

}  // namespace cx::compiler::backend
