/* The fault record that the host reads: the first fault stays until the host acknowledges it. Each is also an event of
 * the event log, unless it is the consequence of one. */
#ifndef CX_FW_FAULT_H
#define CX_FW_FAULT_H

#include <stdint.h>

#define FAULT_NO_QUEUE 0xffu
#define FAULT_NO_ENGINE 0xffu

struct fault {
  uint32_t status; /* CX_STATUS_* */
  uint32_t queue;
  uint32_t engine;
  uint32_t packet; /* index since enable */
  uint32_t entry;  /* 1 + index in the list of an EXECUTE packet; 0 none */
  uint32_t pc;     /* instruction index */
  uint64_t address;
};

void fault_report(const struct fault *fault);

#endif
