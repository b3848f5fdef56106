// Systolic MAC tile: Rows x Cols processing elements, two weight banks, an accumulator memory of AccRows rows, and a
// drain with scale, bias, activation and conversion. Operations, timing and the command protocol: hw/dmmu/README.md.
//
// Raw elements sit in the low bits of their 32-bit word; with Pack above 1 a word holds that many 8-bit elements,
// neighbours along K, the first one lowest. Weight-stationary: weight row r is row r of the matrix (or the Pack rows
// from r * Pack), activation word r meets weight row r. Output-stationary: a step takes one word of K of every row of
// the activations and of every column of the weights.
module cx_tile
  import cx_tile_pkg::*;
#(
  parameter int unsigned Rows    = 8,
  parameter int unsigned Cols    = 8,
  parameter int unsigned AccRows = 256,
  parameter int unsigned Pack    = 1,      // products of an 8-bit format per element and cycle: 1, 2 or 4
  parameter int unsigned Stages  = 1,      // cycles of a processing element's step
  parameter logic [5:0]  Formats = 6'h3F   // bit n: format n is multiplied
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  // command
  input  logic                  cmd_valid_i,
  output logic                  cmd_ready_o,
  input  logic [1:0]            cmd_op_i,          // op_e
  input  logic [3:0]            cmd_fmt_i,         // fmt_e: of the weights, the activations, or the drained elements
  input  logic [3:0]            cmd_wfmt_i,        // output-stationary: of the weights
  input  logic [AccW-1:0]       cmd_m_i,           // rows of a multiplication or drain
  input  logic [KW-1:0]         cmd_k_i,           // elements along K
  input  logic [DimW-1:0]       cmd_n_i,           // columns that take part
  input  logic [AccW-1:0]       cmd_acc_row_i,
  input  logic                  cmd_accumulate_i,
  input  logic                  cmd_scaled_i,      // load: a row of FP32 block scales leads; multiplication: a_scale_i counts
  input  logic                  cmd_integer_i,     // drain: accumulators hold INT32
  input  logic                  cmd_has_scale_i,   // drain: a row of FP32 scales comes first
  input  logic                  cmd_has_bias_i,    // drain: and then one of FP32 biases
  input  logic [1:0]            cmd_act_i,         // drain: 0 none, 1 ReLU, 2 clamp
  input  logic [31:0]           cmd_lo_i,          // drain: FP32 bounds of the clamp
  input  logic [31:0]           cmd_hi_i,
  output logic                  idle_o,            // nothing in flight
  // weight rows
  input  logic                  w_valid_i,
  output logic                  w_ready_o,
  input  logic [Cols-1:0][31:0] w_row_i,
  // activation rows
  input  logic                  a_valid_i,
  output logic                  a_ready_o,
  input  logic [Rows-1:0][31:0] a_row_i,
  input  logic [31:0]           a_scale_i,         // FP32 block scale of the row
  // parameters of a drain
  input  logic                  p_valid_i,
  output logic                  p_ready_o,
  input  logic [Cols-1:0][31:0] p_row_i,
  // drained rows
  output logic                  d_valid_o,
  input  logic                  d_ready_i,
  output logic [Cols-1:0][31:0] d_row_o,
  // accumulator parity
  input  logic                  acc_inject_i,      // words written now get a wrong bit
  output logic                  acc_error_o,       // words were read with wrong parity, a cycle ago
  // counters
  input  logic [3:0]            count_sel_i,
  output logic [CountW-1:0]     count_o
);

  logic            w_take, w_load, w_scale, w_bank, w_stall, a_take, a_stall, a_scaled;
  logic [3:0]      w_fmt, a_fmt;
  logic [DimW-1:0] w_row, drain_cols;
  logic [KW-1:0]   a_k;
  logic [Pack-1:0] w_lanes, a_lanes;
  wave_t           a_wave;
  tag_t            a_tag;
  logic            p_scale, drain_en, post_en, drain_start;
  logic [AccW-1:0] drain_row;

  cx_tile_ctrl #(
    .Rows    (Rows),
    .Cols    (Cols),
    .AccRows (AccRows),
    .Pack    (Pack),
    .Stages  (Stages),
    .Formats (Formats)
  ) u_ctrl (
    .clk_i,
    .rst_ni,
    .cmd_valid_i,
    .cmd_ready_o,
    .cmd_op_i,
    .cmd_fmt_i,
    .cmd_wfmt_i,
    .cmd_m_i,
    .cmd_k_i,
    .cmd_n_i,
    .cmd_acc_row_i,
    .cmd_accumulate_i,
    .cmd_scaled_i,
    .cmd_has_scale_i,
    .cmd_has_bias_i,
    .idle_o,
    .w_valid_i,
    .w_ready_o,
    .w_take_o      (w_take),
    .w_stall_o     (w_stall),
    .w_load_o      (w_load),
    .w_scale_o     (w_scale),
    .w_fmt_o       (w_fmt),
    .w_row_o       (w_row),
    .w_bank_o      (w_bank),
    .w_lanes_o     (w_lanes),
    .a_valid_i,
    .a_ready_o,
    .a_take_o      (a_take),
    .a_stall_o     (a_stall),
    .a_fmt_o       (a_fmt),
    .a_k_o         (a_k),
    .a_lanes_o     (a_lanes),
    .a_wave_o      (a_wave),
    .a_scaled_o    (a_scaled),
    .a_tag_o       (a_tag),
    .p_valid_i,
    .p_ready_o,
    .p_scale_o     (p_scale),
    .drain_en_o    (drain_en),
    .drain_row_o   (drain_row),
    .drain_cols_o  (drain_cols),
    .post_en_o     (post_en),
    .drain_start_o (drain_start),
    .d_valid_o,
    .d_ready_i
  );

  // ---- weights: converted once, then written to the shadow bank of their row or sent into the array ----
  logic [Cols-1:0][31:0] w_word_q;
  logic [Rows-1:0]       w_we_q;
  logic                  w_scale_q, w_bank_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      w_we_q    <= '0;
      w_scale_q <= 1'b0;
    end else begin
      w_we_q    <= w_load ? Rows'(1) << w_row : '0;
      w_scale_q <= w_scale;
    end
  end

  function automatic logic [Cols-1:0][31:0] w_widened();
    for (int unsigned c = 0; c < Cols; c++) begin
      w_widened[c] = cx_widen_pkg::widened(Pack, w_scale ? FmtFp32 : w_fmt, 4'(w_lanes), w_row_i[c]);
    end
  endfunction

  always_ff @(posedge clk_i) begin
    if (w_take) begin
      w_bank_q <= w_bank;
      w_word_q <= w_widened();
    end
  end

  // ---- the array ----
  logic [Cols-1:0]           shift;
  logic [Cols-1:0][DimW-1:0] depth;
  logic [Cols-1:0][31:0]     psum, drained;
  logic [2*DimW-1:0]         gated;
  logic [CountW-1:0]         errors;

  cx_array #(
    .Rows    (Rows),
    .Cols    (Cols),
    .Pack    (Pack),
    .Stages  (Stages),
    .Formats (Formats)
  ) u_array (
    .clk_i,
    .rst_ni,
    .wave_i      (a_wave),
    .act_fmt_i   (a_fmt),
    .act_k_i     (a_k),
    .act_lanes_i (a_lanes),
    .act_row_i   (a_row_i),
    .gated_o     (gated),
    .w_we_i      (w_we_q),
    .w_bank_i    (w_bank_q),
    .w_word_i    (w_word_q),
    .shift_i     (shift),
    .depth_i     (depth),
    .psum_o      (psum)
  );

  // ---- accumulators ----
  cx_acc #(
    .Cols    (Cols),
    .AccRows (AccRows),
    .Descend (Rows * Stages)
  ) u_acc (
    .clk_i,
    .rst_ni,
    .tag_i        (a_tag),
    .row_scale_i  (a_scaled ? a_scale_i : cx_fp_pkg::One),
    .psum_i       (psum),
    .shift_o      (shift),
    .depth_o      (depth),
    .scale_we_i   (w_scale_q),
    .scale_bank_i (w_bank_q),
    .scale_i      (w_word_q),
    .drain_en_i   (drain_en),
    .drain_row_i  (drain_row),
    .drain_cols_i (drain_cols),
    .drain_word_o (drained),
    .inject_i     (acc_inject_i),
    .error_o      (acc_error_o),
    .errors_o     (errors)
  );

  // ---- drain: constants of the command, parameters of the columns ----
  logic [3:0]            drain_fmt_q;
  logic                  drain_integer_q, drain_has_scale_q, drain_has_bias_q;
  logic [1:0]            drain_act_q;
  logic [31:0]           drain_lo_q, drain_hi_q;
  logic [Cols-1:0][31:0] drain_scale_q, drain_bias_q;

  always_ff @(posedge clk_i) begin
    if (drain_start) begin
      drain_fmt_q       <= cmd_fmt_i;
      drain_integer_q   <= cmd_integer_i;
      drain_has_scale_q <= cmd_has_scale_i;
      drain_has_bias_q  <= cmd_has_bias_i;
      drain_act_q       <= cmd_act_i;
      drain_lo_q        <= cmd_lo_i;
      drain_hi_q        <= cmd_hi_i;
    end
  end

  always_ff @(posedge clk_i) begin
    if (p_valid_i && p_ready_o && p_scale) drain_scale_q <= p_row_i;
    if (p_valid_i && p_ready_o && !p_scale) drain_bias_q <= p_row_i;
  end

  cx_post #(
    .Cols (Cols)
  ) u_post (
    .clk_i,
    .en_i        (post_en),
    .word_i      (drained),
    .is_int_i    (drain_integer_q),
    .has_scale_i (drain_has_scale_q),
    .scale_i     (drain_scale_q),
    .has_bias_i  (drain_has_bias_q),
    .bias_i      (drain_bias_q),
    .act_i       (drain_act_q),
    .lo_i        (drain_lo_q),
    .hi_i        (drain_hi_q),
    .fmt_i       (drain_fmt_q),
    .word_o      (d_row_o)
  );

  cx_tile_counters u_counters (
    .clk_i,
    .rst_ni,
    .busy_i    (!idle_o),
    .w_take_i  (w_take),
    .a_take_i  (a_take),
    .gated_i   (gated),
    .d_take_i  (d_valid_o && d_ready_i),
    .w_stall_i (w_stall),
    .a_stall_i (a_stall),
    .d_stall_i (d_valid_o && !d_ready_i),
    .errors_i  (errors),
    .sel_i     (count_sel_i),
    .count_o
  );

endmodule
