#include "test.h"
#define ILLEGAL(number, ...) \
  la s5, 2f;                  \
  li s2, -1;                  \
  __VA_ARGS__;                \
  2: CHECK(number, s2, 2)
TEST_BEGIN
  CATCH_TRAPS
  li a0, 0xffffffff
  csrrw a1, mscratch, a0
  csrrci a1, mscratch, 31
  CHECK(1, a1, 0xffffffff)
  csrrsi a1, mscratch, 1
  CHECK(2, a1, 0xffffffe0)
  csrrwi a1, mscratch, 9
  CHECK(3, a1, 0xffffffe1)
  csrr a1, mscratch
  CHECK(4, a1, 9)
  li a0, 6
  csrrc a1, mscratch, a0
  csrrs a1, mscratch, a0
  CHECK(5, a1, 9)
  csrr a1, mscratch
  CHECK(6, a1, 15)
  /* Only what exists can be written. */
  li a0, 0xffffffff
  csrw mie, a0
  csrr a1, mie
  CHECK(10, a1, 0x888)
  csrw mie, x0
  csrw mip, a0
  csrr a1, mip
  CHECK(11, a1, 0)
  csrw mepc, a0
  csrr a1, mepc
  CHECK(12, a1, 0xfffffffc)
  csrr a2, mtvec
  csrw mtvec, a0
  csrr a1, mtvec
  csrw mtvec, a2
  CHECK(13, a1, 0xfffffffd)
  csrw misa, a0
  csrr a1, misa
  CHECK(14, a1, 0x40001100)
  csrr a1, mhartid
  CHECK(15, a1, 0)
  csrr a1, mstatus
  CHECK(16, a1, 0x1800)
  csrw mcause, a0
  csrr a1, mcause
  CHECK(17, a1, 0xffffffff)
  csrw mtval, a0
  csrr a1, mtval
  CHECK(18, a1, 0xffffffff)
  /* A write to either half of minstret replaces the count of the writing instruction. */
  li a0, 0xffffffff
  csrw minstret, a0
  csrw minstreth, a0
  nop
  csrr a1, minstret
  csrr a2, minstreth
  CHECK(60, a1, 0)
  CHECK(61, a2, 0)
  /* No trigger exists. */
  csrw tselect, x0
  csrw tdata1, a0
  csrr a1, tdata1
  CHECK(62, a1, 0)
  /* Reading a read-only register with csrrs and x0 is no write. */
  ILLEGAL(20, csrw mhartid, x0)
  ILLEGAL(21, csrw cycle, a0)
  ILLEGAL(22, csrr a0, 0x302)
  ILLEGAL(23, csrr a0, 0x100)
  ILLEGAL(24, csrr a0, 0x3a0)
  ILLEGAL(25, csrr a0, 0x306)
  /* Counters. */
  csrr a0, minstret
  nop
  csrr a1, minstret
  sub a1, a1, a0
  CHECK(30, a1, 2)
  li a0, 0xffffffff
  csrw minstret, a0
  csrr a1, minstret
  CHECK(31, a1, 0xffffffff)
  csrr a1, minstreth
  CHECK(32, a1, 1)
  /* nop, csrr: one cycle each; a taken jump: three. */
  csrr a0, mcycle
  csrr a1, mcycle
  sub a1, a1, a0
  CHECK(33, a1, 1)
  csrr a0, mcycle
  j 1f
1: csrr a1, mcycle
  sub a1, a1, a0
  CHECK(34, a1, 4)
  csrwi mcountinhibit, 5
  csrr a0, mcycle
  csrr a2, minstret
  nop
  csrr a1, mcycle
  CHECK_REGS(35, a0, a1)
  csrr a1, minstret
  CHECK_REGS(36, a2, a1)
  csrwi mcountinhibit, 0
  rdtime a0
  rdtime a1
  li gp, 37
  bgeu a0, a1, report_failed
TEST_END
  .text
RECORD_TRAP_HANDLER
