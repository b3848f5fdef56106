/* What each packet type does. */
#ifndef CX_FW_PACKETS_H
#define CX_FW_PACKETS_H

#include <stdbool.h>

#include "firmware/queue.h"

/* Bit n: packet type n is supported; RECONFIG is too where the array is shared. */
#define SUPPORTED_PACKETS                                                                                 \
  ((1u << CX_PKT_NOP) | (1u << CX_PKT_COPY) | (1u << CX_PKT_FILL) | (1u << CX_PKT_LAUNCH) |               \
   (1u << CX_PKT_BARRIER_AND) | (1u << CX_PKT_BARRIER_OR) | (1u << CX_PKT_SIGNAL) | (1u << CX_PKT_WAIT) | \
   (1u << CX_PKT_TIMESTAMP) | (1u << CX_PKT_EXECUTE))

/* Starts a packet; afterwards its slot is running or finished. False: what it needs is busy, try again later. */
bool packet_start(struct queue *queue, struct slot *slot);

/* Goes on with a paused transfer. False: no channel is free for it. */
bool packet_resume(struct queue *queue, struct slot *slot);

/* Ends the transfers of the DMA channels that are done. */
void packets_transfers_done(void);

/* Stops the transfers and the launch of this queue; these packets end as ABORTED. */
void packets_stop(struct queue *queue);

#endif
