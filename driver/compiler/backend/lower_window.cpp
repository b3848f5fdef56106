// Depthwise convolutions and pooling on the VPU's window instruction.
#include <algorithm>

#include "driver/compiler/backend/kernel.hpp"
#include "driver/compiler/backend/patch.hpp"
#include "driver/compiler/calibration.hpp"
#include "driver/compiler/frontend/elements.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

const std::vector<int> kChannelsLast{0, 2, 3, 1};
constexpr int64_t kTileElements = 32768;
constexpr int64_t kMaxByte = 255;

class WindowKernel : public Kernel {
 public:
  WindowKernel(Context &context, const Group &group, const WindowShape &window)
      : context_(context),
        group_(group),
        node_(context.graph.nodes[static_cast<std::size_t>(group.nodes.front())]),
        tail_(context, group),
        window_(window) {}

  Shape shape() const override { return group_.shape; }
  bool is_searched() const override { return true; }
  int pass_dimension() const override { return 1; }

  std::vector<Tiling> tilings() const override {
    // Whole channels while possible: they are innermost in memory. One image at a time.
    Shape shape = group_.shape;
    shape[0] = 1;
    std::vector<Tiling> result;
    for (int64_t channels = shape[1];; channels = (channels + 1) / 2) {
      shape[1] = channels;
      const auto areas = free_tilings(shape, {2, 3}, kTileElements, std::vector<bool>(4, false));
      result.insert(result.end(), areas.begin(), areas.end());
      if (channels == 1) return result;
    }
  }

  void resident(Arena &arena, const Box &range) override {
    range_ = range;
    load_operands(arena, range);
    tail_.load_resident(arena, range);
  }

  void tile(Arena &arena, const Box &box) override {
    const Patch patch =
        load_patch(context_, arena, node_.inputs[0], window_, box, box.start[1], box.size[1],
                   fills_with_minus_infinity(), {context_.layout.dtype(node_.inputs[0]), -1, {}}, in_place());
    const SpmView result = tail_.anchor_buffer(arena, box, kChannelsLast);
    const SpmView windows = window_buffer(arena, box, result);
    if (!context_.emitter.dry()) emit(windows, patch);
    finish(windows, result);
    tail_.run(arena, box, result, kChannelsLast);
  }

 protected:
  bool in_place() const {
    return reads_in_place(context_, node_.inputs[0], window_, group_.shape, fills_with_minus_infinity(), false);
  }
  virtual void load_operands(Arena &, const Box &) {}
  virtual bool fills_with_minus_infinity() const { return false; }
  virtual isa::VWindow instruction() const = 0;
  virtual std::optional<SpmView> weights() const { return std::nullopt; }
  virtual std::optional<SpmView> bias() const { return std::nullopt; }
  virtual Activation window_activation() const { return group_.anchor_act; }
  /// Where the windows' values go: the anchor's buffer, or one from which finish() fills it.
  virtual SpmView window_buffer(Arena &, const Box &, const SpmView &result) const { return result; }
  virtual void finish(const SpmView &, const SpmView &) const {}

  Context &context_;
  const Group &group_;
  const Node &node_;
  Tail tail_;
  WindowShape window_;
  Box range_;

 private:
  static Descriptor channels_last(const SpmView &view) {
    SpmView permuted = view;
    for (std::size_t slot = 0; slot < 4; ++slot) {
      const auto d = static_cast<std::size_t>(kChannelsLast[slot]);
      permuted.dims[slot] = view.dims[d];
      permuted.strides[slot] = view.strides[d];
    }
    return descriptor(permuted);
  }

  uint8_t byte(int64_t value, const char *what) const {
    if (value > kMaxByte) {
      throw UnsupportedError(node_.op,
                             "node " + node_.name + ": " + what + " " + std::to_string(value) + " is above 255");
    }
    return static_cast<uint8_t>(value);
  }

  void emit(const SpmView &result, const Patch &patch) {
    isa::VWindow inst = instruction();
    const Activation act = window_activation();
    inst.act = act.kind;
    inst.lo = act.lo;
    inst.hi = act.hi;
    inst.kernel_y = byte(window_.kernel_y, "kernel height");
    inst.kernel_x = byte(window_.kernel_x, "kernel width");
    inst.stride_y = byte(window_.stride_y, "stride");
    inst.stride_x = byte(window_.stride_x, "stride");
    inst.dil_y = byte(patch.dilation_y, "dilation");
    inst.dil_x = byte(patch.dilation_x, "dilation");
    std::optional<Descriptor> w;
    std::optional<Descriptor> b;
    if (weights()) w = descriptor(*weights());
    if (bias()) b = descriptor(*bias());
    context_.emitter.window(inst, channels_last(result), channels_last(patch.view), w, b);
  }
};

