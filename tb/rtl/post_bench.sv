// Columns of the drain path side by side, each with a word, a scale and a bias of its own.
module post_bench #(
  parameter int unsigned Cols = 8
) (
  input  logic                        clk_i,
  input  logic                        en_i,
  input  logic [Cols-1:0][31:0]       word_i,
  input  logic                        is_int_i,
  input  logic                        has_scale_i,
  input  logic [Cols-1:0][31:0]       scale_i,
  input  logic                        has_bias_i,
  input  logic [Cols-1:0][31:0]       bias_i,
  input  logic [1:0]                  act_i,
  input  logic [31:0]                 lo_i,
  input  logic [31:0]                 hi_i,
  input  logic [3:0]                  fmt_i,
  output logic [Cols-1:0][31:0]       word_o
);

  cx_post #(
    .Cols (Cols)
  ) u_post (
    .clk_i,
    .en_i,
    .word_i,
    .is_int_i,
    .has_scale_i,
    .scale_i,
    .has_bias_i,
    .bias_i,
    .act_i,
    .lo_i,
    .hi_i,
    .fmt_i,
    .word_o
  );

endmodule
