/* What control_processor_test drives: results go to `results`, one word each, `stage` counts what is done. */
#define INTC 0x40030000
#define DEVICE 0x40000100
#define RESULT(index, reg) sw reg, 4 * (index)(s0)
#define STAGE(number) \
  li t0, number;      \
  sw t0, 0(s1)

  .section .text.start, "ax"
  .globl _start
_start:
  j begin
  .balign 16
  .globl results
  .globl stage
stage: .word 0 /* at 0x80000010 */
  .balign 16
results: .space 128 /* at 0x80000020 */
begin:
  la s0, results
  la s1, stage
  la t0, record
  csrw mtvec, t0
  li s10, INTC
  li s11, DEVICE

  /* Log. */
  li t0, 'o'
  sw t0, 0x20(s10)
  li t0, 'k'
  sw t0, 0x20(s10)
  li t0, '\n'
  sw t0, 0x20(s10)

  /* A device over the bus: what is written is read back; the access takes its time. */
  li t0, 0x12345678
  sw t0, 0(s11)
  csrr t1, mcycle
  lw t2, 0(s11)
  csrr t3, mcycle
  RESULT(0, t2)
  sub t3, t3, t1
  RESULT(1, t3)
  /* Accesses that the device refuses, and an address that nobody has. */
  li s2, 0
  la s5, 1f
  sh t0, 0(s11)
1:
  RESULT(2, s2)
  li s2, 0
  la s5, 1f
  lw t0, 0x100(s11)
1:
  RESULT(3, s2)
  li s2, 0
  la s5, 1f
  lb t0, 0(s10)
1:
  RESULT(4, s2)
  STAGE(1)

  /* Sleeps until line 3. */
  li t0, 1 << 3
  sw t0, 4(s10)
  li t0, 0x800
  csrw mie, t0
  wfi
  rdtime t0
  RESULT(5, t0)
  lw t0, 0(s10)
  RESULT(6, t0)
  STAGE(2)

  /* Sleeps until the timer. */
  sw x0, 4(s10)
  li t0, 0x80
  csrw mie, t0
  lw t0, 0x10(s10)
  lw t1, 0x14(s10)
  RESULT(7, t0)
  li t2, 5000
  add t0, t0, t2
  sw t1, 0x1c(s10)
  sw t0, 0x18(s10)
  wfi
  rdtime t0
  RESULT(8, t0)
  li t0, -1
  sw t0, 0x1c(s10)
  STAGE(3)

  /* Runs: the interrupt is taken. */
  li t0, 1 << 5
  sw t0, 4(s10)
  li t0, 0x800
  csrw mie, t0
  li s2, 0
  la s5, 2f
  csrsi mstatus, 8
1: j 1b
2:
  RESULT(9, s2)
  csrci mstatus, 8
  STAGE(4)

  /* Line 6: an exception with nothing at the handler's address. */
  li t0, 1 << 6
  sw t0, 4(s10)
  wfi
  csrw mtvec, x0
  .globl crash
crash:
  .word 0xffffffff

  .balign 4
record:
  csrr s2, mcause
  csrw mepc, s5
  li t6, 0x80
  csrc mstatus, t6
  mret
