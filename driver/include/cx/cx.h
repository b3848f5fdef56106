/* C API of libcx: open a card, load a compiled program or a model, run it.
 *
 * Handles are opaque. Structs that the caller provides begin with struct_size, set by the caller to sizeof(the struct):
 * a later library fills only what an older caller knows of. No function lets a C++ exception pass. All functions may be
 * called from several threads; calls are served one at a time. Strings that are returned live as long as their handle.
 * A function that makes a handle stores NULL in its place when it fails. docs/c-api.md says what may change between
 * versions.
 */
#ifndef CX_CX_H
#define CX_CX_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grows when functions, members at the end of structs or enumerators are added. Programs that were built with an older
 * one go on. */
#define CX_API_VERSION 1u
/* Of libcx.so.N: changes when a program has to be built again. */
#define CX_ABI_VERSION 1u

typedef enum cx_result {
  CX_SUCCESS = 0,
  CX_ERROR_INPUT = 1,         /* a file, configuration, shape or type is wrong */
  CX_ERROR_USAGE = 2,         /* a null handle, a wrong struct_size, a call against the rules */
  CX_ERROR_OUT_OF_MEMORY = 3, /* device or host memory */
  CX_ERROR_UNSUPPORTED = 4,
  CX_ERROR_DEVICE_FAULT = 5, /* details: cx_last_fault() */
  CX_ERROR_TIMEOUT = 6,      /* no answer within the limit of simulated time */
  CX_ERROR_BUSY = 7,         /* the handle is still used by another one */
  CX_ERROR_INTERNAL = 8,
  CX_ERROR_DEVICE_LOST = 9 /* the card's process is gone; close the device and what belongs to it */
} cx_result;

/* "CX_SUCCESS", ...; never NULL. */
const char *cx_result_string(cx_result result);

/* CX_API_VERSION of the library. */
uint32_t cx_api_version(void);

/* Text of the last error of the calling thread; empty after a success. Never NULL; valid until the thread's next call.
 */
const char *cx_last_error(void);

typedef struct cx_fault_info {
  size_t struct_size;
  uint32_t status;  /* status code of docs/reference/packets.md; 0: the thread's last error was no device fault */
  int32_t queue;    /* -1 none */
  int32_t engine;   /* isa engine number, -1 none */
  uint64_t packet;  /* index of the packet in its queue */
  uint64_t pc;      /* index of the instruction in its stream */
  uint64_t address; /* offending address */
} cx_fault_info;

/* The fault behind the calling thread's last error. */
cx_result cx_last_fault(cx_fault_info *fault);

/* ---- devices ---- */

typedef struct cx_device cx_device;

typedef struct cx_device_info {
  size_t struct_size;
  uint64_t arch_hash;
  uint32_t vendor_id, device_id;
  uint32_t firmware_version;
  uint32_t clock_khz;
  uint32_t tiles, tile_rows, tile_cols;
  uint32_t vpu_lanes;
  uint64_t spm_bytes;
  uint64_t dram_bytes;
  uint64_t dram_used_bytes, dram_peak_bytes;            /* allocated */
  uint64_t time_cycles;                                 /* device time, core cycles */
  uint32_t link_generation, link_width;                 /* 0: no PCI Express capability */
  uint32_t link_payload_bytes, link_read_request_bytes; /* as programmed */
  uint32_t link_relaxed_ordering, link_extended_tags;   /* 1: on */
} cx_device_info;

typedef enum cx_switch { CX_SWITCH_DEFAULT = 0, CX_SWITCH_ON = 1, CX_SWITCH_OFF = 2 } cx_switch;

/* What is 0 stays as the platform has left it. */
typedef struct cx_device_options {
  size_t struct_size;
  const char *const *sets; /* "key=value" overrides */
  size_t set_count;
  uint32_t link_payload_bytes;      /* largest payload: power of two from 128 to what the card supports */
  uint32_t link_read_request_bytes; /* largest read request: power of two from 128 to 4096 */
  uint32_t link_relaxed_ordering;   /* cx_switch */
  uint32_t link_extended_tags;      /* cx_switch; off: at most 32 reads under way */
  uint64_t staging_bytes;           /* host memory that copies of pageable memory go through; 0: 2 MiB */
  /* Called by cx_device_close() that finds what was made of the device not freed, with the text of
   * cx_device_memory_report(); it must call nothing of this library. */
  void (*on_leak)(const char *report, void *context);
  void *leak_context;
} cx_device_options;

