// Event counters of the tile, read one at a time.
module cx_tile_counters
  import cx_tile_pkg::*;
(
  input  logic              clk_i,
  input  logic              rst_ni,
  input  logic              busy_i,          // anything in flight
  input  logic              w_take_i,        // a row of weights or scales
  input  logic              a_take_i,        // a row of activations, or a step of an output-stationary pass
  input  logic [2*DimW-1:0] gated_i,         // element steps that zeros keep still
  input  logic              d_take_i,        // a drained row
  input  logic              w_stall_i,       // a load waits for its row
  input  logic              a_stall_i,       // a pass waits for its row
  input  logic              d_stall_i,       // a drained row waits to leave
  input  logic [CountW-1:0] errors_i,        // words read with wrong parity, counted elsewhere
  input  logic [3:0]        sel_i,           // counter to read
  output logic [CountW-1:0] count_o
);

  logic [CountW-1:0] busy_q, w_rows_q, a_rows_q, gated_q, d_rows_q, w_stall_q, a_stall_q, d_stall_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      busy_q    <= '0;
      w_rows_q  <= '0;
      a_rows_q  <= '0;
      gated_q   <= '0;
      d_rows_q  <= '0;
      w_stall_q <= '0;
      a_stall_q <= '0;
      d_stall_q <= '0;
    end else begin
      if (busy_i)    busy_q    <= busy_q + CountW'(1);
      if (w_take_i)  w_rows_q  <= w_rows_q + CountW'(1);
      if (a_take_i)  a_rows_q  <= a_rows_q + CountW'(1);
      gated_q <= gated_q + CountW'(gated_i);
      if (d_take_i)  d_rows_q  <= d_rows_q + CountW'(1);
      if (w_stall_i) w_stall_q <= w_stall_q + CountW'(1);
      if (a_stall_i) a_stall_q <= a_stall_q + CountW'(1);
      if (d_stall_i) d_stall_q <= d_stall_q + CountW'(1);
    end
  end

  always_comb begin
    unique case (sel_i)
      4'd0:    count_o = busy_q;
      4'd1:    count_o = w_rows_q;
      4'd2:    count_o = a_rows_q;
      4'd3:    count_o = gated_q;
      4'd4:    count_o = d_rows_q;
      4'd5:    count_o = w_stall_q;
      4'd6:    count_o = a_stall_q;
      4'd7:    count_o = d_stall_q;
      4'd8:    count_o = errors_i;
      default: count_o = '0;
    endcase
  end

endmodule
