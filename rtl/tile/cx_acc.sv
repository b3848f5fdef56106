// The accumulator memory: write or read-add-write of the sums that leave the array, block scales, parity, and the read
// port of the drain. Reads are synchronous; a row that is being written is forwarded.
//
// The tag of a row waits while its sums go down the array, then goes along the columns with them.
module cx_acc
  import cx_tile_pkg::*;
#(
  parameter int unsigned Cols    = 8,
  parameter int unsigned AccRows = 256,
  parameter int unsigned Descend = 8,  // cycles down the array
  localparam int unsigned RowW = AccRows > 1 ? $clog2(AccRows) : 1
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  // of a row whose activations are taken
  input  tag_t                      tag_i,
  input  logic [31:0]               row_scale_i,
  input  logic [Cols-1:0][31:0]     psum_i,
  // with the sums: columns of the array move down, rows above `depth` are empty
  output logic [Cols-1:0]           shift_o,
  output logic [Cols-1:0][DimW-1:0] depth_o,
  // block scales of the columns, a row for each weight bank
  input  logic                      scale_we_i,
  input  logic                      scale_bank_i,
  input  logic [Cols-1:0][31:0]     scale_i,
  // drain; never together with a tag at the columns
  input  logic                      drain_en_i,
  input  logic [AccW-1:0]           drain_row_i,
  input  logic [DimW-1:0]           drain_cols_i,
  output logic [Cols-1:0][31:0]     drain_word_o,
  // parity
  input  logic                      inject_i,  // words written now get a wrong bit
  output logic                      error_o,   // words were read with wrong parity, a cycle ago
  output logic [CountW-1:0]         errors_o   // how many since the reset
);

  localparam int unsigned Tags = Descend + Cols;  // tag Descend + c goes with the sum of column c

  // verilator tracing_off
  logic [31:0] mem    [Cols][AccRows];
  logic        parity [Cols][AccRows];
  // verilator tracing_on
  logic [1:0][Cols-1:0][31:0] scale_q;
  tag_t                       tag_q       [Tags];
  logic [31:0]                row_scale_q [Tags];
  logic [Tags-1:0]            valid_q;
  logic [Cols-1:0][31:0]      read_q, forward_word_q;
  logic [Cols-1:0]            read_parity_q, forward_parity_q, forward_q, checked_q, shift_q;
  logic [Cols-1:0][DimW-1:0]  depth_q;
  logic [CountW-1:0]          errors_q;
  logic                       error_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) valid_q <= '0;
    else valid_q <= {valid_q[Tags-2:0], tag_i.valid};
  end

  always_ff @(posedge clk_i) begin
    if (scale_we_i) scale_q[scale_bank_i] <= scale_i;
  end

  // Every kind returns on its own: selected at the end, a simulator would evaluate more than one. Verilator counts a branch
  // at its end, where these never come.
  // verilator coverage_off
  function automatic logic [31:0] scaled(input logic is_int, input logic accumulate, input logic [31:0] factor,
                                         input logic [31:0] present, input logic [31:0] psum);
    logic [31:0] value;
    value = psum;
    if (is_int) value = cx_cvt_pkg::int_to_fp32(psum);
    if (accumulate) return cx_fp_pkg::fma(value, factor, present);
    return cx_fp_pkg::mul(value, factor);
  endfunction

  function automatic logic [31:0] added(input logic is_int, input logic [31:0] present, input logic [31:0] psum);
    if (is_int) return present + psum;
    return cx_fp_pkg::add(present, psum);
  endfunction

  // What is written for the sum of a column.
  function automatic logic [31:0] result(input tag_t tag, input logic [31:0] row_scale, input logic [31:0] col_scale,
                                         input logic [31:0] present, input logic [31:0] psum);
    if (tag.scaled) begin
      return scaled(tag.is_int, tag.accumulate, cx_fp_pkg::mul(row_scale, tag.col_scaled ? col_scale : cx_fp_pkg::One),
                    present, psum);
    end
    if (tag.accumulate) return added(tag.is_int, present, psum);
    return psum;
  endfunction
  // verilator coverage_on

  // A cycle of column c. The memory changes in place: it is read before it is written.
  task automatic column(input int unsigned c);
    tag_t        now, ahead;  // of the sum of the column, and of its next one
    logic        here, coming;
    logic [31:0] word;
    now    = tag_q[Descend+c];
    ahead  = tag_q[Descend+c-1];
    here   = valid_q[Descend+c] && DimW'(c) < now.cols && now.write;
    coming = valid_q[Descend+c-1] && DimW'(c) < ahead.cols;
    if (here) begin
      word = result(now, row_scale_q[Descend+c], scale_q[now.bank][c], forward_q[c] ? forward_word_q[c] : read_q[c],
                    psum_i[c]);
      forward_word_q[c]   <= word ^ {31'd0, inject_i};
      forward_parity_q[c] <= ^word;
    end
    forward_q[c] <= here && coming && ahead.write && now.row == ahead.row;
    checked_q[c] <= coming && ahead.write && ahead.accumulate;
    shift_q[c]   <= coming && ahead.os;
    if (coming) begin
      depth_q[c] <= ahead.depth;
      if (ahead.write && ahead.accumulate) begin
        read_q[c]        <= mem[c][ahead.row[RowW-1:0]];
        read_parity_q[c] <= parity[c][ahead.row[RowW-1:0]];
      end
    end
    if (here) begin
      mem[c][now.row[RowW-1:0]]    = word ^ {31'd0, inject_i};
      parity[c][now.row[RowW-1:0]] = ^word;
    end
  endtask

  task automatic columns();
    for (int unsigned c = 0; c < Cols; c++) column(c);
  endtask

  task automatic read_for_drain();
    for (int unsigned c = 0; c < Cols; c++) begin
      checked_q[c] <= DimW'(c) < drain_cols_i;
      if (DimW'(c) < drain_cols_i) begin
        read_q[c]        <= mem[c][drain_row_i[RowW-1:0]];
        read_parity_q[c] <= parity[c][drain_row_i[RowW-1:0]];
      end
`ifndef SYNTHESIS
      DrainAlone_A : assert (!(valid_q[Descend+c] && DimW'(c) < tag_q[Descend+c].cols) &&
                             !(valid_q[Descend+c-1] && DimW'(c) < tag_q[Descend+c-1].cols));
`endif
    end
  endtask

  task automatic move_tags();
    for (int unsigned t = Tags - 1; t > 0; t--) tag_q[t] = tag_q[t-1];
    for (int unsigned t = Tags - 1; t > 0; t--) row_scale_q[t] = row_scale_q[t-1];
  endtask

  logic active;  // tags or sums at the columns
  assign active = valid_q[Tags-1:Descend-1] != '0;

  always_ff @(posedge clk_i) begin
    if (active) columns();
    else begin
      forward_q <= '0;
      checked_q <= '0;
      shift_q   <= '0;
    end
    if (drain_en_i) read_for_drain();
    if (valid_q != '0) move_tags();
    if (tag_i.valid) begin
      tag_q[0]       = tag_i;
      row_scale_q[0] = row_scale_i;
    end
  end

  // Words that are in use now and have wrong parity.
  function automatic logic [DimW-1:0] wrong();
    logic [DimW-1:0] count;
    count = '0;
    for (int unsigned c = 0; c < Cols; c++) begin
      if (checked_q[c] && (forward_q[c] ? forward_parity_q[c] != ^forward_word_q[c] : read_parity_q[c] != ^read_q[c])) begin
        count = count + DimW'(1);
      end
    end
    return count;
  endfunction

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      errors_q <= '0;
      error_q  <= 1'b0;
    end else begin
      error_q <= 1'b0;
      if (checked_q != '0) begin
        errors_q <= errors_q + CountW'(wrong());
        error_q  <= wrong() != '0;
      end
    end
  end

  assign shift_o      = shift_q;
  assign depth_o      = depth_q;
  assign drain_word_o = read_q;
  assign error_o      = error_q;
  assign errors_o     = errors_q;

`ifndef SYNTHESIS
  RowInRange_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
                                  !(tag_i.valid && tag_i.write) || tag_i.row < AccW'(AccRows));
`endif

endmodule
