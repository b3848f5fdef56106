// Command sequencer of the tile: takes commands in order, streams weight and activation rows, reads rows for the drain,
// and holds a command back until it cannot disturb what is still in flight.
//
// Weight loads run beside a weight-stationary pass; the next pass may start in the cycle after the last row of the one
// before it. After an output-stationary pass the array first moves its sums out. A drain waits until every sum has been
// written.
module cx_tile_ctrl
  import cx_tile_pkg::*;
#(
  parameter int unsigned Rows    = 8,
  parameter int unsigned Cols    = 8,
  parameter int unsigned AccRows = 256,
  parameter int unsigned Pack    = 1,
  parameter int unsigned Stages  = 1,
  parameter logic [5:0]  Formats = 6'h3F
) (
  input  logic            clk_i,
  input  logic            rst_ni,
  // command; ready depends on the operation but not on valid
  input  logic            cmd_valid_i,
  output logic            cmd_ready_o,
  input  logic [1:0]      cmd_op_i,
  input  logic [3:0]      cmd_fmt_i,
  input  logic [3:0]      cmd_wfmt_i,
  input  logic [AccW-1:0] cmd_m_i,
  input  logic [KW-1:0]   cmd_k_i,
  input  logic [DimW-1:0] cmd_n_i,
  input  logic [AccW-1:0] cmd_acc_row_i,
  input  logic            cmd_accumulate_i,
  input  logic            cmd_scaled_i,
  input  logic            cmd_has_scale_i,
  input  logic            cmd_has_bias_i,
  output logic            idle_o,
  // weight rows
  input  logic            w_valid_i,
  output logic            w_ready_o,
  output logic            w_take_o,
  output logic            w_stall_o,     // a load waits for its row
  output logic            w_load_o,      // goes to a bank
  output logic            w_scale_o,     // is the row of block scales
  output logic [3:0]      w_fmt_o,
  output logic [DimW-1:0] w_row_o,
  output logic            w_bank_o,
  output logic [Pack-1:0] w_lanes_o,
  // activation rows
  input  logic            a_valid_i,
  output logic            a_ready_o,
  output logic            a_take_o,
  output logic            a_stall_o,     // a pass waits for its row
  output logic [3:0]      a_fmt_o,
  output logic [KW-1:0]   a_k_o,         // elements of a weight-stationary row
  output logic [Pack-1:0] a_lanes_o,     // of an output-stationary step
  output wave_t           a_wave_o,
  output logic            a_scaled_o,    // the row's block scale counts
  output tag_t            a_tag_o,
  // drain
  input  logic            p_valid_i,
  output logic            p_ready_o,
  output logic            p_scale_o,     // the row of parameters that is taken: scale or bias
  output logic            drain_en_o,
  output logic [AccW-1:0] drain_row_o,
  output logic [DimW-1:0] drain_cols_o,
  output logic            post_en_o,
  output logic            drain_start_o, // a drain is taken: its constants are at the command port
  output logic            d_valid_o,
  input  logic            d_ready_i
);

  localparam int unsigned PackW   = $clog2(Pack);
  localparam int unsigned Descend = Rows * Stages;  // cycles down the array
  // Longest stay of a row in array and accumulators.
  localparam int unsigned FlightW = $clog2(Descend + Cols + 1);
  localparam int unsigned GapW    = Stages > 1 ? $clog2(Stages) : 1;

  // ---- loader ----
  logic [KW-1:0]   load_left_q;   // elements along K
  logic [DimW-1:0] load_row_q;
  logic [3:0]      load_fmt_q;
  logic            load_scale_q;  // the row of block scales is still to come
  logic            load_tail_q;   // the last row is being written to the bank
  logic            active_q, shadow_full_q;
  logic [3:0]      bank_fmt_q [2];
  logic            bank_scaled_q [2];
  logic [3:0]      taken_fmt;     // of the weights that the next weight-stationary pass takes
  logic            load_busy, load_last, load_take, load_wide;

  // ---- streamer ----
  logic [AccW-1:0]    mul_left_q, mul_row_q, mul_m_q;  // rows, or elements along K of an output-stationary pass
  logic [KW-1:0]      mul_k_q;
  logic [DimW-1:0]    mul_n_q, mul_rows_q;
  logic [3:0]         mul_fmt_q, mul_wfmt_q;
  logic               mul_os_q, mul_first_q, mul_accumulate_q, mul_scaled_q;
  logic [GapW-1:0]    mul_gap_q;
  logic [DimW-1:0]    unload_q;   // rows of the array that are still to move out
  logic [FlightW-1:0] os_hold_q;  // cycles until another pass may follow an output-stationary one
  logic               mul_busy, mul_last, mul_take, mul_wide, os_turn, os_busy, os_last;
  logic [FlightW-1:0] flight_q, flight_new, hold_new;
  logic [FlightW-1:0] hold_q  [2];  // cycles until the last row of a bank's pass has left its columns
  logic [FlightW-1:0] scale_hold_q [2];  // and its sums are written

  // ---- drain ----
  logic [AccW-1:0]       drain_left_q, drain_row_q;
  logic [DimW-1:0]       drain_cols_q;
  logic [PostStages:0]   drain_valid_q;  // bit 0: the memory's read register
  logic                  need_scale_q, need_bias_q;
  logic                  drain_busy, drain_last, post_go;

  logic load_free, mul_free, drain_free, cmd_take, cmd_load, cmd_mul, cmd_os, cmd_drain;

  function automatic logic is_wide(input logic [3:0] fmt);
    return Pack > 1 && fmt >= FmtFp8E4m3;
  endfunction

  // Elements that a step takes of what is left.
  function automatic logic [KW-1:0] step_of(input logic wide, input logic [KW-1:0] left);
    step_of = KW'(1);
    if (wide) step_of = left < KW'(Pack) ? left : KW'(Pack);
  endfunction

  function automatic logic [Pack-1:0] lanes_of(input logic [KW-1:0] left);
    logic [Pack-1:0] lanes;
    for (int unsigned l = 0; l < Pack; l++) lanes[l] = KW'(l) < left;
    return lanes;
  endfunction

  assign taken_fmt = (active_q ^ shadow_full_q) ? bank_fmt_q[1] : bank_fmt_q[0];

  assign load_wide = is_wide(load_fmt_q);
  assign load_busy = load_left_q != '0;
  assign load_take = w_valid_i && load_busy;
  assign load_last = load_take && !load_scale_q && load_left_q <= KW'(load_wide ? Pack : 1);
  assign load_free = !load_busy || load_last;

  assign mul_wide  = is_wide(mul_fmt_q);
  assign mul_busy  = mul_left_q != '0;
  assign os_busy   = mul_busy && mul_os_q;
  assign os_turn   = os_busy && mul_gap_q == '0;
  assign mul_take  = a_valid_i && (mul_os_q ? os_turn && w_valid_i : mul_busy);
  assign mul_last  = mul_take && mul_left_q <= AccW'(mul_os_q && mul_wide ? Pack : 1);
  assign os_last   = mul_last && mul_os_q;
  assign mul_free  = (!mul_busy || (mul_last && !mul_os_q)) && os_hold_q == '0;

  assign w_ready_o = load_busy || (os_turn && a_valid_i);
  assign a_ready_o = mul_os_q ? os_turn && w_valid_i : mul_busy;

  assign drain_busy = drain_left_q != '0 || drain_valid_q != '0;
  assign drain_last = drain_left_q == '0 && drain_valid_q == {1'b1, {PostStages{1'b0}}} && d_ready_i;
  assign drain_free = !drain_busy || drain_last;
  assign post_go    = !drain_valid_q[PostStages] || d_ready_i;
  assign post_en_o  = post_go && drain_valid_q != '0;
  assign drain_en_o = drain_left_q != '0 && !need_scale_q && !need_bias_q && post_go;
  assign p_ready_o  = need_scale_q || need_bias_q;
  assign p_scale_o  = need_scale_q;

  logic [FlightW-1:0] hold_shadow, scale_hold_shadow;
  assign hold_shadow       = active_q ? hold_q[0] : hold_q[1];
  assign scale_hold_shadow = active_q ? scale_hold_q[0] : scale_hold_q[1];

  always_comb begin
    unique case (cmd_op_i)
      // The first weight reaches the bank two cycles after the command, row r as much later as the pass is there at the
      // latest.
      OpLoad:  cmd_ready_o = load_free && (!os_busy || os_last) && hold_shadow <= FlightW'(3) &&
                             (!cmd_scaled_i || scale_hold_shadow <= FlightW'(3));
      OpMul:   cmd_ready_o = load_free && mul_free && drain_free;
      OpMulOs: cmd_ready_o = load_free && mul_free && drain_free;
      default: cmd_ready_o = drain_free && !mul_busy && flight_q <= FlightW'(1);
    endcase
  end

  assign cmd_take  = cmd_valid_i && cmd_ready_o;
  assign cmd_load  = cmd_take && cmd_op_i == OpLoad;
  assign cmd_mul   = cmd_take && cmd_op_i == OpMul;
  assign cmd_os    = cmd_take && cmd_op_i == OpMulOs;
  assign cmd_drain = cmd_take && cmd_op_i == OpDrain;

  assign flight_new = FlightW'(Descend) + FlightW'(mul_n_q);
  assign hold_new   = FlightW'((Rows - 1) * (Stages - 1)) + FlightW'(mul_n_q);

  // A countdown that starts again, unless what is left of it is more.
  function automatic logic [FlightW-1:0] longer(input logic [FlightW-1:0] start, input logic [FlightW-1:0] count);
    return count > start ? count - FlightW'(1) : start;
  endfunction

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      load_left_q      <= '0;
      load_row_q       <= '0;
      load_fmt_q       <= '0;
      load_scale_q     <= 1'b0;
      load_tail_q      <= 1'b0;
      active_q         <= 1'b0;
      shadow_full_q    <= 1'b0;
      bank_fmt_q[0]    <= '0;
      bank_fmt_q[1]    <= '0;
      bank_scaled_q[0] <= 1'b0;
      bank_scaled_q[1] <= 1'b0;
    end else begin
      load_tail_q <= load_take;
      if (load_take) begin
        load_scale_q <= 1'b0;
        if (!load_scale_q) begin
          load_left_q <= load_left_q - step_of(load_wide, load_left_q);
          load_row_q  <= load_row_q + DimW'(1);
        end
      end
      if (cmd_load) begin
        load_left_q              <= cmd_k_i;
        load_row_q               <= '0;
        load_fmt_q               <= cmd_fmt_i;
        load_scale_q             <= cmd_scaled_i;
        shadow_full_q            <= 1'b1;
        bank_fmt_q[!active_q]    <= cmd_fmt_i;
        bank_scaled_q[!active_q] <= cmd_scaled_i;
      end
      if (cmd_mul && shadow_full_q) begin
        active_q      <= !active_q;
        shadow_full_q <= 1'b0;
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      mul_left_q       <= '0;
      mul_row_q        <= '0;
      mul_m_q          <= '0;
      mul_k_q          <= '0;
      mul_n_q          <= '0;
      mul_rows_q       <= '0;
      mul_fmt_q        <= '0;
      mul_wfmt_q       <= '0;
      mul_os_q         <= 1'b0;
      mul_first_q      <= 1'b0;
      mul_accumulate_q <= 1'b0;
      mul_scaled_q     <= 1'b0;
      mul_gap_q        <= '0;
      unload_q         <= '0;
      os_hold_q        <= '0;
      flight_q         <= '0;
      hold_q[0]        <= '0;
      hold_q[1]        <= '0;
      scale_hold_q[0]  <= '0;
      scale_hold_q[1]  <= '0;
    end else begin
      if (mul_take) begin
        mul_left_q  <= mul_left_q - (mul_os_q ? step_of(mul_wide, mul_left_q) : AccW'(1));
        mul_first_q <= 1'b0;
        if (!mul_os_q) mul_row_q <= mul_row_q + AccW'(1);
      end
      if (Stages > 1) begin
        if (mul_take && mul_os_q) mul_gap_q <= GapW'(Stages - 1);
        else if (mul_gap_q != '0) mul_gap_q <= mul_gap_q - GapW'(1);
      end
      if (os_last) unload_q <= DimW'(Rows - 1);
      else if (unload_q != '0) unload_q <= unload_q - DimW'(1);
      if (os_last) os_hold_q <= FlightW'(Descend - 1);
      else if (os_hold_q != '0) os_hold_q <= os_hold_q - FlightW'(1);
      if (cmd_mul || cmd_os) begin
        mul_left_q       <= cmd_os ? cmd_k_i : cmd_m_i;
        mul_row_q        <= cmd_acc_row_i;
        mul_m_q          <= cmd_m_i;
        mul_k_q          <= cmd_k_i;
        mul_n_q          <= cmd_n_i;
        mul_rows_q       <= cmd_os ? cmd_m_i[DimW-1:0] :
                            is_wide(cmd_fmt_i) ? DimW'((cmd_k_i + KW'(Pack - 1)) >> PackW) : cmd_k_i[DimW-1:0];
        mul_fmt_q        <= cmd_fmt_i;
        mul_wfmt_q       <= cmd_os ? cmd_wfmt_i : taken_fmt;
        mul_os_q         <= cmd_os;
        mul_first_q      <= 1'b1;
        mul_accumulate_q <= cmd_accumulate_i;
        mul_scaled_q     <= cmd_mul && cmd_scaled_i;
        mul_gap_q        <= '0;
      end
      if (a_tag_o.valid) flight_q <= longer(flight_new, flight_q);
      else if (flight_q != '0) flight_q <= flight_q - FlightW'(1);
      // A pass of few columns may follow one of many: the longer stay counts.
      for (int unsigned b = 0; b < 2; b++) begin
        if (mul_take && !mul_os_q && active_q == 1'(b)) begin
          hold_q[b]       <= longer(hold_new, hold_q[b]);
          scale_hold_q[b] <= longer(flight_new, scale_hold_q[b]);
        end else begin
          if (hold_q[b] != '0) hold_q[b] <= hold_q[b] - FlightW'(1);
          if (scale_hold_q[b] != '0) scale_hold_q[b] <= scale_hold_q[b] - FlightW'(1);
        end
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      drain_left_q  <= '0;
      drain_row_q   <= '0;
      drain_cols_q  <= '0;
      drain_valid_q <= '0;
      need_scale_q  <= 1'b0;
      need_bias_q   <= 1'b0;
    end else begin
      if (drain_en_o) begin
        drain_left_q <= drain_left_q - AccW'(1);
        drain_row_q  <= drain_row_q + AccW'(1);
      end
      if (post_go) drain_valid_q <= {drain_valid_q[PostStages-1:0], drain_en_o};
      if (p_valid_i && need_scale_q) need_scale_q <= 1'b0;
      else if (p_valid_i && need_bias_q) need_bias_q <= 1'b0;
      if (cmd_drain) begin
        drain_left_q <= cmd_m_i;
        drain_row_q  <= cmd_acc_row_i;
        drain_cols_q <= cmd_n_i;
        need_scale_q <= cmd_has_scale_i;
        need_bias_q  <= cmd_has_bias_i;
      end
    end
  end

  assign w_take_o  = w_valid_i && w_ready_o;
  assign w_stall_o = load_busy && !w_valid_i;
  assign w_load_o  = load_take && !load_scale_q;
  assign w_scale_o = load_take && load_scale_q;
  assign w_fmt_o   = load_busy ? load_fmt_q : mul_wfmt_q;
  assign w_row_o   = load_row_q;
  assign w_bank_o  = !active_q;
  assign w_lanes_o = lanes_of(load_busy ? load_left_q : mul_left_q);

  assign a_take_o   = mul_take;
  assign a_stall_o  = (mul_os_q ? os_turn : mul_busy) && !mul_take;
  assign a_fmt_o    = mul_fmt_q;
  assign a_k_o      = mul_k_q;
  assign a_lanes_o  = lanes_of(mul_left_q);
  assign a_scaled_o = mul_scaled_q;
  always_comb begin
    a_wave_o.valid  = mul_take;
    a_wave_o.os     = mul_os_q;
    a_wave_o.first  = mul_first_q;
    a_wave_o.bank   = active_q;
    a_wave_o.is_int = has_format(Formats, FmtInt8) && mul_fmt_q == FmtInt8;
    a_wave_o.is_fp8 = mul_wide && mul_fmt_q != FmtInt8;
    a_wave_o.a_e5m2 = mul_fmt_q == FmtFp8E5m2;
    a_wave_o.w_e5m2 = mul_wfmt_q == FmtFp8E5m2;
    a_wave_o.rows   = mul_rows_q;
    a_wave_o.cols   = mul_n_q;
  end

  // An unload issues the tags of its rows from the lowest, the first with the last step: each meets its sum, because both
  // go down by the same way.
  logic            unloading;
  logic [DimW-1:0] unload_row;
  assign unloading  = os_last || unload_q != '0;
  assign unload_row = os_last ? DimW'(Rows - 1) : unload_q - DimW'(1);
  always_comb begin
    a_tag_o.valid      = (mul_take && !mul_os_q) || unloading;
    a_tag_o.write      = !unloading || AccW'(unload_row) < mul_m_q;
    a_tag_o.os         = unloading;
    a_tag_o.depth      = DimW'(Rows - 1) - unload_row;
    a_tag_o.accumulate = mul_accumulate_q;
    a_tag_o.is_int     = a_wave_o.is_int;
    a_tag_o.scaled     = !unloading && (mul_scaled_q || bank_scaled_q[active_q]);
    a_tag_o.col_scaled = !unloading && bank_scaled_q[active_q];
    a_tag_o.bank       = active_q;
    a_tag_o.cols       = mul_n_q;
    a_tag_o.row        = unloading ? mul_row_q + AccW'(unload_row) : mul_row_q;
  end

  assign drain_row_o   = drain_row_q;
  assign drain_cols_o  = drain_cols_q;
  assign drain_start_o = cmd_drain;
  assign d_valid_o     = drain_valid_q[PostStages];

  assign idle_o = !load_busy && !load_tail_q && !mul_busy && flight_q == '0 && !drain_busy;

`ifndef SYNTHESIS
  logic weights_q;
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) weights_q <= 1'b0;
    else if (cmd_load) weights_q <= 1'b1;
  end

  function automatic logic is_fp8(input logic [3:0] fmt);
    return fmt == FmtFp8E4m3 || fmt == FmtFp8E5m2;
  endfunction

  KnownFormat_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_take || (cmd_op_i == OpDrain ? cmd_fmt_i <= FmtInt32 : has_format(Formats, cmd_fmt_i)));
  LoadRows_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_load || (cmd_k_i != '0 && cmd_k_i <= KW'(is_wide(cmd_fmt_i) ? Rows * Pack : Rows)));
  MulShape_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_mul || (cmd_k_i != '0 && cmd_k_i <= KW'(is_wide(cmd_fmt_i) ? Rows * Pack : Rows) && cmd_n_i != '0 &&
                   cmd_n_i <= DimW'(Cols)));
  MulWeights_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_mul || (weights_q && (taken_fmt == cmd_fmt_i ||
                                 (is_fp8(cmd_fmt_i) && is_fp8(taken_fmt)))));
  OsShape_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_os || (cmd_k_i != '0 && cmd_m_i != '0 && cmd_m_i <= AccW'(Rows) && cmd_n_i != '0 &&
                  cmd_n_i <= DimW'(Cols) &&
                  (cmd_wfmt_i == cmd_fmt_i || (is_fp8(cmd_fmt_i) && is_fp8(cmd_wfmt_i) &&
                                               has_format(Formats, cmd_wfmt_i)))));
  RowsInMemory_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !(cmd_mul || cmd_os || cmd_drain) ||
      (cmd_m_i != '0 && {1'b0, cmd_acc_row_i} + {1'b0, cmd_m_i} <= (AccW + 1)'(AccRows)));
  // No row of an earlier pass may still need the weights that are being replaced.
  BankFree_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !load_take || hold_shadow <= FlightW'(2));
  // Sums that move out must not meet those of a new pass.
  UnloadAlone_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !(mul_take && !mul_os_q && unload_q != '0));
`endif

endmodule
