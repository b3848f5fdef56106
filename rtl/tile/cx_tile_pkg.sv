// Types that the modules of the MAC tile share. Format and operation codes are part of the command interface.
package cx_tile_pkg;

  // Values as isa dtype. The last two are destinations of a drain only.
  typedef enum logic [3:0] {
    FmtFp32    = 4'd0,
    FmtFp16    = 4'd1,
    FmtBf16    = 4'd2,
    FmtFp8E4m3 = 4'd3,
    FmtFp8E5m2 = 4'd4,
    FmtInt8    = 4'd5,
    FmtUint8   = 4'd6,
    FmtInt32   = 4'd7
  } fmt_e;

  typedef enum logic [1:0] {
    OpLoad  = 2'd0,
    OpMul   = 2'd1,  // weight stationary
    OpDrain = 2'd2,
    OpMulOs = 2'd3   // output stationary
  } op_e;

  localparam int unsigned DimW   = 8;   // rows and columns of the array
  localparam int unsigned KW     = 16;  // elements along K
  localparam int unsigned AccW   = 16;  // rows of the accumulator memory

  localparam int unsigned CountW = 48;

  localparam int unsigned PostStages = 3;  // registers of cx_post

  // What the processing elements of one diagonal do in a cycle.
  typedef struct packed {
    logic            valid;
    logic            os;      // output stationary: the sum stays, weights come from above
    logic            first;   // of an output-stationary chain: it starts at +0
    logic            bank;    // weight bank of a weight-stationary pass
    logic            is_int;
    logic            is_fp8;  // several FP8 products in a word; otherwise one FP32
    logic            a_e5m2;
    logic            w_e5m2;
    logic [DimW-1:0] rows;    // rows that take part
    logic [DimW-1:0] cols;    // columns that take part
  } wave_t;

  // What travels along the accumulator columns, in step with the sums that leave the array.
  typedef struct packed {
    logic            valid;
    logic            write;       // the sum is wanted
    logic            os;          // the sums of the column move down by one row
    logic [DimW-1:0] depth;       // of an output-stationary unload: rows above this one are empty
    logic            accumulate;
    logic            is_int;
    logic            scaled;      // block scale
    logic            col_scaled;  // its factor of the column is in the weights' bank
    logic            bank;
    logic [DimW-1:0] cols;
    logic [AccW-1:0] row;
  } tag_t;

  function automatic bit has_format(input logic [5:0] formats, input logic [3:0] fmt);
    return fmt < 4'd6 && formats[fmt[2:0]];
  endfunction

endpackage