/* A card in this process. yaml: its configuration, a file or the name of one that ships ("tiny"); sets: "key=value"
 * overrides, may be NULL when set_count is 0. */
cx_result cx_device_open(const char *yaml, const char *const *sets, size_t set_count, cx_device **device);
/* address: "inproc:FILE.yaml", or "vfio-user:SOCKET" of a card that another process serves (cx device), which takes no
 * overrides. */
cx_result cx_device_connect(const char *address, const char *const *sets, size_t set_count, cx_device **device);
/* The card that cx_device_open() or, of an address "inproc:..." or "vfio-user:...", cx_device_connect() opens. options
 * may be NULL. */
cx_result cx_device_open_with(const char *where, const cx_device_options *options, cx_device **device);
/* CX_ERROR_BUSY while anything that was made of it exists; cx_last_error() then says what holds memory. NULL is
 * allowed.
 */
cx_result cx_device_close(cx_device *device);
/* What the card is, and what it holds at this moment. */
cx_result cx_device_get_info(cx_device *device, cx_device_info *info);

/* How many objects of the device exist, and what holds device memory and pinned host memory, by name: text of several
 * lines. The caller frees it with cx_free(). */
cx_result cx_device_memory_report(cx_device *device, char **report);

/* ---- pinned host memory: the device reaches it where it lies ---- */

typedef struct cx_host_memory cx_host_memory;

typedef struct cx_host_memory_info {
  size_t struct_size;
  void *data;
  uint64_t bytes;
  int32_t registered; /* 1: the caller's memory, 0: the library's */
} cx_host_memory_info;

/* Zeroed memory at a page border. name: for reports, may be NULL. Counts as a user of the device for cx_device_close().
 */
cx_result cx_host_memory_create(cx_device *device, uint64_t bytes, const char *name, cx_host_memory **memory);
/* Pins memory that exists, which stays the caller's. device_writes 0: the device only reads it. CX_ERROR_USAGE: no
 * bytes, or bytes that are pinned already. Counts as a user of the device for cx_device_close(). */
cx_result cx_host_memory_register(cx_device *device, void *data, uint64_t bytes, int device_writes, const char *name,
                                  cx_host_memory **memory);
/* Where it lies. */
cx_result cx_host_memory_get_info(const cx_host_memory *memory, cx_host_memory_info *info);
/* Gives it back, or ends the registration. CX_ERROR_BUSY while work that was given to the device uses it. NULL is
 * allowed. */
cx_result cx_host_memory_free(cx_host_memory *memory);

/* ---- events and recovery (docs/faults.md) ---- */

typedef enum cx_event_kind {
  CX_EVENT_IOMMU = 0,
  CX_EVENT_PACKET = 1,
  CX_EVENT_INSTRUCTION = 2,
  CX_EVENT_PROGRAM = 3,
  CX_EVENT_ECC_CORRECTED = 4,
  CX_EVENT_ECC_UNCORRECTED = 5,
  CX_EVENT_HANG = 6,
  CX_EVENT_FIRMWARE_CRASH = 7,
  CX_EVENT_LINK_DOWN = 8,
  CX_EVENT_THERMAL = 9,
  CX_EVENT_ENGINE = 10
} cx_event_kind;

typedef struct cx_event {
  size_t struct_size;
  uint32_t kind;        /* cx_event_kind */
  uint32_t status;      /* status code of docs/reference/packets.md; 0: a corrected error */
  int32_t queue;        /* -1 none */
  int32_t engine;       /* isa engine number, -1 none */
  uint64_t order;       /* place among the events that the card has captured since power-on, from 1 */
  uint64_t count;       /* events of this kind that this one stands for */
  uint64_t time_cycles; /* device time */
  uint64_t packet;      /* index of the packet in its queue */
  uint64_t pc;          /* instruction in its stream; firmware crash: the control processor's program counter */
  uint64_t address;     /* offending address; firmware crash: the trap's value */
  uint32_t channel;     /* ECC: DRAM channel */
  uint32_t syndrome;    /* ECC */
  int32_t bit;          /* ECC: bit of the code word that was corrected, -1 none */
  uint32_t celsius;     /* thermal trip */
  uint32_t cause;       /* firmware crash: cause of the trap */
} cx_event;

