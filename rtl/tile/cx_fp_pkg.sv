// FP32 arithmetic: round to nearest even, subnormals kept, every NaN result is 7FC00000.
package cx_fp_pkg;

  localparam logic [31:0] CanonicalNan = 32'h7FC0_0000;
  localparam logic [31:0] Infinity     = 32'h7F80_0000;
  localparam logic [31:0] MinusZero    = 32'h8000_0000;
  localparam logic [31:0] One          = 32'h3F80_0000;

  // Sums and products are on their way to a result as a number of 63 bits with an exponent: the value of bit 60 is one
  // unit of the biased exponent. A product of two significands fits with 14 bits below it, a significand with 37.
  localparam int unsigned ProductPlace     = 14;
  localparam int unsigned SignificandPlace = 37;

  // Shifts right and keeps "something was lost" in the lowest bit. Values are below 2^63.
  function automatic logic [63:0] shift_right_jam(input logic [63:0] value, input int unsigned amount);
    logic [5:0]  places;
    logic [63:0] shifted;
    places  = amount > 32'd63 ? 6'd63 : amount[5:0];
    shifted = value >> places;
    return shifted | {63'd0, (shifted << places) != value};
  endfunction

  // Zeros in front of the leading one below bit 63; 63 if there is none.
  function automatic int unsigned leading_zeros(input logic [62:0] value);
    logic [63:0] v;
    int unsigned n;
    v = {value, 1'b1};
    n = 32'd0;
    if (v[63:60] == 4'd0) begin  // much has cancelled, which is rare
      if (v[63:32] == 32'd0) begin n = 32'd32;     v = v << 32; end
      if (v[63:48] == 16'd0) begin n = n | 32'd16; v = v << 16; end
      if (v[63:56] == 8'd0)  begin n = n | 32'd8;  v = v << 8;  end
      if (v[63:60] == 4'd0)  begin n = n | 32'd4;  v = v << 4;  end
    end
    // The last four bits: two bits of the constant for each of their values.
    return n | {30'd0, 2'(32'h0000_55AF >> {v[63:60], 1'b0})};
  endfunction

  // The FP32 number nearest to a magnitude that is not zero. `exp` is at least 1, and no bits have been lost where they
  // would move to the left.
  function automatic logic [31:0] rounded(input logic sign, input int unsigned exp, input logic [63:0] magnitude);
    int unsigned zeros;
    logic [63:0] norm;
    logic [31:0] result;
    zeros = leading_zeros(magnitude[62:0]);
    // Subnormal results stay at the lowest exponent.
    if (zeros > exp + 32'd1) zeros = exp + 32'd1;
    norm = magnitude << zeros[5:0];
    // Bit 39 is the last that stays; a tie goes to the even one.
    norm = norm + {26'd0, {38{1'b1}}} + {63'd0, norm[39]};
    // The hidden bit and a carry of the rounding step the exponent field.
    result = ((exp + 32'd1 - zeros) << 23) + {7'd0, norm[63:39]};
    if (result >= Infinity) result = Infinity;
    return result | {sign, 31'd0};
  endfunction

  // Infinite, NaN, zero or subnormal.
  function automatic logic unusual(input logic [7:0] exp);
    return exp == 8'hFF || exp == 8'd0;
  endfunction

  // a * b + c where an operand is infinite or NaN or a factor is zero.
  function automatic logic [31:0] fma_special(input logic [31:0] a, input logic [31:0] b, input logic [31:0] c);
    // verilator no_inline_task
    logic sign_p;
    sign_p = a[31] ^ b[31];
    if (a[30:0] > Infinity[30:0] || b[30:0] > Infinity[30:0] || c[30:0] > Infinity[30:0]) return CanonicalNan;
    if (a[30:23] == 8'hFF || b[30:23] == 8'hFF) begin
      if (a[30:0] == 31'd0 || b[30:0] == 31'd0) return CanonicalNan;  // infinity times zero
      if (c[30:23] == 8'hFF && c[31] != sign_p) return CanonicalNan;  // infinity minus infinity
      return {sign_p, Infinity[30:0]};
    end
    if (c[30:0] == 31'd0) return {sign_p & c[31], 31'd0};
    return c;  // the product is zero, or c is infinite
  endfunction

  // a * b + c with one rounding.
  //
  // The term with the smaller exponent is shifted right. Bits are lost only when the shift exceeds 14 (product) or 37
  // (addend); then the other term is so much larger that no cancellation can bring the lost bits to the rounding
  // position, and one jam bit stands for them. Subnormal inputs need no normalisation: their exponent is 1, and the
  // larger of the two exponents is never below that of the addend, so that results only ever shift left.
  //
  // Operands trade places, and numbers change sign, by exclusive or with a mask: as branches of a simulation they would
  // be mispredicted half of the time.
  function automatic logic [31:0] fma(input logic [31:0] a, input logic [31:0] b, input logic [31:0] c);
    logic        sum_leads, sign, subtract, negative;
    int unsigned exp_p, exp_c, exp, distance;
    logic [63:0] sig_a, sig_b, sig_c, product, addend, exchanged, sum, magnitude;

    sig_a = {41'd1, a[22:0]};
    sig_b = {41'd1, b[22:0]};
    sig_c = {41'd1, c[22:0]};
    exp_p = {24'd0, a[30:23]} + {24'd0, b[30:23]} - 32'd127;
    exp_c = {24'd0, c[30:23]};
    if (unusual(a[30:23]) || unusual(b[30:23]) || unusual(c[30:23])) begin
      if (a[30:23] == 8'hFF || b[30:23] == 8'hFF || c[30:23] == 8'hFF || a[30:0] == 31'd0 || b[30:0] == 31'd0) begin
        return fma_special(a, b, c);
      end
      // No hidden bit, and the exponent of the smallest normal number.
      if (a[30:23] == 8'd0) begin sig_a[23] = 1'b0; exp_p = exp_p + 32'd1; end
      if (b[30:23] == 8'd0) begin sig_b[23] = 1'b0; exp_p = exp_p + 32'd1; end
      if (c[30:23] == 8'd0) begin sig_c[23] = 1'b0; exp_c = 32'd1; end
    end
    product  = (sig_a * sig_b) << ProductPlace;
    addend   = sig_c << SignificandPlace;
    distance = exp_p - exp_c;

    sum_leads = distance[31];
    exp       = exp_c + (distance & ~{32{sum_leads}});
    exchanged = (product ^ addend) & {64{sum_leads}};
    sum       = shift_right_jam(addend ^ exchanged, (distance ^ {32{sum_leads}}) + {31'd0, sum_leads});
    subtract  = a[31] ^ b[31] ^ c[31];
    sum       = (product ^ exchanged) + (sum ^ {64{subtract}}) + {63'd0, subtract};
    // A difference below zero takes the sign of the other term.
    negative  = sum[63];
    magnitude = (sum ^ {64{negative}}) + {63'd0, negative};
    sign      = a[31] ^ b[31] ^ (subtract & sum_leads) ^ negative;
    if (magnitude == 64'd0) return 32'd0;  // exact cancellation
    return rounded(sign, exp, magnitude);
  endfunction

  // a * b with one rounding.
  function automatic logic [31:0] mul(input logic [31:0] a, input logic [31:0] b);
    // verilator no_inline_task
    int unsigned exp;
    logic [63:0] sig_a, sig_b, product;

    sig_a = {41'd1, a[22:0]};
    sig_b = {41'd1, b[22:0]};
    exp   = {24'd0, a[30:23]} + {24'd0, b[30:23]} - 32'd127;
    if (unusual(a[30:23]) || unusual(b[30:23])) begin
      if (a[30:23] == 8'hFF || b[30:23] == 8'hFF || a[30:0] == 31'd0 || b[30:0] == 31'd0) begin
        return fma_special(a, b, MinusZero);
      end
      if (a[30:23] == 8'd0) begin sig_a[23] = 1'b0; exp = exp + 32'd1; end
      if (b[30:23] == 8'd0) begin sig_b[23] = 1'b0; exp = exp + 32'd1; end
    end
    product = (sig_a * sig_b) << ProductPlace;
    if ($signed(exp) < 1) begin
      product = shift_right_jam(product, 32'd1 - exp);
      exp     = 32'd1;
    end
    return rounded(a[31] ^ b[31], exp, product);
  endfunction

  // a + b with one rounding. Three bits below the significand are enough for the term of less magnitude.
  function automatic logic [31:0] add(input logic [31:0] a, input logic [31:0] b);
    // verilator no_inline_task
    logic        subtract;
    int unsigned exp, exp_lesser, distance;
    logic [30:0] lesser;
    logic [31:0] exchanged, greater, sig_greater, sig_lesser, moved, sum;

    exchanged   = (a ^ b) & {32{a[30:0] < b[30:0]}};
    greater     = a ^ exchanged;
    lesser      = b[30:0] ^ exchanged[30:0];
    sig_greater = {6'd1, greater[22:0], 3'd0};
    sig_lesser  = {6'd1, lesser[22:0], 3'd0};
    exp         = {24'd0, greater[30:23]};
    exp_lesser  = {24'd0, lesser[30:23]};
    if (unusual(greater[30:23]) || unusual(lesser[30:23])) begin
      if (greater[30:23] == 8'hFF) return fma_special(One, a, b);
      if (greater[30:23] == 8'd0) begin sig_greater[26] = 1'b0; exp = 32'd1; end
      if (lesser[30:23] == 8'd0) begin sig_lesser[26] = 1'b0; exp_lesser = 32'd1; end
    end
    distance = exp - exp_lesser;
    if (distance > 32'd31) distance = 32'd31;
    moved    = sig_lesser >> distance[4:0];
    moved    = moved | {31'd0, (moved << distance[4:0]) != sig_lesser};
    subtract = a[31] ^ b[31];
    sum      = sig_greater + (moved ^ {32{subtract}}) + {31'd0, subtract};
    if (sum == 32'd0) return a & b & MinusZero;
    return rounded(greater[31], exp, {2'd0, sum[27:0], 34'd0});
  endfunction

  // The sum of two products of FP8 numbers, none of them infinite or NaN, with one rounding.
  function automatic logic [31:0] dot2_fp8(input logic a_e5m2, input logic b_e5m2, input logic [15:0] a,
                                           input logic [15:0] b);
    // verilator no_inline_task
    logic        second_leads, sign_leading, subtract, negative;
    logic [31:0] code_a0, code_a1, code_b0, code_b1;
    logic        normal_a0, normal_a1, normal_b0, normal_b1;
    int unsigned exp0, exp1, exp, distance;
    logic [63:0] product0, product1, exchanged, sum, magnitude;

    // Five bits of exponent and three of fraction, in either format.
    code_a0   = {25'd0, a[6:0]} << a_e5m2;
    code_a1   = {25'd0, a[14:8]} << a_e5m2;
    code_b0   = {25'd0, b[6:0]} << b_e5m2;
    code_b1   = {25'd0, b[14:8]} << b_e5m2;
    normal_a0 = code_a0[7:3] != 5'd0;
    normal_a1 = code_a1[7:3] != 5'd0;
    normal_b0 = code_b0[7:3] != 5'd0;
    normal_b1 = code_b1[7:3] != 5'd0;

    // Exponents above that of the smallest normal numbers. Products have six bits below the point.
    exp0     = (code_a0 >> 3) - {31'd0, normal_a0} + (code_b0 >> 3) - {31'd0, normal_b0};
    exp1     = (code_a1 >> 3) - {31'd0, normal_a1} + (code_b1 >> 3) - {31'd0, normal_b1};
    product0 = 64'({28'd0, normal_a0, code_a0[2:0]} * {28'd0, normal_b0, code_b0[2:0]}) << 54;
    product1 = 64'({28'd0, normal_a1, code_a1[2:0]} * {28'd0, normal_b1, code_b1[2:0]}) << 54;

    // As in a fused multiply-add. Bits are lost only beside the product of two normal numbers.
    distance     = exp0 - exp1;
    second_leads = distance[31];
    exp          = exp1 + (distance & ~{32{second_leads}});
    exchanged    = (product0 ^ product1) & {64{second_leads}};
    sum          = shift_right_jam(product1 ^ exchanged, (distance ^ {32{second_leads}}) + {31'd0, second_leads});
    subtract     = a[7] ^ b[7] ^ a[15] ^ b[15];
    sum          = (product0 ^ exchanged) + (sum ^ {64{subtract}}) + {63'd0, subtract};
    negative     = sum[63];
    magnitude    = (sum ^ {64{negative}}) + {63'd0, negative};
    sign_leading = a[7] ^ b[7] ^ (subtract & second_leads);
    if (magnitude == 64'd0) return {sign_leading & !subtract, 31'd0};
    // 127 with the exponents of the smallest normal numbers, 1 less each bias.
    exp = exp + 32'd129 - (a_e5m2 ? 32'd15 : 32'd7) - (b_e5m2 ? 32'd15 : 32'd7);
    return rounded(sign_leading ^ negative, exp, magnitude);
  endfunction

  // Exact FP32 value of an FP16 number. E5M2 is the upper half of one.
  function automatic logic [31:0] widen_fp16(input logic [15:0] v);
    logic [9:0] fraction;
    logic [7:0] exp;
    if (v[14:10] == 5'h1F) return (v[9:0] != 10'd0) ? CanonicalNan : {v[15], Infinity[30:0]};
    if (v[14:10] != 5'd0) return {v[15], 8'd112 + {3'b0, v[14:10]}, v[9:0], 13'd0};
    if (v[9:0] == 10'd0) return {v[15], 31'd0};
    // Leading one to bit 9.
    fraction = v[9:0];
    exp      = 8'd112;
    if (fraction[9:2] == 8'd0) begin fraction = fraction << 8; exp = exp - 8'd8; end
    if (fraction[9:6] == 4'd0) begin fraction = fraction << 4; exp = exp - 8'd4; end
    if (fraction[9:8] == 2'd0) begin fraction = fraction << 2; exp = exp - 8'd2; end
    if (!fraction[9])          begin fraction = fraction << 1; exp = exp - 8'd1; end
    return {v[15], exp, fraction[8:0], 14'd0};
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
