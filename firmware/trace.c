#include "firmware/trace.h"

#include "firmware/mmio.h"
#include "hw/regs/gen/packets.h"

#define CAUSE_GAVE_UP 24 /* the first that the architecture leaves to the platform */

static void trace_character(char character) { mmio_write(INTC(TRACE), (uint8_t)character); }

void trace_text(const char *text) {
  while (*text) trace_character(*text++);
}

void trace_hex(uint32_t value) {
  for (int shift = 28; shift >= 0; shift -= 4) trace_character("0123456789abcdef"[(value >> shift) & 15]);
}

/* The event log takes its record of the crash from the trap's registers. */
static _Noreturn void give_up(const char *reason, uint32_t value) {
  mmio_write(DEV(FW_STATUS), CX_DEV_FW_STATUS_STATE_CRASHED | (CX_PACKET_PROTOCOL << CX_DEV_FW_STATUS_PROTOCOL_SHIFT));
  trace_text("firmware crashed: ");
  trace_text(reason);
  trace_text(" 0x");
  trace_hex(value);
  trace_text("\n");
  csr_clear(mie, CSR_MIE_MEIE | CSR_MIE_MTIE);
  for (;;) wait_for_interrupt();
}

_Noreturn void firmware_crash(const char *reason, uint32_t value) {
  csr_write(mepc, (uint32_t)__builtin_return_address(0));
  csr_write(mcause, CAUSE_GAVE_UP);
  csr_write(mtval, value);
  give_up(reason, value);
}

/* Called by trap_entry. */
void firmware_trap(uint32_t cause, uint32_t pc, uint32_t value) {
  trace_text("exception 0x");
  trace_hex(cause);
  trace_text(", value 0x");
  trace_hex(value);
  trace_text("\n");
  give_up("exception at", pc);
}