typedef enum cx_recovery_level {
  CX_RECOVERY_NONE = 0, /* there was nothing to recover from */
  CX_RECOVERY_QUEUE_RESET = 1,
  CX_RECOVERY_ENGINE_RESET = 2,
  CX_RECOVERY_FUNCTION_RESET = 3
} cx_recovery_level;

/* The oldest event that was not taken: *found 1, or 0 and event is left alone. Lets no simulated time pass. */
cx_result cx_device_next_event(cx_device *device, cx_event *event, int *found);
/* An eventfd that is readable while there are such events; the device owns it. -1 for NULL. Events arrive while other
 * calls let simulated time pass. */
int cx_device_event_fd(cx_device *device);
/* Sum of 1 << cx_event_kind: kinds that do not interrupt the host; the card captures them all the same. */
cx_result cx_device_set_event_mask(cx_device *device, uint32_t mask);
/* Resets queues, engines or the function, in this order, until the card works. Device memory keeps its contents and
 * executables go on. level may be NULL. */
cx_result cx_device_recover(cx_device *device, cx_recovery_level *level);
/* Ends a thermal trip, so that launches work again. */
cx_result cx_device_end_thermal_trip(cx_device *device);
/* Provokes a fault, "KIND" or "KIND@key=value,..." (cx fault list), which strikes as simulated time goes on. */
cx_result cx_device_inject_fault(cx_device *device, const char *fault);

/* ---- programs ---- */

typedef struct cx_program cx_program;

typedef enum cx_direction { CX_INPUT = 0, CX_OUTPUT = 1 } cx_direction;

typedef struct cx_program_info {
  size_t struct_size;
  const char *name;
  const char *precision; /* "fp32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2" or "int8" */
  uint64_t arch_hash;
  uint64_t image_bytes;
  uint64_t workspace_bytes;
  uint64_t macs;
  uint32_t inputs, outputs;
} cx_program_info;

typedef struct cx_binding_info {
  size_t struct_size;
  const char *name;
  const char *type; /* "float32", ... as NumPy names it */
  const int64_t *shape;
  size_t rank;
  uint64_t bytes;
} cx_binding_info;

/* Reads a program file (.cxb, made by cx convert) and checks all of it. Any device may be open, or none. */
cx_result cx_program_load(const char *path, cx_program **program);
/* Executables made from it go on. NULL is allowed. */
cx_result cx_program_free(cx_program *program);
/* Name, precision and sizes. */
cx_result cx_program_get_info(const cx_program *program, cx_program_info *info);
/* Inputs and outputs in the program's order; index counts from 0, CX_ERROR_USAGE above the last. */
cx_result cx_program_get_binding(const cx_program *program, cx_direction direction, uint32_t index,
                                 cx_binding_info *info);

/* ---- execution ---- */

typedef struct cx_executable cx_executable;

typedef struct cx_tensor {
  size_t struct_size;
  const char *name;
  const char *type;
  const int64_t *shape;
  size_t rank;
  void *data; /* row-major; inputs are only read */
  uint64_t bytes;
} cx_tensor;

typedef struct cx_run_info {
  size_t struct_size;
  double latency_us; /* simulated: first input copy to last output copy */
  double launch_us;  /* simulated: the launch alone */
  uint64_t cycles;
  uint64_t launch_cycles;
  uint64_t macs;
  uint64_t packets;
  uint64_t interrupts;
  uint64_t firmware_instructions;
  double wall_s;
  double energy_uj; /* simulated; least and most: the ends of the range of the energy table's figures */
  double energy_least_uj;
  double energy_most_uj;
  double average_w;     /* energy over the time that it was measured for, which holds the latency */
  uint64_t timing_only; /* 1: the engines computed nothing, see cx_session_options */
} cx_run_info;

