// The processing elements of a tile: two weights each, one step of the chain a cycle.
//
// Activations go right. In a weight-stationary pass partial sums go down; in an output-stationary one the sums stay and
// weights go down. Element (r, c) does r * Stages + c cycles after element (0, 0) what that did: a wave runs along the
// diagonals. `Pack` products of an 8-bit format make one step. A step takes `Stages` cycles: its registers follow the
// arithmetic and are meant to be moved into it by synthesis.
//
// All that a wave touches in a cycle lies in one place: element (r, c) in line r of place r * Stages + c. Lines of a place
// that belong to no column left of the array hold activations on their way to column 0.
module cx_array
  import cx_tile_pkg::*;
#(
  parameter int unsigned Rows    = 8,
  parameter int unsigned Cols    = 8,
  parameter int unsigned Pack    = 1,
  parameter int unsigned Stages  = 1,
  parameter logic [5:0]  Formats = 6'h3F
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  // a step that enters, with the raw words of all rows
  input  wave_t                     wave_i,
  input  logic [3:0]                act_fmt_i,
  input  logic [KW-1:0]             act_k_i,      // elements of a weight-stationary row
  input  logic [Pack-1:0]           act_lanes_i,  // of an output-stationary step
  input  logic [Rows-1:0][31:0]     act_row_i,
  output logic [2*DimW-1:0]         gated_o,      // a cycle later: element steps that zeros keep still
  // weights, in the cycle after they were taken: to a bank, or into the array with the step that is in place 0
  input  logic [Rows-1:0]           w_we_i,
  input  logic                      w_bank_i,
  input  logic [Cols-1:0][31:0]     w_word_i,
  // an output-stationary pass moves out: the sums of a column go down, rows above `depth` are empty
  input  logic [Cols-1:0]           shift_i,
  input  logic [Cols-1:0][DimW-1:0] depth_i,
  output logic [Cols-1:0][31:0]     psum_o
);

  localparam bit AnyFp8 = has_format(Formats, FmtFp8E4m3) || has_format(Formats, FmtFp8E5m2);
  localparam bit HasInt = has_format(Formats, FmtInt8);
  localparam bit HasFp8 = Pack > 1 && AnyFp8;
  localparam bit HasFp  = has_format(Formats, FmtFp32) || has_format(Formats, FmtFp16) ||
                          has_format(Formats, FmtBf16) || (Pack == 1 && AnyFp8);

  localparam int unsigned Places = (Rows - 1) * Stages + Cols;
  localparam int unsigned Last   = Stages - 1;
  localparam int unsigned Waves  = Places + Last;

  // ---- the waves that control the array, one for each place and those that are in the registers of a step ----
  logic [Waves-1:0] valid_q;
  wave_t            wave_q [Waves];

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) valid_q <= '0;
    else valid_q <= {valid_q[Waves-2:0], wave_i.valid};
  end

  // ---- output-stationary weights on their way to row 0: lines of words that stay where they are written ----
  localparam int unsigned MoveLines = Cols;
  localparam int unsigned MoveLineW = MoveLines > 1 ? $clog2(MoveLines) : 1;

  logic [31:0]          move_line_q [MoveLines][Cols];
  logic [MoveLineW-1:0] move_at_q;  // line that is written

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) move_at_q <= '0;
    else move_at_q <= move_at_q == MoveLineW'(MoveLines - 1) ? '0 : move_at_q + MoveLineW'(1);
  end

  // Line of the words that an item with this delay uses now.
  function automatic int unsigned line_of(input int unsigned at, input int unsigned lines, input int unsigned delay);
    return at >= delay ? at - delay : at + lines - delay;
  endfunction

  // ---- the elements ----
  // Activations of a place come from the one before it; place 0 is what has entered. Sums and moving weights are kept one
  // line and `Stages` places further on, so that what comes from above has the numbers of the element that takes it;
  // line 0 is what is above row 0.
  logic [31:0] weight_q [2][Places][Rows];
  logic [31:0] act_q    [Places+1][Rows];  // the word of a zero stays behind: registers and multipliers do not toggle
  logic [Rows-1:0] zero_q [Places+1];      // every product is a zero
  logic [Rows-1:0] neg_q  [Places+1];      // sign of a lone zero
  logic [31:0] sum_q    [Stages][Places+Stages][Rows+1];
  logic [31:0] move_q   [Stages][Places+Stages][Rows+1];

  logic [Cols-1:0][31:0] psum_q;
  logic [2*DimW-1:0]     gated_q;

  // Sum after the step of an element. Every kind returns on its own, so that a simulator evaluates only one. Verilator
  // counts a branch at its end, where these never come.
  // verilator coverage_off
  function automatic logic [31:0] stepped(input wave_t wave, input logic zero, input logic neg, input logic [31:0] word,
                                          input logic [31:0] weight, input logic [31:0] sum);
    if (zero) return cx_pe_pkg::gated(wave.is_int, HasFp8 && wave.is_fp8, wave.w_e5m2, Pack, neg, weight, sum);
    if (HasInt && wave.is_int) return cx_pe_pkg::step_int8(Pack, word, weight, sum);
    if (HasFp8 && wave.is_fp8) return cx_pe_pkg::step_fp8(wave.a_e5m2, wave.w_e5m2, Pack, word, weight, sum);
    if (HasFp) return cx_fp_pkg::fma(word, weight, sum);
    return sum;
  endfunction
  // verilator coverage_on

  // A bit for each line. Made when the design is elaborated, so that no simulation covers it.
  localparam int unsigned MaskW = Rows > 32 ? Rows : 32;
  typedef logic [31:0] masks_t [Rows];
  // verilator coverage_off
  function automatic masks_t masks();
    for (int unsigned r = 0; r < Rows; r++) masks[r] = 32'd1 << (r % 32);
  endfunction
  // verilator coverage_on
  localparam masks_t Mask = masks();

  // All ones if line r is among `lines`. Without shifts by r, and without branches: a simulator can do several lines at a
  // time.
  function automatic logic [31:0] among(input logic [Rows-1:0] lines, input int unsigned r);
    if (Rows <= 32) among = {32{(32'(lines) & Mask[r]) != 32'd0}};
    else among = {32{(32'(MaskW'(lines) >> (r / 32 * 32)) & Mask[r]) != 32'd0}};
  endfunction

  // Activations of place p come from the one before it, but in the lines of `still`.
  function automatic void move_on(input int unsigned p, input logic [Rows-1:0] still);
    for (int unsigned r = 0; r < Rows; r++) act_q[p+1][r] = act_q[p][r] ^ ((act_q[p+1][r] ^ act_q[p][r]) & among(still, r));
  endfunction

  // The step of an INT8 pass in place p; sums go down unchanged in the lines of `still`.
  function automatic void step_int8(input int unsigned p, input logic bank, input logic [Rows-1:0] still);
    logic [31:0] products;
    for (int unsigned r = 0; r < Rows; r++) begin
      products = cx_pe_pkg::step_int8(Pack, act_q[p+1][r], weight_q[bank][p][r], 32'd0);
      sum_q[0][p+Stages][r+1] = sum_q[Last][p][r] + (products & ~among(still, r));
    end
  endfunction

  // One cycle of place p, in place. Nothing is done right of the last column that takes part, which are the lines below
  // `skip`.
  function automatic void visit(input int unsigned p);
    wave_t           wave;
    int unsigned     skip, last;
    logic [31:0]     weight, sum;
    logic [Rows-1:0] skipped;

    // An output-stationary step meets its own sum in the last register: the one before it is `Stages` cycles ahead.
    for (int unsigned s = Last; s > 0; s--) begin
      if (valid_q[p+s]) begin
        for (int unsigned r = 1; r <= Rows; r++) sum_q[s][p+Stages][r] = sum_q[s-1][p+Stages][r];
        if (wave_q[p+s].os) begin
          for (int unsigned r = 1; r <= Rows; r++) move_q[s][p+Stages][r] = move_q[s-1][p+Stages][r];
        end
      end
    end
    if (valid_q[p]) begin
      wave    = wave_q[p];
      skip    = p < 32'(wave.cols) ? 0 : (p - 32'(wave.cols)) / Stages + 1;
      last    = p / Stages < Rows - 1 ? p / Stages : Rows - 1;
      skipped = ~({Rows{1'b1}} << skip);
      zero_q[p+1] = (zero_q[p+1] & skipped) | (zero_q[p] & ~skipped);
      neg_q[p+1]  = (neg_q[p+1] & skipped) | (neg_q[p] & ~skipped);
      sum_q[Last][p][0] = 32'd0;
      move_on(p, zero_q[p] | skipped);
      if (HasInt && wave.is_int && !wave.os) begin
        step_int8(p, wave.bank, zero_q[p] | skipped);
      end else begin
        for (int unsigned r = skip; r <= last; r++) begin
          weight = weight_q[wave.bank][p][r];
          sum    = sum_q[Last][p][r];
          if (wave.os) begin
            weight = move_q[Last][p][r];
            if (r == 0) weight = p == 0 ? w_word_i[0] : move_line_q[line_of(32'(move_at_q), MoveLines, p)][p];
            sum = wave.first ? 32'd0 : sum_q[Last][p+Stages][r+1];
            move_q[0][p+Stages][r+1] = weight;
          end
          if (r < 32'(wave.rows)) sum = stepped(wave, zero_q[p+1][r], neg_q[p+1][r], act_q[p+1][r], weight, sum);
          sum_q[0][p+Stages][r+1] = sum;
        end
      end
    end
  endfunction

  // The sums that leave.
  function automatic logic [Cols-1:0][31:0] bottom();
    for (int unsigned c = 0; c < Cols; c++) bottom[c] = sum_q[Last][Rows*Stages+c][Rows];
  endfunction

  // Widens the words of a step into place 0; returns the rows that take part and are zero.
  function automatic logic [2*DimW-1:0] enter();
    logic [2*DimW-1:0] zeros;
    logic [3:0]        there;
    logic [31:0]       word;
    logic              zero;
    zeros = '0;
    for (int unsigned r = 0; r < Rows; r++) begin
      there = 4'(act_lanes_i);
      if (Pack > 1 && !wave_i.os) begin
        for (int unsigned l = 0; l < Pack; l++) there[l] = KW'(r * Pack + l) < act_k_i;
      end
      word = cx_widen_pkg::widened(Pack, act_fmt_i, there, act_row_i[r]);
      zero = cx_widen_pkg::is_zero(Pack, act_fmt_i, word);
      act_q[0][r]  = word;
      // INT8 rows that do not take part are zeros, which change nothing.
      zero_q[0][r] = zero || (wave_i.is_int && DimW'(r) >= wave_i.rows);
      neg_q[0][r]  = word[31];
      if (zero && DimW'(r) < wave_i.rows) zeros = zeros + (2 * DimW)'(1);
    end
    return zeros;
  endfunction

  function automatic void unload();
    for (int unsigned c = 0; c < Cols; c++) begin
      if (shift_i[c]) begin
        for (int unsigned r = Rows - 1; r > 32'(depth_i[c]); r--) begin
          sum_q[Last][(r+1)*Stages+c][r+1] = sum_q[Last][r*Stages+c][r];
        end
      end
    end
  endfunction

  function automatic void advance();
    for (int unsigned p = Places; p > 0; p--) visit(p - 1);
    for (int unsigned w = Waves - 1; w > 0; w--) wave_q[w] = wave_q[w-1];
  endfunction

  // The state changes in place, from the last place to the first: each sees the others as they were, and what enters
  // comes after all.
  always_ff @(posedge clk_i) begin
    if (shift_i != '0) unload();
    if (valid_q != '0) advance();
    if (w_we_i != '0) begin
      for (int unsigned r = 0; r < Rows; r++) begin
        if (w_we_i[r]) begin
          for (int unsigned c = 0; c < Cols; c++) weight_q[w_bank_i][r*Stages+c][r] = w_word_i[c];
        end
      end
    end
    if (valid_q[0] && wave_q[0].os) begin
      for (int unsigned c = 0; c < Cols; c++) move_line_q[move_at_q][c] = w_word_i[c];
    end
    gated_q <= '0;
    if (wave_i.valid) begin
      gated_q   <= enter() * (2 * DimW)'(wave_i.cols);
      wave_q[0] = wave_i;
    end
    psum_q <= bottom();
  end

  assign psum_o  = psum_q;
  assign gated_o = gated_q;

endmodule
