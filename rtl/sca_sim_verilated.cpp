// One Verilated shape; compiled once per entry of CX_RTL_SCA_TILES with CX_ROWS, CX_COLS, CX_ACC_ROWS, CX_DEPTH,
// CX_WINDOW, CX_QUEUE, CX_MODEL and CX_FACTORY defined.
#include <type_traits>

#include "rtl/coverage.hpp"
#include "rtl/fst_waves.hpp"
#include "rtl/sca_sim.hpp"

#define CX_STRINGIFY(x) #x
#define CX_HEADER(x) CX_STRINGIFY(x.h)
#include CX_HEADER(CX_MODEL)

namespace cx::rtl {
namespace {

template <typename Wide>
uint32_t *words(Wide &wide) {
  static_assert(sizeof(wide[0]) == sizeof(uint32_t));
  return &wide[0];
}

/// A bit for each column: one number up to 64 columns, an array of words beyond.
template <typename Pins>
void drive_bits(Pins &pins, const uint64_t (&bits)[2]) {
  if constexpr (std::is_integral_v<Pins>) {
    pins = static_cast<Pins>(bits[0]);
  } else {
    for (unsigned w = 0; w < (CX_COLS + 31) / 32; ++w) pins[w] = static_cast<uint32_t>(bits[w / 2] >> (w % 2 * 32));
  }
}
template <typename Pins>
void sample_bits(const Pins &pins, uint64_t (&bits)[2]) {
  bits[0] = bits[1] = 0;
  if constexpr (std::is_integral_v<Pins>) {
    bits[0] = pins;
  } else {
    for (unsigned w = 0; w < (CX_COLS + 31) / 32; ++w) bits[w / 2] |= uint64_t{pins[w]} << (w % 2 * 32);
  }
}

class Verilated final : public ScaSim {
 public:
  Verilated() : model_(traced(context_)) {
    static_assert(CX_ROWS > 2 && CX_COLS > 2, "rows of two words or fewer are not arrays in Verilated code");
    a_row = words(model_.a_row_i);
    w_word = words(model_.w_word_i);
    w_place = words(model_.w_place_i);
    d_row = words(model_.d_row_o);
    model_.clk_i = 0;
    reset();
  }
  ~Verilated() override {
    // The model takes itself off the thread's context, which may be one that is gone.
    ::Verilated::threadContextp(&context_);
    close_waves();
    model_.final();
    write_coverage(context_, CX_HEADER(CX_MODEL));
  }

  const ScaShape &shape() const override {
    static const ScaShape shape{CX_ROWS, CX_COLS, CX_ACC_ROWS, CX_DEPTH, CX_WINDOW, CX_QUEUE};
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
    model_.clk_i = 1;
    model_.eval();
    model_.clk_i = 0;
    model_.eval();
    sample();
  }

  void open_waves(const std::string &path) override { waves_.open(model_, path); }
  void close_waves() override { waves_.close(); }

  void tick_recorded(uint64_t start_ps, uint64_t period_ps) override {
    drive();
    model_.eval();
    waves_.dump(start_ps + period_ps / 2);
    model_.clk_i = 1;
    model_.eval();
    waves_.dump(start_ps + period_ps);
    model_.clk_i = 0;
    model_.eval();
    sample();
  }

  uint64_t count(unsigned counter) override {
    model_.count_sel_i = static_cast<uint8_t>(counter);
    model_.eval();
    return model_.count_o;
  }

 private:
  void drive() {
    model_.cmd_valid_i = in.cmd_valid;
    model_.cmd_op_i = static_cast<uint8_t>(in.cmd_op);
    model_.cmd_fmt_i = in.cmd_fmt;
    model_.cmd_m_i = in.cmd_m;
    model_.cmd_k_i = in.cmd_k;
    model_.cmd_n_i = in.cmd_n;
    model_.cmd_groups_i = in.cmd_groups;
    model_.cmd_acc_row_i = in.cmd_acc_row;
    model_.cmd_accumulate_i = in.cmd_accumulate;
    model_.cmd_integer_i = in.cmd_integer;
    model_.cmd_has_scale_i = in.cmd_has_scale;
    model_.cmd_has_bias_i = in.cmd_has_bias;
    model_.cmd_act_i = in.cmd_act;
    model_.cmd_lo_i = in.cmd_lo;
    model_.cmd_hi_i = in.cmd_hi;
    model_.a_valid_i = in.a_valid;
    drive_bits(model_.w_valid_i, in.w_valid);
    model_.p_valid_i = in.p_valid;
    model_.p_scale_i = in.p_scale;
    model_.p_bias_i = in.p_bias;
    model_.d_ready_i = in.d_ready;
  }

  void sample() {
    out.cmd_ready = model_.cmd_ready_o;
    out.idle = model_.idle_o;
    out.a_ready = model_.a_ready_o;
    sample_bits(model_.w_ready_o, out.w_ready);
    out.p_ready = model_.p_ready_o;
    out.d_valid = model_.d_valid_o;
  }

  /// Waves can only be had from a model that was made with them in mind.
  static VerilatedContext *traced(VerilatedContext &context) {
    context.traceEverOn(true);
    return &context;
  }

  VerilatedContext context_;
  CX_MODEL model_;
  FstWaves waves_;
};

}  // namespace

std::unique_ptr<ScaSim> CX_FACTORY() { return std::make_unique<Verilated>(); }

}  // namespace cx::rtl
