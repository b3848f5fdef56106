// The load balancing queues: non-zero weights of each column on their way to the lanes, in the order of their position
// (group * k + row). A column issues the weight at the head of its queue when the activations of that position are in
// the window; columns do so independently of each other, and go on to the next group on their own.
//
// `base_o` is the lowest position that a column may still need.
module cx_sca_queues
  import cx_tile_pkg::*;
  import cx_sca_pkg::*;
#(
  parameter int unsigned Cols   = 8,
  parameter int unsigned Queue  = 4,   // weights that a queue holds
  parameter int unsigned Window = 32,  // positions of the window
  localparam int unsigned SlotW = $clog2(Window)
) (
  input  logic                       clk_i,
  input  logic                       rst_ni,
  // a multiplication begins; the rest holds from then on
  input  logic                       start_i,
  input  logic [GroupW-1:0]          groups_i,
  input  logic [DimW-1:0]            last_cols_i,  // columns of the last group
  input  logic [AccW-1:0]            acc_row_i,    // accumulators of the first group
  input  logic [KW-1:0]              k_i,          // later than the others, as fmt_i
  input  logic [3:0]                 fmt_i,        // of the weights
  // positions below this one are in the window
  input  logic [PosW-1:0]            visible_i,
  // weights
  input  logic [Cols-1:0]            w_valid_i,
  output logic [Cols-1:0]            w_ready_o,
  input  logic [Cols-1:0][31:0]      w_word_i,
  input  logic [Cols-1:0][31:0]      w_place_i,   // place_t in the low bits
  output logic [PosW-1:0]            base_o,
  output logic                       busy_o,       // columns have not issued all they will
  // what the columns issued in the cycle before
  output logic [Cols-1:0]            op_valid_o,
  output logic [Cols-1:0]            op_first_o,
  output logic [Cols-1:0]            op_last_o,
  output logic [Cols-1:0]            op_empty_o,
  output logic [Cols-1:0][31:0]      op_word_o,
  output logic [Cols-1:0][SlotW-1:0] op_slot_o,
  output logic [Cols-1:0][AccW-1:0]  op_row_o,
  // columns times cycles, since the reset
  output logic [CountW-1:0]          issued_o,       // weights that became products
  output logic [CountW-1:0]          window_stall_o, // a weight waited for its position
  output logic [CountW-1:0]          feed_stall_o,   // a queue was empty
  output logic [CountW-1:0]          queue_stall_o   // a weight waited in front of a full queue
);

  localparam int unsigned EntryW = Queue > 1 ? $clog2(Queue) : 1;
  localparam int unsigned FillW  = $clog2(Queue + 1);

  logic [31:0]       word_q    [Cols][Queue];
  place_t            place_q   [Cols][Queue];
  logic [EntryW-1:0] head_q    [Cols];
  logic [FillW-1:0]  fill_q    [Cols];
  logic [PosW-1:0]   origin_q  [Cols];  // position of row 0 of the column's group
  logic [PosW-1:0]   passed_q  [Cols];  // the column needs no position below
  logic [GroupW-1:0] left_q    [Cols];  // groups that the column has not finished
  logic [AccW-1:0]   row_q     [Cols];  // accumulators of its group
  logic              first_q   [Cols];  // its next weight is the first of its group
  logic [Cols-1:0]   ready_q, busy_q;
  logic [CountW-1:0] issued_q, window_stall_q, feed_stall_q, queue_stall_q;

  function automatic logic [EntryW-1:0] entry_after(input logic [EntryW-1:0] entry, input logic [FillW-1:0] steps);
    int unsigned sum;
    sum = 32'(entry) + 32'(steps);
    return EntryW'(sum >= Queue ? sum - Queue : sum);
  endfunction

  function automatic void begin_column(input int unsigned c);
    head_q[c]   = '0;
    fill_q[c]   = '0;
    origin_q[c] = '0;
    left_q[c]   = groups_i - GroupW'(DimW'(c) >= last_cols_i);
    row_q[c]    = acc_row_i;
    first_q[c]  = 1'b1;
    passed_q[c] = left_q[c] == '0 ? PosEnd : '0;
  endfunction

  task automatic issue(input int unsigned c, input logic [PosW-1:0] position);
    logic last, empty;
    last  = place_q[c][head_q[c]].last;
    empty = place_q[c][head_q[c]].empty;
    op_valid_o[c] <= 1'b1;
    op_first_o[c] <= first_q[c];
    op_last_o[c]  <= last;
    op_empty_o[c] <= empty;
    op_word_o[c]  <= word_q[c][head_q[c]];
    op_slot_o[c]  <= position[SlotW-1:0];
    op_row_o[c]   <= row_q[c];
    head_q[c]  = entry_after(head_q[c], FillW'(1));
    fill_q[c]  = fill_q[c] - FillW'(1);
    first_q[c] = last;
    if (!empty) issued_q = issued_q + CountW'(1);
    passed_q[c] = position + PosW'(1);
    if (last) begin
      origin_q[c] = origin_q[c] + PosW'(k_i);
      row_q[c]    = row_q[c] + AccW'(1);
      left_q[c]   = left_q[c] - GroupW'(1);
      passed_q[c] = left_q[c] == '0 ? PosEnd : origin_q[c];
    end
  endtask

  // A cycle of column c. Its queue takes a weight only if it had room when the cycle began.
  task automatic column(input int unsigned c);
    logic [EntryW-1:0] tail;
    logic [PosW-1:0]   position;
    logic              take;
    take     = w_valid_i[c] && ready_q[c];
    tail     = entry_after(head_q[c], fill_q[c]);
    position = origin_q[c] + PosW'(place_q[c][head_q[c]].k);
    if (w_valid_i[c] && !ready_q[c]) queue_stall_q = queue_stall_q + CountW'(1);
    if (fill_q[c] == '0) begin
      feed_stall_q = feed_stall_q + CountW'(1);
    end else if (position < visible_i) begin
      issue(c, position);
    end else begin
      passed_q[c]    = position;
      window_stall_q = window_stall_q + CountW'(1);
    end
    if (take) begin
      word_q[c][tail]  = cx_widen_pkg::widened(1, fmt_i, 4'hF, w_word_i[c]);
      place_q[c][tail] = place_t'(w_place_i[c][$bits(place_t)-1:0]);
      fill_q[c]        = fill_q[c] + FillW'(1);
    end
  endtask

  function automatic logic [PosW-1:0] lowest();
    lowest = PosEnd;
    for (int unsigned c = 0; c < Cols; c++) begin
      if (passed_q[c] < lowest) lowest = passed_q[c];
    end
  endfunction

  task automatic columns();
    op_valid_o <= '0;
    for (int unsigned c = 0; c < Cols; c++) begin
      if (start_i) begin_column(c);
      else if (busy_q[c]) column(c);
      busy_q[c]  = left_q[c] != '0;
      ready_q[c] = busy_q[c] && fill_q[c] != FillW'(Queue);
    end
    base_o    <= lowest();
    busy_o    <= busy_q != '0;
    w_ready_o <= ready_q;
  endtask

  // The state changes in place: nothing reads what another column has changed. What leaves the module does not, because
  // the order of modules is open.
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      busy_q         = '0;
      ready_q        = '0;
      op_valid_o     <= '0;
      base_o         <= '0;
      busy_o         <= 1'b0;
      w_ready_o      <= '0;
      issued_q       = '0;
      window_stall_q = '0;
      feed_stall_q   = '0;
      queue_stall_q  = '0;
      for (int unsigned c = 0; c < Cols; c++) left_q[c] = '0;
    end else if (start_i || busy_q != '0) begin
      columns();
    end else begin
      op_valid_o <= '0;
    end
  end

  assign issued_o       = issued_q;
  assign window_stall_o = window_stall_q;
  assign feed_stall_o   = feed_stall_q;
  assign queue_stall_o  = queue_stall_q;

`ifndef SYNTHESIS
  StartWhenDone_A : assert property (@(posedge clk_i) disable iff (!rst_ni) !(start_i && busy_o));
`endif

endmodule
