/* System DMA. Channel 0 belongs to the firmware itself and is waited for; the others run packets. On a chip with a
 * single channel the packets' transfers are waited for as well. */
#ifndef CX_FW_SDMA_H
#define CX_FW_SDMA_H

#include <stdbool.h>
#include <stdint.h>

#include "firmware/mmio.h"

#define SDMA_OWN_CHANNEL 0
#define SDMA_FIRST_PACKET_CHANNEL 1
#define SDMA_CHANNELS CX_SDMA_CTRL_COUNT

struct sdma_transfer {
  uint64_t src;
  uint64_t dst;
  uint32_t row_bytes;
  uint32_t rows;
  uint32_t src_pitch;
  uint32_t dst_pitch;
  uint32_t pattern;
  uint32_t kind; /* CX_SDMA_CTRL_SRC_HOST_MASK, DST_HOST_MASK, FILL_MASK */
};

struct sdma_result {
  uint32_t status;  /* CX_STATUS_* */
  uint64_t address; /* of the failed access */
};

/* Finds out how many channels the chip has; once at boot, with interrupts enabled in mie. */
void sdma_init(void);
uint32_t sdma_channels(void);

/* Between the firmware's memory and elsewhere, on channel 0; returns when it is done. */
struct sdma_result sdma_read_host(void *to, uint64_t from, uint32_t bytes);
struct sdma_result sdma_write_host(uint64_t to, const void *from, uint32_t bytes);
struct sdma_result sdma_read_device(void *to, uint64_t from, uint32_t bytes);

/* Any transfer on channel 0; returns when it is done. */
struct sdma_result sdma_run(const struct sdma_transfer *transfer);

/* Starts a packet's transfer. */
void sdma_start(uint32_t channel, const struct sdma_transfer *transfer);
/* Stops a channel and forgets that it was done. */
void sdma_abort(uint32_t channel);
/* Reads and clears the hardware's done bits. */
void sdma_collect(void);
/* Channels finished whose done bit was collected on the way; the interrupt line does not show them any more. */
bool sdma_unclaimed(void);
/* Whether the channel finished since it was started; true once. */
bool sdma_take_done(uint32_t channel);
struct sdma_result sdma_result(uint32_t channel);

#endif
