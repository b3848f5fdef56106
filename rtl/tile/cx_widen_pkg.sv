// Raw element (low bits of the word) to the form that the array computes with: FP32, INT8 sign-extended, or `pack` 8-bit
// elements side by side, of which the last may be missing.
package cx_widen_pkg;
  import cx_tile_pkg::*;

  // `there`: elements of a packed word that are there, 0 is the lowest; those at and above `pack` are not.
  // A function: Verilator evaluates every arm of a case in a process, but only one that returns.
  function automatic logic [31:0] widened(input int unsigned pack, input logic [3:0] fmt, input logic [3:0] there,
                                          input logic [31:0] raw);
    logic [31:0] lanes;
    lanes = raw & {{8{there[3]}}, {8{there[2]}}, {8{there[1]}}, {8{there[0]}}};
    case (fmt)
      FmtFp16:    return cx_fp_pkg::widen_fp16(raw[15:0]);
      FmtBf16:    return cx_fp_pkg::widen_bf16(raw[15:0]);
      FmtFp8E4m3: return pack > 1 ? lanes : cx_fp_pkg::widen_e4m3(raw[7:0]);
      FmtFp8E5m2: return pack > 1 ? lanes : cx_fp_pkg::widen_fp16({raw[7:0], 8'd0});
      FmtInt8:    return pack > 1 ? lanes : {{24{raw[7]}}, raw[7:0]};
      default:    return raw;
    endcase
  endfunction

  // All elements of a widened word are zeros.
  function automatic logic is_zero(input int unsigned pack, input logic [3:0] fmt, input logic [31:0] word);
    if (fmt == FmtInt8) return word == 32'd0;
    if (pack > 1 && (fmt == FmtFp8E4m3 || fmt == FmtFp8E5m2)) return (word & 32'h7F7F_7F7F) == 32'd0;
    return word[30:0] == 31'd0;
  endfunction

endpackage
