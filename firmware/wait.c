#include "firmware/wait.h"

#include <stddef.h>

#include "firmware/sdma.h"
#include "firmware/timer.h"

#define DEPS (sizeof((cx_packet_barrier_and *)0)->deps / sizeof(uint64_t))

static uint64_t seen __attribute__((aligned(8)));

static bool compares(uint32_t compare, uint64_t value, uint64_t reference) {
  switch (compare) {
    case CX_COMPARE_EQ:
      return value == reference;
    case CX_COMPARE_NE:
      return value != reference;
    case CX_COMPARE_GE:
      return value >= reference;
    default:
      return value < reference;
  }
}

/* Reads host memory into `seen`; an error ends the packet. */
static bool look(struct slot *slot, uint64_t address, uint32_t field) {
  const struct sdma_result result = sdma_read_host(&seen, address, sizeof seen);
  if (result.status == CX_STATUS_OK) return true;
  slot_finish(slot, result.status, field, result.address);
  return false;
}

/* True: the packet is finished. */
static bool poll(struct slot *slot) {
  if (slot->packet->header.type == CX_PKT_WAIT) {
    const packet_t *packet = slot->packet;
    if (!look(slot, packet->wait.address, offsetof(cx_packet_wait, address))) return true;
    if (!compares(packet->wait.compare, seen, packet->wait.value)) return false;
  } else {
    const bool any = slot->packet->header.type == CX_PKT_BARRIER_OR;
    bool open = false;
    for (uint32_t i = 0; i < DEPS; ++i) {
      const uint64_t address = slot->packet->deps.deps[i];
      if (address == 0) continue;
      if (!look(slot, address, offsetof(cx_packet_barrier_and, deps) + 8 * i)) return true;
      if (seen == 0) {
        open = true;
        if (!any) break;
      } else if (any) {
        open = false;
        break;
      } else {
        slot->packet->deps.deps[i] = 0; /* satisfied for good */
      }
    }
    if (open) return false;
  }
  slot_finish(slot, CX_STATUS_OK, 0, 0);
  return true;
}

void wait_start(struct queue *queue, struct slot *slot) {
  if (poll(slot)) return;
  slot->state = SLOT_RUNNING;
  queue_set_waiting(queue, slot);
  queue->poll_interval = WAIT_FIRST_PAUSE;
  queue->poll_at = timer_now() + WAIT_FIRST_PAUSE;
}

void wait_poll(struct queue *queue) {
  if (poll(queue->waiting)) {
    queue_set_waiting(queue, NULL);
    return;
  }
  if (queue->poll_interval < WAIT_LONGEST_PAUSE) queue->poll_interval *= 2;
  queue->poll_at = timer_now() + queue->poll_interval;
}

static bool names(const struct slot *slot, uint64_t address) {
  if (slot->packet->header.type == CX_PKT_WAIT) return slot->packet->wait.address == address;
  for (uint32_t i = 0; i < DEPS; ++i) {
    if (slot->packet->deps.deps[i] == address) return true;
  }
  return false;
}

void wait_notify(uint64_t address) {
  for (uint32_t left = queue_waiting(); left != 0; left &= left - 1) {
    struct queue *queue = queue_get((uint32_t)__builtin_ctz(left));
    if (!names(queue->waiting, address)) continue;
    queue->poll_at = 0;
    queue_wake_all();
  }
}
