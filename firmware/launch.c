#include "firmware/launch.h"

#include <stddef.h>

#include "firmware/boot.h"
#include "firmware/crc32.h"
#include "firmware/hang.h"
#include "firmware/mmio.h"
#include "firmware/sdma.h"
#include "firmware/timer.h"
#include "firmware/turn.h"

#define ALL_STATUS (CX_ENGINE_STATUS_DONE_MASK | CX_ENGINE_STATUS_FAULT_MASK)

_Static_assert(CX_MAP_STORE_OFFSET == CX_MAP_LOAD_OFFSET + CX_MAP_PAGE_SIZE &&
                   CX_MAP_DMMU_OFFSET == CX_MAP_STORE_OFFSET + CX_MAP_PAGE_SIZE &&
                   CX_MAP_VPU_OFFSET == CX_MAP_DMMU_OFFSET + CX_MAP_PAGE_SIZE &&
                   CX_MAP_SCA_OFFSET == CX_MAP_VPU_OFFSET + CX_MAP_PAGE_SIZE,
               "ENGINE() assumes consecutive pages in the order of the isa numbers");

/* Engine numbers. */
#define DMMU ((CX_MAP_DMMU_OFFSET - CX_MAP_LOAD_OFFSET) / CX_MAP_PAGE_SIZE)
#define SCA ((CX_MAP_SCA_OFFSET - CX_MAP_LOAD_OFFSET) / CX_MAP_PAGE_SIZE)

/* The launch in progress, or the change of the array's split. */
static struct {
  struct queue *queue;
  struct slot *slot; /* NULL: none */
  uint32_t engines;  /* bit n: engine n has not finished */
  uint64_t deadline;
  bool reconfig;
  bool expired; /* the watchdog has looked once; what does not move until it looks again hangs */
} active;

static uint32_t split; /* slots of a shared array that are sparse tiles */
static uint32_t stuck; /* bit n: engine n is busy although it was reset */

static union {
  cx_program_header header;
  uint32_t word[sizeof(cx_program_header) / 4];
} __attribute__((aligned(8))) program;
static union {
  cx_stream_entry entry[CX_PROGRAM_STREAMS_MAX];
  uint32_t word[1];
} __attribute__((aligned(8))) streams;

static void reset_engines(uint32_t how) {
  stuck = 0;
  for (uint32_t engine = 0; engine < ENGINES; ++engine) {
    mmio_write(ENGINE(CTRL, engine), how);
    mmio_write(ENGINE(STATUS, engine), ALL_STATUS);
    if (mmio_read(ENGINE(STATUS, engine)) & CX_ENGINE_STATUS_BUSY_MASK) stuck |= 1u << engine;
  }
  mmio_write(RAS(STUCK), stuck);
}

void launch_reset_engines(void) { reset_engines(CX_ENGINE_CTRL_RESET_MASK); }

static bool in_dram(uint64_t address, uint64_t bytes) {
  const uint64_t offset = address - CX_MEM_DRAM_BASE;
  return offset < chip.dram_bytes && bytes <= chip.dram_bytes - offset;
}

static bool bad(struct slot *slot, uint32_t status, uint32_t detail, uint64_t address) {
  slot_finish(slot, status, detail, address);
  return false;
}

static bool bad_program(struct slot *slot, uint32_t offset) {
  return bad(slot, CX_STATUS_BAD_PROGRAM, offset, slot->packet->launch.program + offset);
}

static bool check_streams(struct slot *slot) {
  uint32_t engines = 0;
  for (uint32_t i = 0; i < program.header.streams; ++i) {
    const uint32_t at = program.header.stream_table + i * (uint32_t)sizeof(cx_stream_entry);
    if (streams.entry[i].engine >= ENGINES || (engines & (1u << streams.entry[i].engine))) {
      return bad_program(slot, at + offsetof(cx_stream_entry, engine));
    }
    engines |= 1u << streams.entry[i].engine;
    const uint64_t bytes = (uint64_t)streams.entry[i].count * CX_ISA_INSTRUCTION_BYTES;
    if (streams.entry[i].count == 0 || bytes > program.header.image_bytes) {
      return bad_program(slot, at + offsetof(cx_stream_entry, count));
    }
    if (streams.entry[i].offset % CX_ISA_INSTRUCTION_BYTES != 0 ||
        streams.entry[i].offset > program.header.image_bytes - bytes) {
      return bad_program(slot, at + offsetof(cx_stream_entry, offset));
    }
  }
  return true;
}

