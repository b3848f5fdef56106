#include "firmware/fault.h"

#include "firmware/mmio.h"
#include "hw/regs/gen/packets.h"

#define NO_EVENT 0xffu

/* Class of the event that a fault is; NO_EVENT for consequences of another one. */
static uint32_t event_class(const struct fault *fault) {
  switch (fault->status) {
    case CX_STATUS_IOMMU_FAULT:
      return CX_RAS_PENDING_IOMMU_SHIFT;
    case CX_STATUS_ILLEGAL_INSTRUCTION:
      return CX_RAS_PENDING_INSTRUCTION_SHIFT;
    case CX_STATUS_TIMEOUT:
    case CX_STATUS_ENGINE_HANG:
      return CX_RAS_PENDING_HANG_SHIFT;
    case CX_STATUS_ECC_UNCORRECTED:
      return CX_RAS_PENDING_ECC_UNCORRECTED_SHIFT;
    case CX_STATUS_PARITY_ERROR:
    case CX_STATUS_RTL_MISMATCH:
      return CX_RAS_PENDING_ENGINE_SHIFT;
    case CX_STATUS_ABORTED:
    case CX_STATUS_LINK_DOWN:
    case CX_STATUS_THERMAL_TRIP: /* the hardware has told of the trip */
      return NO_EVENT;
    default:
      return fault->engine == FAULT_NO_ENGINE ? CX_RAS_PENDING_PACKET_SHIFT : CX_RAS_PENDING_PROGRAM_SHIFT;
  }
}

static uint32_t source_of(const struct fault *fault) {
  return (fault->queue << CX_DEV_FAULT_SOURCE_QUEUE_SHIFT) | (fault->engine << CX_DEV_FAULT_SOURCE_ENGINE_SHIFT) |
         (fault->entry << CX_DEV_FAULT_SOURCE_ENTRY_SHIFT);
}

static void post_event(const struct fault *fault) {
  const uint32_t class = event_class(fault);
  if (class == NO_EVENT) return;
  mmio_write(RAS(POST_STATUS), fault->status);
  mmio_write(RAS(POST_SOURCE), source_of(fault) & ~CX_DEV_FAULT_SOURCE_ENTRY_MASK);
  mmio_write(RAS(POST_PACKET), fault->packet);
  mmio_write(RAS(POST_PC), fault->pc);
  mmio_write64(RAS(POST_ADDR_LO), fault->address);
  mmio_write(RAS(POST), class);
}

void fault_report(const struct fault *fault) {
  mmio_write(DEV(FAULT_COUNT), mmio_read(DEV(FAULT_COUNT)) + 1);
  if (mmio_read(DEV(FAULT_CODE)) == 0) {
    mmio_write(DEV(FAULT_SOURCE), source_of(fault));
    mmio_write(DEV(FAULT_PACKET), fault->packet);
    mmio_write(DEV(FAULT_PC), fault->pc);
    mmio_write64(DEV(FAULT_ADDR_LO), fault->address);
    mmio_write(DEV(FAULT_CODE), fault->status);
  }
  post_event(fault);
}
