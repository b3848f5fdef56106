#include "firmware/sdma.h"

#include "firmware/boot.h"
#include "hw/regs/gen/packets.h"

static uint32_t channels; /* that the chip has */
static uint32_t done_bits;
/* What the registers of channel 0 hold, so that only changes are written. */
static struct {
  uint64_t src, dst;
  uint32_t row_bytes, rows;
} own;

void sdma_collect(void) {
  const uint32_t done = mmio_read(SDMA_DONE);
  if (done == 0) return;
  mmio_write(SDMA_DONE, done);
  done_bits |= done;
}

bool sdma_unclaimed(void) { return done_bits != 0; }

bool sdma_take_done(uint32_t channel) {
  const uint32_t bit = 1u << channel;
  const bool done = (done_bits & bit) != 0;
  done_bits &= ~bit;
  return done;
}

struct sdma_result sdma_result(uint32_t channel) {
  struct sdma_result result = {CX_STATUS_OK, 0};
  const uint32_t status = mmio_read(SDMA(STATUS, channel));
  result.status = (status & CX_SDMA_STATUS_ERROR_MASK) >> CX_SDMA_STATUS_ERROR_SHIFT;
  if (result.status != CX_STATUS_OK) result.address = mmio_read64(SDMA(FAULT_LO, channel));
  return result;
}

static void write_changed64(uint32_t address, uint64_t *held, uint64_t value) {
  if ((uint32_t)*held != (uint32_t)value) mmio_write(address, (uint32_t)value);
  if ((uint32_t)(*held >> 32) != (uint32_t)(value >> 32)) mmio_write(address + 4, (uint32_t)(value >> 32));
  *held = value;
}

/* Everything else waits, so that wfi sleeps until the transfer is done. */
static void start_and_wait(uint32_t channel, uint32_t control) {
  mmio_write(INTC(ENABLE), 1u << CX_IRQ_SDMA);
  csr_clear(mie, CSR_MIE_MTIE);
  mmio_write(SDMA(CTRL, channel), control | CX_SDMA_CTRL_START_MASK);
  do {
    wait_for_interrupt();
    sdma_collect();
  } while (!sdma_take_done(channel));
  csr_set(mie, CSR_MIE_MTIE);
  mmio_write(INTC(ENABLE), wake_lines);
}

void sdma_init(void) {
  /* The registers of a missing channel are there; starting it says that it is not. An empty transfer harms no other. */
  for (channels = 1; channels < SDMA_CHANNELS; ++channels) {
    mmio_write(SDMA(ROWS, channels), 0);
    start_and_wait(channels, 0);
    if (sdma_result(channels).status == CX_STATUS_UNSUPPORTED) break;
  }
}

uint32_t sdma_channels(void) { return channels; }

static struct sdma_result run_own(uint64_t src, uint64_t dst, uint32_t bytes, uint32_t kind) {
  write_changed64(SDMA(SRC_LO, SDMA_OWN_CHANNEL), &own.src, src);
  write_changed64(SDMA(DST_LO, SDMA_OWN_CHANNEL), &own.dst, dst);
  if (own.row_bytes != bytes) mmio_write(SDMA(ROW_BYTES, SDMA_OWN_CHANNEL), bytes);
  own.row_bytes = bytes;
  if (own.rows != 1) mmio_write(SDMA(ROWS, SDMA_OWN_CHANNEL), 1);
  own.rows = 1;

  start_and_wait(SDMA_OWN_CHANNEL, kind);
  return sdma_result(SDMA_OWN_CHANNEL);
}

struct sdma_result sdma_read_host(void *to, uint64_t from, uint32_t bytes) {
  return run_own(from, (uintptr_t)to, bytes, CX_SDMA_CTRL_SRC_HOST_MASK);
}

struct sdma_result sdma_write_host(uint64_t to, const void *from, uint32_t bytes) {
  return run_own((uintptr_t)from, to, bytes, CX_SDMA_CTRL_DST_HOST_MASK);
}

struct sdma_result sdma_read_device(void *to, uint64_t from, uint32_t bytes) {
  return run_own(from, (uintptr_t)to, bytes, 0);
}

static void write_parameters(uint32_t channel, const struct sdma_transfer *transfer) {
  mmio_write64(SDMA(SRC_LO, channel), transfer->src);
  mmio_write64(SDMA(DST_LO, channel), transfer->dst);
  mmio_write(SDMA(ROW_BYTES, channel), transfer->row_bytes);
  mmio_write(SDMA(ROWS, channel), transfer->rows);
  mmio_write(SDMA(SRC_PITCH, channel), transfer->src_pitch);
  mmio_write(SDMA(DST_PITCH, channel), transfer->dst_pitch);
  if (transfer->kind & CX_SDMA_CTRL_FILL_MASK) mmio_write(SDMA(PATTERN, channel), transfer->pattern);
}

void sdma_start(uint32_t channel, const struct sdma_transfer *transfer) {
  write_parameters(channel, transfer);
  mmio_write(SDMA(CTRL, channel), transfer->kind | CX_SDMA_CTRL_START_MASK);
}

struct sdma_result sdma_run(const struct sdma_transfer *transfer) {
  write_parameters(SDMA_OWN_CHANNEL, transfer);
  own.src = transfer->src;
  own.dst = transfer->dst;
  own.row_bytes = transfer->row_bytes;
  own.rows = transfer->rows;
  start_and_wait(SDMA_OWN_CHANNEL, transfer->kind);
  return sdma_result(SDMA_OWN_CHANNEL);
}

void sdma_abort(uint32_t channel) {
  mmio_write(SDMA(CTRL, channel), CX_SDMA_CTRL_ABORT_MASK);
  while (mmio_read(SDMA(STATUS, channel)) & CX_SDMA_STATUS_BUSY_MASK) {
  }
  sdma_collect();
  sdma_take_done(channel);
}