/* Reads header and stream table and checks them. False: the slot is finished with the reason. */
static bool load_program(struct slot *slot) {
  const packet_t *packet = slot->packet;
  if (!in_dram(packet->launch.program, packet->launch.program_bytes)) {
    return bad(slot, CX_STATUS_BAD_ADDRESS, offsetof(cx_packet_launch, program), packet->launch.program);
  }
  if (!in_dram(packet->launch.segments, packet->launch.segment_count * (uint64_t)sizeof(cx_segment))) {
    return bad(slot, CX_STATUS_BAD_ADDRESS, offsetof(cx_packet_launch, segments), packet->launch.segments);
  }
  struct sdma_result read = sdma_read_device(&program, packet->launch.program, sizeof program);
  if (read.status != CX_STATUS_OK) {
    return bad(slot, read.status, offsetof(cx_packet_launch, program), read.address);
  }
  if (program.header.magic != CX_PROGRAM_MAGIC) return bad_program(slot, offsetof(cx_program_header, magic));
  if (program.header.version != CX_PROGRAM_VERSION) return bad_program(slot, offsetof(cx_program_header, version));
  if (program.header.streams < CX_PROGRAM_STREAMS_MIN || program.header.streams > CX_PROGRAM_STREAMS_MAX) {
    return bad_program(slot, offsetof(cx_program_header, streams));
  }
  if (program.header.image_bytes < sizeof program || program.header.image_bytes > packet->launch.program_bytes) {
    return bad_program(slot, offsetof(cx_program_header, image_bytes));
  }
  const uint32_t table_bytes = program.header.streams * (uint32_t)sizeof(cx_stream_entry);
  if (program.header.stream_table < sizeof program || program.header.stream_table > program.header.image_bytes ||
      table_bytes > program.header.image_bytes - program.header.stream_table) {
    return bad_program(slot, offsetof(cx_program_header, stream_table));
  }
  read = sdma_read_device(&streams, packet->launch.program + program.header.stream_table, table_bytes);
  if (read.status != CX_STATUS_OK) {
    return bad(slot, read.status, offsetof(cx_packet_launch, program), read.address);
  }
  const uint32_t expected = program.header.crc;
  program.header.crc = 0;
  const uint32_t crc = crc32_update(crc32_update(CRC32_START, &program, sizeof program), &streams, table_bytes);
  if (~crc != expected) return bad_program(slot, offsetof(cx_program_header, crc));
  for (uint32_t i = offsetof(cx_program_header, reserved_40) / 4; i < sizeof program.word / 4; ++i) {
    if (program.word[i] != 0) return bad_program(slot, 4 * i);
  }
  if (!chip.shared_array && program.header.sca_tiles != 0) {
    return bad_program(slot, offsetof(cx_program_header, sca_tiles));
  }
  if (program.header.arch_hash != chip.arch_hash) {
    return bad(slot, CX_STATUS_WRONG_ARCH, offsetof(cx_program_header, arch_hash), packet->launch.program);
  }
  if (program.header.sca_tiles != split) {
    return bad(slot, CX_STATUS_WRONG_SPLIT, offsetof(cx_program_header, sca_tiles), split);
  }
  if (program.header.segment_count == 0 || program.header.segment_count > packet->launch.segment_count) {
    return bad(slot, CX_STATUS_BAD_FIELD, offsetof(cx_packet_launch, segment_count), packet->launch.segment_count);
  }
  return check_streams(slot);
}

/* True: an engine of these hangs, and the slot is finished with it. */
static bool finish_if_stuck(struct slot *slot, uint32_t engines) {
  const uint32_t hung = stuck & engines;
  if (hung == 0) return false;
  slot->fault_engine = (uint8_t)__builtin_ctz(hung);
  slot_finish(slot, CX_STATUS_ENGINE_HANG, 0, 0);
  return true;
}

void reconfig_set_split(uint32_t sca_tiles) {
  split = sca_tiles;
  mmio_write(ENGINE(TILES_OFF, DMMU), sca_tiles);
  mmio_write(ENGINE(TILES_OFF, SCA), chip.sparse_tiles - sca_tiles);
  mmio_write(DEV(ARRAY_SPLIT), sca_tiles);
}

static bool check_split(struct slot *slot, uint32_t sca_tiles) {
  if (!chip.shared_array) return bad(slot, CX_STATUS_UNSUPPORTED, 0, 0);
  if (sca_tiles <= chip.sparse_tiles) return true;
  return bad(slot, CX_STATUS_BAD_FIELD, offsetof(cx_packet_reconfig, sca_tiles), sca_tiles);
}

bool reconfig_start(struct queue *queue, struct slot *slot) {
  const uint32_t sca_tiles = slot->packet->reconfig.sca_tiles;
  if (!check_split(slot, sca_tiles)) return true;
  if (!turn_take(RESOURCE_ENGINES, queue, active.slot == NULL)) return false;
  if (finish_if_stuck(slot, 1u << DMMU | 1u << SCA)) return true;
  if (sca_tiles == split) {
    slot_finish(slot, CX_STATUS_OK, 0, 0);
    return true;
  }
  reconfig_set_split(sca_tiles);
  active.reconfig = true;
  active.engines = 0;
  active.deadline = timer_now() + mmio_read(DEV(ARRAY_SWITCH_CYCLES));
  active.queue = queue;
  active.slot = slot;
  slot->state = SLOT_RUNNING;
  return true;
}

static uint32_t engines_of_program(void) {
  uint32_t engines = 0;
  for (uint32_t i = 0; i < program.header.streams; ++i) engines |= 1u << streams.entry[i].engine;
  return engines;
}

