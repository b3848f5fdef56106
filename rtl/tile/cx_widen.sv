// Raw element (low bits of the word) to the form that the array computes with: FP32, or INT8 sign-extended.
module cx_widen
  import cx_tile_pkg::*;
(
  input  logic [3:0]  fmt_i,
  input  logic [31:0] raw_i,
  output logic [31:0] word_o
);

  always_comb begin
    unique case (fmt_i)
      FmtFp16:    word_o = cx_fp_pkg::widen_fp16(raw_i[15:0]);
      FmtBf16:    word_o = cx_fp_pkg::widen_bf16(raw_i[15:0]);
      FmtFp8E4m3: word_o = cx_fp_pkg::widen_e4m3(raw_i[7:0]);
      FmtFp8E5m2: word_o = cx_fp_pkg::widen_fp16({raw_i[7:0], 8'd0});
      FmtInt8:    word_o = {{24{raw_i[7]}}, raw_i[7:0]};
      default:    word_o = raw_i;
    endcase
  end

endmodule
