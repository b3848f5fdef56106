// One column of the accumulator memory: write or read-add-write of the sums that leave the array, block scales, parity,
// and the read port of the drain. Reads are synchronous; a row that is being written is forwarded.
module cx_acc_column
  import cx_tile_pkg::*;
#(
  parameter int unsigned AccRows = 256,
  localparam int unsigned RowW = AccRows > 1 ? $clog2(AccRows) : 1
) (
  input  logic            clk_i,
  input  logic            rst_ni,
  // one cycle ahead of the sum
  input  tag_t            tag_i,
  input  logic [31:0]     row_scale_i,
  output tag_t            tag_o,
  output logic [31:0]     row_scale_o,
  input  logic [31:0]     psum_i,
  // with the sum: the column of the array moves down, rows above `depth` are empty
  output logic            shift_o,
  output logic [DimW-1:0] depth_o,
  // block scale of the column, one for each weight bank
  input  logic            scale_we_i,
  input  logic            scale_bank_i,
  input  logic [31:0]     scale_i,
  // drain; never together with a tag
  input  logic            drain_en_i,
  input  logic [AccW-1:0] drain_row_i,
  output logic [31:0]     drain_word_o,
  // parity
  input  logic            inject_i,  // what is written now gets a wrong bit
  output logic            error_o    // a word was read with wrong parity
);

  // verilator tracing_off
  logic [31:0] mem    [AccRows];
  logic        parity [AccRows];
  // verilator tracing_on
  logic [31:0] scale_q [2];
  logic [31:0] read_q, result, forward_word_q, row_scale_q;
  logic        read_parity_q, forward_parity_q, forward_q, drained_q;
  logic        valid_q;
  tag_t        tag_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      valid_q   <= 1'b0;
      drained_q <= 1'b0;
    end else begin
      valid_q   <= tag_i.valid;
      drained_q <= drain_en_i;
    end
  end

  always_ff @(posedge clk_i) begin
    if (tag_i.valid) begin
      tag_q       <= tag_i;
      row_scale_q <= row_scale_i;
    end
  end

  always_ff @(posedge clk_i) begin
    if (scale_we_i) scale_q[scale_bank_i] <= scale_i;
  end

  always_comb begin
    tag_o       = tag_q;
    tag_o.valid = valid_q && tag_q.cols != DimW'(1);
    tag_o.cols  = tag_q.cols - DimW'(1);
  end
  assign row_scale_o = row_scale_q;
  assign shift_o     = valid_q && tag_q.os;
  assign depth_o     = tag_q.depth;

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

  logic [31:0] present;
  assign present = forward_q ? forward_word_q : read_q;

  always_comb begin
    result = psum_i;
    if (valid_q && tag_q.write) begin
      if (tag_q.scaled) begin
        result = scaled(tag_q.is_int, tag_q.accumulate,
                        cx_fp_pkg::mul(row_scale_q, tag_q.col_scaled ? scale_q[tag_q.bank] : cx_fp_pkg::One), present, psum_i);
      end else if (tag_q.accumulate) begin
        result = added(tag_q.is_int, present, psum_i);
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (drain_en_i) begin
      read_q        <= mem[drain_row_i[RowW-1:0]];
      read_parity_q <= parity[drain_row_i[RowW-1:0]];
    end else if (tag_i.valid && tag_i.write && tag_i.accumulate) begin
      read_q        <= mem[tag_i.row[RowW-1:0]];
      read_parity_q <= parity[tag_i.row[RowW-1:0]];
    end
  end

  always_ff @(posedge clk_i) begin
    if (valid_q && tag_q.write) begin
      mem[tag_q.row[RowW-1:0]]    <= result ^ {31'd0, inject_i};
      parity[tag_q.row[RowW-1:0]] <= ^result;
      forward_word_q              <= result ^ {31'd0, inject_i};
      forward_parity_q            <= ^result;
    end
    forward_q <= valid_q && tag_q.write && tag_i.valid && tag_q.row == tag_i.row;
  end

  assign error_o = drained_q ? read_parity_q != ^read_q :
                   valid_q && tag_q.write && tag_q.accumulate &&
                   (forward_q ? forward_parity_q != ^forward_word_q : read_parity_q != ^read_q);
  assign drain_word_o = read_q;

`ifndef SYNTHESIS
  RowInRange_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
                                  !(tag_i.valid && tag_i.write) || tag_i.row < AccW'(AccRows));
  DrainAlone_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
                                  !(drain_en_i && (tag_i.valid || valid_q)));
`endif

endmodule
