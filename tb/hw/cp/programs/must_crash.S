/* An exception with nothing at the handler's address. */
  .section .text.start, "ax"
  .globl _start
_start:
  .word 0
