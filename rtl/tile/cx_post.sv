// The drain path behind the accumulator memory, all columns side by side: INT32 to FP32 and scale, bias, activation and
// conversion, a register after each. Only the words move through the stages; everything else is constant while a drain
// runs.
module cx_post #(
  parameter int unsigned Cols = 8
) (
  input  logic                  clk_i,
  input  logic                  en_i,         // advances all stages
  input  logic [Cols-1:0][31:0] word_i,       // accumulators: FP32 or INT32
  input  logic                  is_int_i,
  input  logic                  has_scale_i,
  input  logic [Cols-1:0][31:0] scale_i,      // FP32
  input  logic                  has_bias_i,
  input  logic [Cols-1:0][31:0] bias_i,       // FP32
  input  logic [1:0]            act_i,        // isa activation: 0 none, 1 RELU, 2 CLAMP
  input  logic [31:0]           lo_i,         // FP32 limits of CLAMP
  input  logic [31:0]           hi_i,
  input  logic [3:0]            fmt_i,        // isa dtype of the destination, up to INT32
  output logic [Cols-1:0][31:0] word_o        // three enabled cycles later; a small format in the low bits, zeros above
);

  localparam logic [1:0]  ActNone  = 2'd0;
  localparam logic [1:0]  ActRelu  = 2'd1;
  localparam logic [1:0]  ActClamp = 2'd2;

  logic                  raw_copy;
  logic [Cols-1:0][31:0] scaled_q, biased_q;

  assign raw_copy = is_int_i && fmt_i == cx_tile_pkg::FmtInt32 && !has_scale_i && !has_bias_i && act_i == ActNone;

  // Selections with calls are if statements: Verilator evaluates both arms of a conditional expression.
  function automatic logic [31:0] scaled(input logic [31:0] word, input logic [31:0] scale);
    logic [31:0] value;
    value = word;
    if (is_int_i && !raw_copy) value = cx_cvt_pkg::int_to_fp32(word);
    if (has_scale_i) value = cx_fp_pkg::mul(value, scale);
    return value;
  endfunction

  function automatic logic [31:0] biased(input logic [31:0] value, input logic [31:0] bias);
    biased = value;
    if (has_bias_i) biased = cx_fp_pkg::add(value, bias);
  endfunction

  function automatic logic [31:0] finished(input logic [31:0] value);
    logic [31:0] activated;
    activated = value;
    if (act_i == ActRelu) activated = cx_cvt_pkg::relu(value);
    if (act_i == ActClamp) activated = cx_cvt_pkg::clamp(value, lo_i, hi_i);
    if (!raw_copy) activated = cx_cvt_pkg::narrow(fmt_i, activated);
    return activated;
  endfunction

  // Called by the clocked block: a simulator evaluates nothing while the stages stand still.
  task automatic advance();
    for (int unsigned c = 0; c < Cols; c++) begin
      scaled_q[c] <= scaled(word_i[c], scale_i[c]);
      biased_q[c] <= biased(scaled_q[c], bias_i[c]);
      word_o[c]   <= finished(biased_q[c]);
    end
  endtask

  always_ff @(posedge clk_i) if (en_i) advance();

`ifndef SYNTHESIS
  FormatLegal_A : assert property (@(posedge clk_i) !en_i || fmt_i <= cx_tile_pkg::FmtInt32);
  ActivationLegal_A : assert property (@(posedge clk_i) !en_i || act_i <= ActClamp);
`endif

endmodule
