#include "firmware/turn.h"

static uint32_t wanted[RESOURCES];
static uint32_t tickets[RESOURCES][MAX_QUEUES];
static uint32_t last_ticket;

static bool another_is_first(enum resource resource, const struct queue *queue, uint32_t ticket) {
  for (uint32_t left = wanted[resource] & ~(1u << queue->number); left != 0; left &= left - 1) {
    const uint32_t n = (uint32_t)__builtin_ctz(left);
    if (queue_get(n)->level == queue->level && (int32_t)(tickets[resource][n] - ticket) < 0) return true;
  }
  return false;
}

bool turn_take(enum resource resource, const struct queue *queue, bool available) {
  const uint32_t bit = 1u << queue->number;
  if (!(wanted[resource] & bit)) {
    tickets[resource][queue->number] = ++last_ticket;
    wanted[resource] |= bit;
  }
  if (!available || another_is_first(resource, queue, tickets[resource][queue->number])) return false;
  wanted[resource] &= ~bit;
  /* They may have been refused for this queue's sake alone, and it may not keep what it takes. */
  queue_wake(wanted[resource]);
  return true;
}

uint32_t turn_wanted(enum resource resource) { return wanted[resource]; }

void turn_forget(const struct queue *queue) {
  for (uint32_t i = 0; i < RESOURCES; ++i) wanted[i] &= ~(1u << queue->number);
}
