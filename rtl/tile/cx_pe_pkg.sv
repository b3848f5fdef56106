// What a processing element adds to its sum in a step, for each kind of element.
package cx_pe_pkg;

  // Infinity or NaN among the weights: their product with zero is not zero.
  function automatic logic is_special(input logic [31:0] w, input logic is_int, input logic is_fp8, input logic e5m2,
                                      input int unsigned lanes);
    logic special;
    if (is_fp8) begin
      special = 1'b0;
      for (int unsigned l = 0; l < lanes; l++) begin
        if (e5m2 ? w[8*l+2 +: 5] == 5'h1F : w[8*l +: 7] == 7'h7F) special = 1'b1;
      end
      return special;
    end
    return !is_int && w[30:23] == 8'hFF;
  endfunction

  // The sum after a step whose activation is zero. `neg` is its sign.
  function automatic logic [31:0] gated(input logic is_int, input logic is_fp8, input logic w_e5m2,
                                        input int unsigned lanes, input logic neg, input logic [31:0] weight,
                                        input logic [31:0] sum);
    // verilator no_inline_task
    if (is_special(weight, is_int, is_fp8, w_e5m2, lanes)) return cx_fp_pkg::CanonicalNan;
    // Adding a zero changes a negative zero only.
    if (!is_int && sum == 32'h8000_0000 && (is_fp8 || neg == weight[31])) return 32'd0;
    return sum;
  endfunction

  // Sum of the products of two FP8 pairs, rounded once.
  function automatic logic [31:0] dot2_fp8(input logic a_e5m2, input logic w_e5m2, input logic [15:0] a,
                                           input logic [15:0] w);
    return cx_fp_pkg::add(cx_fp_pkg::mul_fp8(a[7:0], a_e5m2, w[7:0], w_e5m2),
                          cx_fp_pkg::mul_fp8(a[15:8], a_e5m2, w[15:8], w_e5m2));
  endfunction

  // The sum after two or four FP8 products.
  function automatic logic [31:0] step_fp8(input logic a_e5m2, input logic w_e5m2, input int unsigned lanes,
                                           input logic [31:0] act, input logic [31:0] weight, input logic [31:0] sum);
    // verilator no_inline_task
    logic [31:0] products;
    products = dot2_fp8(a_e5m2, w_e5m2, act[15:0], weight[15:0]);
    if (lanes == 4) products = cx_fp_pkg::add(products, dot2_fp8(a_e5m2, w_e5m2, act[31:16], weight[31:16]));
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
