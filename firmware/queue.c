#include "firmware/queue.h"

#include <stddef.h>

#include "firmware/boot.h"
#include "firmware/fault.h"
#include "firmware/launch.h"
#include "firmware/mmio.h"
#include "firmware/packets.h"
#include "firmware/sdma.h"
#include "firmware/timer.h"
#include "firmware/turn.h"
#include "firmware/wait.h"

#define LEVELS (1u << CX_QUEUE_PRIORITY_LEVEL_WIDTH)

static struct queue queues[MAX_QUEUES];
/* Bit n: queue n may be able to do something. Cleared by a step that finds nothing, set by every event. */
static uint32_t ready;
static uint32_t level_queues[LEVELS];
static uint8_t last_served[LEVELS];
static uint32_t waiting; /* bit n: queue n polls host memory */
static uint32_t packets_completed;

struct queue *queue_get(uint32_t number) {
  return &queues[number];
}

void queue_init(uint32_t number) {
  struct queue *queue = &queues[number];
  queue->number = (uint8_t)number;
  for (uint32_t i = 0; i < WINDOW; ++i) {
    queue->ring.slots[i].packet = &queue->ring.packets[i];
    queue->list.slots[i].packet = &queue->list.packets[i];
  }
  mmio_write(QUEUE(STATE, number), CX_QUEUE_STATE_STATE_DISABLED);
  mmio_write(QUEUE(READ_INDEX, number), 0);
}

void queue_set_waiting(struct queue *queue, struct slot *slot) {
  const uint32_t bit = 1u << queue->number;
  queue->waiting = slot;
  waiting = slot != NULL ? waiting | bit : waiting & ~bit;
}

uint32_t queue_waiting(void) { return waiting; }

uint32_t queue_up_to_level(uint32_t level) {
  uint32_t queues_there = 0;
  for (uint32_t i = 0; i <= level; ++i) queues_there |= level_queues[i];
  return queues_there;
}

static struct slot *slot_of(struct source *source, uint32_t index) { return &source->slots[index % WINDOW]; }

static bool started_are_complete(const struct source *source) { return source->head == source->next; }

void queue_wake_all(void) { ready = ~0u; }

void queue_wake(uint32_t some) { ready |= some; }

static void write_state(const struct queue *queue, uint32_t state, uint32_t error) {
  mmio_write(QUEUE(STATE, queue->number),
             (state << CX_QUEUE_STATE_STATE_SHIFT) | (error << CX_QUEUE_STATE_ERROR_SHIFT));
}

static void raise_vector(uint32_t vector) {
  if (vector != CX_PKT_VECTOR_NONE) mmio_write(MSIX_TRIGGER, vector);
}

static void clear(struct queue *queue) {
  struct source *ring = &queue->ring;
  ring->head = ring->next = ring->fetched = ring->written = 0;
  queue->enabled = queue->draining = false;
  queue->execute = NULL;
  queue->paused = 0;
  queue_set_waiting(queue, NULL);
  turn_forget(queue);
  for (uint32_t level = 0; level < LEVELS; ++level) level_queues[level] &= ~(1u << queue->number);
}

static void finish_started(struct source *source) {
  for (uint32_t i = source->head; i != source->next; ++i) {
    struct slot *slot = slot_of(source, i);
    if (slot->state != SLOT_FINISHED) slot_finish(slot, CX_STATUS_ABORTED, 0, 0);
  }
}

/* Ends everything that has started and is not done, as ABORTED. */
static void stop(struct queue *queue) {
  packets_stop(queue);
  if (queue->execute != NULL) {
    finish_started(&queue->list);
    queue->list_stopped = true;
  }
  finish_started(&queue->ring);
  queue->paused = 0;
  queue_set_waiting(queue, NULL);
  turn_forget(queue);
  queue_wake_all();
}

/* The ring itself cannot be used any more; packets in flight still end, their results are dropped. */
static void fail_queue(struct queue *queue, uint32_t status, uint64_t address) {
  const struct fault fault = {.status = status,
                              .queue = queue->number,
                              .engine = FAULT_NO_ENGINE,
                              .packet = queue->ring.fetched,
                              .address = address};
  fault_report(&fault);
  stop(queue);
  clear(queue);
  write_state(queue, CX_QUEUE_STATE_STATE_ERROR, status);
  raise_vector(queue->vector);
}

static void end_wait(struct queue *queue) {
  struct slot *slot = queue->waiting;
  if (slot == NULL) return;
  queue_set_waiting(queue, NULL);
  slot_finish(slot, CX_STATUS_ABORTED, 0, 0);
}

