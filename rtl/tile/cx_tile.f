cx_tile_pkg.sv
cx_fp_pkg.sv
cx_widen.sv
cx_pe.sv
cx_skew.sv
cx_acc_column.sv
cx_tile_ctrl.sv
cx_tile.sv
