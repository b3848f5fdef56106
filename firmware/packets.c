#include "firmware/packets.h"

#include <stddef.h>

#include "firmware/launch.h"
#include "firmware/sdma.h"
#include "firmware/timer.h"
#include "firmware/turn.h"
#include "firmware/wait.h"

/* Transfers go in pieces, so that no packet keeps a channel for long from queues that are served before its own. A
 * piece of rows with gaps counts each row as at least ROW_BYTES. */
#define COPY_PIECE (1u << 20)
#define FILL_PIECE (4u << 20)
#define ROW_BYTES 512u

/* Owners of the channels that run packets. */
static struct {
  struct queue *queue;
  struct slot *slot;
} channels[SDMA_CHANNELS];

/* On a chip with all channels the last one is kept for level 0. */
static uint32_t free_channel(const struct queue *queue) {
  const bool reserved = queue->level != 0 && sdma_channels() == SDMA_CHANNELS;
  for (uint32_t channel = sdma_channels() - (reserved ? 2 : 1); channel >= SDMA_FIRST_PACKET_CHANNEL; --channel) {
    if (channels[channel].slot == NULL) return channel;
  }
  return SDMA_CHANNELS;
}

static struct sdma_transfer fill_piece(const struct slot *slot) {
  const packet_t *packet = slot->packet;
  const uint64_t left = packet->fill.bytes - slot->moved;
  const struct sdma_transfer transfer = {.dst = packet->fill.dst + slot->moved,
                                         .row_bytes = left < FILL_PIECE ? (uint32_t)left : FILL_PIECE,
                                         .rows = 1,
                                         .pattern = packet->fill.pattern,
                                         .kind = CX_SDMA_CTRL_FILL_MASK};
  return transfer;
}

static struct sdma_transfer copy_piece(const struct slot *slot) {
  static const uint8_t kinds[] = {
      [CX_DIRECTION_HOST_TO_DEVICE] = CX_SDMA_CTRL_SRC_HOST_MASK,
      [CX_DIRECTION_DEVICE_TO_HOST] = CX_SDMA_CTRL_DST_HOST_MASK,
      [CX_DIRECTION_DEVICE_TO_DEVICE] = 0,
  };
  const packet_t *packet = slot->packet;
  const uint32_t src_pitch = packet->copy.src_pitch, dst_pitch = packet->copy.dst_pitch;
  uint32_t row_bytes = packet->copy.row_bytes, rows = packet->copy.rows - slot->row;
  if (row_bytes > COPY_PIECE) {
    const uint32_t left = row_bytes - (uint32_t)slot->moved;
    row_bytes = left < COPY_PIECE ? left : COPY_PIECE;
    rows = 1;
  } else {
    const bool gaps = src_pitch != row_bytes || dst_pitch != row_bytes;
    const uint32_t most = COPY_PIECE / (gaps && row_bytes < ROW_BYTES ? ROW_BYTES : row_bytes);
    if (rows > most) rows = most;
  }
  const struct sdma_transfer transfer = {.src = packet->copy.src + (uint64_t)slot->row * src_pitch + slot->moved,
                                         .dst = packet->copy.dst + (uint64_t)slot->row * dst_pitch + slot->moved,
                                         .row_bytes = row_bytes,
                                         .rows = rows,
                                         .src_pitch = src_pitch,
                                         .dst_pitch = dst_pitch,
                                         .kind = kinds[packet->copy.direction]};
  return transfer;
}

/* The next piece of a packet. */
static struct sdma_transfer piece_of(const struct slot *slot) {
  return slot->packet->header.type == CX_PKT_FILL ? fill_piece(slot) : copy_piece(slot);
}

/* The piece that piece_of() names is done. True: so is the packet. */
static bool advance(struct slot *slot) {
  const packet_t *packet = slot->packet;
  const struct sdma_transfer piece = piece_of(slot);
  slot->moved += piece.row_bytes;
  if (packet->header.type == CX_PKT_FILL) return slot->moved == packet->fill.bytes;
  if (slot->moved < packet->copy.row_bytes) return false;
  slot->moved = 0;
  slot->row += piece.rows;
  return slot->row == packet->copy.rows;
}

