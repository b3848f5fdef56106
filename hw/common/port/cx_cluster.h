/* The sockets that the cards of a simulated cluster sit in: what a driver may ask of the network, and nothing else.
 *
 * driver/rdma and driver/collective call these functions; hw/cluster implements them. A handle is used by one thread at
 * a time; different handles may be used by different threads. Simulated time advances in cx_verbs_advance() and
 * cx_cluster_run().
 */
#ifndef CX_CLUSTER_H
#define CX_CLUSTER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cx_cluster cx_cluster;

enum {
  CX_CLUSTER_OK = 0,
  CX_CLUSTER_BAD_CONFIG = -1,   /* cx_cluster_error() names file, line, column, key and expectation */
  CX_CLUSTER_BAD_ARGUMENT = -2, /* cx_cluster_error() says which */
  CX_CLUSTER_UNREACHABLE = -3,  /* two ranks have no way to each other */
  CX_CLUSTER_INTERNAL = -4,
  CX_CLUSTER_QUEUE_FULL = -5,     /* a queue pair has as many requests as it holds */
  CX_CLUSTER_OVERRUN = -6,        /* a completion queue was full: completions are lost */
  CX_CLUSTER_TOO_MANY_RANGES = -7 /* a request of more than CX_VERBS_MAX_RANGES */
};

/* A cluster from a YAML file (docs/reference/cluster.md). sets: "key=value" overrides in order. NULL on failure: see
 * cx_cluster_error(NULL) of the same thread. */
cx_cluster *cx_cluster_open(const char *yaml_path, const char *const *sets, size_t set_count);
void cx_cluster_close(cx_cluster *cluster);
const char *cx_cluster_error(const cx_cluster *cluster);

/* Text of the resolved configuration as YAML, or about a key, a section, or all (NULL); for the caller to free(). */
int cx_cluster_show(const cx_cluster *cluster, char **text);
int cx_cluster_help(const char *key_or_null, char **text);

/* ---- shape ---- */

typedef struct cx_cluster_shape {
  const char *name; /* lives as long as the cluster, as does kind */
  const char *kind; /* topology.kind */
  uint32_t ranks, nodes, cards_per_node;
  uint32_t ports_per_node;     /* network ports */
  uint32_t dims[3], dim_count; /* torus and ring: lengths in network ports */
  uint32_t mtu;
  double reduce_bytes_per_s, command_s; /* REDUCE engine of a card */
  double message_s, completion_s;       /* of a message, at the sender and at the receiver */
  double watchdog_s;
  double detection_s; /* within which a peer that does not answer is reported: retries and their time */
} cx_cluster_shape;
void cx_cluster_get_shape(const cx_cluster *cluster, cx_cluster_shape *shape);

typedef struct cx_cluster_link {
  const char *name;           /* lives as long as the cluster */
  double bytes_per_s;         /* raw */
  double payload_bytes_per_s; /* at full packets */
  int is_pcie;
} cx_cluster_link;
size_t cx_cluster_link_count(const cx_cluster *cluster);
void cx_cluster_get_link(const cx_cluster *cluster, size_t link, cx_cluster_link *info);

/* Links of the way that channel `channel` of two ranks takes: at most `capacity`, *count as many as there are.
 * latency_s: time of a message of `bytes` on an idle network beyond bytes over the slowest link's payload rate. */
int cx_cluster_path(cx_cluster *cluster, uint32_t source, uint32_t target, uint32_t channel, uint64_t bytes,
                    uint32_t *links, size_t capacity, size_t *count, double *latency_s);

/* Ranks first .. first + count - 1 against all others; cuts of one level are disjoint and of equal size. */
typedef struct cx_cluster_cut {
  const char *level, *name; /* live as long as the cluster */
  uint32_t first, count;
  double out_bytes_per_s, in_bytes_per_s; /* payload that crosses at most */
} cx_cluster_cut;
size_t cx_cluster_cut_count(const cx_cluster *cluster);
void cx_cluster_get_cut(const cx_cluster *cluster, size_t cut, cx_cluster_cut *info);

/* ---- communication programs ----
 * Every card's communication engine runs a list of commands. A command begins when those that it names in `after` are
 * complete and, for SEND and RECV, when the one before it to or from the same peer on the same channel has begun. SENDs
 * and RECVs of a pair and channel match in the order of their lists. The other commands of a card run one at a time.
 */