bool launch_start(struct queue *queue, struct slot *slot) {
  if (!turn_take(RESOURCE_ENGINES, queue, active.slot == NULL)) return false;
  if (!load_program(slot) || finish_if_stuck(slot, engines_of_program())) return true;

  const packet_t *packet = slot->packet;
  mmio_write(ENGINE(CTRL, 0), CX_ENGINE_CTRL_SEM_CLEAR_MASK);
  active.engines = 0;
  active.expired = false;
  for (uint32_t i = 0; i < program.header.streams; ++i) {
    const uint32_t engine = streams.entry[i].engine;
    mmio_write64(ENGINE(STREAM_LO, engine), packet->launch.program + streams.entry[i].offset);
    mmio_write(ENGINE(STREAM_COUNT, engine), streams.entry[i].count);
    mmio_write64(ENGINE(SEGTAB_LO, engine), packet->launch.segments);
    mmio_write(ENGINE(SEGTAB_COUNT, engine), packet->launch.segment_count);
    active.engines |= 1u << engine;
  }
  const uint32_t timeout =
      packet->launch.timeout_kcycles ? packet->launch.timeout_kcycles : LAUNCH_DEFAULT_TIMEOUT_KCYCLES;
  active.deadline = timer_now() + ((uint64_t)timeout << 10);
  active.queue = queue;
  active.slot = slot;
  slot->state = SLOT_RUNNING;
  uint32_t start = CX_ENGINE_CTRL_START_MASK;
  if (packet->launch.timing_only) start |= CX_ENGINE_CTRL_TIMING_ONLY_MASK;
  for (uint32_t engine = 0; engine < ENGINES; ++engine) {
    if (active.engines & (1u << engine)) mmio_write(ENGINE(CTRL, engine), start);
  }
  return true;
}

static void end(uint32_t status, uint32_t detail, uint64_t address) {
  slot_finish(active.slot, status, detail, address);
  active.slot = NULL;
  active.engines = 0;
  active.reconfig = false;
  queue_wake_all();
}

static void end_by_engine(uint32_t engine, uint32_t status, uint32_t pc, uint64_t address) {
  launch_reset_engines();
  active.slot->fault_engine = (uint8_t)engine;
  active.slot->fault_pc = pc;
  end(status, pc, address);
}

/* The time of the launch is up. */
static void expire(void) {
  if (!active.expired) {
    hang_look(active.engines);
    active.expired = true;
    active.deadline += HANG_LOOK_CYCLES;
    return;
  }
  struct hang_stream list[ENGINES];
  uint32_t used = 0;
  for (uint32_t i = 0; i < ENGINES; ++i) list[i].count = 0;
  for (uint32_t i = 0; i < program.header.streams; ++i) {
    struct hang_stream *stream = &list[streams.entry[i].engine];
    stream->address = active.slot->packet->launch.program + streams.entry[i].offset;
    stream->count = streams.entry[i].count;
    used |= 1u << streams.entry[i].engine;
  }
  const uint32_t hung = hang_report(list, used, active.engines);
  const uint32_t engine = (uint32_t)__builtin_ctz(hung != 0 ? hung : active.engines);
  const uint32_t waits = mmio_read(ENGINE(WAIT_SEM, engine));
  end_by_engine(engine, hung != 0 ? CX_STATUS_ENGINE_HANG : CX_STATUS_TIMEOUT, mmio_read(ENGINE(PC, engine)), waits);
}

void launch_service(void) {
  if (active.slot == NULL) return;
  if (active.reconfig) {
    if (timer_now() >= active.deadline) end(CX_STATUS_OK, 0, 0);
    return;
  }
  for (uint32_t engine = 0; engine < ENGINES; ++engine) {
    if (!(active.engines & (1u << engine))) continue;
    const uint32_t status = mmio_read(ENGINE(STATUS, engine));
    if (status & CX_ENGINE_STATUS_FAULT_MASK) {
      end_by_engine(engine, mmio_read(ENGINE(FAULT_CODE, engine)), mmio_read(ENGINE(FAULT_PC, engine)),
                    mmio_read64(ENGINE(FAULT_ADDR_LO, engine)));
      return;
    }
    if (status & CX_ENGINE_STATUS_DONE_MASK) {
      mmio_write(ENGINE(STATUS, engine), CX_ENGINE_STATUS_DONE_MASK);
      active.engines &= ~(1u << engine);
    }
  }
  if (active.engines == 0) {
    end(CX_STATUS_OK, 0, 0);
  } else if (timer_now() >= active.deadline) {
    expire();
  }
}

uint64_t launch_deadline(void) { return active.slot != NULL ? active.deadline : TIMER_NEVER; }

void launch_reset(void) {
  reset_engines(CX_ENGINE_CTRL_RESET_MASK | CX_ENGINE_CTRL_HARD_RESET_MASK);
  if (active.slot != NULL) end(CX_STATUS_ABORTED, 0, 0);
}

void launch_abort(struct queue *queue) {
  if (active.slot == NULL || active.queue != queue) return;
  launch_reset_engines();
  end(CX_STATUS_ABORTED, 0, 0);
}
