#include "test.h"
/* One trap: cause, pc of the instruction at `here`, tval. */
#define EXPECT(number, cause, tval_reg) \
  CHECK(number, s2, cause);             \
  CHECK_REGS(number + 1, s3, s6);       \
  CHECK_REGS(number + 2, s4, tval_reg); \
  li s2, -1
#define ARM(here, resume) \
  la s6, here;            \
  la s5, resume
TEST_BEGIN
  CATCH_TRAPS
  ARM(1f, 2f)
  li a0, 0
1: .word 0
2: EXPECT(10, 2, a0)
  ARM(1f, 2f)
  li a0, 0xffffffff
1: .word 0xffffffff
2: EXPECT(20, 2, a0)
  ARM(1f, 2f)
1: ecall
2: EXPECT(30, 11, x0)
  ARM(1f, 2f)
1: ebreak
2: EXPECT(40, 3, s6)
  /* Misaligned accesses; the destination keeps its value. */
  la a1, data + 1
  li a2, 77
  ARM(1f, 2f)
1: lw a2, 0(a1)
2: EXPECT(50, 4, a1)
  CHECK(53, a2, 77)
  ARM(1f, 2f)
1: lh a2, 0(a1)
2: EXPECT(60, 4, a1)
  ARM(1f, 2f)
1: sw a2, 0(a1)
2: EXPECT(70, 6, a1)
  la a3, data
  lw a3, 0(a3)
  CHECK(73, a3, 0x01020304)
  /* Nothing lies at 0x10. */
  li a1, 0x10
  ARM(1f, 2f)
1: lbu a2, 0(a1)
2: EXPECT(80, 5, a1)
  ARM(1f, 2f)
1: sb a2, 0(a1)
2: EXPECT(90, 7, a1)
  li s6, 0x10
  la s5, 2f
  jr a1
2: EXPECT(100, 1, a1)
  /* Misaligned jump targets trap at the jump and link nothing. */
  la a1, 2f + 2
  li a2, 77
  ARM(1f, 2f)
1: jalr a2, 0(a1)
2: EXPECT(110, 0, a1)
  CHECK(113, a2, 77)
  ARM(1f, 2f)
  la a1, 1f + 6
1: .word 0x00000363 /* beq x0, x0, 6 */
2: EXPECT(120, 0, a1)
  ARM(1f, 2f)
  la a1, 1f + 6
1: .word 0x0060006f /* j 6 */
2: EXPECT(130, 0, a1)
  /* A branch that is not taken does not look at its target. */
  .word 0x00001363 /* bne x0, x0, 6 */
  CHECK(140, s2, -1)
  /* mret returns to mepc and swaps the interrupt enables. */
  csrw mstatus, x0
  li a0, 0x80
  csrw mstatus, a0
  la a0, 3f
  csrw mepc, a0
  mret
  li gp, 141
  j report_failed
3: csrr a0, mstatus
  CHECK(142, a0, 0x1888)
TEST_END
  .text
RECORD_TRAP_HANDLER
  .data
  .balign 4
data: .word 0x01020304