enum {
  CX_COMM_SEND = 0,    /* bytes at source to peer; complete when acknowledged */
  CX_COMM_RECV,        /* at most bytes from peer to target */
  CX_COMM_REDUCE,      /* target[i] = target[i] + source[i], elements of the command's type, one rounding each */
  CX_COMM_COPY,        /* bytes from source to target */
  CX_COMM_FILL,        /* zeros to target */
  CX_COMM_TOPK,        /* from here to RETAIN: see below */
  CX_COMM_SCATTER_ADD, /* target[index] += value for each pair at source, in order; third: elements of target */
  CX_COMM_JOIN,        /* nothing, at once: complete when what it names in `after` is */
  CX_COMM_INDEX_COUNT,
  CX_COMM_CUT,
  CX_COMM_PARTITION,
  CX_COMM_COUNT,
  CX_COMM_NARROW,
  CX_COMM_SELECT,
  CX_COMM_RETAIN,
  CX_COMM_PERMUTE, /* see below */
  CX_COMM_ENCODE,
  CX_COMM_DECODE_ADD
};

/* Name of an operation as above without its prefix; "?" for what is none. */
static inline const char *cx_comm_op_name(unsigned op) {
  static const char *const names[] = {"SEND",        "RECV",   "REDUCE",      "COPY",    "FILL",      "TOPK",
                                      "SCATTER_ADD", "JOIN",   "INDEX_COUNT", "CUT",     "PARTITION", "COUNT",
                                      "NARROW",      "SELECT", "RETAIN",      "PERMUTE", "ENCODE",    "DECODE_ADD"};
  return op <= CX_COMM_DECODE_ADD ? names[op] : "?";
}

/* PERMUTE: bytes from source to target, which do not overlap, in another order of blocks. third: up to four sizes of
 * digits, 16 bits each, from the lowest; 0: no more. There are as many blocks as their product; a block's number has
 * the first digit as its fastest. Blocks are parts of the elements (of the job's type), the first of them one larger
 * where they do not come out even. peer 0: to the order in which the first digit is the slowest; 1: back. */

/* ---- sparse vectors: FP32, lists of pairs {u32 index, f32 value} ascending by index ----
 * Magnitude: the bits of an FP32 without its sign; NaN counts as infinity. Of equal magnitudes the lower index comes
 * first.
 *
 * TOPK: y = source + third, element by element; the `peer` elements of largest magnitude become pairs at target; third
 * (the residual) = y with these set to zero. bytes: of source. peer: 1 to all elements.
 *
 * A vector of `third` elements, summed over several ranks ("parts") that share its index space:
 * INDEX_COUNT: u32 target[b], b < peer: pairs of the list at source (bytes) whose index * peer / third is b.
 * CUT: from such counts at source (bytes), of all ranks together, cuts the index space into `peer` parts and writes a
 *   cx_comm_selection at target: cut p is the first index of the first bin below which lie p / peer of all pairs.
 * PARTITION: one cx_comm_extent for each part at target: the pairs of the list at source (bytes) that belong to it.
 *   third: selection.
 * COUNT: source: the vector (bytes); third: selection; peer: part; target: CX_COMM_DIGITS u32. In the first three
 *   rounds of a selection, counts of the digits (of 11, 10 and 10 bits, highest first) of the part's magnitudes whose
 *   higher digits are those found so far; zeros do not count. In the fourth, at [part]: how many are equal to the
 *   threshold.
 * NARROW: source: the sum of these counts over the parts; third: selection; peer: part; target (a number): how many
 *   elements of the whole vector are wanted. Ends a round: finds the next digit of the threshold, in the fourth round
 *   how many that are equal to it the part may take.
 * SELECT: source: the vector (bytes); third: selection after four rounds; peer: part. The part's elements above the
 *   threshold, and the first of those equal to it, become a cx_comm_extent and the pairs behind it at target; the
 *   part's other elements become zero.
 * RETAIN: target[index] = value for each pair at source (bytes) of which third[index] is zero. peer: elements of target
 *   and third.
 *
 * ENCODE: the list of bytes / 8 pairs at source becomes a list of format `type` at target, of cx_comm_list_bytes().
 *   peer: elements of the vector. third: the residual, to which what a 16-bit value rounds away is added: y - value for
 *   each pair {index, y}; where y is not finite nothing. Beyond the largest finite value: that.
 * DECODE_ADD: target[index] += value for each pair of the list of format `type` at source, which has `third` pairs and
 *   cx_comm_list_bytes() = bytes. peer: elements of target.
 *
 * A list that breaks these rules (an index out of range, one that does not rise) ends the job: CX_COMM_FAILED. Without
 * memory, the time of a command is that of `bytes`.
 */
