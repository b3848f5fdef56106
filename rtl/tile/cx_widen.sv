// Raw element (low bits of the word) to the form that the array computes with: FP32, INT8 sign-extended, or `Pack`
// 8-bit elements side by side, of which the last may be missing.
module cx_widen
  import cx_tile_pkg::*;
#(
  parameter int unsigned Pack = 1
) (
  input  logic [3:0]      fmt_i,
  input  logic [31:0]     raw_i,
  input  logic [Pack-1:0] lanes_i,  // 8-bit formats: elements that are there, 0 is the lowest
  output logic [31:0]     word_o,
  output logic            zero_o,   // all elements are zeros
  output logic            neg_o     // sign of a lone element
);

  logic        packed_fp8;
  logic [31:0] lanes;

  for (genvar l = 0; l < 4; l++) begin : gen_lane
    if (l < int'(Pack)) begin : gen_there
      assign lanes[8*l +: 8] = raw_i[8*l +: 8] & {8{lanes_i[l]}};
    end else begin : gen_none
      assign lanes[8*l +: 8] = 8'd0;
    end
  end

  assign packed_fp8 = Pack > 1 && (fmt_i == FmtFp8E4m3 || fmt_i == FmtFp8E5m2);

  // A function: Verilator evaluates every arm of a case in a process, but only one that returns.
  function automatic logic [31:0] widened(input logic [3:0] fmt, input logic [31:0] raw, input logic [31:0] present);
    case (fmt)
      FmtFp16:    return cx_fp_pkg::widen_fp16(raw[15:0]);
      FmtBf16:    return cx_fp_pkg::widen_bf16(raw[15:0]);
      FmtFp8E4m3: return Pack > 1 ? present : cx_fp_pkg::widen_e4m3(raw[7:0]);
      FmtFp8E5m2: return Pack > 1 ? present : cx_fp_pkg::widen_fp16({raw[7:0], 8'd0});
      FmtInt8:    return Pack > 1 ? present : {{24{raw[7]}}, raw[7:0]};
      default:    return raw;
    endcase
  endfunction

  assign word_o = widened(fmt_i, raw_i, lanes);

  always_comb begin
    if (fmt_i == FmtInt8) zero_o = word_o == 32'd0;
    else if (packed_fp8)  zero_o = (word_o & 32'h7F7F_7F7F) == 32'd0;
    else                  zero_o = word_o[30:0] == 31'd0;
  end
  assign neg_o = word_o[31];

endmodule
