#include "firmware/queue.h"

#include "firmware/boot.h"
#include "firmware/fault.h"
#include "firmware/launch.h"
#include "firmware/mmio.h"
#include "firmware/packets.h"
#include "firmware/sdma.h"
#include "firmware/timer.h"
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
  for (uint32_t i = 0; i < WINDOW; ++i) queue->slots[i].packet = &queue->packets[i];
  mmio_write(QUEUE(STATE, number), CX_QUEUE_STATE_STATE_DISABLED);
  mmio_write(QUEUE(READ_INDEX, number), 0);
}

void queue_set_waiting(struct queue *queue, bool is_waiting) {
  const uint32_t bit = 1u << queue->number;
  queue->waiting = is_waiting;
  waiting = is_waiting ? waiting | bit : waiting & ~bit;
}

uint32_t queue_waiting(void) { return waiting; }

static struct slot *slot_of(struct queue *queue, uint32_t index) { return &queue->slots[index % WINDOW]; }

void queue_wake_all(void) { ready = ~0u; }

static void write_state(const struct queue *queue, uint32_t state, uint32_t error) {
  mmio_write(QUEUE(STATE, queue->number),
             (state << CX_QUEUE_STATE_STATE_SHIFT) | (error << CX_QUEUE_STATE_ERROR_SHIFT));
}

static void raise_vector(uint32_t vector) {
  if (vector != CX_PKT_VECTOR_NONE) mmio_write(MSIX_TRIGGER, vector);
}

static void clear(struct queue *queue) {
  queue->head = queue->next = queue->fetched = queue->written = 0;
  queue->enabled = queue->draining = false;
  queue_set_waiting(queue, false);
  for (uint32_t level = 0; level < LEVELS; ++level) level_queues[level] &= ~(1u << queue->number);
}

/* The ring itself cannot be used any more; packets in flight still end, their results are dropped. */
static void fail_queue(struct queue *queue, uint32_t status, uint64_t address) {
  const struct fault fault = {.status = status,
                              .queue = queue->number,
                              .engine = FAULT_NO_ENGINE,
                              .packet = queue->fetched,
                              .address = address};
  fault_report(&fault);
  packets_abort(queue);
  clear(queue);
  write_state(queue, CX_QUEUE_STATE_STATE_ERROR, status);
  raise_vector(queue->vector);
}

/* ---- host commands ---- */

void queue_enable(struct queue *queue) {
  const uint32_t n = queue->number;
  packets_abort(queue);
  clear(queue);
  mmio_write(QUEUE_DB_PENDING, 1u << n);
  mmio_write(QUEUE(READ_INDEX, n), 0);

  const uint32_t log2 = (mmio_read(QUEUE(SIZE, n)) & CX_QUEUE_SIZE_LOG2_MASK) >> CX_QUEUE_SIZE_LOG2_SHIFT;
  queue->base = mmio_read64(QUEUE(BASE_LO, n));
  queue->vector = (uint16_t)mmio_read(QUEUE(VECTOR, n));
  queue->level = (uint8_t)(mmio_read(QUEUE(PRIORITY, n)) & CX_QUEUE_PRIORITY_LEVEL_MASK);
  if (queue->vector >= CX_MSIX_ADDR_LO_COUNT && queue->vector != CX_PKT_VECTOR_NONE) {
    queue->vector = CX_PKT_VECTOR_NONE;
    fail_queue(queue, CX_STATUS_BAD_FIELD, 0);
  } else if (queue->base % CX_PACKET_BYTES != 0) {
    fail_queue(queue, CX_STATUS_BAD_ALIGNMENT, queue->base);
  } else if (log2 < 1 || log2 > 16) {
    fail_queue(queue, CX_STATUS_BAD_FIELD, 0);
  } else {
    queue->size = 1u << log2;
    queue->enabled = true;
    level_queues[queue->level] |= 1u << n;
    write_state(queue, CX_QUEUE_STATE_STATE_ENABLED, 0);
  }
}