/* ---- tensors that stay on the device ---- */

typedef struct cx_device_tensor cx_device_tensor;

/* Row-major elements, contents undefined. Counts as a user of the device for cx_device_close(). */
cx_result cx_device_tensor_create(cx_device *device, const char *type, const int64_t *shape, size_t rank,
                                  cx_device_tensor **tensor);
/* Executables that it is bound to keep its memory. NULL is allowed. */
cx_result cx_device_tensor_free(cx_device_tensor *tensor);
/* Copies the whole tensor to the device; bytes is its size. */
cx_result cx_device_tensor_write(cx_device_tensor *tensor, const void *data, uint64_t bytes);
/* Copies the whole tensor from the device; bytes is its size. */
cx_result cx_device_tensor_read(const cx_device_tensor *tensor, void *data, uint64_t bytes);

typedef enum cx_copy_path {
  CX_COPY_DEVICE = 0, /* inside one device */
  CX_COPY_DIRECT = 1, /* from card to card */
  CX_COPY_STAGED = 2  /* through host memory */
} cx_copy_path;

typedef struct cx_copy_info {
  size_t struct_size;
  uint32_t path;      /* cx_copy_path */
  double duration_us; /* simulated, both links included */
} cx_copy_info;

/* Copies a tensor to another of the same type and size, of this device or another, and waits. info may be NULL. */
cx_result cx_device_tensor_copy(const cx_device_tensor *to, const cx_device_tensor *from, cx_copy_info *info);

/* ---- pools: device memory of tensors that come and go ---- */

typedef struct cx_device_pool cx_device_pool;

typedef struct cx_device_pool_info {
  size_t struct_size;
  uint64_t used_bytes;     /* in blocks of tensors */
  uint64_t reserved_bytes; /* that the pool holds of the device */
  uint64_t peak_used_bytes, peak_reserved_bytes;
  uint64_t asked_bytes; /* sizes of the tensors in used_bytes */
  uint64_t allocations; /* ever */
  uint64_t reused;      /* of these, blocks that the pool had */
  uint64_t free_blocks;
  double fragmentation; /* share of reserved_bytes that is in no use */
} cx_device_pool_info;

/* name: for reports, may be NULL. Counts as a user of the device for cx_device_close(). */
cx_result cx_device_pool_create(cx_device *device, const char *name, cx_device_pool **pool);
/* Its tensors go on. NULL is allowed. */
cx_result cx_device_pool_free(cx_device_pool *pool);
/* What it holds at this moment. */
cx_result cx_device_pool_get_info(const cx_device_pool *pool, cx_device_pool_info *info);
/* Gives free blocks back to the device until at most keep_bytes are reserved; given_bytes may be NULL. */
cx_result cx_device_pool_trim(cx_device_pool *pool, uint64_t keep_bytes, uint64_t *given_bytes);

/* Uploads the program, with memory for its bindings and its workspace. CX_ERROR_INPUT when it is for another
 * architecture. Counts as a user of the device for cx_device_close(). */
cx_result cx_executable_create(cx_device *device, const cx_program *program, cx_executable **executable);
/* NULL is allowed. */
cx_result cx_executable_free(cx_executable *executable);
/* From the next run on, the input is read from or the output written to the tensor, which stays on the device; NULL
 * ends that. One tensor bound as output of one run and input of the next hands a result on. An output that updates an
 * input in place lies where the input lies: bind the input. */
cx_result cx_executable_bind(cx_executable *executable, cx_direction direction, const char *name,
                             const cx_device_tensor *tensor);
/* Inputs: all of the program's that are not bound, matched by name. Outputs: the caller names those that it wants,
 * bound or not, and gives memory of the binding's size; type and shape may be NULL. info may be NULL. */
cx_result cx_executable_run(cx_executable *executable, const cx_tensor *inputs, size_t input_count,
                            const cx_tensor *outputs, size_t output_count, cx_run_info *info);
/* The last run's report as JSON. The caller frees it with cx_free(). */
cx_result cx_executable_report_json(cx_executable *executable, char **json);