/* Byte offset of the field whose address the transfer failed at. */
static uint32_t failed_field(const struct slot *slot, const struct sdma_result *result) {
  if (slot->packet->header.type == CX_PKT_FILL) return offsetof(cx_packet_fill, dst);
  const packet_t *packet = slot->packet;
  bool src;
  if (packet->copy.direction == CX_DIRECTION_DEVICE_TO_DEVICE) {
    /* The side that starts at or below the address, and nearer. */
    src = result->address - packet->copy.src <= result->address - packet->copy.dst;
  } else {
    src = (packet->copy.direction == CX_DIRECTION_HOST_TO_DEVICE) == (result->status == CX_STATUS_IOMMU_FAULT);
  }
  return src ? offsetof(cx_packet_copy, src) : offsetof(cx_packet_copy, dst);
}

/* After a piece: true when the packet is finished, false when there is another piece of it to transfer. */
static bool end_transfer(struct slot *slot, const struct sdma_result *result) {
  if (result->status != CX_STATUS_OK) {
    slot_finish(slot, result->status, failed_field(slot, result), result->address);
    return true;
  }
  if (!advance(slot)) return false;
  slot_finish(slot, CX_STATUS_OK, 0, 0);
  return true;
}

static void pause(struct queue *queue, struct slot *slot) {
  slot->state = SLOT_PAUSED;
  ++queue->paused;
}

void packets_transfers_done(void) {
  sdma_collect();
  for (uint32_t channel = SDMA_FIRST_PACKET_CHANNEL; channel < SDMA_CHANNELS; ++channel) {
    if (!sdma_take_done(channel)) continue;
    struct slot *slot = channels[channel].slot;
    if (slot == NULL) continue;
    const struct sdma_result result = sdma_result(channel);
    if (!end_transfer(slot, &result)) {
      struct queue *queue = channels[channel].queue;
      const uint32_t others = queue_up_to_level(queue->level) & ~(1u << queue->number);
      if ((turn_wanted(RESOURCE_CHANNEL) & others) == 0) {
        const struct sdma_transfer rest = piece_of(slot);
        sdma_start(channel, &rest);
        continue;
      }
      pause(queue, slot);
    }
    channels[channel].slot = NULL;
    queue_wake_all();
  }
}

/* Below the scratchpad lie the registers and the firmware itself: no packet writes there. */
static bool writes_below_memories(const packet_t *packet) {
  if (packet->header.type == CX_PKT_FILL) return packet->fill.dst < CX_MEM_SPM_BASE;
  return packet->copy.direction != CX_DIRECTION_DEVICE_TO_HOST && packet->copy.dst < CX_MEM_SPM_BASE;
}

static bool start_piece(struct queue *queue, struct slot *slot) {
  const struct sdma_transfer piece = piece_of(slot);
  if (sdma_channels() == 1) {
    const struct sdma_result result = sdma_run(&piece);
    if (!end_transfer(slot, &result)) pause(queue, slot);
    return true;
  }
  const uint32_t channel = free_channel(queue);
  if (!turn_take(RESOURCE_CHANNEL, queue, channel != SDMA_CHANNELS)) return false;
  sdma_start(channel, &piece);
  slot->state = SLOT_RUNNING;
  channels[channel].queue = queue;
  channels[channel].slot = slot;
  return true;
}

bool packet_resume(struct queue *queue, struct slot *slot) {
  if (!start_piece(queue, slot)) return false;
  --queue->paused;
  return true;
}

static bool start_transfer(struct queue *queue, struct slot *slot) {
  if (writes_below_memories(slot->packet)) {
    const bool fill = slot->packet->header.type == CX_PKT_FILL;
    slot_finish(slot, CX_STATUS_BAD_ADDRESS, fill ? offsetof(cx_packet_fill, dst) : offsetof(cx_packet_copy, dst),
                fill ? slot->packet->fill.dst : slot->packet->copy.dst);
    return true;
  }
  return start_piece(queue, slot);
}