#define CX_COMM_DIGITS 2048u

/* Lists of a stated number of pairs, ascending by index, little-endian: first the indices, then as many values, FP32,
 * FP16 or BF16 (round to nearest even).
 *   INDEX: u32 each.
 *   GAPS: u16; g below 65535: the next index is that of the pair before (-1 before the first) + 1 + g. 65535: go on by
 *     65535 elements without a pair. As many of these as fit into the vector, (elements - 1) / 65535, have room; the
 *     ones that are not needed follow the last pair. Padded with a 0 to a multiple of 4 bytes.
 *   BITMAP: a bit for each element, the lowest of a byte first, zeros up to a multiple of 4 bytes.
 * A list of 16-bit values is padded with a 0 to a multiple of 4 bytes. */
enum { CX_COMM_LIST_INDEX = 0, CX_COMM_LIST_GAPS, CX_COMM_LIST_BITMAP, CX_COMM_LIST_KINDS };
/* `type` of ENCODE and DECODE_ADD: kind + 4 x CX_COMM_FP32, CX_COMM_FP16 or CX_COMM_BF16. */
#define CX_COMM_LIST(kind, value) ((uint8_t)((kind) + 4 * (value)))

/* Bytes of the indices of a list of such a kind, padding included; of the whole list. */
static inline uint64_t cx_comm_index_bytes(uint8_t type, uint64_t elements, uint64_t pairs) {
  if (type % 4 == CX_COMM_LIST_INDEX) return 4 * pairs;
  if (type % 4 == CX_COMM_LIST_BITMAP) return (elements + 31) / 32 * 4;
  return (pairs + (elements == 0 ? 0 : (elements - 1) / 65535) + 1) / 2 * 4;
}
static inline uint64_t cx_comm_list_bytes(uint8_t type, uint64_t elements, uint64_t pairs) {
  return cx_comm_index_bytes(type, elements, pairs) + (type / 4 == 0 ? 4 * pairs : (pairs + 1) / 2 * 4);
}

typedef struct cx_comm_extent {
  uint64_t offset, bytes;
} cx_comm_extent;

/* Behind it parts + 1 cuts, u32: part p is the elements from cut p to cut p + 1. */
typedef struct cx_comm_selection {
  uint32_t elements, parts, round, threshold, left;
} cx_comm_selection;

/* SEND, SCATTER_ADD: source is that of a cx_comm_extent, read when the command begins, which names at most `bytes`.
 * RECV: a cx_comm_extent of what came is written to third. */
#define CX_COMM_INDIRECT 1u

#define CX_COMM_NONE 0xffffffffu

typedef struct cx_comm_command {
  uint8_t op;
  uint8_t channel; /* SEND, RECV: connections of different channels are independent and may take different ways */
  uint8_t flags;
  uint8_t type;                   /* REDUCE: 0: the job's, otherwise 1 + CX_COMM_FP32 and so on */
  uint32_t peer;                  /* SEND, RECV: rank; others: see there */
  uint32_t after[2];              /* indices of earlier commands of the list, or CX_COMM_NONE */
  uint64_t target, source, third; /* offsets in the card's memory */
  uint64_t bytes;
} cx_comm_command;

enum { CX_COMM_FP32 = 0, CX_COMM_INT32, CX_COMM_FP16, CX_COMM_BF16 };

typedef struct cx_comm_program {
  const cx_comm_command *commands;
  size_t count;
  void *memory; /* NULL for all ranks: only time is computed */
  uint64_t memory_bytes;
  uint32_t digest; /* travels with every message; a receiver whose own differs stops: the ranks do not run the same */
} cx_comm_program;

/* FLOW: trains of packets in queues while that is few steps (flow.steps), else as SHARES: flows that share links
 * max-min fairly. */
enum { CX_CLUSTER_PACKET = 0, CX_CLUSTER_FLOW, CX_CLUSTER_SHARES };

