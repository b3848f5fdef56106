#include "test.h"
TEST_BEGIN
  OP_RR(1, add, 0x7fffffff, 1, 0x80000000)
  OP_RR(2, sub, 0, 1, 0xffffffff)
  OP_RR(3, sll, 1, 33, 2)
  OP_RR(4, slt, 0x80000000, 0x7fffffff, 1)
  OP_RR(5, sltu, 0x80000000, 0x7fffffff, 0)
  OP_RR(6, xor, 0xff00ff00, 0x0f0f0f0f, 0xf00ff00f)
  OP_RR(7, srl, 0x80000000, 31, 1)
  OP_RR(8, sra, 0x80000000, 31, 0xffffffff)
  OP_RR(9, or, 0xff00ff00, 0x0f0f0f0f, 0xff0fff0f)
  OP_RR(10, and, 0xff00ff00, 0x0f0f0f0f, 0x0f000f00)
  OP_RR(11, sra, 0x7fffffff, 4, 0x07ffffff)
  OP_RI(20, addi, 5, -6, 0xffffffff)
  OP_RI(21, slti, -2, -1, 1)
  OP_RI(22, sltiu, 1, -1, 1)
  OP_RI(23, xori, 0x00ff0f00, -1, 0xff00f0ff)
  OP_RI(24, ori, 0x0ff00ff0, 0x70f, 0x0ff00fff)
  OP_RI(25, andi, 0x0ff00ff0, 0x70f, 0x00000700)
  OP_RI(26, slli, 0x12345678, 31, 0)
  OP_RI(27, srli, 0x80000001, 1, 0x40000000)
  OP_RI(28, srai, 0x80000001, 1, 0xc0000000)
  lui a0, 0xfffff
  CHECK(30, a0, 0xfffff000)
1:
  auipc a0, 1
  la a1, 1b
  sub a0, a0, a1
  CHECK(31, a0, 0x1000)
  addi x0, x0, 5
  CHECK(32, x0, 0)
TEST_END
