// Types that the modules of the MAC tile share. Format and operation codes are part of the command interface.
package cx_tile_pkg;

  // Values as isa dtype.
  typedef enum logic [3:0] {
    FmtFp32    = 4'd0,
    FmtFp16    = 4'd1,
    FmtBf16    = 4'd2,
    FmtFp8E4m3 = 4'd3,
    FmtFp8E5m2 = 4'd4,
    FmtInt8    = 4'd5
  } fmt_e;

  typedef enum logic [1:0] {
    OpLoad  = 2'd0,
    OpMul   = 2'd1,
    OpDrain = 2'd2
  } op_e;

  localparam int unsigned DimW = 8;   // rows and columns of the array
  localparam int unsigned AccW = 16;  // rows of the accumulator memory

  // What travels from left to right through a row of processing elements.
  typedef struct packed {
    logic            valid;
    logic            row_en;   // this row takes part in the pass
    logic            bank;     // weight bank of the pass
    logic            is_int;
    logic [DimW-1:0] cols;     // columns still to visit, this one included
    logic [31:0]     word;     // FP32, or INT8 sign-extended
  } wave_t;

  // What travels along the accumulator columns, in step with the partial sums that leave the array.
  typedef struct packed {
    logic            valid;
    logic            accumulate;
    logic            is_int;
    logic [DimW-1:0] cols;
    logic [AccW-1:0] row;
  } tag_t;

endpackage
