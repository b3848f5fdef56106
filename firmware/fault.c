#include "firmware/fault.h"

#include "firmware/mmio.h"

void fault_report(const struct fault *fault) {
  mmio_write(DEV(FAULT_COUNT), mmio_read(DEV(FAULT_COUNT)) + 1);
  if (mmio_read(DEV(FAULT_CODE)) != 0) return;
  mmio_write(DEV(FAULT_SOURCE),
             (fault->queue << CX_DEV_FAULT_SOURCE_QUEUE_SHIFT) | (fault->engine << CX_DEV_FAULT_SOURCE_ENGINE_SHIFT));
  mmio_write(DEV(FAULT_PACKET), fault->packet);
  mmio_write(DEV(FAULT_PC), fault->pc);
  mmio_write64(DEV(FAULT_ADDR_LO), fault->address);
  mmio_write(DEV(FAULT_CODE), fault->status);
}