static void run_signal(struct slot *slot) {
  static uint64_t value __attribute__((aligned(8)));
  const packet_t *packet = slot->packet;
  struct sdma_result result = {CX_STATUS_OK, 0};
  if (packet->signal.op == CX_SIGNAL_OP_SET) {
    value = packet->signal.value;
  } else {
    result = sdma_read_host(&value, packet->signal.address, sizeof value);
    if (packet->signal.op == CX_SIGNAL_OP_ADD) {
      value += packet->signal.value;
    } else if (value < packet->signal.value) {
      value = packet->signal.value;
    }
  }
  if (result.status == CX_STATUS_OK) result = sdma_write_host(packet->signal.address, &value, sizeof value);
  if (result.status == CX_STATUS_OK) wait_notify(packet->signal.address);
  slot_finish(slot, result.status, result.status ? offsetof(cx_packet_signal, address) : 0, result.address);
}

static void run_timestamp(struct slot *slot) {
  static uint64_t time __attribute__((aligned(8)));
  const uint64_t address = slot->packet->timestamp.address;
  time = timer_now();
  const struct sdma_result result = sdma_write_host(address, &time, sizeof time);
  if (result.status == CX_STATUS_OK) wait_notify(address);
  slot_finish(slot, result.status, result.status ? offsetof(cx_packet_timestamp, address) : 0, result.address);
}

/* What the generated validator cannot know. */
static uint32_t validate(const packet_t *packet, uint32_t *detail) {
  const uint32_t status = cx_packet_validate(packet, detail);
  if (status != CX_STATUS_OK) return status;
  const uint32_t vector = packet->header.vector;
  if (vector >= CX_MSIX_ADDR_LO_COUNT && vector != CX_PKT_VECTOR_NONE) {
    return cx_packet_fail(detail, offsetof(cx_packet_header, vector), CX_STATUS_BAD_FIELD);
  }
  if (packet->header.type == CX_PKT_COPY && packet->copy.rows > 1 && packet->copy.dst_pitch < packet->copy.row_bytes) {
    return cx_packet_fail(detail, offsetof(cx_packet_copy, dst_pitch), CX_STATUS_BAD_FIELD);
  }
  if (packet->header.type == CX_PKT_BARRIER_OR) {
    uint32_t any = 0;
    for (uint32_t i = 6; i < 14; ++i) any |= packet->word[i];
    if (any == 0) return cx_packet_fail(detail, offsetof(cx_packet_barrier_or, deps), CX_STATUS_BAD_FIELD);
  }
  return CX_STATUS_OK;
}

bool packet_start(struct queue *queue, struct slot *slot) {
  slot->start = timer_now();
  if (!slot->seen) {
    uint32_t detail;
    slot->seen = true;
    slot->fault_engine = 0xff;
    slot->fault_pc = 0;
    slot->entry = 0;
    slot->moved = 0;
    slot->row = 0;
    uint32_t status = validate(slot->packet, &detail);
    if (status == CX_STATUS_OK && slot->packet->header.type == CX_PKT_EXECUTE && queue_in_list(queue)) {
      status = cx_packet_fail(&detail, 0, CX_STATUS_UNSUPPORTED);
    }
    if (status != CX_STATUS_OK) {
      slot_finish(slot, status, detail, 0);
      return true;
    }
  }
  switch (slot->packet->header.type) {
    case CX_PKT_COPY:
    case CX_PKT_FILL:
      return start_transfer(queue, slot);
    case CX_PKT_LAUNCH:
      return launch_start(queue, slot);
    case CX_PKT_RECONFIG:
      return reconfig_start(queue, slot);
    case CX_PKT_BARRIER_AND:
    case CX_PKT_BARRIER_OR:
    case CX_PKT_WAIT:
      wait_start(queue, slot);
      return true;
    case CX_PKT_SIGNAL:
      run_signal(slot);
      return true;
    case CX_PKT_TIMESTAMP:
      run_timestamp(slot);
      return true;
    case CX_PKT_EXECUTE:
      queue_execute(queue, slot);
      return true;
    default: /* NOP */
      slot_finish(slot, CX_STATUS_OK, 0, 0);
      return true;
  }
}

void packets_stop(struct queue *queue) {
  for (uint32_t channel = SDMA_FIRST_PACKET_CHANNEL; channel < SDMA_CHANNELS; ++channel) {
    if (channels[channel].slot == NULL || channels[channel].queue != queue) continue;
    sdma_abort(channel);
    slot_finish(channels[channel].slot, CX_STATUS_ABORTED, 0, 0);
    channels[channel].slot = NULL;
  }
  launch_abort(queue);
}
