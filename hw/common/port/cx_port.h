/* The slot that a virtual card sits in: everything that crosses the PCIe connector, and nothing else.
 *
 * The driver's in-process transport calls these functions; hw/chip implements them. All calls come from one thread.
 * Simulated time advances only inside cx_port_advance() and inside accesses that take time (reads by the host).
 */
#ifndef CX_PORT_H
#define CX_PORT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cx_port cx_port;
struct cx_trace_record;

enum {
  CX_PORT_OK = 0,
  CX_PORT_BAD_CONFIG = -1, /* the message of cx_port_error() names file, line, column, key and expectation */
  CX_PORT_BAD_ACCESS = -2, /* unmapped register, wrong size or alignment, access outside a BAR */
  CX_PORT_BAD_ARGUMENT = -3,
  CX_PORT_INTERNAL = -4,
  CX_PORT_OVERLAP = -5
};

enum { CX_PORT_CONFIG_SPACE = -1 }; /* as `bar`: the 4 KiB configuration space */

/* Why cx_port_advance() returned. */
enum {
  CX_PORT_ADVANCED_INTERRUPT = 0, /* at least one MSI-X message is waiting in cx_port_take_interrupt() */
  CX_PORT_ADVANCED_LIMIT = 1,     /* the time limit was reached */
  CX_PORT_ADVANCED_IDLE = 2       /* nothing is scheduled: the device will stay as it is until the host acts */
};

/* Creates a card from a YAML file. sets: "key=value" overrides in order. A process may have several cards, of any
 * configurations; simulated time is one for all that are open: while it passes for one it passes for the others.
 * Threads take turns; one card's calls come from one thread at a time. A closed card is reset and reused by a later
 * opening with an equal resolved configuration. NULL on failure: see cx_port_error(NULL). */
cx_port *cx_port_open(const char *yaml_path, const char *const *sets, size_t set_count);
void cx_port_close(cx_port *port);

/* Text of the last error of this port (or of the last failed cx_port_open with NULL). Never NULL. */
const char *cx_port_error(const cx_port *port);

/* The cards that this process opens from now on keep device memory in a file that other processes may map
 * (cx_port_region_file), at the cost of the pages that the host gives such files. */
void cx_port_share_memory(void);

/* Accesses by the host's CPU. bar 0, 2, 4 or CX_PORT_CONFIG_SPACE; size 1, 2, 4, 8 for registers, any size for
 * BAR2 (firmware memory) and BAR4 (device memory).
 * Registers of BAR0 take aligned 4-byte accesses only. Writes are posted. */
int cx_port_read(cx_port *port, int bar, uint64_t offset, void *data, size_t size);
int cx_port_write(cx_port *port, int bar, uint64_t offset, const void *data, size_t size);

/* What the device may do with a mapping; a sum. */
enum { CX_PORT_DMA_READ = 1, CX_PORT_DMA_WRITE = 2 };

/* Host memory that the device may reach by DMA: [iova, iova + size) is backed by `memory`, which must stay valid
 * until it is unmapped. Overlaps are refused with CX_PORT_OVERLAP. */
int cx_port_dma_map(cx_port *port, uint64_t iova, size_t size, void *memory, int access);

/* The same for host memory without a pointer: the device's accesses are calls, made inside cx_port_advance() or an
 * access that takes time. They return 0, or another value to refuse, which the device takes for an IOMMU fault. */
typedef struct cx_port_window {
  void *context;
  int (*read)(void *context, uint64_t iova, void *to, size_t size);
  int (*write)(void *context, uint64_t iova, const void *from, size_t size);
} cx_port_window;
int cx_port_dma_map_window(cx_port *port, uint64_t iova, size_t size, const cx_port_window *window, int access);

/* Device memory of another open card of this process, from `offset` of its BAR4, as if it were host memory: transfers
 * take the time of both links and of its memory. Once that card is closed, resets, loses its link or switches memory
 * space off, it is an IOMMU fault. */
int cx_port_dma_map_peer(cx_port *port, uint64_t iova, size_t size, cx_port *peer, uint64_t offset, int access);

int cx_port_dma_unmap(cx_port *port, uint64_t iova, size_t size);

/* A card of another process writes (write != 0) or reads `bytes` of device memory from `offset` of BAR4, through a
 * mapping of its file: link and memory carry them now. Lets simulated time pass until they have; *duration_ps says how
 * much. */
int cx_port_peer_traffic(cx_port *port, uint64_t offset, uint64_t bytes, int write, uint64_t *duration_ps);

/* What a host's system software does to a function: function-level reset (mappings stay), and whether a vector may be
 * sent (MSI-X on, its table entry unmasked). No simulated time passes. */
int cx_port_function_reset(cx_port *port);
int cx_port_arm_vector(cx_port *port, uint32_t vector, int armed);

/* Bytes of a BAR, or of the configuration space; 0 if there is none. */
uint64_t cx_port_region_bytes(const cx_port *port, int bar);

/* A file that holds a BAR's first *bytes bytes (whole pages) and that another process may map: accesses to it take no
 * simulated time. Valid until cx_port_close(), which leaves it to who has mapped it. -1: the BAR has none. */
int cx_port_region_file(const cx_port *port, int bar, uint64_t *bytes);

/* Lets simulated time pass until an interrupt arrives, nothing is left to do, or limit_ps picoseconds have passed. */
int cx_port_advance(cx_port *port, uint64_t limit_ps);