static bool drained(const struct queue *queue) { return queue->head == queue->next; }

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
  if (queue->waiting) {
    queue_set_waiting(queue, false);
    slot_finish(slot_of(queue, queue->next - 1), CX_STATUS_ABORTED, 0, 0);
  }
  queue_wake_all();
  if (drained(queue)) end_drain(queue);
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
  record.status = slot->status;
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
                              .packet = queue->head,
                              .pc = slot->fault_pc,
                              .address = address};
  fault_report(&fault);
}

static void complete_head(struct queue *queue) {
  struct slot *slot = slot_of(queue, queue->head);
  const uint64_t record = slot->packet->header.completion;
  uint32_t status = slot->status;
  /* Before the record: the host looks at the fault registers as soon as it sees the status. */
  if (status != CX_STATUS_OK) {
    report(queue, slot, status, slot->fault_address);
    write_state(queue, CX_QUEUE_STATE_STATE_ENABLED, status);
  }
  if (record != 0 && (record & 7) == 0) {
    const struct sdma_result written = write_record(slot);
    if (written.status != CX_STATUS_OK) {
      report(queue, slot, written.status, written.address);
      if (status == CX_STATUS_OK) {
        status = written.status;
        write_state(queue, CX_QUEUE_STATE_STATE_ENABLED, status);
      }
    } else {
      wait_notify(record);
    }
  }
  ++queue->head;
  mmio_write(QUEUE(READ_INDEX, queue->number), queue->head);
  mmio_write(DEV(PACKETS), ++packets_completed);

  uint32_t vector = slot->packet->header.vector;
  if (vector >= CX_MSIX_ADDR_LO_COUNT) vector = CX_PKT_VECTOR_NONE;
  raise_vector(vector);
  if (status != CX_STATUS_OK && queue->vector != vector) raise_vector(queue->vector);
  if (queue->draining && drained(queue)) end_drain(queue);
}

void queue_reset(struct queue *queue) {
  if (queue->enabled) {
    packets_abort(queue);
    while (!drained(queue)) complete_head(queue);
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
    queue->written = mmio_read(QUEUE(DOORBELL, n));
    ready |= bit;
    if (queue->written - queue->head > queue->size) fail_queue(queue, CX_STATUS_BAD_FIELD, queue->written);
  }
}

/* As many packets as lie side by side in the ring and in the window. */
static void fetch(struct queue *queue) {
  const uint32_t place = queue->fetched & (queue->size - 1);
  const uint32_t slot = queue->fetched % WINDOW;
  uint32_t count = queue->written - queue->fetched;
  const uint32_t limits[] = {queue->size - place, WINDOW - slot, WINDOW - (queue->fetched - queue->head)};
  for (uint32_t i = 0; i < sizeof limits / sizeof *limits; ++i) {
    if (count > limits[i]) count = limits[i];
  }
  const uint64_t address = queue->base + place * CX_PACKET_BYTES;
  const struct sdma_result result = sdma_read_host(&queue->packets[slot], address, count * CX_PACKET_BYTES);
  if (result.status != CX_STATUS_OK) {
    fail_queue(queue, result.status, result.address);
    return;
  }
  for (uint32_t i = 0; i < count; ++i) {
    queue->slots[slot + i].state = SLOT_FETCHED;
    queue->slots[slot + i].seen = false;
  }
  queue->fetched += count;
}

/* ---- order of service ---- */

static bool step(struct queue *queue) {
  if (queue->head != queue->next && slot_of(queue, queue->head)->state == SLOT_FINISHED) {
    complete_head(queue);
    return true;
  }
  if (queue->waiting) {
    struct slot *slot = slot_of(queue, queue->next - 1);
    if (timer_now() < queue->poll_at) return false;
    wait_poll(queue, slot);
    return true;
  }
  if (queue->draining) return false;
  if (queue->next != queue->fetched) {
    struct slot *slot = slot_of(queue, queue->next);
    const bool barrier = (slot->packet->header.flags & CX_PKT_FLAGS_BARRIER_MASK) != 0;
    if (barrier && queue->head != queue->next) return false;
    if (!packet_start(queue, slot)) return false;
    ++queue->next;
    return true;
  }
  if (queue->fetched != queue->written && queue->fetched - queue->head < WINDOW) {
    fetch(queue);
    return true;
  }
  return false;
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
