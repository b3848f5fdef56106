// Command sequencer of the tile: takes commands in order, streams weight and activation rows, reads rows for the drain,
// and holds a command back until it cannot disturb what is still in flight.
//
// Weight loads run beside a pass; the next pass may start in the cycle after the last row of the one before it.
// A drain waits until every partial sum has been written.
module cx_tile_ctrl
  import cx_tile_pkg::*;
#(
  parameter int unsigned Rows    = 8,
  parameter int unsigned Cols    = 8,
  parameter int unsigned AccRows = 256
) (
  input  logic            clk_i,
  input  logic            rst_ni,
  // command; ready depends on the operation but not on valid
  input  logic            cmd_valid_i,
  output logic            cmd_ready_o,
  input  logic [1:0]      cmd_op_i,
  input  logic [3:0]      cmd_fmt_i,
  input  logic [AccW-1:0] cmd_m_i,
  input  logic [DimW-1:0] cmd_k_i,
  input  logic [DimW-1:0] cmd_n_i,
  input  logic [AccW-1:0] cmd_acc_row_i,
  input  logic            cmd_accumulate_i,
  output logic            idle_o,
  // weight rows
  input  logic            w_valid_i,
  output logic            w_ready_o,
  output logic [3:0]      w_fmt_o,
  output logic [DimW-1:0] w_row_o,
  output logic            w_bank_o,
  // activation rows
  input  logic            a_valid_i,
  output logic            a_ready_o,
  output logic [3:0]      a_fmt_o,
  output logic [DimW-1:0] a_k_o,
  output logic            a_bank_o,
  output tag_t            a_tag_o,
  // drain
  output logic            drain_en_o,
  output logic [AccW-1:0] drain_row_o,
  output logic            d_valid_o,
  input  logic            d_ready_i
);

  // Longest stay of a row in array and accumulators.
  localparam int unsigned FlightW = $clog2(Rows + Cols + 1);

  // ---- loader ----
  logic [DimW-1:0] load_left_q, load_row_q;
  logic [3:0]      load_fmt_q;
  logic            load_tail_q;  // the last row is being written to the bank
  logic            active_q, shadow_full_q;
  logic            load_busy, load_last, load_take;

  // ---- streamer ----
  logic [AccW-1:0] mul_left_q, mul_row_q;
  logic [DimW-1:0] mul_k_q, mul_n_q;
  logic [3:0]      mul_fmt_q;
  logic            mul_accumulate_q;
  logic            mul_busy, mul_last, mul_take;
  logic [FlightW-1:0] flight_q, flight_new, flight_less;
  logic [DimW-1:0] hold_q [2];  // cycles until the last row of a bank's pass has left its columns

  logic [DimW-1:0] hold_shadow;

  // ---- drain ----
  logic [AccW-1:0] drain_left_q, drain_row_q;
  logic            drain_valid_q;
  logic            drain_busy, drain_last;

  logic load_free, mul_free, drain_free, cmd_take, cmd_load, cmd_mul, cmd_drain;

  assign load_busy = load_left_q != '0;
  assign w_ready_o = load_busy;
  assign load_take = w_valid_i && load_busy;
  assign load_last = load_take && load_left_q == DimW'(1);
  assign load_free = !load_busy || load_last;

  assign hold_shadow = active_q ? hold_q[0] : hold_q[1];

  assign mul_busy  = mul_left_q != '0;
  assign a_ready_o = mul_busy;
  assign mul_take  = a_valid_i && mul_busy;
  assign mul_last  = mul_take && mul_left_q == AccW'(1);
  assign mul_free  = !mul_busy || mul_last;

  assign drain_busy = drain_left_q != '0 || drain_valid_q;
  assign drain_last = drain_left_q == '0 && drain_valid_q && d_ready_i;
  assign drain_free = !drain_busy || drain_last;
  assign drain_en_o = drain_left_q != '0 && (!drain_valid_q || d_ready_i);

  always_comb begin
    unique case (cmd_op_i)
      // The first weight reaches the bank two cycles after the command, row r as much later as the pass is there.
      OpLoad:  cmd_ready_o = load_free && hold_shadow <= DimW'(3);
      OpMul:   cmd_ready_o = load_free && mul_free && drain_free;
      OpDrain: cmd_ready_o = drain_free && !mul_busy && flight_q <= FlightW'(1);
      default: cmd_ready_o = 1'b0;
    endcase
  end

  assign cmd_take  = cmd_valid_i && cmd_ready_o;
  assign cmd_load  = cmd_take && cmd_op_i == OpLoad;
  assign cmd_mul   = cmd_take && cmd_op_i == OpMul;
  assign cmd_drain = cmd_take && cmd_op_i == OpDrain;

  assign flight_new  = FlightW'(Rows) + FlightW'(mul_n_q);
  assign flight_less = flight_q == '0 ? '0 : flight_q - FlightW'(1);

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      load_left_q   <= '0;
      load_row_q    <= '0;
      load_fmt_q    <= '0;
      load_tail_q   <= 1'b0;
      active_q      <= 1'b0;
      shadow_full_q <= 1'b0;
    end else begin
      load_tail_q <= load_take;
      if (load_take) begin
        load_left_q <= load_left_q - DimW'(1);
        load_row_q  <= load_row_q + DimW'(1);
      end
      if (cmd_load) begin
        load_left_q   <= cmd_k_i;
        load_row_q    <= '0;
        load_fmt_q    <= cmd_fmt_i;
        shadow_full_q <= 1'b1;
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
      mul_k_q          <= '0;
      mul_n_q          <= '0;
      mul_fmt_q        <= '0;
      mul_accumulate_q <= 1'b0;
      flight_q         <= '0;
      hold_q[0]        <= '0;
      hold_q[1]        <= '0;
    end else begin
      if (mul_take) begin
        mul_left_q <= mul_left_q - AccW'(1);
        mul_row_q  <= mul_row_q + AccW'(1);
      end
      if (cmd_mul) begin
        mul_left_q       <= cmd_m_i;
        mul_row_q        <= cmd_acc_row_i;
        mul_k_q          <= cmd_k_i;
        mul_n_q          <= cmd_n_i;
        mul_fmt_q        <= cmd_fmt_i;
        mul_accumulate_q <= cmd_accumulate_i;
      end
      flight_q <= (mul_take && flight_new > flight_less) ? flight_new : flight_less;
      for (int unsigned b = 0; b < 2; b++) begin
        if (mul_take && active_q == 1'(b)) hold_q[b] <= mul_n_q;
        else if (hold_q[b] != '0) hold_q[b] <= hold_q[b] - DimW'(1);
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      drain_left_q  <= '0;
      drain_row_q   <= '0;
      drain_valid_q <= 1'b0;
    end else begin
      if (drain_en_o) begin
        drain_left_q <= drain_left_q - AccW'(1);
        drain_row_q  <= drain_row_q + AccW'(1);
      end
      drain_valid_q <= drain_en_o || (drain_valid_q && !d_ready_i);
      if (cmd_drain) begin
        drain_left_q <= cmd_m_i;
        drain_row_q  <= cmd_acc_row_i;
      end
    end
  end

  assign w_fmt_o  = load_fmt_q;
  assign w_row_o  = load_row_q;
  assign w_bank_o = !active_q;

  assign a_fmt_o  = mul_fmt_q;
  assign a_k_o    = mul_k_q;
  assign a_bank_o = active_q;
  always_comb begin
    a_tag_o.valid      = mul_take;
    a_tag_o.accumulate = mul_accumulate_q;
    a_tag_o.is_int     = mul_fmt_q == FmtInt8;
    a_tag_o.cols       = mul_n_q;
    a_tag_o.row        = mul_row_q;
  end

  assign drain_row_o = drain_row_q;
  assign d_valid_o   = drain_valid_q;

  assign idle_o = !load_busy && !load_tail_q && !mul_busy && flight_q == '0 && !drain_busy;

`ifndef SYNTHESIS
  logic [3:0] weights_fmt_q;
  logic       weights_q;
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      weights_fmt_q <= '0;
      weights_q     <= 1'b0;
    end else if (cmd_load) begin
      weights_fmt_q <= cmd_fmt_i;
      weights_q     <= 1'b1;
    end
  end
  KnownOp_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_valid_i || cmd_op_i <= OpDrain);
  KnownFormat_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_take || cmd_op_i == OpDrain || cmd_fmt_i <= FmtInt8);
  LoadRows_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_load || (cmd_k_i != '0 && cmd_k_i <= DimW'(Rows)));
  MulShape_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_mul || (cmd_k_i != '0 && cmd_k_i <= DimW'(Rows) && cmd_n_i != '0 && cmd_n_i <= DimW'(Cols)));
  MulWeights_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_mul || (weights_q && weights_fmt_q == cmd_fmt_i));
  RowsInMemory_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !(cmd_mul || cmd_drain) ||
      (cmd_m_i != '0 && {1'b0, cmd_acc_row_i} + {1'b0, cmd_m_i} <= (AccW + 1)'(AccRows)));
  // No row of an earlier pass may still need the weights that are being replaced.
  BankFree_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !load_take || hold_shadow <= DimW'(2));
`endif

endmodule
