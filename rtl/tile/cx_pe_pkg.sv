// What a processing element adds to its sum in a step, for each kind of element. `lanes` is the number of 8-bit
// products in a step; 8-bit elements that are missing, and those above `lanes`, are zeros.
package cx_pe_pkg;

  // Infinities or NaNs among FP8 numbers.
  function automatic logic has_special_fp8(input logic e5m2, input int unsigned lanes, input logic [31:0] word);
    logic [31:0] code;
    code = word | {4{6'd0, e5m2, e5m2}};  // the fraction tells E5M2's infinity from its NaN
    return (code & 32'h0000_007F) == 32'h0000_007F || (code & 32'h0000_7F00) == 32'h0000_7F00 ||
           (lanes == 4 && ((code & 32'h007F_0000) == 32'h007F_0000 || (code & 32'h7F00_0000) == 32'h7F00_0000));
  endfunction

  // The sum after a step whose activation is zero. `neg` is its sign.
  function automatic logic [31:0] gated(input logic is_int, input logic is_fp8, input logic w_e5m2,
                                        input int unsigned lanes, input logic neg, input logic [31:0] weight,
                                        input logic [31:0] sum);
    // verilator no_inline_task
    if (is_int) return sum;
    if (is_fp8) begin
      // Chains of packed products start at +0 and their products are too large to vanish: they never reach -0.
      if (has_special_fp8(w_e5m2, lanes, weight)) return cx_fp_pkg::CanonicalNan;
      return sum;
    end
    if (weight[30:23] == 8'hFF) return cx_fp_pkg::CanonicalNan;
    // Adding a zero changes a negative zero only.
    if (sum != cx_fp_pkg::MinusZero) return sum;
    return neg == weight[31] ? 32'd0 : sum;
  endfunction

  // The sum after FP8 products among whose factors are infinities or NaNs. No finite sum of products overflows, so that
  // infinities come from the factors and from `sum` alone.
  function automatic logic [31:0] special_fp8(input logic a_e5m2, input logic w_e5m2, input logic [31:0] act,
                                              input logic [31:0] weight, input logic [31:0] sum);
    // verilator no_inline_task
    logic       invalid, up, down, a_inf, w_inf;
    logic [7:0] a, w;
    invalid = sum[30:0] > cx_fp_pkg::Infinity[30:0];
    up      = sum == cx_fp_pkg::Infinity;
    down    = sum == (cx_fp_pkg::Infinity | cx_fp_pkg::MinusZero);
    for (int unsigned l = 0; l < 4; l++) begin
      a     = act[8*l +: 8];
      w     = weight[8*l +: 8];
      a_inf = a_e5m2 && a[6:0] == 7'h7C;
      w_inf = w_e5m2 && w[6:0] == 7'h7C;
      if (a[6:0] > (a_e5m2 ? 7'h7C : 7'h7E) || w[6:0] > (w_e5m2 ? 7'h7C : 7'h7E)) invalid = 1'b1;
      if ((a_inf && w[6:0] == 7'd0) || (w_inf && a[6:0] == 7'd0)) invalid = 1'b1;
      if (a_inf || w_inf) begin
        if (a[7] == w[7]) up = 1'b1;
        else down = 1'b1;
      end
    end
    if (invalid || (up && down)) return cx_fp_pkg::CanonicalNan;
    return {down, cx_fp_pkg::Infinity[30:0]};
  endfunction

  // The sum after two or four FP8 products.
  function automatic logic [31:0] step_fp8(input logic a_e5m2, input logic w_e5m2, input int unsigned lanes,
                                           input logic [31:0] act, input logic [31:0] weight, input logic [31:0] sum);
    // verilator no_inline_task
    logic [31:0] products;
    if (has_special_fp8(a_e5m2, lanes, act) || has_special_fp8(w_e5m2, lanes, weight)) begin
      return special_fp8(a_e5m2, w_e5m2, act, weight, sum);
    end
    products = cx_fp_pkg::dot2_fp8(a_e5m2, w_e5m2, act[15:0], weight[15:0]);
    if (lanes == 4) begin
      products = cx_fp_pkg::add(products, cx_fp_pkg::dot2_fp8(a_e5m2, w_e5m2, act[31:16], weight[31:16]));
    end
    return cx_fp_pkg::add(sum, products);
  endfunction

  // The sum after one, two or four INT8 products.
  function automatic logic [31:0] step_int8(input int unsigned lanes, input logic [31:0] act,
                                            input logic [31:0] weight, input logic [31:0] sum);
    logic signed [31:0] products;
    products = 32'($signed(act[7:0])) * 32'($signed(weight[7:0]));
    if (lanes >= 2) products = products + 32'($signed(act[15:8])) * 32'($signed(weight[15:8]));
    if (lanes == 4) begin
      products = products + 32'($signed(act[23:16])) * 32'($signed(weight[23:16])) +
                 32'($signed(act[31:24])) * 32'($signed(weight[31:24]));
    end
    return sum + products;
  endfunction

endpackage
