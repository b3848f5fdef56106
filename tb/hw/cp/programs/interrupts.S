#include "test.h"
#define MSIP 0x02000000
#define MTIMECMP 0x02004000
#define MTIME 0x0200bff8
TEST_BEGIN
  CATCH_TRAPS
  li s7, MSIP
  li s8, MTIMECMP
  li s9, MTIME
  li a0, 1
  /* Pending but not enabled: nothing happens. */
  sw a0, 0(s7)
  csrr a1, mip
  CHECK(1, a1, 8)
  CHECK(2, s2, -1)
  csrwi mie, 8
  CHECK(3, s2, -1)
  /* Enabled: taken after the instruction that enables it; wfi does not sleep while it is pending. */
  wfi
  la s5, 2f
  la s6, 1f
  csrsi mstatus, 8
1: j report_failed
2: CHECK(10, s2, 0x80000003)
  CHECK_REGS(11, s3, s6)
  CHECK(12, s4, 0)
  csrci mstatus, 8
  sw x0, 0(s7)
  csrr a1, mip
  CHECK(13, a1, 0)
  /* The timer, in vectored mode, out of sleep. */
  la a0, vectors + 1
  csrw mtvec, a0
  li a0, 0x80
  csrw mie, a0
  lw a1, 0(s9)
  addi a1, a1, 500
  sw x0, 4(s8)
  sw a1, 0(s8)
  li s2, -1
  la s5, 3f
  csrsi mstatus, 8
  wfi
  li gp, 20
  j report_failed
3: CHECK(21, s2, 0x80000007)
  lw a2, 0(s9)
  li gp, 22
  bltu a2, a1, report_failed
  /* Exceptions go to the base in vectored mode. */
  li s2, -1
  li a0, -1
  sw a0, 4(s8)
  la s5, 4f
  ecall
4: CHECK(23, s2, 11)
  /* External before software before timer: only the latter two exist here. */
  csrci mstatus, 8
  sw x0, 4(s8)
  sw x0, 0(s8)
  li a0, 1
  sw a0, 0(s7)
  li a0, 0x888
  csrw mie, a0
  li s2, -1
  la s5, 5f
  csrsi mstatus, 8
5: CHECK(24, s2, 0x80000003)
TEST_END
  .text
RECORD_TRAP_HANDLER
  .balign 64
vectors:
  j record_trap
  j unexpected_trap
  j unexpected_trap
  j record_trap
  j unexpected_trap
  j unexpected_trap
  j unexpected_trap
  j record_trap
