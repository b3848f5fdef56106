// Types that the modules of the sparse tile share. Operation codes are part of the command interface.
package cx_sca_pkg;
  import cx_tile_pkg::*;

  typedef enum logic [1:0] {
    ScaLoad  = 2'd0,
    ScaMul   = 2'd1,
    ScaDrain = 2'd2
  } sca_op_e;

  localparam int unsigned PosW   = 32;  // positions: group * k + row of the weight
  localparam int unsigned GroupW = 16;  // groups of columns, columns of a drain

  localparam logic [PosW-1:0] PosEnd = '1;  // beyond every position

  // What goes with a weight of a column.
  typedef struct packed {
    logic          empty;  // stands for a column of a group without non-zeros: no product
    logic          last;   // of the column in its group
    logic [KW-1:0] k;      // its row
  } place_t;

endpackage
