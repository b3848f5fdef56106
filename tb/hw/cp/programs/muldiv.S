#include "test.h"
TEST_BEGIN
  OP_RR(1, mul, 0x12345678, 0x9abcdef0, 0x242d2080)
  OP_RR(2, mulh, 0x80000000, 0x80000000, 0x40000000)
  OP_RR(3, mulh, 0xffffffff, 2, 0xffffffff)
  OP_RR(4, mulhu, 0xffffffff, 0xffffffff, 0xfffffffe)
  OP_RR(5, mulhsu, 0xffffffff, 0xffffffff, 0xffffffff)
  OP_RR(6, mulhsu, 0x7fffffff, 0xffffffff, 0x7ffffffe)
  OP_RR(10, div, -7, 2, -3)
  OP_RR(11, divu, -7, 2, 0x7ffffffc)
  OP_RR(12, rem, -7, 2, -1)
  OP_RR(13, remu, -7, 2, 1)
  OP_RR(14, rem, 7, -2, 1)
  li a0, 1
  li a1, 0
  div a2, a0, a1
  CHECK(20, a2, -1)
  divu a2, a0, a1
  CHECK(21, a2, 0xffffffff)
  rem a2, a0, a1
  CHECK(22, a2, 1)
  remu a2, a0, a1
  CHECK(23, a2, 1)
  li a0, 0x80000000
  li a1, -1
  div a2, a0, a1
  CHECK(24, a2, 0x80000000)
  rem a2, a0, a1
  CHECK(25, a2, 0)
TEST_END
