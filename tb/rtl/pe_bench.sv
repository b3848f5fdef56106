// One processing element with its format conversion in front, for vectors: psum_o = psum_i + activation * weight one cycle later.
module pe_bench
  import cx_tile_pkg::*;
(
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic [3:0]  fmt_i,
  input  logic [31:0] activation_i,
  input  logic [31:0] weight_i,
  input  logic [31:0] psum_i,
  input  logic        row_en_i,
  input  logic        load_i,
  output logic [31:0] psum_o
);

  logic [31:0] activation, weight;
  wave_t wave_in;
  wave_t wave_out;

  cx_widen u_activation (.fmt_i, .raw_i (activation_i), .word_o (activation));
  cx_widen u_weight (.fmt_i, .raw_i (weight_i), .word_o (weight));

  assign wave_in = '{valid: !load_i, row_en: row_en_i, bank: 1'b0, is_int: fmt_i == FmtInt8, cols: DimW'(1),
                     word: activation};

  cx_pe u_pe (
    .clk_i,
    .rst_ni,
    .w_we_i   (load_i),
    .w_bank_i (1'b0),
    .w_word_i (weight),
    .wave_i   (wave_in),
    .wave_o   (wave_out),
    .psum_i,
    .psum_o
  );

endmodule
