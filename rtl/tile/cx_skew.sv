// Delays row r of the incoming waves by r + 1 cycles, so that a partial sum meets its activations on its way down.
module cx_skew
  import cx_tile_pkg::*;
#(
  parameter int unsigned Rows = 8
) (
  input  logic  clk_i,
  input  logic  rst_ni,
  input  wave_t wave_i [Rows],
  output wave_t wave_o [Rows]
);

  for (genvar r = 0; r < int'(Rows); r++) begin : gen_row
    wave_t        delay_q [r+1];
    logic   [r:0] valid_q;

    always_ff @(posedge clk_i or negedge rst_ni) begin
      if (!rst_ni) valid_q <= '0;
      else valid_q <= (r + 1)'({valid_q, wave_i[r].valid});
    end

    always_ff @(posedge clk_i) begin
      delay_q[0] <= wave_i[r];
      for (int i = 1; i <= r; i++) delay_q[i] <= delay_q[i-1];
    end

    always_comb begin
      wave_o[r]       = delay_q[r];
      wave_o[r].valid = valid_q[r];
    end
  end

endmodule
