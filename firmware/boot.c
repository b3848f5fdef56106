/* Start, handshake with the host, and the event loop. */
#include "firmware/boot.h"

#include "firmware/command.h"
#include "firmware/crc32.h"
#include "firmware/launch.h"
#include "firmware/mmio.h"
#include "firmware/packets.h"
#include "firmware/queue.h"
#include "firmware/sdma.h"
#include "firmware/timer.h"
#include "firmware/trace.h"

#define STACK_GUARD_WORD 0x57ac6a4du /* as crt0.S writes it */

extern const uint32_t __stack_guard[];
extern const uint32_t __stack_limit[];

struct chip chip;
uint32_t wake_lines;

static void report_state(uint32_t state) {
  mmio_write(DEV(FW_STATUS),
             (state << CX_DEV_FW_STATUS_STATE_SHIFT) | (CX_PACKET_PROTOCOL << CX_DEV_FW_STATUS_PROTOCOL_SHIFT));
}

static void boot(void) {
  report_state(CX_DEV_FW_STATUS_STATE_BOOTING);
  mmio_write(DEV(FW_VERSION), FIRMWARE_VERSION);
  mmio_write(DEV(FW_CAPS), SUPPORTED_PACKETS);
  mmio_write(DEV(PACKETS), 0);

  chip.queues = mmio_read(DEV(NUM_QUEUES));
  chip.arch_hash = mmio_read64(DEV(ARCH_HASH_LO));
  chip.dram_bytes = (uint64_t)mmio_read(DEV(DRAM_MIB)) << 20;
  chip.mac_tiles = mmio_read(DEV(TILE_COUNT));
  chip.sparse_tiles = mmio_read(DEV(SCA_TILES));
  const uint32_t array = mmio_read(DEV(ARRAY));
  chip.shared_array = (array & CX_DEV_ARRAY_SHARED_MASK) != 0;
  if (chip.queues == 0 || chip.queues > MAX_QUEUES) firmware_crash("number of queues", chip.queues);

  crc32_init();
  launch_reset_engines();
  if (chip.shared_array) {
    reconfig_set_split((array & CX_DEV_ARRAY_BOOT_SCA_TILES_MASK) >> CX_DEV_ARRAY_BOOT_SCA_TILES_SHIFT);
    mmio_write(DEV(FW_CAPS), SUPPORTED_PACKETS | 1u << CX_PKT_RECONFIG);
  }
  for (uint32_t n = 0; n < chip.queues; ++n) {
    queue_init(n);
  }
  mmio_write(QUEUE_DB_PENDING, mmio_read(QUEUE_DB_PENDING));

  csr_set(mie, CSR_MIE_MEIE | CSR_MIE_MTIE);
  sdma_init();
  wake_lines = FIRMWARE_INTERRUPTS;
  mmio_write(INTC(ENABLE), wake_lines);
  trace_text("firmware ready\n");
  report_state(CX_DEV_FW_STATUS_STATE_READY);
}

static void check_stack(void) {
  for (const uint32_t *word = __stack_guard; word < __stack_limit; ++word) {
    if (*word != STACK_GUARD_WORD) firmware_crash("stack overflow at", (uint32_t)word);
  }
}

static void serve_events(void) {
  const uint32_t pending = mmio_read(INTC(PENDING));
  if (pending & (1u << CX_IRQ_DOORBELL)) queue_doorbells();
  if ((pending & (1u << CX_IRQ_SDMA)) || sdma_unclaimed()) packets_transfers_done();
  const uint64_t now = timer_now();
  if ((pending & ENGINE_INTERRUPTS) || now >= launch_deadline()) launch_service();
  if (now >= queue_next_poll()) queue_wake_all();
  if ((pending & (1u << CX_IRQ_HOST)) || command_in_progress()) command_service();
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Called by crt0. */
_Noreturn void firmware_main(void);
_Noreturn void firmware_main(void) {
  boot();
  for (;;) {
    serve_events();
    if (queue_step() || sdma_unclaimed()) continue;
    if (command_in_progress()) command_service();
    check_stack();
    timer_arm(earlier(launch_deadline(), queue_next_poll()));
    wait_for_interrupt();
  }
}
