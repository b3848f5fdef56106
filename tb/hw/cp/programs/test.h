/* Self-checking programs: a failed check writes (number << 1) | 1 to tohost, the end writes 1. */
#define TEST_BEGIN          \
  .section .text.start, "ax"; \
  .globl _start;            \
  _start:                   \
  la t6, unexpected_trap;   \
  csrw mtvec, t6;           \
  li gp, 0

#define TEST_END                       \
  li gp, 0;                            \
  j report;                            \
  .balign 4;                           \
  unexpected_trap:                     \
  j report_failed;                     \
  report_failed:                       \
  bnez gp, report;                     \
  li gp, 9999;                         \
  report:                              \
  slli t6, gp, 1;                      \
  ori t6, t6, 1;                       \
  la t5, tohost;                       \
  sw t6, 0(t5);                        \
  1: j 1b;                             \
  .section .tohost, "aw";              \
  .balign 8;                           \
  .globl tohost;                       \
  tohost: .word 0, 0

/* Fails as test `number` unless the register holds the value. */
#define CHECK(number, reg, value) \
  li gp, number;                  \
  li t6, value;                   \
  bne reg, t6, report_failed

#define CHECK_REGS(number, a, b) \
  li gp, number;                 \
  bne a, b, report_failed

#define OP_RR(number, op, left, right, result) \
  li a0, left;                                 \
  li a1, right;                                \
  op a2, a0, a1;                               \
  CHECK(number, a2, result);                   \
  op a0, a0, a1;                               \
  CHECK(number, a0, result);                   \
  op x0, a0, a1;                               \
  CHECK(number, x0, 0)

#define OP_RI(number, op, left, imm, result) \
  li a0, left;                               \
  op a2, a0, imm;                            \
  CHECK(number, a2, result)

/* Runs the code up to `resume` with a handler that records the trap in s2 (mcause), s3 (mepc), s4 (mtval) and
 * leaves interrupts off; `resume` is in s5. */
#define CATCH_TRAPS   \
  la t6, record_trap; \
  csrw mtvec, t6;     \
  li s2, -1

#define RECORD_TRAP_HANDLER \
  .balign 4;                \
  record_trap:              \
  csrr s2, mcause;          \
  csrr s3, mepc;            \
  csrr s4, mtval;           \
  csrw mepc, s5;            \
  li t6, 0x80;              \
  csrc mstatus, t6;         \
  mret
