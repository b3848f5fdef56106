// Conversion and arithmetic of one processing element, for vectors: the choice that cx_array makes for a step, and the
// operations it is made of. The result appears with the clock.
module pe_bench
  import cx_tile_pkg::*;
#(
  parameter int unsigned Pack = 1
) (
  input  logic            clk_i,
  input  logic [1:0]      op_i,
  input  logic [3:0]      fmt_a_i,
  input  logic [3:0]      fmt_w_i,
  input  logic [Pack-1:0] lanes_i,       // 8-bit formats: elements that are there
  input  logic [31:0]     activation_i,  // raw
  input  logic [31:0]     weight_i,      // raw
  input  logic [31:0]     sum_i,
  output logic [31:0]     result_o
);

  localparam logic [1:0] DoStep  = 2'd0;  // sum after a step
  localparam logic [1:0] DoAdd   = 2'd1;  // activation + weight
  localparam logic [1:0] DoMul   = 2'd2;  // activation * weight
  localparam logic [1:0] DoWiden = 2'd3;  // word of the activation

  logic [31:0] word, weight;
  logic        zero, neg, is_int, is_fp8, a_e5m2, w_e5m2;

  assign word   = cx_widen_pkg::widened(Pack, fmt_a_i, 4'(lanes_i), activation_i);
  assign weight = cx_widen_pkg::widened(Pack, fmt_w_i, 4'(lanes_i), weight_i);
  assign zero   = cx_widen_pkg::is_zero(Pack, fmt_a_i, word);
  assign neg    = word[31];
  assign is_int = fmt_a_i == FmtInt8;
  assign a_e5m2 = fmt_a_i == FmtFp8E5m2;
  assign w_e5m2 = fmt_w_i == FmtFp8E5m2;
  assign is_fp8 = Pack > 1 && (a_e5m2 || fmt_a_i == FmtFp8E4m3);

  function automatic logic [31:0] step();
    if (zero) return cx_pe_pkg::gated(is_int, is_fp8, w_e5m2, Pack, neg, weight, sum_i);
    if (is_int) return cx_pe_pkg::step_int8(Pack, word, weight, sum_i);
    if (is_fp8) return cx_pe_pkg::step_fp8(a_e5m2, w_e5m2, Pack, word, weight, sum_i);
    return cx_fp_pkg::fma(word, weight, sum_i);
  endfunction

  function automatic logic [31:0] result();
    case (op_i)
      DoStep:  return step();
      DoAdd:   return cx_fp_pkg::add(word, weight);
      DoMul:   return cx_fp_pkg::mul(word, weight);
      DoWiden: return word;
    endcase
  endfunction

  always_ff @(posedge clk_i) result_o <= result();

endmodule
