#include "test.h"
TEST_BEGIN
  la s0, words
  lw a0, 0(s0)
  CHECK(1, a0, 0x8182f3f4)
  lh a0, 0(s0)
  CHECK(2, a0, 0xfffff3f4)
  lhu a0, 2(s0)
  CHECK(3, a0, 0x8182)
  lb a0, 3(s0)
  CHECK(4, a0, 0xffffff81)
  lbu a0, 1(s0)
  CHECK(5, a0, 0xf3)
  li a1, 0x11223344
  sw a1, 4(s0)
  sh a1, 10(s0)
  sb a1, 9(s0)
  lw a0, 4(s0)
  CHECK(6, a0, 0x11223344)
  lw a0, 8(s0)
  CHECK(7, a0, 0x334444aa)
  addi s1, s0, 2047
  lw a0, -2047(s1)
  CHECK(8, a0, 0x8182f3f4)
  /* Code that is rewritten is seen at once, with fence.i or without. */
  la s1, patched
  li a1, 0x00700513 /* li a0, 7 */
  sw a1, 0(s1)
patched:
  li a0, 1
  CHECK(9, a0, 7)
TEST_END
  .data
  .balign 4
words: .word 0x8182f3f4, 0, 0xaaaaaaaa