/* Nothing more of the list starts or waits; the EXECUTE packet ends with this status. */
static void stop_list(struct queue *queue, uint32_t status) {
  if (queue->list_stopped) return;
  queue->list_stopped = true;
  queue->execute->status = status;
  queue->execute->detail = 0;
  queue->execute->fault_address = 0;
  end_wait(queue);
  turn_forget(queue);
}

/* ---- host commands ---- */

void queue_enable(struct queue *queue) {
  const uint32_t n = queue->number;
  stop(queue);
  clear(queue);
  mmio_write(QUEUE_DB_PENDING, 1u << n);
  mmio_write(QUEUE(READ_INDEX, n), 0);

  const uint32_t log2 = (mmio_read(QUEUE(SIZE, n)) & CX_QUEUE_SIZE_LOG2_MASK) >> CX_QUEUE_SIZE_LOG2_SHIFT;
  queue->ring.base = mmio_read64(QUEUE(BASE_LO, n));
  queue->vector = (uint16_t)mmio_read(QUEUE(VECTOR, n));
  queue->level = (uint8_t)(mmio_read(QUEUE(PRIORITY, n)) & CX_QUEUE_PRIORITY_LEVEL_MASK);
  if (queue->vector >= CX_MSIX_ADDR_LO_COUNT && queue->vector != CX_PKT_VECTOR_NONE) {
    queue->vector = CX_PKT_VECTOR_NONE;
    fail_queue(queue, CX_STATUS_BAD_FIELD, 0);
  } else if (queue->ring.base % CX_PACKET_BYTES != 0) {
    fail_queue(queue, CX_STATUS_BAD_ALIGNMENT, queue->ring.base);
  } else if (log2 < 1 || log2 > 16) {
    fail_queue(queue, CX_STATUS_BAD_FIELD, 0);
  } else {
    queue->ring.mask = (1u << log2) - 1;
    queue->enabled = true;
    level_queues[queue->level] |= 1u << n;
    write_state(queue, CX_QUEUE_STATE_STATE_ENABLED, 0);
  }
}

static void end_drain(struct queue *queue) {
  clear(queue);
  write_state(queue, CX_QUEUE_STATE_STATE_DISABLED, 0);
}

void queue_disable(struct queue *queue) {
  if (!queue->enabled) {
    clear(queue);
    write_state(queue, CX_QUEUE_STATE_STATE_DISABLED, 0);
    return;
  }
  queue->draining = true;
  turn_forget(queue);
  end_wait(queue);
  if (queue->execute != NULL && queue->list.next != queue->list.written) stop_list(queue, CX_STATUS_ABORTED);
  queue_wake_all();
  if (started_are_complete(&queue->ring)) end_drain(queue);
}

/* ---- completion ---- */

void slot_finish(struct slot *slot, uint32_t status, uint32_t detail, uint64_t fault_address) {
  slot->end = timer_now();
  slot->status = status;
  slot->detail = detail;
  slot->fault_address = fault_address;
  slot->state = SLOT_FINISHED;
}

/* The record's value goes last, and only after the rest is in host memory. */
static struct sdma_result write_record(const struct slot *slot) {
  static cx_completion record __attribute__((aligned(8)));
  const uint64_t to = slot->packet->header.completion;
  record.value = slot->packet->header.completion_value;
  record.start = slot->start;
  record.end = slot->end;
  record.status = (uint16_t)slot->status;
  record.entry = slot->entry;
  record.detail = slot->detail;
  struct sdma_result result =
      sdma_write_host(to + sizeof record.value, &record.start, sizeof record - sizeof record.value);
  if (result.status == CX_STATUS_OK) result = sdma_write_host(to, &record.value, sizeof record.value);
  return result;
}

static void report(const struct queue *queue, const struct slot *slot, uint32_t status, uint64_t address) {
  const struct fault fault = {.status = status,
                              .queue = queue->number,
                              .engine = slot->fault_engine,
                              .packet = queue->ring.head,
                              .entry = slot->entry,
                              .pc = slot->fault_pc,
                              .address = address};
  fault_report(&fault);
}

static void write_error(const struct queue *queue, uint32_t status) {
  write_state(queue, CX_QUEUE_STATE_STATE_ENABLED, status);
}

/* Writes the packet's record if it has one. */
static struct sdma_result tell_host(const struct slot *slot) {
  const uint64_t record = slot->packet->header.completion;
  struct sdma_result result = {CX_STATUS_OK, 0};
  if (record == 0 || (record & 7) != 0) return result;
  result = write_record(slot);
  if (result.status == CX_STATUS_OK) wait_notify(record);
  return result;
}

