/* Rings: fetch, order of service, completion. */
#ifndef CX_FW_QUEUE_H
#define CX_FW_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hw/regs/gen/packets.h"
#include "hw/regs/gen/queue_regs.h"

#define MAX_QUEUES CX_QUEUE_DOORBELL_COUNT
#define WINDOW 8 /* packets of one queue held in TCM; a power of two */

/* The alignment lets the compiler use whole-word loads on the packed layouts. */
typedef union {
  uint32_t word[CX_PACKET_BYTES / 4];
  cx_packet_header header;
  cx_packet_copy copy;
  cx_packet_fill fill;
  cx_packet_launch launch;
  cx_packet_reconfig reconfig;
  cx_packet_barrier_and deps; /* BARRIER_OR has the same layout */
  cx_packet_signal signal;
  cx_packet_wait wait;
  cx_packet_timestamp timestamp;
  cx_packet_execute execute;
} __attribute__((aligned(8))) packet_t;

/* PAUSED: a transfer between two of its pieces, without a channel. */
enum slot_state { SLOT_FETCHED, SLOT_RUNNING, SLOT_PAUSED, SLOT_FINISHED };

/* A packet from its fetch to its completion. */
struct slot {
  packet_t *packet;
  uint32_t row; /* transfers: rows that are done */
  uint64_t start;
  uint64_t end;
  uint64_t fault_address;
  uint64_t moved; /* transfers: bytes of the current row that are done */
  uint32_t status;
  uint32_t detail;
  uint32_t fault_pc;
  uint16_t entry; /* EXECUTE: 1 + index in the list of the packet that failed */
  uint8_t fault_engine;
  uint8_t state;
  bool seen; /* validated */
};

/* Packets in host memory and the window of them in TCM. Indices count packets, modulo 2^32: head <= next <= fetched <=
 * written. */
struct source {
  uint64_t base;
  uint32_t mask;    /* index to place: the ring's size less 1; of a list all ones */
  uint32_t head;    /* oldest that is not complete */
  uint32_t next;    /* first that has not started */
  uint32_t fetched; /* first that is not in the window */
  uint32_t written; /* packets that there are */
  struct slot slots[WINDOW];
  packet_t packets[WINDOW]; /* slot i's packet; fetched in place */
};

struct queue {
  struct source ring;
  struct source list;   /* of the EXECUTE packet in progress */
  struct slot *execute; /* that packet; NULL none. Nothing of the ring starts meanwhile. */
  bool list_stopped;    /* a packet of the list failed: no other starts */
  struct slot *waiting; /* polls host memory and holds back later packets; NULL none */
  uint32_t paused;      /* slots in state PAUSED */
  uint16_t vector;
  uint8_t number;
  uint8_t level;
  bool enabled;
  bool draining; /* QUEUE_DISABLE waits for what has started */
  uint64_t poll_at;
  uint32_t poll_interval;
};

/* Once at boot. */
void queue_init(uint32_t number);
struct queue *queue_get(uint32_t number);

/* Host commands. */
void queue_enable(struct queue *queue);
/* Drops what has not started; what has completes. */
void queue_disable(struct queue *queue);
/* Drops what has not started; stops what has, with status ABORTED. */
void queue_reset(struct queue *queue);

/* Reads the doorbells that were rung. */
void queue_doorbells(void);

/* Serves one queue with one step: a completion, a packet's start, a poll or a fetch. False: nothing to do. */
bool queue_step(void);

/* The packet that polls host memory from now on; NULL none. */
void queue_set_waiting(struct queue *queue, struct slot *slot);
/* Bit n: queue n polls host memory. */
uint32_t queue_waiting(void);

/* Something changed that a blocked queue may be waiting for. */
void queue_wake_all(void);

/* Bit n: queue n may have something to do again. */
void queue_wake(uint32_t some);

/* Bit n: queue n is enabled and of this level or served before it. */
uint32_t queue_up_to_level(uint32_t level);

/* Starts an EXECUTE packet: its list is served from now on. */
void queue_execute(struct queue *queue, struct slot *slot);
/* The packets of a queue that start are those of a list. */
static inline bool queue_in_list(const struct queue *queue) { return queue->execute != NULL; }

/* First time at which a waiting packet is to look again. */
uint64_t queue_next_poll(void);

/* Ends a packet; its completion is written when all earlier ones of its queue are complete. */
void slot_finish(struct slot *slot, uint32_t status, uint32_t detail, uint64_t fault_address);

#endif
