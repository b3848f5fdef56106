// FP32 arithmetic: round to nearest even, subnormals kept, every NaN result is 7FC00000.
package cx_fp_pkg;

  localparam logic [31:0] CanonicalNan = 32'h7FC0_0000;

  // Shifts right and keeps "something was lost" in the lowest bit.
  function automatic logic [63:0] shift_right_jam(input logic [63:0] value, input logic [9:0] amount);
    logic [63:0] shifted;
    logic [63:0] restored;
    if (amount > 10'd63) return {63'd0, value != 64'd0};
    shifted  = value >> amount[5:0];
    restored = shifted << amount[5:0];
    return {shifted[63:1], shifted[0] | (restored != value)};
  endfunction

  function automatic logic [6:0] leading_zeros(input logic [63:0] value);
    logic [63:0] v;
    logic [6:0]  n;
    v = value;
    n = 7'd0;
    if (v[63:32] == 32'd0) begin n = n | 7'd32; v = v << 32; end
    if (v[63:48] == 16'd0) begin n = n | 7'd16; v = v << 16; end
    if (v[63:56] == 8'd0)  begin n = n | 7'd8;  v = v << 8;  end
    if (v[63:60] == 4'd0)  begin n = n | 7'd4;  v = v << 4;  end
    if (v[63:62] == 2'd0)  begin n = n | 7'd2;  v = v << 2;  end
    if (!v[63])            begin n = n | 7'd1;  end
    return n;
  endfunction

  // a * b + c with one rounding.
  //
  // Both terms are laid into 64 bits with the weight of 2^exponent at bit 61, the 48-bit product with 15 bits below
  // it. The term with the smaller exponent is shifted right. Bits are lost only when the shift exceeds 15 (product)
  // or 38 (addend); then the other term is so much larger that no cancellation can bring the lost bits to the rounding
  // position, and one jam bit stands for them. Subnormal inputs need no normalisation: their exponent is 1, and the
  // larger of the two exponents is never below that of the addend, so that results only ever shift left.
  function automatic logic [31:0] fma(input logic [31:0] a, input logic [31:0] b, input logic [31:0] c);
    // verilator no_inline_task
    logic               sign_p, sign_c, sign;
    logic        [7:0]  field_a, field_b, field_c;
    logic        [23:0] sig_a, sig_b, sig_c;
    logic signed [10:0] exp_p, exp_c, exp, distance;
    logic        [63:0] term_p, term_c, sum, norm;
    logic        [6:0]  zeros;
    logic signed [10:0] limit, exp_base;
    logic               increment;
    logic        [33:0] packed_result;

    sign_p  = a[31] ^ b[31];
    sign_c  = c[31];
    field_a = a[30:23];
    field_b = b[30:23];
    field_c = c[30:23];

    if (field_a == 8'hFF || field_b == 8'hFF || field_c == 8'hFF) begin
      if ((field_a == 8'hFF && a[22:0] != 23'd0) || (field_b == 8'hFF && b[22:0] != 23'd0) ||
          (field_c == 8'hFF && c[22:0] != 23'd0)) return CanonicalNan;
      if (field_a == 8'hFF || field_b == 8'hFF) begin
        if (a[30:0] == 31'd0 || b[30:0] == 31'd0) return CanonicalNan;  // infinity times zero
        if (field_c == 8'hFF && sign_c != sign_p) return CanonicalNan;  // infinity minus infinity
        return {sign_p, 31'h7F80_0000};
      end
      return c;
    end

    sig_a = {field_a != 8'd0, a[22:0]};
    sig_b = {field_b != 8'd0, b[22:0]};
    sig_c = {field_c != 8'd0, c[22:0]};
    if (sig_a == 24'd0 || sig_b == 24'd0) begin
      if (sig_c == 24'd0) return {sign_p & sign_c, 31'd0};
      return c;
    end

    exp_p = $signed({3'b0, field_a == 8'd0 ? 8'd1 : field_a}) + $signed({3'b0, field_b == 8'd0 ? 8'd1 : field_b}) -
            11'sd127;
    exp_c = $signed({3'b0, field_c == 8'd0 ? 8'd1 : field_c});
    term_p   = {1'b0, 48'(sig_a) * 48'(sig_b), 15'd0};
    term_c   = {2'b0, sig_c, 38'd0};
    distance = exp_p - exp_c;
    if (distance >= 11'sd0) begin
      exp    = exp_p;
      term_c = shift_right_jam(term_c, distance[9:0]);
    end else begin
      exp      = exp_c;
      distance = -distance;
      term_p   = shift_right_jam(term_p, distance[9:0]);
    end

    sign = sign_p;
    if (sign_p == sign_c) begin
      sum = term_p + term_c;
    end else if (term_p >= term_c) begin
      sum = term_p - term_c;
    end else begin
      sum  = term_c - term_p;
      sign = sign_c;
    end
    if (sum == 64'd0) return 32'd0;  // exact cancellation

    // Leading one to bit 63, but never below the exponent of subnormals.
    zeros = leading_zeros(sum);
    limit = exp + 11'sd1;
    if ($signed({4'b0, zeros}) > limit) zeros = limit[6:0];
    norm      = sum << zeros;
    exp_base  = exp + 11'sd1 - $signed({4'b0, zeros});
    increment = norm[39] && ((norm[38:0] != 39'd0) || norm[40]);
    // The hidden bit and a carry of the rounding step the exponent field.
    packed_result = {exp_base, 23'd0} + {10'd0, norm[63:40]} + {33'd0, increment};
    if (packed_result[33:23] >= 11'd255) return {sign, 31'h7F80_0000};
    return {sign, packed_result[30:0]};
  endfunction

  // Exact product of two FP8 numbers as FP32. The significands, 1.3 bits each with the format's exponent, make eight
  // bits with the weight of two in front.
  function automatic logic [31:0] mul_fp8(input logic [7:0] a, input logic a_e5m2, input logic [7:0] b,
                                          input logic b_e5m2);
    logic        sign, a_nan, b_nan, a_inf, b_inf;
    logic [4:0]  field_a, field_b;
    logic [3:0]  sig_a, sig_b;
    logic [7:0]  product;
    logic [7:0]  exponent;

    sign    = a[7] ^ b[7];
    field_a = a_e5m2 ? a[6:2] : {1'b0, a[6:3]};
    field_b = b_e5m2 ? b[6:2] : {1'b0, b[6:3]};
    a_nan   = a_e5m2 ? a[6:0] > 7'h7C : a[6:0] == 7'h7F;
    b_nan   = b_e5m2 ? b[6:0] > 7'h7C : b[6:0] == 7'h7F;
    a_inf   = a_e5m2 && a[6:0] == 7'h7C;
    b_inf   = b_e5m2 && b[6:0] == 7'h7C;
    sig_a   = a_e5m2 ? {field_a != 5'd0, a[1:0], 1'b0} : {field_a != 5'd0, a[2:0]};
    sig_b   = b_e5m2 ? {field_b != 5'd0, b[1:0], 1'b0} : {field_b != 5'd0, b[2:0]};
    product = 8'(sig_a) * 8'(sig_b);

    if (a_nan || b_nan) return CanonicalNan;
    if (a_inf || b_inf) return product == 8'd0 ? CanonicalNan : {sign, 31'h7F80_0000};
    if (product == 8'd0) return {sign, 31'd0};

    // 127 + 1 less the biases; the field of a subnormal counts as 1.
    exponent = 8'd128 - (a_e5m2 ? 8'd15 : 8'd7) - (b_e5m2 ? 8'd15 : 8'd7) +
               {3'b0, field_a == 5'd0 ? 5'd1 : field_a} + {3'b0, field_b == 5'd0 ? 5'd1 : field_b};
    if (product[7:4] == 4'd0) begin product = product << 4; exponent = exponent - 8'd4; end
    if (product[7:6] == 2'd0) begin product = product << 2; exponent = exponent - 8'd2; end
    if (!product[7])          begin product = product << 1; exponent = exponent - 8'd1; end
    return {sign, exponent, product[6:0], 16'd0};
  endfunction

  // a * b with one rounding.
  function automatic logic [31:0] mul(input logic [31:0] a, input logic [31:0] b);
    return fma(a, b, 32'h8000_0000);
  endfunction

  // a + b with one rounding.
  function automatic logic [31:0] add(input logic [31:0] a, input logic [31:0] b);
    return fma(a, 32'h3F80_0000, b);
  endfunction

  // Exact FP32 value of an FP16 number. E5M2 is the upper half of one.
  function automatic logic [31:0] widen_fp16(input logic [15:0] v);
    logic [4:0] zeros;
    logic [9:0] shifted;
    if (v[14:10] == 5'h1F) return (v[9:0] != 10'd0) ? CanonicalNan : {v[15], 31'h7F80_0000};
    if (v[14:10] != 5'd0) return {v[15], 8'd112 + {3'b0, v[14:10]}, v[9:0], 13'd0};
    if (v[9:0] == 10'd0) return {v[15], 31'd0};
    zeros   = 5'd0;
    shifted = v[9:0];
    while (!shifted[9]) begin
      shifted = shifted << 1;
      zeros   = zeros + 5'd1;
    end
    return {v[15], 8'd112 - {3'b0, zeros}, shifted[8:0], 14'd0};
  endfunction

  function automatic logic [31:0] widen_bf16(input logic [15:0] v);
    return (v[14:7] == 8'hFF && v[6:0] != 7'd0) ? CanonicalNan : {v, 16'd0};
  endfunction

  function automatic logic [31:0] widen_e4m3(input logic [7:0] v);
    if (v[6:0] == 7'h7F) return CanonicalNan;
    if (v[6:3] != 4'd0) return {v[7], 8'd120 + {4'b0, v[6:3]}, v[2:0], 20'd0};
    if (v[2]) return {v[7], 8'd120, v[1:0], 21'd0};
    if (v[1]) return {v[7], 8'd119, v[0], 22'd0};
    if (v[0]) return {v[7], 8'd118, 23'd0};
    return {v[7], 31'd0};
  endfunction

endpackage
