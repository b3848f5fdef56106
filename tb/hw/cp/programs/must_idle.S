  .section .text.start, "ax"
  .globl _start
_start:
  csrwi mie, 8
1: wfi
  j 1b
