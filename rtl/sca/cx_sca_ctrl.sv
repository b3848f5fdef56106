// Command sequencer of the sparse tile: takes commands in order, stores activation vectors, moves the window over them,
// reads columns for the drain, and holds a command back until it cannot disturb what is in flight.
//
// A load fills the bank of activations that is not being multiplied. A multiplication waits for its activations and for
// the columns of the one before; it may run beside a drain whose accumulators lie in the other half of the memory. A
// drain waits until every sum has been written.
module cx_sca_ctrl
  import cx_tile_pkg::*;
  import cx_sca_pkg::*;
#(
  parameter int unsigned Rows    = 8,
  parameter int unsigned Cols    = 8,
  parameter int unsigned AccRows = 16,
  parameter int unsigned Depth   = 64,
  parameter int unsigned Window  = 32,
  parameter int unsigned Advance = 8,
  parameter logic [5:0]  Formats = 6'h3E,
  localparam int unsigned SlotW = $clog2(Window),
  localparam int unsigned StepW = $clog2(Advance + 1)
) (
  input  logic              clk_i,
  input  logic              rst_ni,
  // command; ready depends on operation and rows but not on valid
  input  logic              cmd_valid_i,
  output logic              cmd_ready_o,
  input  logic [1:0]        cmd_op_i,
  input  logic [3:0]        cmd_fmt_i,
  input  logic [DimW-1:0]   cmd_m_i,
  input  logic [KW-1:0]     cmd_k_i,
  input  logic [GroupW-1:0] cmd_n_i,
  input  logic [GroupW-1:0] cmd_groups_i,
  input  logic [AccW-1:0]   cmd_acc_row_i,
  input  logic              cmd_accumulate_i,
  input  logic              cmd_parameters_i,
  output logic              idle_o,
  // activation vectors
  input  logic              a_valid_i,
  output logic              a_ready_o,
  output logic              a_take_o,
  output logic              a_stall_o,
  output logic              a_bank_o,
  output logic [KW-1:0]     a_addr_o,
  output logic [DimW-1:0]   a_rows_o,
  output logic [3:0]        a_fmt_o,
  // multiplication
  output logic              start_o,        // taken: its fields are at the command port
  output logic [KW-1:0]     mul_k_o,
  output logic [3:0]        mul_fmt_o,
  output logic              mul_int_o,
  output logic              mul_accumulate_o,
  input  logic              columns_busy_i,
  input  logic [PosW-1:0]   base_i,
  input  logic              stepping_i,     // weights that were issued in the cycle before
  input  logic              writing_i,      // sums are being written
  output logic [StepW-1:0]  read_count_o,
  output logic              read_bank_o,
  output logic [KW-1:0]     read_addr_o,
  output logic [SlotW-1:0]  read_slot_o,
  output logic [PosW-1:0]   visible_o,
  // drain
  output logic              drain_start_o,  // taken: its constants are at the command port
  input  logic              p_valid_i,
  output logic              p_ready_o,
  output logic              drain_en_o,
  output logic [AccW-1:0]   drain_row_o,
  output logic [DimW-1:0]   drain_col_o,
  output logic              post_en_o,
  output logic              d_valid_o,
  input  logic              d_ready_i
);

  // ---- loader ----
  logic [KW-1:0]   load_left_q, load_addr_q;
  logic [DimW-1:0] load_rows_q;
  logic [3:0]      load_fmt_q;
  logic            load_tail_q;    // the last vector is being written
  logic            active_q;       // bank that is multiplied
  logic            shadow_full_q;
  logic [3:0]      bank_fmt_q [2];
  logic            load_busy, load_take;

  // ---- window ----
  logic [KW-1:0]     mul_k_q, read_addr_q;
  logic [GroupW-1:0] read_groups_q;  // groups whose vectors have not all been read
  logic [PosW-1:0]   read_q, visible_q;
  logic [3:0]        mul_fmt_q;
  logic              mul_accumulate_q;

  // ---- drain ----
  logic [GroupW-1:0]   drain_left_q;
  logic [AccW-1:0]     drain_row_q;
  logic [1:0]          drain_halves_q;
  logic [DimW-1:0]     drain_col_q;
  logic [PostStages:0] drain_valid_q;  // bit 0: the memory's read register
  logic                drain_parameters_q;
  logic                drain_busy, drain_last, drain_free, post_go;

  logic cmd_take, cmd_load, cmd_mul, cmd_drain;

  function automatic logic upper_half(input logic [AccW-1:0] row);
    return row >= AccW'(AccRows / 2);
  endfunction

  // Halves of the memory in which rows lie.
  function automatic logic [1:0] halves_of(input logic [AccW-1:0] first, input logic [GroupW-1:0] rows);
    return {upper_half(first + AccW'(rows) - AccW'(1)), !upper_half(first)};
  endfunction

  assign load_busy = load_left_q != '0;
  assign load_take = a_valid_i && load_busy;

  assign drain_busy = drain_left_q != '0 || drain_valid_q != '0;
  assign drain_last = drain_left_q == '0 && drain_valid_q == {1'b1, {PostStages{1'b0}}} && d_ready_i;
  assign drain_free = !drain_busy || drain_last;
  assign post_go    = !drain_valid_q[PostStages] || d_ready_i;
  assign post_en_o  = post_go && drain_valid_q != '0;
  assign p_ready_o  = drain_left_q != '0 && drain_parameters_q && post_go;
  assign drain_en_o = drain_left_q != '0 && post_go && (p_valid_i || !drain_parameters_q);

  logic [1:0] cmd_halves;
  logic       drain_disturbed;
  assign cmd_halves      = halves_of(cmd_acc_row_i, cmd_groups_i);
  assign drain_disturbed = !drain_free && (cmd_halves & drain_halves_q) != '0;

  always_comb begin
    unique case (cmd_op_i)
      ScaLoad: cmd_ready_o = !load_busy;
      ScaMul:  cmd_ready_o = !load_busy && !columns_busy_i && !drain_disturbed;
      default: cmd_ready_o = !columns_busy_i && !stepping_i && drain_free;
    endcase
  end

  assign cmd_take  = cmd_valid_i && cmd_ready_o;
  assign cmd_load  = cmd_take && cmd_op_i == ScaLoad;
  assign cmd_mul   = cmd_take && cmd_op_i == ScaMul;
  assign cmd_drain = cmd_take && cmd_op_i == ScaDrain;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      load_left_q   <= '0;
      load_addr_q   <= '0;
      load_rows_q   <= '0;
      load_fmt_q    <= '0;
      load_tail_q   <= 1'b0;
      active_q      <= 1'b0;
      shadow_full_q <= 1'b0;
      bank_fmt_q[0] <= '0;
      bank_fmt_q[1] <= '0;
    end else begin
      load_tail_q <= load_take;
      if (load_take) begin
        load_left_q <= load_left_q - KW'(1);
        load_addr_q <= load_addr_q + KW'(1);
      end
      if (cmd_load) begin
        load_left_q           <= cmd_k_i;
        load_addr_q           <= '0;
        load_rows_q           <= cmd_m_i;
        load_fmt_q            <= cmd_fmt_i;
        shadow_full_q         <= 1'b1;
        bank_fmt_q[!active_q] <= cmd_fmt_i;
      end
      if (cmd_mul && shadow_full_q) begin
        active_q      <= !active_q;
        shadow_full_q <= 1'b0;
      end
    end
  end

  // Vectors that are read now: what the window has room for, but not beyond the group, whose first vector may lie in the
  // same part of the memory.
  logic [PosW-1:0] room;
  logic [KW-1:0]   group_left;
  assign room       = PosW'(Window) - (read_q - base_i);
  assign group_left = mul_k_q - read_addr_q;

  always_comb begin
    read_count_o = StepW'(Advance);
    if (room < PosW'(Advance)) read_count_o = room[StepW-1:0];
    if (group_left < KW'(read_count_o)) read_count_o = group_left[StepW-1:0];
    if (read_groups_q == '0 || !columns_busy_i) read_count_o = '0;
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      mul_k_q          <= '0;
      mul_fmt_q        <= '0;
      mul_accumulate_q <= 1'b0;
      read_addr_q      <= '0;
      read_groups_q    <= '0;
      read_q           <= '0;
      visible_q        <= '0;
    end else if (cmd_mul) begin
      mul_k_q          <= cmd_k_i;
      mul_fmt_q        <= cmd_fmt_i;
      mul_accumulate_q <= cmd_accumulate_i;
      read_addr_q      <= '0;
      read_groups_q    <= cmd_groups_i;
      read_q           <= '0;
      visible_q        <= '0;
    end else begin
      read_q    <= read_q + PosW'(read_count_o);
      visible_q <= read_q;
      if (read_groups_q != '0) begin
        read_addr_q <= read_addr_q + KW'(read_count_o);
        if (KW'(read_count_o) == group_left) begin
          read_addr_q   <= '0;
          read_groups_q <= read_groups_q - GroupW'(1);
        end
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      drain_left_q       <= '0;
      drain_row_q        <= '0;
      drain_halves_q     <= '0;
      drain_col_q        <= '0;
      drain_valid_q      <= '0;
      drain_parameters_q <= 1'b0;
    end else begin
      if (drain_en_o) begin
        drain_left_q <= drain_left_q - GroupW'(1);
        drain_col_q  <= drain_col_q + DimW'(1);
        if (drain_col_q == DimW'(Cols - 1)) begin
          drain_col_q <= '0;
          drain_row_q <= drain_row_q + AccW'(1);
        end
      end
      if (post_go) drain_valid_q <= {drain_valid_q[PostStages-1:0], drain_en_o};
      if (cmd_drain) begin
        drain_left_q       <= cmd_n_i;
        drain_row_q        <= cmd_acc_row_i;
        drain_halves_q     <= cmd_halves;
        drain_col_q        <= '0;
        drain_parameters_q <= cmd_parameters_i;
      end
    end
  end

  assign a_ready_o = load_busy;
  assign a_take_o  = load_take;
  assign a_stall_o = load_busy && !a_valid_i;
  assign a_bank_o  = !active_q;
  assign a_addr_o  = load_addr_q;
  assign a_rows_o  = load_rows_q;
  assign a_fmt_o   = load_fmt_q;

  assign start_o          = cmd_mul;
  assign mul_k_o          = mul_k_q;
  assign mul_fmt_o        = mul_fmt_q;
  assign mul_int_o        = has_format(Formats, FmtInt8) && mul_fmt_q == FmtInt8;
  assign mul_accumulate_o = mul_accumulate_q;
  assign read_bank_o      = active_q;
  assign read_addr_o      = read_addr_q;
  assign read_slot_o      = read_q[SlotW-1:0];
  assign visible_o        = visible_q;

  assign drain_start_o = cmd_drain;
  assign drain_row_o   = drain_row_q;
  assign drain_col_o   = drain_col_q;
  assign d_valid_o     = drain_valid_q[PostStages];

  assign idle_o = !load_busy && !load_tail_q && !columns_busy_i && !stepping_i && !writing_i && !drain_busy;

`ifndef SYNTHESIS
  logic loaded_q;
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) loaded_q <= 1'b0;
    else if (cmd_load) loaded_q <= 1'b1;
  end

  logic [3:0] taken_fmt;  // of the activations that the next multiplication takes
  assign taken_fmt = (active_q ^ shadow_full_q) ? bank_fmt_q[1] : bank_fmt_q[0];

  function automatic logic is_fp8(input logic [3:0] fmt);
    return fmt == FmtFp8E4m3 || fmt == FmtFp8E5m2;
  endfunction

  KnownFormat_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_take || (cmd_op_i == ScaDrain ? cmd_fmt_i <= FmtInt32 : has_format(Formats, cmd_fmt_i)));
  LoadShape_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_load || (cmd_k_i != '0 && cmd_k_i <= KW'(Depth) && cmd_m_i != '0 && cmd_m_i <= DimW'(Rows)));
  MulShape_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_mul || (cmd_k_i != '0 && cmd_k_i <= KW'(Depth) && cmd_n_i != '0 && cmd_n_i <= GroupW'(Cols)));
  MulActivations_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_mul || (loaded_q && (taken_fmt == cmd_fmt_i || (is_fp8(taken_fmt) && is_fp8(cmd_fmt_i)))));
  RowsInMemory_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !(cmd_mul || cmd_drain) ||
      (cmd_groups_i != '0 && {1'b0, cmd_acc_row_i} + {1'b0, cmd_groups_i} <= (AccW + 1)'(AccRows)));
  DrainShape_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !cmd_drain || (cmd_n_i != '0 && 32'(cmd_n_i) <= 32'(cmd_groups_i) * Cols));
  WindowHolds_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
      !columns_busy_i || read_q <= base_i || read_q - base_i <= PosW'(Window));
`endif

endmodule
