/* Queues of one level that want the same thing get it in the order in which they asked for it. */
#ifndef CX_FW_TURN_H
#define CX_FW_TURN_H

#include "firmware/queue.h"

enum resource { RESOURCE_CHANNEL, RESOURCE_ENGINES, RESOURCES };

/* Whether the queue takes it now; available: it is free for queues of this level. Else the queue's place is kept. */
bool turn_take(enum resource resource, const struct queue *queue, bool available);

/* Bit n: queue n asked and was refused. */
uint32_t turn_wanted(enum resource resource);

/* The queue no longer wants anything. */
void turn_forget(const struct queue *queue);

#endif
