/* WAIT and the barriers on host memory: polled with growing pauses, so that other queues go on. */
#ifndef CX_FW_WAIT_H
#define CX_FW_WAIT_H

#include "firmware/queue.h"

#define WAIT_FIRST_PAUSE 256     /* core cycles between the first two looks; doubles each time */
#define WAIT_LONGEST_PAUSE 16384 /* core cycles */

/* Looks at once; if the condition does not hold yet the queue is `waiting`. */
void wait_start(struct queue *queue, struct slot *slot);
/* Looks again. */
void wait_poll(struct queue *queue);
/* The firmware wrote host memory at this address: waiting packets that name it look again now. */
void wait_notify(uint64_t address);

#endif
