#include "test.h"
#define TAKEN(number, op, left, right) \
  li a0, left;                         \
  li a1, right;                        \
  li gp, number;                       \
  op a0, a1, 1f;                       \
  j report_failed;                     \
  1:
#define NOT_TAKEN(number, op, left, right) \
  li a0, left;                             \
  li a1, right;                            \
  li gp, number;                           \
  op a0, a1, report_failed
TEST_BEGIN
  TAKEN(1, beq, 5, 5)
  NOT_TAKEN(2, beq, 5, 6)
  TAKEN(3, bne, 5, 6)
  NOT_TAKEN(4, bne, 5, 5)
  TAKEN(5, blt, -1, 0)
  NOT_TAKEN(6, blt, 0, -1)
  NOT_TAKEN(7, blt, 3, 3)
  TAKEN(8, bge, 3, 3)
  TAKEN(9, bge, 0, -1)
  NOT_TAKEN(10, bge, -1, 0)
  TAKEN(11, bltu, 0, -1)
  NOT_TAKEN(12, bltu, -1, 0)
  TAKEN(13, bgeu, -1, 0)
  NOT_TAKEN(14, bgeu, 0, -1)
  /* Backwards. */
  li a0, 0
2:
  addi a0, a0, 1
  li a1, 10
  blt a0, a1, 2b
  CHECK(15, a0, 10)
  /* Links; jalr clears bit 0 of the target and may overwrite its base. */
  jal a0, 3f
3:
  la a1, 3b
  CHECK_REGS(16, a0, a1)
  la a0, 4f + 1
  jalr a0, 0(a0)
4:
  la a1, 4b
  CHECK_REGS(17, a0, a1)
TEST_END