/// Sums of int8 maps are exact, see is_dmmu_product(); a scale that is not 1 is applied to them before the bias.
class DepthwiseKernel : public WindowKernel {
 public:
  DepthwiseKernel(Context &context, const Group &group) : WindowKernel(context, group, shape_of(context, group)) {
    const TensorId scale = scale_operand(node_);
    if (scale == kNoTensor) return;
    const Tensor &values = context.graph[scale];
    const std::vector<float> factors = values.is_constant() ? to_floats(values) : std::vector<float>{};
    scaled_ = factors.empty() || std::any_of(factors.begin(), factors.end(), [](float f) { return f != 1; });
  }

 private:
  static WindowShape shape_of(const Context &context, const Group &group) {
    const Node &node = context.graph.nodes[static_cast<std::size_t>(group.nodes.front())];
    const Shape &w = context.graph[node.inputs[1]].shape;
    return window_shape(node, w[2], w[3]);
  }

  void load_operands(Arena &arena, const Box &range) override {
    // [C, 1, ky, kx] as [1][ky][kx][C].
    const Box box{{range.start[1], 0, 0, 0}, {range.size[1], 1, window_.kernel_y, window_.kernel_x}};
    const Dtype type = context_.graph[node_.inputs[1]].type == Type::I8 ? Dtype::INT8 : context_.element;
    const SpmView loaded = load_box(context_, arena, node_.inputs[1], box, type, {1, 2, 3, 0});
    weights_ = loaded;
    const std::array<std::size_t, 4> order{1, 2, 3, 0};
    for (std::size_t slot = 0; slot < 4; ++slot) {
      weights_.dims[slot] = loaded.dims[order[slot]];
      weights_.strides[slot] = loaded.strides[order[slot]];
    }
    const Box channels{{range.start[1]}, {range.size[1]}};
    if (node_.inputs.size() > 2 && node_.inputs[2] != kNoTensor) {
      bias_ = load_box(context_, arena, node_.inputs[2], channels, Dtype::FP32, {0});
    }
    if (scaled_) scale_ = load_box(context_, arena, scale_operand(node_), channels, Dtype::FP32, {0});
  }

  isa::VWindow instruction() const override {
    isa::VWindow inst;
    inst.func = isa::Window::MAC;
    return inst;
  }
  std::optional<SpmView> weights() const override { return weights_; }
  std::optional<SpmView> bias() const override { return scaled_ ? std::nullopt : bias_; }
  Activation window_activation() const override { return scaled_ ? Activation{} : group_.anchor_act; }
  SpmView window_buffer(Arena &arena, const Box &box, const SpmView &result) const override {
    const bool narrow = scaled_ && result.dtype != Dtype::FP32;
    return narrow ? allocate(arena, Dtype::FP32, box.size, kChannelsLast) : result;
  }
  void finish(const SpmView &sums, const SpmView &result) const override {
    if (!scaled_) return;
    const auto along = [&](SpmView channels) {
      channels.dims = {channels.dims[0], 1, 1};
      channels.strides = {channels.strides[0], 0, 0};
      return broadcast(channels, result.dims);
    };
    context_.emitter.binary(isa::Binary::MUL, bias_ ? sums : result, sums, along(scale_),
                            bias_ ? Activation{} : group_.anchor_act);
    if (bias_) context_.emitter.binary(isa::Binary::ADD, result, sums, along(*bias_), group_.anchor_act);
  }

  SpmView weights_;
  SpmView scale_;
  std::optional<SpmView> bias_;
  bool scaled_ = false;
};

class PoolKernel : public WindowKernel {
 public:
  PoolKernel(Context &context, const Group &group)
      : WindowKernel(context, group, shape_of(context, group)), kind_(node_.text("kind", "")) {
    if (kind_ != "max" && kind_ != "avg" && kind_ != "sum") {
      throw UnsupportedError("Pool", "node " + node_.name + ": unknown pooling " + kind_);
    }
  }

 private:
  static WindowShape shape_of(const Context &context, const Group &group) {
    const Node &node = context.graph.nodes[static_cast<std::size_t>(group.nodes.front())];
    const auto kernel = node.integers("kernel");
    return window_shape(node, kernel[0], kernel[1]);
  }

  bool fills_with_minus_infinity() const override { return kind_ == "max"; }

  isa::VWindow instruction() const override {
    isa::VWindow inst;
    inst.func = kind_ == "max" ? isa::Window::MAX : isa::Window::SUM;
    inst.imm0 = 1;
    if (kind_ == "avg") inst.imm0 = 1.0F / static_cast<float>(window_.kernel_y * window_.kernel_x);
    return inst;
  }

  std::string kind_;
};

}  // namespace

bool is_depthwise(const Context &context, const Group &group) {
  return !is_dmmu_product(context.graph, context.graph.nodes[static_cast<std::size_t>(group.nodes.front())]);
}

std::unique_ptr<Kernel> lower_depthwise(Context &context, const Group &group) {
  return std::make_unique<DepthwiseKernel>(context, group);
}

std::unique_ptr<Kernel> lower_pool(Context &context, const Group &group) {
  return std::make_unique<PoolKernel>(context, group);
}

}  // namespace cx::compiler::backend
