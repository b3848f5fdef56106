#include "firmware/timer.h"

#include "firmware/mmio.h"

static uint64_t armed;

uint64_t timer_now(void) {
  uint32_t low, high, again;
  do {
    __asm__ volatile("rdtimeh %0\n\trdtime %1\n\trdtimeh %2" : "=r"(high), "=r"(low), "=r"(again));
  } while (high != again);
  return ((uint64_t)high << 32) | low;
}

void timer_arm(uint64_t deadline) {
  if (deadline == armed) return;
  armed = deadline;
  /* With the high word at its maximum first, no intermediate value is in the past. */
  mmio_write(INTC(MTIMECMP_HI), ~0u);
  mmio_write(INTC(MTIMECMP_LO), (uint32_t)deadline);
  mmio_write(INTC(MTIMECMP_HI), (uint32_t)(deadline >> 32));
}