/* ---- streams: work in order, several at once (docs/driver.md) ----
 *
 * Calls that wait let calls of other threads in between. What work names (tensors, executables and their bindings,
 * host memory) must stay until it has ended; timelines, markers and command buffers may be freed before. */

typedef struct cx_stream cx_stream;
/* A 64-bit value in host memory that only grows. */
typedef struct cx_timeline cx_timeline;
/* A place in a stream's work. */
typedef struct cx_marker cx_marker;
/* Work that is recorded once and run again and again without cost for encoding it. */
typedef struct cx_command_buffer cx_command_buffer;

/* priority: 0, served first, to 3. Streams of one priority share the device's queues when there are more of them.
 * Counts as a user of the device for cx_device_close(). */
cx_result cx_stream_create(cx_device *device, uint32_t priority, cx_stream **stream);
/* Work that is pending goes on. NULL is allowed. */
cx_result cx_stream_free(cx_stream *stream);
/* Launches an executable all of whose inputs and outputs are bound to device tensors. The call does not wait. */
cx_result cx_stream_launch(cx_stream *stream, cx_executable *executable);
/* Copies a tensor to another of the same type and size. */
cx_result cx_stream_copy(cx_stream *stream, const cx_device_tensor *to, const cx_device_tensor *from);
/* Copies a tensor of the stream's device to another of the same type and size, of this device or another. */
cx_result cx_stream_copy_peer(cx_stream *stream, const cx_device_tensor *to, const cx_device_tensor *from);
/* Copies bytes, the tensor's size, from data, which stays unchanged until the copy has ended. Pinned memory goes by
 * DMA where it lies; other memory goes piece by piece while calls let time pass, and what follows waits for that. The
 * call does not wait. CX_ERROR_INPUT for another size. */
cx_result cx_stream_upload(cx_stream *stream, const cx_device_tensor *to, const void *data, uint64_t bytes);
/* The same to data, which holds the tensor when the copy has ended. */
cx_result cx_stream_download(cx_stream *stream, const cx_device_tensor *from, void *data, uint64_t bytes);
/* As cx_device_tensor_create(), of a pool; free it by any means. stream: whose work uses the tensor first, may be
 * NULL; such a tensor may lie where one lay that was freed in this stream and is still in use before. */
cx_result cx_stream_create_tensor(cx_stream *stream, cx_device_pool *pool, const char *type, const int64_t *shape,
                                  size_t rank, cx_device_tensor **tensor);
/* Frees a tensor of a pool (else CX_ERROR_USAGE) in the stream's order: its block is reused when all before has ended,
 * for tensors of the same stream at once. NULL is allowed. */
cx_result cx_stream_free_tensor(cx_stream *stream, cx_device_tensor *tensor);
/* Fills a tensor, whose bytes are a multiple of 4, with a 32-bit pattern. */
cx_result cx_stream_fill(cx_stream *stream, const cx_device_tensor *tensor, uint32_t pattern);
/* Runs a finished command buffer. */
cx_result cx_stream_execute(cx_stream *stream, const cx_command_buffer *commands);
/* Raises the timeline to at least this value when all before it has ended. */
cx_result cx_stream_signal(cx_stream *stream, const cx_timeline *timeline, uint64_t value);
/* What follows waits until the timeline has this value. */
cx_result cx_stream_wait(cx_stream *stream, const cx_timeline *timeline, uint64_t value);
/* The marker is this place from now on. */
cx_result cx_stream_record(cx_stream *stream, cx_marker *marker);
/* What follows waits for the place at which the marker was recorded last; not at all if it never was. */
cx_result cx_stream_wait_marker(cx_stream *stream, const cx_marker *marker);
/* The host calls function(context) when all before it has ended; what follows waits for its return. It runs inside of
 * some call of this library, on that call's thread, and must call none. */
cx_result cx_stream_call(cx_stream *stream, void (*function)(void *context), void *context);
/* *done 1 when all work has ended. Lets no simulated time pass. */
cx_result cx_stream_query(cx_stream *stream, int *done);
/* Waits for all work, at most limit_us of simulated time (0: the device's limit). When work has failed this and every
 * later call of the stream returns that error; other streams go on. */
