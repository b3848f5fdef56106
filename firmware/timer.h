/* Device time in core cycles, and the one hardware timer. */
#ifndef CX_FW_TIMER_H
#define CX_FW_TIMER_H

#include <stdint.h>

#define TIMER_NEVER (~(uint64_t)0)

uint64_t timer_now(void);

/* Makes wait_for_interrupt() return at `deadline` at the latest; TIMER_NEVER for no deadline. */
void timer_arm(uint64_t deadline);

#endif
