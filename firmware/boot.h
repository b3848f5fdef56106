/* Facts about the firmware and the chip it runs on. */
#ifndef CX_FW_BOOT_H
#define CX_FW_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "hw/regs/gen/map.h"

#define FIRMWARE_VERSION ((0u << 24) | (1u << 16) | 0u) /* 8.8.16: major, minor, patch */

#define ENGINE_INTERRUPTS \
  ((1u << CX_IRQ_LOAD) | (1u << CX_IRQ_STORE) | (1u << CX_IRQ_DMMU) | (1u << CX_IRQ_VPU) | (1u << CX_IRQ_SCA))
#define FIRMWARE_INTERRUPTS ((1u << CX_IRQ_DOORBELL) | (1u << CX_IRQ_SDMA) | ENGINE_INTERRUPTS | (1u << CX_IRQ_HOST))

struct chip {
  uint32_t queues;
  uint64_t arch_hash;
  uint64_t dram_bytes;
  uint32_t mac_tiles, sparse_tiles;
  bool shared_array;
};

/* Read from the registers at boot. */
extern struct chip chip;

/* Interrupt lines that wake the event loop: FIRMWARE_INTERRUPTS, less a line whose cause cannot go away yet. */
extern uint32_t wake_lines;

#endif