/* What a job does, as it does it: calls on the thread of cx_cluster_run(), never after it has returned. */
typedef struct cx_comm_trace {
  void *context;
  /* A command is complete: SEND and RECV from when they were posted, others from when they had the engine. */
  void (*command)(void *context, uint32_t rank, uint32_t index, uint64_t begin_ps, uint64_t end_ps);
  /* Every sample_ps, above 0: bytes that every link has carried since the beginning, headers included. */
  void (*links)(void *context, uint64_t time_ps, const double *wire_bytes);
  uint64_t sample_ps;
} cx_comm_trace;

typedef struct cx_comm_job {
  int fidelity;
  int type;
  const cx_comm_program *programs; /* one a rank */
  size_t ranks;
  const char *const *faults; /* see hw/cluster/cluster_faults.hpp */
  size_t fault_count;
  const cx_comm_trace *trace; /* or NULL */
} cx_comm_job;

enum {
  CX_COMM_DONE = 0,
  CX_COMM_MISMATCH,  /* `rank` got a message of another operation from `peer` */
  CX_COMM_LENGTH,    /* `rank` got a longer message from `peer` than it expected */
  CX_COMM_PEER_LOST, /* `peer` does not answer `rank` */
  CX_COMM_WATCHDOG,  /* no progress: `rank` waits for `peer` on queue pair `qp`, bytes_outstanding of it */
  CX_COMM_NO_ROUTE,  /* there is no way between `rank` and `peer` */
  CX_COMM_FAILED     /* another error of a queue pair */
};

typedef struct cx_comm_report {
  int status;
  uint32_t rank, peer, qp; /* of an error */
  uint64_t bytes_outstanding;
  double time_s;   /* simulated: end of the last command, or when the error was seen */
  uint64_t events; /* of the simulation */
  uint64_t data_packets, retransmitted, dropped, marked, pauses, notifications, timeouts; /* packet level */
  uint32_t train_packets;                          /* flow level: packets of a train; 0: flows shared links */
  uint64_t payload_bytes;                          /* of all SENDs */
  uint64_t network_bytes;                          /* payload of SENDs to other nodes */
  double *link_wire_bytes;                         /* one a link; cx_comm_report_free() */
  double *rank_end_s;                              /* one a rank */
  uint64_t *rank_sent_bytes, *rank_received_bytes; /* payload, one a rank */
  char *message;                                   /* of an error: everything known about it */
} cx_comm_report;

/* Runs one job on an idle cluster from time 0; routes that faults have changed are restored afterwards. An error of the
 * job is in the report and the result is CX_CLUSTER_OK; an error of its description is the result. */
int cx_cluster_run(cx_cluster *cluster, const cx_comm_job *job, cx_comm_report *report);
void cx_comm_report_free(cx_comm_report *report);

/* ---- verbs, packet level ---- */

typedef struct cx_verbs cx_verbs;

enum { CX_VERBS_LOCAL_WRITE = 1, CX_VERBS_REMOTE_READ = 2, CX_VERBS_REMOTE_WRITE = 4, CX_VERBS_REMOTE_ATOMIC = 8 };
enum { CX_VERBS_SEND = 0, CX_VERBS_WRITE, CX_VERBS_READ, CX_VERBS_FETCH_ADD, CX_VERBS_COMPARE_SWAP };
enum {
  CX_VERBS_SUCCESS = 0,
  CX_VERBS_LOCAL_LENGTH,
  CX_VERBS_LOCAL_PROTECTION,
  CX_VERBS_REMOTE_ACCESS,
  CX_VERBS_REMOTE_INVALID,
  CX_VERBS_RETRY_EXCEEDED,
  CX_VERBS_FLUSHED,
  CX_VERBS_RECEIVER_NOT_READY
};

/* An element of a scatter/gather list: a part of a region of one's own memory. */
#define CX_VERBS_MAX_RANGES 16u
typedef struct cx_verbs_range {
  uint64_t address, bytes;
  uint32_t key;
} cx_verbs_range;

typedef struct cx_verbs_send {
  uint64_t id;
  int verb;
  const cx_verbs_range *ranges; /* at most CX_VERBS_MAX_RANGES; atomics: one, of 8 bytes */
  size_t range_count;
  uint64_t remote_address;
  uint32_t remote_key;
  uint32_t immediate;
  int has_immediate;
  uint64_t operand, compare;
} cx_verbs_send;

