// Event counters of the sparse tile, read one at a time.
module cx_sca_counters
  import cx_tile_pkg::*;
(
  input  logic              clk_i,
  input  logic              rst_ni,
  input  logic              busy_i,           // anything in flight
  input  logic              a_take_i,         // an activation vector
  input  logic              a_stall_i,        // a load waits for its vector
  input  logic              d_take_i,         // a drained column
  input  logic              d_stall_i,        // a drained column waits to leave
  input  logic [CountW-1:0] issued_i,         // counted elsewhere, as all below
  input  logic [CountW-1:0] gated_i,
  input  logic [CountW-1:0] window_stalls_i,
  input  logic [CountW-1:0] feed_stalls_i,
  input  logic [CountW-1:0] queue_stalls_i,
  input  logic [3:0]        sel_i,            // counter to read
  output logic [CountW-1:0] count_o
);

  logic [CountW-1:0] busy_q, vectors_q, a_stall_q, columns_q, d_stall_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      busy_q    <= '0;
      vectors_q <= '0;
      a_stall_q <= '0;
      columns_q <= '0;
      d_stall_q <= '0;
    end else begin
      if (busy_i)    busy_q    <= busy_q + CountW'(1);
      if (a_take_i)  vectors_q <= vectors_q + CountW'(1);
      if (a_stall_i) a_stall_q <= a_stall_q + CountW'(1);
      if (d_take_i)  columns_q <= columns_q + CountW'(1);
      if (d_stall_i) d_stall_q <= d_stall_q + CountW'(1);
    end
  end

  always_comb begin
    unique case (sel_i)
      4'd0:    count_o = busy_q;
      4'd1:    count_o = vectors_q;
      4'd2:    count_o = a_stall_q;
      4'd3:    count_o = columns_q;
      4'd4:    count_o = d_stall_q;
      4'd5:    count_o = issued_i;
      4'd6:    count_o = gated_i;
      4'd7:    count_o = window_stalls_i;
      4'd8:    count_o = feed_stalls_i;
      4'd9:    count_o = queue_stalls_i;
      default: count_o = '0;
    endcase
  end

endmodule