cx_result cx_stream_synchronize(cx_stream *stream, uint64_t limit_us);
/* The stream takes work again. */
cx_result cx_stream_clear_error(cx_stream *stream);

/* Counts as a user of the device for cx_device_close(). */
cx_result cx_timeline_create(cx_device *device, uint64_t value, cx_timeline **timeline);
/* NULL is allowed. */
cx_result cx_timeline_free(cx_timeline *timeline);
/* Lets no simulated time pass. */
cx_result cx_timeline_get_value(const cx_timeline *timeline, uint64_t *value);
/* The host raises it to at least this value. */
cx_result cx_timeline_signal(cx_timeline *timeline, uint64_t value);
/* Waits for the value, at most limit_us of simulated time (0: the device's limit), then CX_ERROR_TIMEOUT. While the
 * device is idle and nobody has submitted a signal of the value, other threads have patience_ms of real time for that.
 */
cx_result cx_timeline_wait(const cx_timeline *timeline, uint64_t value, uint64_t limit_us, uint32_t patience_ms);

/* Counts as a user of the device for cx_device_close(). */
cx_result cx_marker_create(cx_device *device, cx_marker **marker);
/* NULL is allowed. */
cx_result cx_marker_free(cx_marker *marker);
/* *done 1 when the work before it has ended, or it was never recorded. Lets no simulated time pass. */
cx_result cx_marker_query(const cx_marker *marker, int *done);
/* Device time from one to the other, both recorded and done (else CX_ERROR_USAGE), in microseconds. */
cx_result cx_marker_elapsed_us(const cx_marker *from, const cx_marker *to, double *elapsed_us);

/* Counts as a user of the device for cx_device_close(). */
cx_result cx_command_buffer_create(cx_device *device, cx_command_buffer **commands);
/* Runs that are pending go on. NULL is allowed. */
cx_result cx_command_buffer_free(cx_command_buffer *commands);
/* Records what the functions of cx_stream do; CX_ERROR_USAGE once it is finished. */
cx_result cx_command_buffer_launch(cx_command_buffer *commands, cx_executable *executable);
/* Records a copy, as cx_stream_copy(). */
cx_result cx_command_buffer_copy(cx_command_buffer *commands, const cx_device_tensor *to, const cx_device_tensor *from);
/* Records a fill, as cx_stream_fill(). */
cx_result cx_command_buffer_fill(cx_command_buffer *commands, const cx_device_tensor *tensor, uint32_t pattern);
/* Records an upload, as cx_stream_upload(), from pinned memory (else CX_ERROR_USAGE). */
cx_result cx_command_buffer_upload(cx_command_buffer *commands, const cx_device_tensor *to, const void *data,
                                   uint64_t bytes);
/* Records a download, as cx_stream_download(), to pinned memory (else CX_ERROR_USAGE). */
cx_result cx_command_buffer_download(cx_command_buffer *commands, const cx_device_tensor *from, void *data,
                                     uint64_t bytes);
/* Records a signal, as cx_stream_signal(). A value that a run has signalled does nothing in the next one: see
 * cx_command_buffer_set_value(). */
cx_result cx_command_buffer_signal(cx_command_buffer *commands, const cx_timeline *timeline, uint64_t value);
/* Records a wait, as cx_stream_wait(). */
cx_result cx_command_buffer_wait(cx_command_buffer *commands, const cx_timeline *timeline, uint64_t value);
/* Records that the device's time in core cycles is written to *cycles, 8-byte aligned in pinned memory (else
 * CX_ERROR_USAGE). */
cx_result cx_command_buffer_timestamp(cx_command_buffer *commands, uint64_t *cycles);
/* How many commands are recorded: the number, from 0, of the one that is recorded next. */
cx_result cx_command_buffer_get_count(const cx_command_buffer *commands, uint32_t *count);
/* Changes the value of a signal or wait of a finished command buffer. CX_ERROR_USAGE for another command, or while a
 * run has not ended. */
cx_result cx_command_buffer_set_value(cx_command_buffer *commands, uint32_t number, uint64_t value);
/* Changes a recorded cx_command_buffer_copy() to these tensors, which have the same type and size as each other and
 * the size of those before. CX_ERROR_USAGE as of cx_command_buffer_set_value(). */
