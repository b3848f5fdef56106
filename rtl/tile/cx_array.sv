// The processing elements of a tile: two weights each, one step of the chain a cycle.
//
// Activations go right. In a weight-stationary pass partial sums go down; in an output-stationary one the sums stay and
// weights go down. Element (r, c) does r * Stages + c cycles after element (0, 0) what that did: a wave runs along the
// diagonals. `Pack` products of an 8-bit format make one step. A step takes `Stages` cycles: its registers follow the
// arithmetic and are meant to be moved into it by synthesis.
module cx_array
  import cx_tile_pkg::*;
#(
  parameter int unsigned Rows    = 8,
  parameter int unsigned Cols    = 8,
  parameter int unsigned Pack    = 1,
  parameter int unsigned Stages  = 1,
  parameter logic [5:0]  Formats = 6'h3F
) (
  input  logic            clk_i,
  input  logic            rst_ni,
  // a step that enters, with the words of all rows
  input  wave_t           wave_i,
  input  logic [Rows-1:0] act_zero_i,       // every product is a zero
  input  logic [Rows-1:0] act_neg_i,        // sign of a lone zero
  input  logic [31:0]     act_word_i [Rows],
  // weights, in the cycle after they were taken: to a bank, or into the array with the step that is in wave 0
  input  logic [Rows-1:0] w_we_i,
  input  logic            w_bank_i,
  input  logic [31:0]     w_word_i [Cols],
  // an output-stationary pass moves out: the sums of a column go down, rows above `depth` are empty
  input  logic [Cols-1:0] shift_i,
  input  logic [DimW-1:0] depth_i [Cols],
  output logic [31:0]     psum_o [Cols]
);

  localparam bit AnyFp8 = has_format(Formats, FmtFp8E4m3) || has_format(Formats, FmtFp8E5m2);
  localparam bit HasInt = has_format(Formats, FmtInt8);
  localparam bit HasFp8 = Pack > 1 && AnyFp8;
  localparam bit HasFp  = has_format(Formats, FmtFp32) || has_format(Formats, FmtFp16) ||
                          has_format(Formats, FmtBf16) || (Pack == 1 && AnyFp8);

  localparam int unsigned Diagonals = (Rows - 1) * Stages + Cols - 1 + Stages;
  localparam int unsigned Last      = Stages - 1;

  // ---- the waves that control the array, one for each diagonal ----
  wave_t wave_q [Diagonals];

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      wave_q <= '{default: '0};
    end else begin
      wave_q[0]             <= wave_i;
      wave_q[1:Diagonals-1] <= wave_q[0:Diagonals-2];
    end
  end

  logic [Diagonals-1:0] waves;
  always_comb begin
    for (int unsigned d = 0; d < Diagonals; d++) waves[d] = wave_q[d].valid;
  end

  // ---- words on their way to the first column and the first row: lines of words that stay where they are written ----
  localparam int unsigned ActLines  = (Rows - 1) * Stages + 1;
  localparam int unsigned MoveLines = Cols;
  localparam int unsigned ActLineW  = ActLines > 1 ? $clog2(ActLines) : 1;
  localparam int unsigned MoveLineW = MoveLines > 1 ? $clog2(MoveLines) : 1;

  logic [31:0]          act_line_q  [ActLines][Rows];
  logic [Rows-1:0]      zero_line_q [ActLines];
  logic [Rows-1:0]      neg_line_q  [ActLines];
  logic [31:0]          move_line_q [MoveLines][Cols];
  logic [ActLineW-1:0]  act_at_q;   // line that is written
  logic [MoveLineW-1:0] move_at_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      act_at_q  <= '0;
      move_at_q <= '0;
    end else begin
      act_at_q  <= act_at_q == ActLineW'(ActLines - 1) ? '0 : act_at_q + ActLineW'(1);
      move_at_q <= move_at_q == MoveLineW'(MoveLines - 1) ? '0 : move_at_q + MoveLineW'(1);
    end
  end

  // Line of the words that an item with this delay uses now.
  function automatic int unsigned line_of(input int unsigned at, input int unsigned lines, input int unsigned delay);
    return at >= delay ? at - delay : at + lines - delay;
  endfunction

  // ---- the elements ----
  localparam int unsigned Elements = Rows * Cols;

  logic [31:0] weight0_q [Elements];
  logic [31:0] weight1_q [Elements];
  logic [31:0] act_q     [Elements];  // the word of a zero stays behind: registers and multipliers do not toggle
  logic        zero_q    [Elements];
  logic        neg_q     [Elements];
  logic [31:0] sum_q     [Stages * Elements];
  logic [31:0] move_q    [Stages * Elements];
  logic [31:0] psum      [Cols];
  logic [31:0] psum_q    [Cols];

  // Sum after the step of an element. Every kind returns on its own, so that a simulator evaluates only one.
  function automatic logic [31:0] add_product(input logic is_fp8, input logic a_e5m2, input logic w_e5m2,
                                              input logic [31:0] word, input logic [31:0] weight,
                                              input logic [31:0] sum);
    if (HasFp8 && is_fp8) return cx_pe_pkg::step_fp8(a_e5m2, w_e5m2, Pack, word, weight, sum);
    if (HasFp) return cx_fp_pkg::fma(word, weight, sum);
    return sum;
  endfunction

  // One cycle of element (r, c), in place.
  function automatic void visit(input int unsigned r, input int unsigned c, input wave_t wave);
    int unsigned i, line;
    logic        here, zero, neg;
    logic [31:0] word, weight, sum;

    i      = r * Cols + c;
    weight = 32'd0;
    sum    = 32'd0;
    here   = wave.valid && DimW'(c) < wave.cols;
    if (here) begin
      if (c == 0) begin
        line = line_of(32'(act_at_q), ActLines, 1 + r * Stages);
        zero = zero_line_q[line][r];
        neg  = neg_line_q[line][r];
        word = act_line_q[line][r];
      end else begin
        zero = zero_q[i-1];
        neg  = neg_q[i-1];
        word = act_q[i-1];
      end

      if (wave.os) begin
        if (r != 0)      weight = move_q[Last*Elements+i-Cols];
        else if (c != 0) weight = move_line_q[line_of(32'(move_at_q), MoveLines, c)][c];
        else             weight = w_word_i[0];
        sum = wave.first ? 32'd0 : sum_q[Last*Elements+i];
      end else begin
        weight = wave.bank ? weight1_q[i] : weight0_q[i];
        sum    = r == 0 ? 32'd0 : sum_q[Last*Elements+i-Cols];
      end

      if (zero) begin
        zero_q[i] = 1'b1;
        neg_q[i]  = neg;
        if (DimW'(r) < wave.rows) begin
          sum = cx_pe_pkg::gated(wave.is_int, HasFp8 && wave.is_fp8, wave.w_e5m2, Pack, neg, weight, sum);
        end
      end else begin
        zero_q[i] = 1'b0;
        act_q[i]  = word;
        if (DimW'(r) < wave.rows) begin
          if (HasInt && wave.is_int) begin
            neg_q[i] = 1'b0;
            sum      = cx_pe_pkg::step_int8(Pack, word, weight, sum);
          end else begin
            sum = add_product(wave.is_fp8, wave.a_e5m2, wave.w_e5m2, word, weight, sum);
          end
        end
      end
    end
    for (int unsigned s = Last; s > 0; s--) begin
      if (wave_q[r*Stages+c+s].valid && DimW'(c) < wave_q[r*Stages+c+s].cols) begin
        sum_q[s*Elements+i] = sum_q[(s-1)*Elements+i];
        if (wave_q[r*Stages+c+s].os) move_q[s*Elements+i] = move_q[(s-1)*Elements+i];
      end
    end
    if (here) begin
      sum_q[i] = sum;
      if (wave.os) move_q[i] = weight;
    end
  endfunction

  // The state changes in place, from the last element to the first: each sees its neighbours as they were, and the
  // words that enter come after all.
  always_ff @(posedge clk_i) begin
    if (shift_i != '0) begin
      for (int unsigned r = Rows - 1; r > 0; r--) begin
        for (int unsigned c = 0; c < Cols; c++) begin
          if (shift_i[c] && depth_i[c] < DimW'(r)) begin
            sum_q[Last*Elements+r*Cols+c] = sum_q[Last*Elements+(r-1)*Cols+c];
          end
        end
      end
    end
    if (waves != '0) begin
      for (int unsigned r = Rows; r > 0; r--) begin
        for (int unsigned c = Cols; c > 0; c--) visit(r - 1, c - 1, wave_q[(r-1)*Stages+c-1]);
      end
    end
    if (w_we_i != '0) begin
      for (int unsigned r = 0; r < Rows; r++) begin
        if (w_we_i[r]) begin
          for (int unsigned c = 0; c < Cols; c++) begin
            if (w_bank_i) weight1_q[r*Cols+c] = w_word_i[c];
            else weight0_q[r*Cols+c] = w_word_i[c];
          end
        end
      end
    end
    if (wave_i.valid) begin
      for (int unsigned r = 0; r < Rows; r++) act_line_q[act_at_q][r] = act_word_i[r];
      zero_line_q[act_at_q] = act_zero_i;
      neg_line_q[act_at_q]  = act_neg_i;
    end
    if (wave_q[0].valid && wave_q[0].os) begin
      for (int unsigned c = 0; c < Cols; c++) move_line_q[move_at_q][c] = w_word_i[c];
    end
    for (int unsigned c = 0; c < Cols; c++) psum[c] = sum_q[Last*Elements+(Rows-1)*Cols+c];
    psum_q <= psum;
  end

  assign psum_o = psum_q;

endmodule
