// Conversions at the end of the drain path. Round to nearest even; subnormals and the sign of zero are kept. A NaN
// becomes the positive quiet NaN of the format, or 0 for integers. FP16 and BF16 overflow to infinity, FP8 and integers
// clamp to their largest value, infinities included.
package cx_cvt_pkg;

  function automatic logic is_nan(input logic [30:0] magnitude);
    return magnitude > 31'h7F80_0000;
  endfunction

  // FP32 a < b; false if either is NaN. Both zeros are equal.
  function automatic logic less(input logic [31:0] a, input logic [31:0] b);
    logic signed [31:0] key_a, key_b;
    if (is_nan(a[30:0]) || is_nan(b[30:0])) return 1'b0;
    key_a = a[31] ? -$signed({1'b0, a[30:0]}) : $signed(a);
    key_b = b[31] ? -$signed({1'b0, b[30:0]}) : $signed(b);
    return key_a < key_b;
  endfunction

  // v <= 0 becomes +0.
  function automatic logic [31:0] relu(input logic [31:0] v);
    return (v[31] && !is_nan(v[30:0])) ? 32'd0 : v;
  endfunction

  // lo before hi; a NaN limit has no effect, a NaN value passes.
  function automatic logic [31:0] clamp(input logic [31:0] v, input logic [31:0] lo, input logic [31:0] hi);
    // verilator no_inline_task
    logic [31:0] raised;
    raised = less(v, lo) ? lo : v;
    return less(hi, raised) ? hi : raised;
  endfunction

  function automatic logic [31:0] int_to_fp32(input logic [31:0] v);
    // verilator no_inline_task
    logic [31:0] magnitude, norm;
    logic [7:0]  field;
    logic        increment;
    if (v == 32'd0) return 32'd0;
    magnitude = v[31] ? -v : v;
    // Leading one to bit 31, whose weight makes the exponent field 158; the hidden bit below adds one to the field.
    norm  = magnitude;
    field = 8'd157;
    if (norm[31:16] == 16'd0) begin norm = norm << 16; field = field - 8'd16; end
    if (norm[31:24] == 8'd0)  begin norm = norm << 8;  field = field - 8'd8;  end
    if (norm[31:28] == 4'd0)  begin norm = norm << 4;  field = field - 8'd4;  end
    if (norm[31:30] == 2'd0)  begin norm = norm << 2;  field = field - 8'd2;  end
    if (!norm[31])            begin norm = norm << 1;  field = field - 8'd1;  end
    increment = norm[7] && (norm[8] || norm[6:0] != 7'd0);
    // A carry of the rounding steps the exponent field.
    return {v[31], field, 23'd0} + {8'd0, norm[31:8]} + {31'd0, increment};
  endfunction

  // Code of |v| in a format with 23 - drop mantissa bits and the exponent bias 127 - rebias, as if its exponent had no
  // upper end. Infinity gives a code beyond every format's largest.
  function automatic logic [31:0] magnitude_code(input logic [30:0] magnitude, input logic [7:0] rebias,
                                                 input logic [4:0] drop);
    logic [7:0]  field, below;
    logic [31:0] value, half;
    logic [4:0]  shift;
    field = magnitude[30:23];
    below = rebias + 8'd1 - field;  // exponents below the smallest normal one
    shift = drop;
    if (field > rebias) begin
      value = {1'b0, magnitude} - {1'b0, rebias, 23'd0};
    end else begin
      value = {8'd0, field != 8'd0, magnitude[22:0]};
      // From 25 on the result is 0.
      shift = (below > 8'd25 - {3'd0, drop}) ? 5'd25 : drop + below[4:0];
    end
    half = (32'd1 << shift) >> 1;
    return (value + half - {31'd0, !value[shift]}) >> shift;
  endfunction

  function automatic logic [15:0] narrow_fp16(input logic [31:0] v);
    logic [31:0] code;
    if (is_nan(v[30:0])) return 16'h7E00;
    code = magnitude_code(v[30:0], 8'd112, 5'd13);
    return {v[31], (code > 32'h7C00) ? 15'h7C00 : code[14:0]};
  endfunction

  // The exponent is that of FP32; rounding carries into infinity by itself.
  function automatic logic [15:0] narrow_bf16(input logic [31:0] v);
    if (is_nan(v[30:0])) return 16'h7FC0;
    return 16'((v + 32'h7FFF + {31'd0, v[16]}) >> 16);
  endfunction

  function automatic logic [7:0] narrow_e4m3(input logic [31:0] v);
    logic [31:0] code;
    if (is_nan(v[30:0])) return 8'h7F;
    code = magnitude_code(v[30:0], 8'd120, 5'd20);
    return {v[31], (code > 32'h7E) ? 7'h7E : code[6:0]};
  endfunction

  function automatic logic [7:0] narrow_e5m2(input logic [31:0] v);
    logic [31:0] code;
    if (is_nan(v[30:0])) return 8'h7E;
    code = magnitude_code(v[30:0], 8'd112, 5'd21);
    return {v[31], (code > 32'h7B) ? 7'h7B : code[6:0]};
  endfunction

  function automatic logic [31:0] to_int32(input logic [31:0] v);
    // verilator no_inline_task
    logic [63:0] fixed;  // |v| with 24 bits below the point
    logic [31:0] rounded;
    logic [4:0]  shift;
    if (is_nan(v[30:0]) || v[30:23] < 8'd126) return 32'd0;
    if (v[30:23] > 8'd157) return v[31] ? 32'h8000_0000 : 32'h7FFF_FFFF;
    shift   = 5'(v[30:23] - 8'd126);
    fixed   = {40'd0, 1'b1, v[22:0]} << shift;
    fixed   = fixed + 64'h7F_FFFF + {63'd0, fixed[24]};
    rounded = 32'(fixed >> 24);
    return v[31] ? -rounded : rounded;
  endfunction

  function automatic logic [7:0] to_int8(input logic [31:0] v);
    logic signed [31:0] value;
    value = $signed(to_int32(v));
    if (value > 32'sd127) return 8'h7F;
    if (value < -32'sd128) return 8'h80;
    return value[7:0];
  endfunction

  function automatic logic [7:0] to_uint8(input logic [31:0] v);
    logic signed [31:0] value;
    value = $signed(to_int32(v));
    if (value > 32'sd255) return 8'hFF;
    if (value < 32'sd0) return 8'h00;
    return value[7:0];
  endfunction

  // FP32 to a destination format; small formats in the low bits.
  function automatic logic [31:0] narrow(input logic [3:0] fmt, input logic [31:0] v);
    // verilator no_inline_task
    case (fmt)
      cx_tile_pkg::FmtFp16:    return {16'd0, narrow_fp16(v)};
      cx_tile_pkg::FmtBf16:    return {16'd0, narrow_bf16(v)};
      cx_tile_pkg::FmtFp8E4m3: return {24'd0, narrow_e4m3(v)};
      cx_tile_pkg::FmtFp8E5m2: return {24'd0, narrow_e5m2(v)};
      cx_tile_pkg::FmtInt8:    return {24'd0, to_int8(v)};
      cx_tile_pkg::FmtUint8:   return {24'd0, to_uint8(v)};
      cx_tile_pkg::FmtInt32:   return to_int32(v);
      default:                 return is_nan(v[30:0]) ? 32'h7FC0_0000 : v;
    endcase
  endfunction

endpackage