cx_result cx_command_buffer_set_copy(cx_command_buffer *commands, uint32_t number, const cx_device_tensor *to,
                                     const cx_device_tensor *from);
/* Ends the recording; it can be run from now on. */
cx_result cx_command_buffer_finish(cx_command_buffer *commands);

/* ---- sessions: ONNX models, compiled for the shapes of a run when they are new ---- */

typedef struct cx_session cx_session;

/* The largest magnitude of a tensor that a product multiplies, of an 8-bit precision. */
typedef struct cx_range {
  const char *tensor;
  float magnitude; /* finite, not negative */
} cx_range;

typedef struct cx_session_options {
  size_t struct_size;
  const char *precision;  /* "fp32", "tf32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2" or "int8"; NULL: "fp32" */
  const cx_range *ranges; /* of an 8-bit precision */
  size_t range_count;
  uint32_t max_programs; /* kept on the device, the one unused for longest makes room; 0: 32 */
  /* 1: runs take their time but compute nothing, results are undefined. A run whose time depends on data is in full;
   * its report says so, and cx_run_info. */
  uint64_t timing_only;
} cx_session_options;

typedef struct cx_session_info {
  size_t struct_size;
  const char *precision;
  uint32_t inputs, outputs;
  uint64_t runs, compilations;
  uint64_t cache_hits; /* runs that found their program */
  uint64_t evictions;
  uint64_t constant_bytes; /* of all programs, on the device, each content once */
  double compile_s;        /* time of this computer for all compilations */
} cx_session_info;

typedef struct cx_value_info {
  size_t struct_size;
  const char *name;
  const char *type;           /* "float32", ... as NumPy names it */
  int32_t has_shape;          /* 0: the model states no shape, rank is 0 */
  int32_t optional;           /* not 0: may be left out */
  const int64_t *shape;       /* -1: open, known with a run */
  const char *const *symbols; /* one for each dimension; "" for a fixed one or an open one without a name */
  size_t rank;
} cx_value_info;

/* Reads the model; compiling waits for the first run. options may be NULL. Counts as a user of the device for
 * cx_device_close(). */
cx_result cx_session_create(cx_device *device, const char *onnx_path, const cx_session_options *options,
                            cx_session **session);
/* NULL is allowed. */
cx_result cx_session_free(cx_session *session);
/* What the session is, and how often it compiled and ran. */
cx_result cx_session_get_info(const cx_session *session, cx_session_info *info);
/* Inputs and outputs in the model's order; index counts from 0. */
cx_result cx_session_get_value(const cx_session *session, cx_direction direction, uint32_t index, cx_value_info *info);
/* As cx_executable_bind(). The tensor's shape counts like that of an input of the run. */
cx_result cx_session_bind(cx_session *session, cx_direction direction, const char *name,
                          const cx_device_tensor *tensor);

/* The outputs of one run, in memory of the library. */
typedef struct cx_results cx_results;

/* Inputs: all of the model's that are not bound and not optional, matched by name, of any shape that the model allows.
 * Outputs: the named ones in this order; with outputs NULL all that are not bound. The caller frees *results, which
 * needs neither session nor device any more. results and info may be NULL. */
cx_result cx_session_run(cx_session *session, const cx_tensor *inputs, size_t input_count, const char *const *outputs,
                         size_t output_count, cx_results **results, cx_run_info *info);
/* The last run's report as JSON. The caller frees it with cx_free(). */
cx_result cx_session_report_json(cx_session *session, char **json);

/* How many outputs there are. */
cx_result cx_results_get_count(const cx_results *results, size_t *count);
/* Fills all members of the tensor, whose struct_size is set; what it points to lives as long as the results. */
cx_result cx_results_get_tensor(const cx_results *results, size_t index, cx_tensor *tensor);
/* NULL is allowed. */
cx_result cx_results_free(cx_results *results);

/* Frees what a function of this header says is to be freed so. NULL is allowed. */
void cx_free(void *memory);

#ifdef __cplusplus
}
#endif
#endif
