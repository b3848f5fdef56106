/* What the engines of a launch that does not end are doing: the report of the watchdog. */
#ifndef CX_FW_HANG_H
#define CX_FW_HANG_H

#include <stdint.h>

#include "hw/regs/gen/isa.h"

#define ENGINES CX_ISA_ENGINES

#define HANG_LOOK_CYCLES 4096       /* between the two looks of the watchdog */
#define HANG_SCAN_INSTRUCTIONS 4096 /* looked through in each stream for who posts a semaphore */

/* Instruction stream of an engine; count 0: none. */
struct hang_stream {
  uint64_t address;
  uint32_t count;
};

/* Notes how far the engines of the set are. */
void hang_look(uint32_t engines);

/* Fills HANG_* of the event log unless it holds a report that the host has not acknowledged. `streams` by engine; bits
 * of `used`: engines of the launch, of `unfinished`: those not done. Returns the engines that neither wait nor have
 * moved since hang_look(). */
uint32_t hang_report(const struct hang_stream *streams, uint32_t used, uint32_t unfinished);

#endif