typedef struct cx_verbs_completion {
  uint64_t id, bytes;
  int status;
  int is_receive, has_immediate;
  uint32_t qp, immediate;
} cx_verbs_completion;

typedef struct cx_verbs_state {
  uint32_t peer;
  uint64_t bytes_outstanding, bytes_unsent;
  size_t sends, receives;
  uint64_t receive_bytes; /* room of the receives */
  int waits_for_receive, failed;
} cx_verbs_state;

/* The cluster, idle at time 0, for as long as both are open; a cluster has one of these at a time. */
cx_verbs *cx_verbs_open(cx_cluster *cluster);
void cx_verbs_close(cx_verbs *verbs);
const char *cx_verbs_error(const cx_verbs *verbs);
int cx_verbs_register(cx_verbs *verbs, uint32_t rank, void *memory, uint64_t address, uint64_t bytes, unsigned access,
                      uint32_t *key);
int cx_verbs_deregister(cx_verbs *verbs, uint32_t rank, uint32_t key);
int cx_verbs_create_cq(cx_verbs *verbs, uint32_t rank, size_t capacity, uint32_t *cq);

typedef struct cx_verbs_limits {
  size_t sends, receives;   /* requests that are not complete; at least 1 (receives: of a shared queue, any) */
  uint64_t receive_wait_ps; /* after which a send that finds no receive fails; 0: never */
} cx_verbs_limits;
#define CX_VERBS_NO_SRQ 0xffffffffu
/* srq: the shared receive queue that it takes its receives from, or CX_VERBS_NO_SRQ. */
int cx_verbs_create_qp(cx_verbs *verbs, uint32_t rank, uint32_t send_cq, uint32_t receive_cq, uint32_t srq,
                       const cx_verbs_limits *limits, uint32_t *qp);
/* Requests that are not complete, and those posted later, complete as CX_VERBS_FLUSHED. destroy: there is no such queue
 * pair afterwards; its completions stay to be polled. */
int cx_verbs_flush_qp(cx_verbs *verbs, uint32_t rank, uint32_t qp, int destroy);
/* capacity: receives that no message has taken yet. */
int cx_verbs_create_srq(cx_verbs *verbs, uint32_t rank, size_t capacity, uint32_t *srq);
/* CX_CLUSTER_BAD_ARGUMENT while a queue pair uses it. */
int cx_verbs_destroy_srq(cx_verbs *verbs, uint32_t rank, uint32_t srq);
int cx_verbs_post_srq_receive(cx_verbs *verbs, uint32_t rank, uint32_t srq, uint64_t id, const cx_verbs_range *ranges,
                              size_t range_count);
int cx_verbs_srq_receives(cx_verbs *verbs, uint32_t rank, uint32_t srq, size_t *receives);
/* Both ends. CX_CLUSTER_BAD_ARGUMENT if one is connected. */
int cx_verbs_connect(cx_verbs *verbs, uint32_t rank, uint32_t qp, uint32_t peer, uint32_t peer_qp);
/* All post functions: CX_CLUSTER_QUEUE_FULL, CX_CLUSTER_TOO_MANY_RANGES, and nothing is posted. */
int cx_verbs_post_send(cx_verbs *verbs, uint32_t rank, uint32_t qp, const cx_verbs_send *send);
int cx_verbs_post_receive(cx_verbs *verbs, uint32_t rank, uint32_t qp, uint64_t id, const cx_verbs_range *ranges,
                          size_t range_count);
/* 1: a completion, 0: none. CX_CLUSTER_OVERRUN when those that fitted are taken. */
int cx_verbs_poll(cx_verbs *verbs, uint32_t rank, uint32_t cq, cx_verbs_completion *completion);
int cx_verbs_get_state(cx_verbs *verbs, uint32_t rank, uint32_t qp, cx_verbs_state *state);
int cx_verbs_inject(cx_verbs *verbs, const char *fault);
/* Until a completion comes (1), nothing is scheduled any more (0), or `limit_ps` have passed (2). */
int cx_verbs_advance(cx_verbs *verbs, uint64_t limit_ps);
uint64_t cx_verbs_time_ps(const cx_verbs *verbs);

#ifdef __cplusplus
}
#endif

#endif
