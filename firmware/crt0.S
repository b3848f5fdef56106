/* Start of the image: the core begins at its first byte with all registers zero. */
  .section .text.start, "ax"
  .globl _start
_start:
  la    t0, trap_entry
  csrw  mtvec, t0
  .option push
  .option norelax
  la    gp, __global_pointer$
  .option pop
  la    sp, __stack_top

  la    t0, __bss_start
  la    t1, __bss_end
  /* Its bounds are multiples of 8, and it is not empty. */
1:
  sw    zero, 0(t0)
  sw    zero, 4(t0)
  addi  t0, t0, 8
  bltu  t0, t1, 1b
  /* The guard lies below the stack; main looks whether it is whole. */
  la    t0, __stack_guard
  la    t1, __stack_limit
  li    t2, 0x57ac6a4d
2:
  sw    t2, 0(t0)
  addi  t0, t0, 4
  bltu  t0, t1, 2b
  call  firmware_main
  /* firmware_main never returns. */
3:
  wfi
  j     3b

/* Interrupts are not enabled in mstatus, so every trap is an exception of the firmware itself. */
  .section .text.trap, "ax"
  .balign 4
  .globl trap_entry
trap_entry:
  csrr  a0, mcause
  csrr  a1, mepc
  csrr  a2, mtval
  la    sp, __stack_top
  call  firmware_trap
4:
  wfi
  j     4b
