#include "firmware/hang.h"

#include <stdbool.h>

#include "firmware/mmio.h"
#include "firmware/sdma.h"
#include "hw/regs/gen/packets.h"

#define NO_POSTER 0xffu
#define BLOCK 8 /* instructions read at once */

static struct { uint32_t pc, busy; } looked[ENGINES];

static bool waits(uint32_t engine) { return (mmio_read(ENGINE(STATUS, engine)) & CX_ENGINE_STATUS_WAITING_MASK) != 0; }

void hang_look(uint32_t engines) {
  for (uint32_t engine = 0; engine < ENGINES; ++engine) {
    if (!(engines & (1u << engine))) continue;
    looked[engine].pc = mmio_read(ENGINE(PC, engine));
    looked[engine].busy = mmio_read(ENGINE(BUSY_LO, engine));
  }
}

static bool moved(uint32_t engine) {
  return looked[engine].pc != mmio_read(ENGINE(PC, engine)) ||
         looked[engine].busy != mmio_read(ENGINE(BUSY_LO, engine));
}

/* First instruction at or after `pc` that posts the semaphore; the stream's count if there is none near. */
static uint32_t find_post(const struct hang_stream *stream, uint32_t pc, uint32_t sem) {
  static uint8_t block[BLOCK * CX_ISA_INSTRUCTION_BYTES] __attribute__((aligned(8)));
  uint32_t end = stream->count;
  if (end > pc + HANG_SCAN_INSTRUCTIONS) end = pc + HANG_SCAN_INSTRUCTIONS;
  for (uint32_t at = pc; at < end; at += BLOCK) {
    const uint32_t count = end - at < BLOCK ? end - at : BLOCK;
    const struct sdma_result read = sdma_read_device(block, stream->address + (uint64_t)at * CX_ISA_INSTRUCTION_BYTES,
                                                     count * CX_ISA_INSTRUCTION_BYTES);
    if (read.status != CX_STATUS_OK) break;
    for (uint32_t i = 0; i < count; ++i) {
      const uint8_t *instruction = &block[i * CX_ISA_INSTRUCTION_BYTES];
      if (instruction[0] == CX_ISA_OP_SEM_POST && instruction[CX_ISA_SEM_POST_SEM_AT] == sem) return at + i;
    }
  }
  return stream->count;
}

static void report_wait(uint32_t engine, const struct hang_stream *streams, uint32_t unfinished) {
  const uint32_t wait = mmio_read(ENGINE(WAIT_SEM, engine));
  const uint32_t sem = (wait & CX_ENGINE_WAIT_SEM_SEM_MASK) >> CX_ENGINE_WAIT_SEM_SEM_SHIFT;
  const uint32_t need = (wait & CX_ENGINE_WAIT_SEM_NEED_MASK) >> CX_ENGINE_WAIT_SEM_NEED_SHIFT;
  uint32_t poster = NO_POSTER, poster_pc = 0;
  for (uint32_t other = 0; other < ENGINES && poster == NO_POSTER; ++other) {
    if (!(unfinished & (1u << other))) continue;
    poster_pc = find_post(&streams[other], mmio_read(ENGINE(PC, other)), sem);
    if (poster_pc < streams[other].count) poster = other;
  }
  mmio_write(RAS_HANG(STATE, engine), (CX_RAS_HANG_STATE_STATE_WAITING << CX_RAS_HANG_STATE_STATE_SHIFT) |
                                          (sem << CX_RAS_HANG_STATE_SEM_SHIFT) |
                                          (poster << CX_RAS_HANG_STATE_POSTER_SHIFT));
  mmio_write(RAS_HANG(SEM, engine), (mmio_read(ENGINE(SEM_VALUE, engine)) << CX_RAS_HANG_SEM_VALUE_SHIFT) |
                                        (need << CX_RAS_HANG_SEM_NEED_SHIFT));
  mmio_write(RAS_HANG(POSTER_PC, engine), poster == NO_POSTER ? 0 : poster_pc);
}

static uint32_t state_of(uint32_t engine, uint32_t used, uint32_t unfinished, uint32_t hung) {
  if (!(used & (1u << engine))) return CX_RAS_HANG_STATE_STATE_UNUSED;
  if (!(unfinished & (1u << engine))) return CX_RAS_HANG_STATE_STATE_FINISHED;
  return hung & (1u << engine) ? CX_RAS_HANG_STATE_STATE_HUNG : CX_RAS_HANG_STATE_STATE_BUSY;
}

uint32_t hang_report(const struct hang_stream *streams, uint32_t used, uint32_t unfinished) {
  uint32_t hung = 0;
  for (uint32_t engine = 0; engine < ENGINES; ++engine) {
    if ((unfinished & (1u << engine)) && !waits(engine) && !moved(engine)) hung |= 1u << engine;
  }
  if (mmio_read(RAS(PENDING)) & CX_RAS_PENDING_HANG_MASK) return hung;
  for (uint32_t engine = 0; engine < ENGINES; ++engine) {
    mmio_write(RAS_HANG(PC, engine), mmio_read(ENGINE(PC, engine)));
    mmio_write(RAS_HANG(SEM, engine), 0);
    mmio_write(RAS_HANG(POSTER_PC, engine), 0);
    if ((unfinished & (1u << engine)) && waits(engine)) {
      report_wait(engine, streams, unfinished);
    } else {
      mmio_write(RAS_HANG(STATE, engine), (state_of(engine, used, unfinished, hung) << CX_RAS_HANG_STATE_STATE_SHIFT) |
                                              (NO_POSTER << CX_RAS_HANG_STATE_POSTER_SHIFT));
    }
  }
  return hung;
}
