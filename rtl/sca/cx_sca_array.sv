// Activation memory, window, operand selection, sums and accumulators of the sparse tile.
//
// A lane is a row of the activations. The window holds the activations of `Window` neighbouring positions, one vector of
// all lanes each, in the slot that is the position modulo `Window`. A column that has issued a weight selects the vector
// of its position and does one step in each lane; sums stay until the column's last weight of the group, then go to the
// accumulators of the group.
module cx_sca_array
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
  localparam int unsigned StepW = $clog2(Advance + 1),
  localparam int unsigned DepthW = $clog2(Depth),
  localparam int unsigned RowW = AccRows > 1 ? $clog2(AccRows) : 1,
  localparam int unsigned ColW = $clog2(Cols)
) (
  input  logic                       clk_i,
  input  logic                       rst_ni,
  // a vector that was taken
  input  logic                       a_take_i,
  input  logic                       a_bank_i,
  input  logic [KW-1:0]              a_addr_i,
  input  logic [DimW-1:0]            a_rows_i,      // lanes that take part
  input  logic [3:0]                 a_fmt_i,
  input  logic [Rows-1:0][31:0]      a_row_i,
  // vectors that are read from the memory, neighbours, for the window
  input  logic [StepW-1:0]           read_count_i,
  input  logic                       read_bank_i,
  input  logic [KW-1:0]              read_addr_i,
  input  logic [SlotW-1:0]           read_slot_i,
  // what the columns issued in the cycle before
  input  logic                       is_int_i,
  input  logic                       accumulate_i,
  input  logic [Cols-1:0]            op_valid_i,
  input  logic [Cols-1:0]            op_first_i,
  input  logic [Cols-1:0]            op_last_i,
  input  logic [Cols-1:0]            op_empty_i,
  input  logic [Cols-1:0][31:0]      op_word_i,
  input  logic [Cols-1:0][SlotW-1:0] op_slot_i,
  input  logic [Cols-1:0][AccW-1:0]  op_row_i,
  output logic                       writing_o,     // sums are on their way to the accumulators
  output logic [CountW-1:0]          gated_o,       // steps of lanes with a zero activation, since the reset
  // drain: the sums of a column
  input  logic                       drain_en_i,
  input  logic [AccW-1:0]            drain_row_i,
  input  logic [DimW-1:0]            drain_col_i,
  output logic [Rows-1:0][31:0]      drain_word_o
);

  localparam bit HasInt = has_format(Formats, FmtInt8);
  localparam bit HasFp  = (Formats & ~(6'd1 << FmtInt8)) != '0;

  // verilator tracing_off
  logic [31:0]     memory_q [2][Depth][Rows];  // activations, widened
  logic [DimW-1:0] zeros_q  [2][Depth];        // lanes that take part and are zero
  logic [31:0]     acc_q    [Cols][AccRows][Rows];
  // verilator tracing_on
  logic [31:0]     window_q [Window][Rows];
  logic [DimW-1:0] window_zeros_q [Window];
  logic [31:0]     sum_q    [Cols][Rows];
  logic [31:0]     end_q    [Cols][Rows];  // ends of chains
  logic [31:0]     old_q    [Cols][Rows];  // accumulators that they are added to

  logic [Cols-1:0]           write_q;
  logic [AccW-1:0]           write_row_q [Cols];
  logic                      write_int_q, write_accumulate_q;
  logic [StepW-1:0]          read_count_q;
  logic                      read_bank_q, a_write_q, a_bank_q;
  logic [DepthW-1:0]         read_addr_q, a_addr_q;
  logic [SlotW-1:0]          read_slot_q;
  logic [31:0]               a_word_q [Rows];
  logic [DimW-1:0]           a_zeros_q;
  logic [CountW-1:0]         gated_q;

  // ---- the accumulators: a column has a memory of its own, a word of all lanes for each group ----
  function automatic void write_back(input int unsigned c);
    logic [RowW-1:0] row;
    row = write_row_q[c][RowW-1:0];
    if (!write_accumulate_q) begin
      for (int unsigned r = 0; r < Rows; r++) acc_q[c][row][r] = end_q[c][r];
    end else if (HasInt && write_int_q) begin
      for (int unsigned r = 0; r < Rows; r++) acc_q[c][row][r] = old_q[c][r] + end_q[c][r];
    end else begin
      for (int unsigned r = 0; r < Rows; r++) acc_q[c][row][r] = cx_fp_pkg::add(old_q[c][r], end_q[c][r]);
    end
  endfunction

  function automatic void end_chain(input int unsigned c);
    logic [RowW-1:0] row;
    row = op_row_i[c][RowW-1:0];
    write_row_q[c] = op_row_i[c];
    for (int unsigned r = 0; r < Rows; r++) end_q[c][r] = sum_q[c][r];
    if (accumulate_i) begin
      for (int unsigned r = 0; r < Rows; r++) old_q[c][r] = acc_q[c][row][r];
    end
  endfunction

  // ---- operand selection and one step of all lanes of a column ----
  function automatic void step(input int unsigned c);
    logic [31:0]      word;
    logic [SlotW-1:0] slot;
    word = op_word_i[c];
    slot = op_slot_i[c];
    if (op_first_i[c]) begin
      for (int unsigned r = 0; r < Rows; r++) sum_q[c][r] = 32'd0;
    end
    if (!op_empty_i[c]) begin
      gated_q = gated_q + CountW'(window_zeros_q[slot]);
      if (HasInt && is_int_i) begin
        for (int unsigned r = 0; r < Rows; r++) sum_q[c][r] = cx_pe_pkg::step_int8(1, window_q[slot][r], word, sum_q[c][r]);
      end else if (HasFp) begin
        for (int unsigned r = 0; r < Rows; r++) sum_q[c][r] = cx_fp_pkg::fma(window_q[slot][r], word, sum_q[c][r]);
      end
    end
  endfunction

  function automatic void fill_window();
    logic [SlotW-1:0]  slot;
    logic [DepthW-1:0] addr;
    for (int unsigned v = 0; v < Advance; v++) begin
      if (StepW'(v) < read_count_q) begin
        slot = read_slot_q + SlotW'(v);
        addr = read_addr_q + DepthW'(v);
        window_zeros_q[slot] = zeros_q[read_bank_q][addr];
        for (int unsigned r = 0; r < Rows; r++) window_q[slot][r] = memory_q[read_bank_q][addr][r];
      end
    end
  endfunction

  function automatic void take_vector();
    a_bank_q  = a_bank_i;
    a_addr_q  = a_addr_i[DepthW-1:0];
    a_zeros_q = '0;
    for (int unsigned r = 0; r < Rows; r++) begin
      a_word_q[r] = cx_widen_pkg::widened(1, a_fmt_i, 4'hF, a_row_i[r]);
      if (DimW'(r) < a_rows_i && cx_widen_pkg::is_zero(1, a_fmt_i, a_word_q[r])) a_zeros_q = a_zeros_q + DimW'(1);
    end
  endfunction

  // The state changes in place, from the end of the way to its beginning: each part sees the others as they were.
  function automatic void columns();
    for (int unsigned c = 0; c < Cols; c++) begin
      if (write_q[c]) write_back(c);
      write_q[c] = op_valid_i[c] && op_last_i[c];
      if (op_valid_i[c]) step(c);
      if (write_q[c]) end_chain(c);
    end
    // The next multiplication may begin while these sums are written.
    write_int_q        = is_int_i;
    write_accumulate_q = accumulate_i;
  endfunction

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      write_q      = '0;
      writing_o    <= 1'b0;
      read_count_q = '0;
      a_write_q    = 1'b0;
      gated_q      = '0;
    end else begin
      if (op_valid_i != '0 || write_q != '0) columns();
      writing_o <= write_q != '0;
      if (read_count_q != '0) fill_window();
      read_count_q = read_count_i;
      read_bank_q  = read_bank_i;
      read_addr_q  = read_addr_i[DepthW-1:0];
      read_slot_q  = read_slot_i;
      if (a_write_q) begin
        zeros_q[a_bank_q][a_addr_q] = a_zeros_q;
        for (int unsigned r = 0; r < Rows; r++) memory_q[a_bank_q][a_addr_q][r] = a_word_q[r];
      end
      a_write_q = a_take_i;
      if (a_take_i) take_vector();
    end
  end

  function automatic logic [Rows-1:0][31:0] sums_of(input logic [ColW-1:0] c, input logic [RowW-1:0] row);
    for (int unsigned r = 0; r < Rows; r++) sums_of[r] = acc_q[c][row][r];
  endfunction

  always_ff @(posedge clk_i) if (drain_en_i) drain_word_o <= sums_of(drain_col_i[ColW-1:0], drain_row_i[RowW-1:0]);

  assign gated_o   = gated_q;

`ifndef SYNTHESIS
  // A drain reads what no sum is on its way to.
  function automatic logic awaited();
    awaited = 1'b0;
    for (int unsigned c = 0; c < Cols; c++) begin
      if (write_q[c] && DimW'(c) == drain_col_i && write_row_q[c] == drain_row_i) awaited = 1'b1;
    end
  endfunction

  DrainAlone_A : assert property (@(posedge clk_i) disable iff (!rst_ni) !drain_en_i || !awaited());
`endif

endmodule
