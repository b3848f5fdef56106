/* Rings: fetch, order of service, completion. */
#ifndef CX_FW_QUEUE_H
#define CX_FW_QUEUE_H

#include <stdbool.h>
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
  cx_packet_barrier_and deps; /* BARRIER_OR has the same layout */
  cx_packet_signal signal;
  cx_packet_wait wait;
  cx_packet_timestamp timestamp;
} __attribute__((aligned(8))) packet_t;

enum slot_state { SLOT_FETCHED, SLOT_RUNNING, SLOT_FINISHED };

/* A packet from its fetch to its completion. */
struct slot {
  packet_t *packet;
  uint64_t start;
  uint64_t end;
  uint64_t fault_address;
  uint32_t status;
  uint32_t detail;
  uint32_t fault_pc;
  uint8_t fault_engine;
  uint8_t state;
  bool seen; /* validated */
};

/* Indices count packets since enable, modulo 2^32: head <= next <= fetched <= written. */
struct queue {
  uint64_t base;
  uint32_t size;    /* packets */
  uint32_t head;    /* oldest that is not complete */
  uint32_t next;    /* first that has not started */
  uint32_t fetched; /* first that is not in the window */
  uint32_t written; /* host's write index */
  uint16_t vector;
  uint8_t number;
  uint8_t level;
  bool enabled;
  bool draining; /* QUEUE_DISABLE waits for what has started */
  bool waiting;  /* slot `next - 1` polls host memory and holds back later packets */
  uint64_t poll_at;
  uint32_t poll_interval;
  struct slot slots[WINDOW];
  packet_t packets[WINDOW]; /* slot i's packet; fetched in place */
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

/* Marks a queue as polling host memory or not. */
void queue_set_waiting(struct queue *queue, bool waiting);
/* Bit n: queue n polls host memory. */
uint32_t queue_waiting(void);

/* Something changed that a blocked queue may be waiting for. */
void queue_wake_all(void);

/* First time at which a waiting packet is to look again. */
uint64_t queue_next_poll(void);

/* Ends a packet; its completion is written when all earlier ones of its queue are complete. */
void slot_finish(struct slot *slot, uint32_t status, uint32_t detail, uint64_t fault_address);

#endif
