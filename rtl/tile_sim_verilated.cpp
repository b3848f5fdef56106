// One Verilated shape; compiled once per entry of CX_RTL_TILES with CX_ROWS, CX_COLS, CX_ACC_ROWS, CX_MODEL and
// CX_FACTORY defined.
#include "rtl/tile_sim.hpp"

#define CX_STRINGIFY(x) #x
#define CX_HEADER(x) CX_STRINGIFY(x.h)
#include CX_HEADER(CX_MODEL)

namespace cx::rtl {
namespace {

template <typename Wide>
uint32_t *words(Wide &wide, size_t count) {
  static_assert(sizeof(wide[0]) == sizeof(uint32_t));
  (void)count;
  return &wide[0];
}

class Verilated final : public TileSim {
 public:
  Verilated() : model_(&context_) {
    static_assert(CX_ROWS > 2 && CX_COLS > 2, "rows of two words or fewer are not arrays in Verilated code");
    w_row = words(model_.w_row_i, CX_COLS);
    a_row = words(model_.a_row_i, CX_ROWS);
    d_row = words(model_.d_row_o, CX_COLS);
    model_.clk_i = 0;
    reset();
  }
  ~Verilated() override { model_.final(); }

  const TileShape &shape() const override {
    static const TileShape shape{CX_ROWS, CX_COLS, CX_ACC_ROWS};
    return shape;
  }

  void reset() override {
    in = {};
    drive();
    model_.rst_ni = 1;
    model_.eval();
    model_.rst_ni = 0;
    model_.eval();
    model_.rst_ni = 1;
    model_.eval();
    sample();
  }

  void settle() override {
    drive();
    model_.eval();
    sample();
  }

  void tick() override {
    drive();
    model_.eval();
    model_.clk_i = 1;
    model_.eval();
    model_.clk_i = 0;
    model_.eval();
    sample();
  }

 private:
  void drive() {
    model_.cmd_valid_i = in.cmd_valid;
    model_.cmd_op_i = static_cast<uint8_t>(in.cmd_op);
    model_.cmd_fmt_i = in.cmd_fmt;
    model_.cmd_m_i = in.cmd_m;
    model_.cmd_k_i = in.cmd_k;
    model_.cmd_n_i = in.cmd_n;
    model_.cmd_acc_row_i = in.cmd_acc_row;
    model_.cmd_accumulate_i = in.cmd_accumulate;
    model_.w_valid_i = in.w_valid;
    model_.a_valid_i = in.a_valid;
    model_.d_ready_i = in.d_ready;
  }

  void sample() {
    out.cmd_ready = model_.cmd_ready_o;
    out.idle = model_.idle_o;
    out.w_ready = model_.w_ready_o;
    out.a_ready = model_.a_ready_o;
    out.d_valid = model_.d_valid_o;
  }

  VerilatedContext context_;
  CX_MODEL model_;
};

}  // namespace

std::unique_ptr<TileSim> CX_FACTORY() { return std::make_unique<Verilated>(); }

}  // namespace cx::rtl