/* Consumes the oldest packet: counts it and raises its vector. Returns that vector. */
static uint32_t consume(struct source *source) {
  uint32_t vector = slot_of(source, source->head)->packet->header.vector;
  if (vector >= CX_MSIX_ADDR_LO_COUNT) vector = CX_PKT_VECTOR_NONE;
  ++source->head;
  return vector;
}

static void complete_in_ring(struct queue *queue) {
  struct slot *slot = slot_of(&queue->ring, queue->ring.head);
  uint32_t status = slot->status;
  /* Before the record: the host looks at the fault registers as soon as it sees the status. */
  if (status != CX_STATUS_OK) {
    report(queue, slot, status, slot->fault_address);
    write_error(queue, status);
  }
  const struct sdma_result told = tell_host(slot);
  if (told.status != CX_STATUS_OK) {
    report(queue, slot, told.status, told.address);
    if (status == CX_STATUS_OK) {
      status = told.status;
      write_error(queue, status);
    }
  }
  const uint32_t vector = consume(&queue->ring);
  mmio_write(QUEUE(READ_INDEX, queue->number), queue->ring.head);
  mmio_write(DEV(PACKETS), ++packets_completed);
  raise_vector(vector);
  if (status != CX_STATUS_OK && queue->vector != vector) raise_vector(queue->vector);
  if (queue->draining && started_are_complete(&queue->ring)) end_drain(queue);
}

static void complete_in_list(struct queue *queue) {
  struct slot *slot = slot_of(&queue->list, queue->list.head), *execute = queue->execute;
  const struct sdma_result told = tell_host(slot);
  if (slot->status == CX_STATUS_OK && told.status != CX_STATUS_OK) {
    slot->status = told.status;
    slot->detail = offsetof(cx_packet_header, completion);
    slot->fault_address = told.address;
  }
  if (slot->status != CX_STATUS_OK && execute->entry == 0) {
    stop_list(queue, slot->status);
    execute->status = slot->status;
    execute->detail = slot->detail;
    execute->fault_address = slot->fault_address;
    execute->fault_engine = slot->fault_engine;
    execute->fault_pc = slot->fault_pc;
    execute->entry = (uint16_t)(queue->list.head + 1);
  }
  const uint32_t vector = consume(&queue->list);
  mmio_write(DEV(PACKETS), ++packets_completed);
  raise_vector(vector);
}

/* Completes the oldest packet if it has ended. */
static bool complete_oldest(struct queue *queue, struct source *source) {
  if (started_are_complete(source) || slot_of(source, source->head)->state != SLOT_FINISHED) return false;
  if (source == &queue->ring) {
    complete_in_ring(queue);
  } else {
    complete_in_list(queue);
  }
  return true;
}

void queue_reset(struct queue *queue) {
  if (queue->enabled) {
    stop(queue);
    while (queue->execute != NULL && complete_oldest(queue, &queue->list)) {
    }
    while (complete_oldest(queue, &queue->ring)) {
    }
  }
  clear(queue);
  mmio_write(QUEUE(READ_INDEX, queue->number), 0);
  write_state(queue, CX_QUEUE_STATE_STATE_DISABLED, 0);
}

/* ---- fetch ---- */

void queue_doorbells(void) {
  uint32_t pending = mmio_read(QUEUE_DB_PENDING);
  mmio_write(QUEUE_DB_PENDING, pending);
  for (uint32_t n = 0; pending != 0 && n < chip.queues; ++n) {
    const uint32_t bit = 1u << n;
    if (!(pending & bit)) continue;
    pending &= ~bit;
    struct queue *queue = &queues[n];
    if (!queue->enabled) continue;
    struct source *ring = &queue->ring;
    ring->written = mmio_read(QUEUE(DOORBELL, n));
    ready |= bit;
    if (ring->written - ring->head > ring->mask + 1) fail_queue(queue, CX_STATUS_BAD_FIELD, ring->written);
  }
}

/* As many packets as lie side by side and fit in the window. */
static struct sdma_result fetch(struct source *source) {
  const uint32_t place = source->fetched & source->mask;
  const uint32_t slot = source->fetched % WINDOW;
  uint32_t count = source->written - source->fetched;
  const uint32_t limits[] = {source->mask - place, WINDOW - slot - 1, WINDOW - (source->fetched - source->head) - 1};
  for (uint32_t i = 0; i < sizeof limits / sizeof *limits; ++i) {
    if (count - 1 > limits[i]) count = limits[i] + 1;
  }
  const uint64_t address = source->base + (uint64_t)place * CX_PACKET_BYTES;
  const struct sdma_result result = sdma_read_host(&source->packets[slot], address, count * CX_PACKET_BYTES);
  if (result.status != CX_STATUS_OK) return result;
  for (uint32_t i = 0; i < count; ++i) {
    source->slots[slot + i].state = SLOT_FETCHED;
    source->slots[slot + i].seen = false;
  }
  source->fetched += count;
  return result;
}