/* Takes one MSI-X message that has arrived (oldest first): 1 and the vector, or 0. */
int cx_port_take_interrupt(cx_port *port, uint32_t *vector);

/* Whether the function has reported an uncorrectable error (ERR_FATAL), or its link went down, since the last call: 1
 * or 0. cx_port_advance() returns CX_PORT_ADVANCED_INTERRUPT once for it. */
int cx_port_take_error(cx_port *port);

/* Simulated time since power-on, in picoseconds. */
uint64_t cx_port_time_ps(const cx_port *port);

/* ---- services of the platform that are not the card: for tools ---- */

/* What a register of BAR0 holds, as a debugger sees it: no simulated time passes and the link does not know. Registers
 * that reading changes are changed. */
int cx_port_peek(cx_port *port, uint64_t offset, uint32_t *value);

/* Texts are allocated by malloc; the caller frees them. Return CX_PORT_OK or an error with *text set to its message. */
int cx_config_show(const char *yaml_path, const char *const *sets, size_t set_count, int json, char **text);
int cx_config_help(const char *key_or_null, char **text);

/* Arms a fault of the open card: KIND[@key=value,...]. It strikes in the course of simulated time. CX_PORT_BAD_ARGUMENT
 * for a text that describes none. The function behind the connector has no register for this. */
int cx_port_inject(cx_port *port, const char *fault);
/* faults.door of the card's configuration. */
int cx_port_fault_door(const cx_port *port);
/* Kinds of faults and their keys. */
int cx_fault_help(char **text);

enum { CX_PORT_DENSE_TILE = 0, CX_PORT_SPARSE_TILE = 1 }; /* of the DMMU, of the SCA */

/* The next cx_port_open() makes this tile RTL, if it is not; once for each that is wanted. */
void cx_port_want_rtl_tile(int kind, uint32_t tile);
/* Records what that tile does in an FST file, whose times are those of trace records: picoseconds since power-on.
 * `windows`: pairs of from and to in that time. *text: message of an error. */
int cx_port_record_tile(int kind, uint32_t tile, const uint64_t *windows, size_t window_count, const char *path,
                        char **text);
/* Ends the recordings of the open card and closes the files; returns the cycles that are in them (a tile is stepped
 * only while it has something to do). */
uint64_t cx_port_stop_recording(void);
/* The open card's time: picoseconds since power-on; 0 without one. */
uint64_t cx_port_time_now(void);

/* ---- the card's trace unit: records of hw/regs/gen/trace.h ---- */

typedef struct cx_port_trace_options {
  /* Gets the records of a card in pieces, in the order in which they became known, from the thread that drives the card
   * or calls cx_port_trace_flush(); one call at a time for a card. `card`: 0 is the first that was traced, each that
   * opens gets the next number. */
  void (*records)(void *context, uint32_t card, const struct cx_trace_record *records, size_t count);
  void *context;
  uint64_t kinds;     /* bit n: records of kind n; 0: all */
  uint64_t sample_ps; /* interval of samples of counters to begin with; 0: none */
  /* Entries of the firmware's functions, rising; NULL: functions are not told apart. Copied. */
  const uint32_t *functions;
  size_t function_count;
  int every_card; /* 0: one card at a time */
} cx_port_trace_options;

/* Records what the card that was opened last does from now on; of a card that closes, what the next one does that is
 * opened. With every_card all cards that are open and those that open; ids of records differ between cards. Times are
 * picoseconds since the first card's power-on: a card that opens when no other is open goes on where the last one
 * ended. Tracing changes neither results nor time. CX_PORT_BAD_ARGUMENT without a sink, or while tracing is on. */
int cx_port_trace_start(const cx_port_trace_options *options);
/* Gives the sink what there is, from any thread; without bursts of traffic that are not over. */
void cx_port_trace_flush(void);
/* Ends recording; the sink has all records then. CX_PORT_BAD_ARGUMENT when tracing is not on. */
int cx_port_trace_stop(void);
/* Name of a record's unit on a card that is traced ("channel 3", "r5 > spm"), for the sink; CX_PORT_BAD_ARGUMENT if it
 * has none. */
int cx_port_trace_unit(uint32_t card, uint32_t kind, uint32_t unit, char *text, size_t size);
/* The number of a card in the trace; of the one that was opened last: NULL. CX_PORT_NOT_TRACED if it is not traced. */
#define CX_PORT_NOT_TRACED UINT32_MAX
uint32_t cx_port_trace_card(const cx_port *port);
/* The card's time as its records have it; of a card that is not traced since its power-on. */
uint64_t cx_port_trace_time_ps(const cx_port *port);

/* Steps the Verilated tile of a configuration in a plain loop, without a chip around it: `blocks` times `folds` passes
 * of m rows, each with weights of its own, and a drain, in `format` (FP32, ...). JSON result: macs, cycles, wall_s. */
int cx_tile_alone(const char *yaml_path, const char *const *sets, size_t set_count, const char *format, uint32_t m,
                  uint32_t blocks, uint32_t folds, char **json_text);

/* Runs a bare-metal RV32 ELF on the control processor's core alone. JSON result: exit (tohost convention of
 * riscv-tests), instructions, cycles, reason. */
int cx_firmware_run_elf(const char *elf_path, uint64_t max_instructions, char **json_text);

#ifdef __cplusplus
}
#endif
#endif
