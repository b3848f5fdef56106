// Sparse tile: Rows lanes (rows of the activations) by Cols columns (of the weights), output stationary. Only non-zero
// weights come, each column's through a queue of its own; columns drift against each other inside a window of
// activations. Operations, timing and the command protocol: hw/sca/README.md.
//
// Raw elements sit in the low bits of their 32-bit word. An activation vector is one k of all rows.
module cx_sca
  import cx_tile_pkg::*;
  import cx_sca_pkg::*;
#(
  parameter int unsigned Rows    = 8,
  parameter int unsigned Cols    = 8,
  parameter int unsigned AccRows = 16,    // groups of columns whose sums the accumulators hold
  parameter int unsigned Depth   = 64,    // vectors in each of the two banks of activations
  parameter int unsigned Window  = 32,    // positions that columns may be apart; a power of two
  parameter int unsigned Queue   = 4,     // weights in a column's queue
  parameter int unsigned Advance = 8,     // positions that the window moves on in a cycle, at most
  parameter logic [5:0]  Formats = 6'h3E  // bit n: format n is multiplied
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  // command
  input  logic                  cmd_valid_i,
  output logic                  cmd_ready_o,
  input  logic [1:0]            cmd_op_i,          // sca_op_e
  input  logic [3:0]            cmd_fmt_i,         // fmt_e: of the activations, the weights, or the drained elements
  input  logic [DimW-1:0]       cmd_m_i,           // load: rows that take part
  input  logic [KW-1:0]         cmd_k_i,
  input  logic [GroupW-1:0]     cmd_n_i,           // multiplication: columns of the last group; drain: columns
  input  logic [GroupW-1:0]     cmd_groups_i,      // rows of accumulators
  input  logic [AccW-1:0]       cmd_acc_row_i,
  input  logic                  cmd_accumulate_i,
  input  logic                  cmd_integer_i,     // drain: accumulators hold INT32
  input  logic                  cmd_has_scale_i,   // drain: each column comes with an FP32 scale
  input  logic                  cmd_has_bias_i,    // drain: and a bias
  input  logic [1:0]            cmd_act_i,         // drain: 0 none, 1 ReLU, 2 clamp
  input  logic [31:0]           cmd_lo_i,          // drain: FP32 bounds of the clamp
  input  logic [31:0]           cmd_hi_i,
  output logic                  idle_o,            // nothing in flight
  // activation vectors
  input  logic                  a_valid_i,
  output logic                  a_ready_o,
  input  logic [Rows-1:0][31:0] a_row_i,
  // weights, each column on its own
  input  logic [Cols-1:0]       w_valid_i,
  output logic [Cols-1:0]       w_ready_o,
  input  logic [Cols-1:0][31:0] w_word_i,
  input  logic [Cols-1:0][31:0] w_place_i,         // place_t
  // parameters of the next column of a drain
  input  logic                  p_valid_i,
  output logic                  p_ready_o,
  input  logic [31:0]           p_scale_i,
  input  logic [31:0]           p_bias_i,
  // drained columns
  output logic                  d_valid_o,
  input  logic                  d_ready_i,
  output logic [Rows-1:0][31:0] d_row_o,
  // counters
  input  logic [3:0]            count_sel_i,
  output logic [CountW-1:0]     count_o
);

  localparam int unsigned SlotW = $clog2(Window);
  localparam int unsigned StepW = $clog2(Advance + 1);

  logic                       a_take, a_stall, a_bank, start, mul_int, mul_accumulate, columns_busy, writing;
  logic [KW-1:0]              a_addr, mul_k, read_addr;
  logic [DimW-1:0]            a_rows, drain_col;
  logic [3:0]                 a_fmt, mul_fmt;
  logic [PosW-1:0]            base, visible;
  logic [StepW-1:0]           read_count;
  logic                       read_bank, drain_start, drain_en, post_en;
  logic [SlotW-1:0]           read_slot;
  logic [AccW-1:0]            drain_row;
  logic [Cols-1:0]            op_valid, op_first, op_last, op_empty;
  logic [Cols-1:0][31:0]      op_word;
  logic [Cols-1:0][SlotW-1:0] op_slot;
  logic [Cols-1:0][AccW-1:0]  op_row;
  logic [Rows-1:0][31:0]      drained;
  logic [CountW-1:0]          issued, window_stalls, feed_stalls, queue_stalls, gated;

  cx_sca_ctrl #(
    .Rows    (Rows),
    .Cols    (Cols),
    .AccRows (AccRows),
    .Depth   (Depth),
    .Window  (Window),
    .Advance (Advance),
    .Formats (Formats)
  ) u_ctrl (
    .clk_i,
    .rst_ni,
    .cmd_valid_i,
    .cmd_ready_o,
    .cmd_op_i,
    .cmd_fmt_i,
    .cmd_m_i,
    .cmd_k_i,
    .cmd_n_i,
    .cmd_groups_i,
    .cmd_acc_row_i,
    .cmd_accumulate_i,
    .cmd_parameters_i (cmd_has_scale_i || cmd_has_bias_i),
    .idle_o,
    .a_valid_i,
    .a_ready_o,
    .a_take_o         (a_take),
    .a_stall_o        (a_stall),
    .a_bank_o         (a_bank),
    .a_addr_o         (a_addr),
    .a_rows_o         (a_rows),
    .a_fmt_o          (a_fmt),
    .start_o          (start),
    .mul_k_o          (mul_k),
    .mul_fmt_o        (mul_fmt),
    .mul_int_o        (mul_int),
    .mul_accumulate_o (mul_accumulate),
    .columns_busy_i   (columns_busy),
    .base_i           (base),
    .stepping_i       (op_valid != '0),
    .writing_i        (writing),
    .read_count_o     (read_count),
    .read_bank_o      (read_bank),
    .read_addr_o      (read_addr),
    .read_slot_o      (read_slot),
    .visible_o        (visible),
    .drain_start_o    (drain_start),
    .p_valid_i,
    .p_ready_o,
    .drain_en_o       (drain_en),
    .drain_row_o      (drain_row),
    .drain_col_o      (drain_col),
    .post_en_o        (post_en),
    .d_valid_o,
    .d_ready_i
  );

  cx_sca_queues #(
    .Cols   (Cols),
    .Queue  (Queue),
    .Window (Window)
  ) u_queues (
    .clk_i,
    .rst_ni,
    .start_i        (start),
    .groups_i       (cmd_groups_i),
    .last_cols_i    (cmd_n_i[DimW-1:0]),
    .acc_row_i      (cmd_acc_row_i),
    .k_i            (mul_k),
    .fmt_i          (mul_fmt),
    .visible_i      (visible),
    .w_valid_i,
    .w_ready_o,
    .w_word_i,
    .w_place_i,
    .base_o         (base),
    .busy_o         (columns_busy),
    .op_valid_o     (op_valid),
    .op_first_o     (op_first),
    .op_last_o      (op_last),
    .op_empty_o     (op_empty),
    .op_word_o      (op_word),
    .op_slot_o      (op_slot),
    .op_row_o       (op_row),
    .issued_o       (issued),
    .window_stall_o (window_stalls),
    .feed_stall_o   (feed_stalls),
    .queue_stall_o  (queue_stalls)
  );

  cx_sca_array #(
    .Rows    (Rows),
    .Cols    (Cols),
    .AccRows (AccRows),
    .Depth   (Depth),
    .Window  (Window),
    .Advance (Advance),
    .Formats (Formats)
  ) u_array (
    .clk_i,
    .rst_ni,
    .a_take_i     (a_take),
    .a_bank_i     (a_bank),
    .a_addr_i     (a_addr),
    .a_rows_i     (a_rows),
    .a_fmt_i      (a_fmt),
    .a_row_i,
    .read_count_i (read_count),
    .read_bank_i  (read_bank),
    .read_addr_i  (read_addr),
    .read_slot_i  (read_slot),
    .is_int_i     (mul_int),
    .accumulate_i (mul_accumulate),
    .op_valid_i   (op_valid),
    .op_first_i   (op_first),
    .op_last_i    (op_last),
    .op_empty_i   (op_empty),
    .op_word_i    (op_word),
    .op_slot_i    (op_slot),
    .op_row_i     (op_row),
    .writing_o    (writing),
    .gated_o      (gated),
    .drain_en_i   (drain_en),
    .drain_row_i  (drain_row),
    .drain_col_i  (drain_col),
    .drain_word_o (drained)
  );

  // ---- drain: constants of the command, parameters of the column ----
  logic [3:0]  drain_fmt_q;
  logic        drain_integer_q, drain_has_scale_q, drain_has_bias_q;
  logic [1:0]  drain_act_q;
  logic [31:0] drain_lo_q, drain_hi_q;
  logic [31:0] scale_q, bias_q, bias_late_q;  // the bias is used one stage after the scale

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
    if (drain_en) begin
      scale_q <= p_scale_i;
      bias_q  <= p_bias_i;
    end
    if (post_en) bias_late_q <= bias_q;
  end

  cx_post #(
    .Cols (Rows)
  ) u_post (
    .clk_i,
    .en_i        (post_en),
    .word_i      (drained),
    .is_int_i    (drain_integer_q),
    .has_scale_i (drain_has_scale_q),
    .scale_i     ({Rows{scale_q}}),
    .has_bias_i  (drain_has_bias_q),
    .bias_i      ({Rows{bias_late_q}}),
    .act_i       (drain_act_q),
    .lo_i        (drain_lo_q),
    .hi_i        (drain_hi_q),
    .fmt_i       (drain_fmt_q),
    .word_o      (d_row_o)
  );

  cx_sca_counters u_counters (
    .clk_i,
    .rst_ni,
    .busy_i          (!idle_o),
    .a_take_i        (a_take),
    .a_stall_i       (a_stall),
    .d_take_i        (d_valid_o && d_ready_i),
    .d_stall_i       (d_valid_o && !d_ready_i),
    .issued_i        (issued),
    .gated_i         (gated),
    .window_stalls_i (window_stalls),
    .feed_stalls_i   (feed_stalls),
    .queue_stalls_i  (queue_stalls),
    .sel_i           (count_sel_i),
    .count_o
  );

endmodule