static bool can_fetch(const struct source *source) {
  return source->fetched != source->written && source->fetched - source->head < WINDOW;
}

/* ---- order of service ---- */

/* Gives a paused transfer a channel. */
static bool resume(struct queue *queue, struct source *source) {
  if (queue->paused == 0) return false;
  for (uint32_t i = source->head; i != source->next; ++i) {
    struct slot *slot = slot_of(source, i);
    if (slot->state == SLOT_PAUSED) return packet_resume(queue, slot);
  }
  return false;
}

static bool start_next(struct queue *queue, struct source *source) {
  if (source->next == source->fetched) return false;
  struct slot *slot = slot_of(source, source->next);
  const bool barrier = (slot->packet->header.flags & CX_PKT_FLAGS_BARRIER_MASK) != 0;
  if (barrier && !started_are_complete(source)) return false;
  if (!packet_start(queue, slot)) return false;
  ++source->next;
  return true;
}

static bool look_again(struct queue *queue) {
  if (timer_now() < queue->poll_at) return false;
  wait_poll(queue);
  return true;
}

void queue_execute(struct queue *queue, struct slot *slot) {
  struct source *list = &queue->list;
  list->base = slot->packet->execute.list;
  list->mask = ~0u;
  list->head = list->next = list->fetched = 0;
  list->written = slot->packet->execute.count;
  queue->execute = slot;
  queue->list_stopped = false;
  slot->state = SLOT_RUNNING;
}

static void end_list(struct queue *queue) {
  struct slot *slot = queue->execute;
  queue->execute = NULL;
  if (queue->list_stopped) {
    slot_finish(slot, slot->status, slot->detail, slot->fault_address);
  } else {
    slot_finish(slot, CX_STATUS_OK, 0, 0);
  }
}

/* Whether a packet has failed that is not complete because an older one still runs. */
static bool failure_ahead(struct source *list) {
  for (uint32_t i = list->head; i != list->next; ++i) {
    const struct slot *slot = slot_of(list, i);
    if (slot->state == SLOT_FINISHED && slot->status != CX_STATUS_OK) return true;
  }
  return false;
}

static bool step_in_list(struct queue *queue) {
  struct source *list = &queue->list;
  if (complete_oldest(queue, list) || resume(queue, list)) return true;
  if (queue->waiting != NULL) return look_again(queue);
  const uint32_t end = queue->list_stopped ? list->next : list->written;
  if (list->head == end) {
    end_list(queue);
    return true;
  }
  if (queue->list_stopped || failure_ahead(list)) return false;
  if (start_next(queue, list)) return true;
  if (!can_fetch(list)) return false;
  const struct sdma_result result = fetch(list);
  if (result.status != CX_STATUS_OK) {
    stop_list(queue, result.status);
    queue->execute->detail = offsetof(cx_packet_execute, list);
    queue->execute->fault_address = result.address;
  }
  return true;
}

static bool step(struct queue *queue) {
  struct source *ring = &queue->ring;
  if (complete_oldest(queue, ring) || resume(queue, ring)) return true;
  if (queue->execute != NULL) return step_in_list(queue);
  if (queue->waiting != NULL) return look_again(queue);
  if (queue->draining) return false;
  if (start_next(queue, ring)) return true;
  if (!can_fetch(ring)) return false;
  const struct sdma_result result = fetch(ring);
  if (result.status != CX_STATUS_OK) fail_queue(queue, result.status, result.address);
  return true;
}

bool queue_step(void) {
  for (uint32_t level = 0; level < LEVELS; ++level) {
    for (;;) {
      const uint32_t candidates = level_queues[level] & ready;
      if (candidates == 0) break;
      /* Round robin: the first after the one that was served last. */
      const uint32_t after = candidates & -(2u << last_served[level]);
      const uint32_t n = (uint32_t)__builtin_ctz(after != 0 ? after : candidates);
      last_served[level] = (uint8_t)n;
      if (step(&queues[n])) return true;
      ready &= ~(1u << n);
    }
  }
  return false;
}

uint64_t queue_next_poll(void) {
  uint64_t first = TIMER_NEVER;
  for (uint32_t left = waiting; left != 0; left &= left - 1) {
    const struct queue *queue = &queues[__builtin_ctz(left)];
    if (queue->poll_at < first) first = queue->poll_at;
  }
  return first;
}
