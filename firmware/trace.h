/* The log that leaves through intc.TRACE, and the end of the firmware. */
#ifndef CX_FW_TRACE_H
#define CX_FW_TRACE_H

#include <stdint.h>

void trace_text(const char *text);
void trace_hex(uint32_t value);

/* Reports CRASHED to the host with one line in the log, and stops. */
_Noreturn void firmware_crash(const char *reason, uint32_t value);

#endif
