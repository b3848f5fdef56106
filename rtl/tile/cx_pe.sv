// Processing element: two weights, one multiply-accumulate step a cycle. Activations go right, partial sums down.
module cx_pe
  import cx_tile_pkg::*;
(
  input  logic        clk_i,
  input  logic        rst_ni,
  // weight write
  input  logic        w_we_i,
  input  logic        w_bank_i,
  input  logic [31:0] w_word_i,
  // from the left, to the right
  input  wave_t       wave_i,
  output wave_t       wave_o,
  // from above, to below
  input  logic [31:0] psum_i,
  output logic [31:0] psum_o
);

  logic [31:0] weight0_q, weight1_q;
  wave_t       wave_q;
  logic [31:0] psum_q;

  always_ff @(posedge clk_i) begin
    if (w_we_i) begin
      if (w_bank_i) weight1_q <= w_word_i;
      else weight0_q <= w_word_i;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      wave_q <= '0;
    end else if (wave_i.valid || wave_q.valid) begin
      wave_q       <= wave_i;
      wave_q.valid <= wave_i.valid && wave_i.cols != DimW'(1);
      wave_q.cols  <= wave_i.cols - DimW'(1);
    end
  end

  always_ff @(posedge clk_i) begin
    if (wave_i.valid) begin
      psum_q <= cx_fp_pkg::step(wave_i.row_en, wave_i.is_int, wave_i.word,
                                wave_i.bank ? weight1_q : weight0_q, psum_i);
    end
  end

  assign wave_o = wave_q;
  assign psum_o = psum_q;

endmodule
