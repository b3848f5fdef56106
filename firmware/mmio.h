/* Access to the peripherals: addresses are BLOCK(register) as in the peripheral map. */
#ifndef CX_FW_MMIO_H
#define CX_FW_MMIO_H

#include <stdint.h>

#include "hw/regs/gen/dev_regs.h"
#include "hw/regs/gen/engine_regs.h"
#include "hw/regs/gen/intc_regs.h"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/msix_regs.h"
#include "hw/regs/gen/queue_regs.h"
#include "hw/regs/gen/ras_regs.h"
#include "hw/regs/gen/sdma_regs.h"

#define PERIPHERAL(page, reg) ((uint32_t)(CX_PERIPHERAL_BASE + (page)) + (reg))
#define DEV(reg) PERIPHERAL(CX_MAP_DEV_OFFSET, CX_DEV_##reg)
#define QUEUE(reg, n) PERIPHERAL(CX_MAP_QUEUE_OFFSET, CX_QUEUE_##reg(n))
#define QUEUE_DB_PENDING PERIPHERAL(CX_MAP_QUEUE_OFFSET, CX_QUEUE_DB_PENDING)
#define MSIX_TRIGGER PERIPHERAL(CX_MAP_MSIX_OFFSET, CX_MSIX_TRIGGER)
#define INTC(reg) PERIPHERAL(CX_MAP_INTC_OFFSET, CX_INTC_##reg)
#define RAS(reg) PERIPHERAL(CX_MAP_RAS_OFFSET, CX_RAS_##reg)
#define RAS_HANG(reg, n) PERIPHERAL(CX_MAP_RAS_OFFSET, CX_RAS_HANG_##reg(n))
#define SDMA(reg, n) PERIPHERAL(CX_MAP_SDMA_OFFSET, CX_SDMA_##reg(n))
#define SDMA_DONE PERIPHERAL(CX_MAP_SDMA_OFFSET, CX_SDMA_DONE)
/* Engines lie one page after the other in the order of their isa numbers. */
#define ENGINE(reg, n) (PERIPHERAL(CX_MAP_LOAD_OFFSET, CX_ENGINE_##reg) + (n) * (uint32_t)CX_MAP_PAGE_SIZE)

static inline uint32_t mmio_read(uint32_t address) { return *(volatile uint32_t *)address; }
static inline void mmio_write(uint32_t address, uint32_t value) { *(volatile uint32_t *)address = value; }

/* For register pairs X_LO, X_HI: the high word follows the low word. */
static inline void mmio_write64(uint32_t address, uint64_t value) {
  mmio_write(address, (uint32_t)value);
  mmio_write(address + 4, (uint32_t)(value >> 32));
}
static inline uint64_t mmio_read64(uint32_t address) {
  const uint32_t low = mmio_read(address);
  return ((uint64_t)mmio_read(address + 4) << 32) | low;
}

#define CSR_MIE_MTIE 0x80u
#define CSR_MIE_MEIE 0x800u

#define csr_set(csr, bits) __asm__ volatile("csrs " #csr ", %0" ::"r"(bits))
#define csr_write(csr, value) __asm__ volatile("csrw " #csr ", %0" ::"r"(value))
#define csr_clear(csr, bits) __asm__ volatile("csrc " #csr ", %0" ::"r"(bits))

/* Sleeps until an interrupt that is enabled in mie is pending. Interrupts are never taken: the event loop looks. */
static inline void wait_for_interrupt(void) { __asm__ volatile("wfi" ::: "memory"); }

#endif
