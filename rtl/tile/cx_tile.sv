// Weight-stationary systolic MAC tile: Rows (K) x Cols (N) processing elements, two weight banks, and an accumulator
// memory of AccRows rows. Operations, timing and the command protocol: hw/dmmu/README.md.
//
// Raw elements sit in the low bits of their 32-bit word. Weight row r is row r of the matrix; activation word r meets
// weight row r.
module cx_tile
  import cx_tile_pkg::*;
#(
  parameter int unsigned Rows    = 8,
  parameter int unsigned Cols    = 8,
  parameter int unsigned AccRows = 256
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  // command
  input  logic                  cmd_valid_i,
  output logic                  cmd_ready_o,
  input  logic [1:0]            cmd_op_i,          // op_e
  input  logic [3:0]            cmd_fmt_i,         // fmt_e; not used by a drain
  input  logic [AccW-1:0]       cmd_m_i,           // rows of a multiplication or drain
  input  logic [DimW-1:0]       cmd_k_i,           // weight rows
  input  logic [DimW-1:0]       cmd_n_i,           // columns that take part in a multiplication
  input  logic [AccW-1:0]       cmd_acc_row_i,
  input  logic                  cmd_accumulate_i,
  output logic                  idle_o,            // nothing in flight
  // weight rows
  input  logic                  w_valid_i,
  output logic                  w_ready_o,
  input  logic [Cols-1:0][31:0] w_row_i,
  // activation rows
  input  logic                  a_valid_i,
  output logic                  a_ready_o,
  input  logic [Rows-1:0][31:0] a_row_i,
  // accumulator rows of a drain
  output logic                  d_valid_o,
  input  logic                  d_ready_i,
  output logic [Cols-1:0][31:0] d_row_o
);

  logic [3:0]      w_fmt, a_fmt;
  logic [DimW-1:0] w_row, a_k;
  logic            w_bank, a_bank;
  tag_t            a_tag;
  logic            drain_en;
  logic [AccW-1:0] drain_row;

  cx_tile_ctrl #(
    .Rows    (Rows),
    .Cols    (Cols),
    .AccRows (AccRows)
  ) u_ctrl (
    .clk_i,
    .rst_ni,
    .cmd_valid_i,
    .cmd_ready_o,
    .cmd_op_i,
    .cmd_fmt_i,
    .cmd_m_i,
    .cmd_k_i,
    .cmd_n_i,
    .cmd_acc_row_i,
    .cmd_accumulate_i,
    .idle_o,
    .w_valid_i,
    .w_ready_o,
    .w_fmt_o     (w_fmt),
    .w_row_o     (w_row),
    .w_bank_o    (w_bank),
    .a_valid_i,
    .a_ready_o,
    .a_fmt_o     (a_fmt),
    .a_k_o       (a_k),
    .a_bank_o    (a_bank),
    .a_tag_o     (a_tag),
    .drain_en_o  (drain_en),
    .drain_row_o (drain_row),
    .d_valid_o,
    .d_ready_i
  );

  // ---- weights: widened once, then written to the shadow bank of their row ----
  logic [31:0]     w_word   [Cols];
  logic [31:0]     w_word_q [Cols];
  logic [Rows-1:0] w_we_q;
  logic            w_bank_q;

  for (genvar c = 0; c < int'(Cols); c++) begin : gen_w_widen
    cx_widen u_widen (
      .fmt_i  (w_fmt),
      .raw_i  (w_row_i[c]),
      .word_o (w_word[c])
    );
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      w_we_q <= '0;
    end else begin
      for (int unsigned r = 0; r < Rows; r++) w_we_q[r] <= w_valid_i && w_ready_o && w_row == DimW'(r);
    end
  end

  always_ff @(posedge clk_i) begin
    if (w_valid_i && w_ready_o) begin
      w_word_q <= w_word;
      w_bank_q <= w_bank;
    end
  end

  // ---- activations: widened, tagged, skewed ----
  wave_t a_wave [Rows];
  wave_t a_skewed [Rows];

  for (genvar r = 0; r < int'(Rows); r++) begin : gen_a_widen
    logic [31:0] word;
    cx_widen u_widen (
      .fmt_i  (a_fmt),
      .raw_i  (a_row_i[r]),
      .word_o (word)
    );
    always_comb begin
      a_wave[r].valid  = a_tag.valid;
      a_wave[r].row_en = DimW'(r) < a_k;
      a_wave[r].bank   = a_bank;
      a_wave[r].is_int = a_tag.is_int;
      a_wave[r].cols   = a_tag.cols;
      a_wave[r].word   = word;
    end
  end

  cx_skew #(
    .Rows (Rows)
  ) u_skew (
    .clk_i,
    .rst_ni,
    .wave_i (a_wave),
    .wave_o (a_skewed)
  );

  // ---- the array ----
  for (genvar r = 0; r < int'(Rows); r++) begin : gen_row
    for (genvar c = 0; c < int'(Cols); c++) begin : gen_col
      wave_t       wave_in, wave_out;
      logic [31:0] psum_in, psum_out;

      if (c == 0) begin : gen_left
        assign wave_in = a_skewed[r];
      end else begin : gen_inner
        assign wave_in = gen_row[r].gen_col[c-1].wave_out;
      end
      if (r == 0) begin : gen_top
        assign psum_in = 32'd0;
      end else begin : gen_below
        assign psum_in = gen_row[r-1].gen_col[c].psum_out;
      end

      cx_pe u_pe (
        .clk_i,
        .rst_ni,
        .w_we_i   (w_we_q[r]),
        .w_bank_i (w_bank_q),
        .w_word_i (w_word_q[c]),
        .wave_i   (wave_in),
        .wave_o   (wave_out),
        .psum_i   (psum_in),
        .psum_o   (psum_out)
      );
    end
  end

  // ---- accumulators: the tag of a row waits while its partial sums go down ----
  tag_t            tag_delay_q [Rows];
  logic [Rows-1:0] tag_valid_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) tag_valid_q <= '0;
    else tag_valid_q <= Rows'({tag_valid_q, a_tag.valid});
  end

  always_ff @(posedge clk_i) begin
    tag_delay_q[0] <= a_tag;
    for (int unsigned r = 1; r < Rows; r++) tag_delay_q[r] <= tag_delay_q[r-1];
  end

  for (genvar c = 0; c < int'(Cols); c++) begin : gen_acc
    tag_t tag_in, tag_out;

    if (c == 0) begin : gen_first
      always_comb begin
        tag_in       = tag_delay_q[Rows-1];
        tag_in.valid = tag_valid_q[Rows-1];
      end
    end else begin : gen_next
      assign tag_in = gen_acc[c-1].tag_out;
    end

    cx_acc_column #(
      .AccRows (AccRows)
    ) u_acc (
      .clk_i,
      .rst_ni,
      .tag_i        (tag_in),
      .tag_o        (tag_out),
      .psum_i       (gen_row[Rows-1].gen_col[c].psum_out),
      .drain_en_i   (drain_en),
      .drain_row_i  (drain_row),
      .drain_word_o (d_row_o[c])
    );
  end

endmodule
