// One column of the accumulator memory: write or read-add-write of the partial sums that leave the array, and the read
// port of the drain. Reads are synchronous; a row that is being written is forwarded.
module cx_acc_column
  import cx_tile_pkg::*;
#(
  parameter int unsigned AccRows = 256,
  localparam int unsigned RowW = AccRows > 1 ? $clog2(AccRows) : 1
) (
  input  logic        clk_i,
  input  logic        rst_ni,
  // one cycle ahead of the partial sum
  input  tag_t        tag_i,
  output tag_t        tag_o,
  input  logic [31:0] psum_i,
  // drain; never together with a tag
  input  logic        drain_en_i,
  input  logic [AccW-1:0] drain_row_i,
  output logic [31:0] drain_word_o
);

  logic [31:0] mem [AccRows];
  logic [31:0] read_q, result, forward_word_q;
  logic        forward_q;
  logic        valid_q;
  tag_t        tag_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) valid_q <= 1'b0;
    else valid_q <= tag_i.valid;
  end

  always_ff @(posedge clk_i) begin
    if (tag_i.valid) tag_q <= tag_i;
  end

  always_comb begin
    tag_o       = tag_q;
    tag_o.valid = valid_q && tag_q.cols != DimW'(1);
    tag_o.cols  = tag_q.cols - DimW'(1);
  end

  function automatic logic [31:0] combine(input logic accumulate, input logic is_int,
                                          input logic [31:0] present, input logic [31:0] psum);
    if (!accumulate) return psum;
    if (is_int) return present + psum;
    return cx_fp_pkg::add(present, psum);
  endfunction

  always_comb begin
    result = 32'd0;
    if (valid_q) begin
      result = combine(tag_q.accumulate, tag_q.is_int, forward_q ? forward_word_q : read_q, psum_i);
    end
  end

  always_ff @(posedge clk_i) begin
    if (drain_en_i) read_q <= mem[drain_row_i[RowW-1:0]];
    else if (tag_i.valid && tag_i.accumulate) read_q <= mem[tag_i.row[RowW-1:0]];
  end

  always_ff @(posedge clk_i) begin
    if (valid_q) begin
      mem[tag_q.row[RowW-1:0]] <= result;
      forward_word_q           <= result;
    end
    forward_q <= valid_q && tag_i.valid && tag_q.row == tag_i.row;
  end

  assign drain_word_o = read_q;

`ifndef SYNTHESIS
  RowInRange_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
                                  !tag_i.valid || tag_i.row < AccW'(AccRows));
  DrainAlone_A : assert property (@(posedge clk_i) disable iff (!rst_ni)
                                  !(drain_en_i && (tag_i.valid || valid_q)));
`endif

endmodule
