// The functions of hw/common/port/cx_cluster.h.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "hw/cluster/flow_fabric.hpp"
#include "hw/cluster/packet_fabric.hpp"
#include "hw/comm/comm_engine.hpp"
#include "hw/common/port/cx_cluster.h"
#include "hw/config/config.hpp"

using namespace cx::hw::net;

struct cx_cluster {
  explicit cx_cluster(const ClusterConfig &config) : topology(config), cuts(topology.cuts()) {
    for (std::uint32_t l = 0; l < topology.links(); ++l) names.push_back(topology.link_name(l));
  }
  Topology topology;
  std::vector<Cut> cuts;
  std::vector<std::string> names;
  std::string error;
};

struct cx_verbs {
  explicit cx_verbs(const Topology &of)
      : topology(of), packets(topology), queues(topology.ranks()), limits(topology.ranks()), shared(topology.ranks()) {}
  Topology topology;
  PacketCluster packets;
  std::vector<std::vector<std::unique_ptr<CompletionQueue>>> queues;  // by rank
  std::vector<std::vector<cx_verbs_limits>> limits;                   // by rank and queue pair
  std::vector<std::vector<std::size_t>> shared;                       // room, by rank and shared receive queue
  std::uint64_t completions = 0;                                      // kept by any queue since the beginning
  std::string error;
};

namespace {

std::string &open_error() {
  thread_local std::string text;
  return text;
}

std::vector<std::string> to_strings(const char *const *texts, std::size_t count) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < count; ++i) out.emplace_back(texts[i]);
  return out;
}

char *copied(const std::string &text) {
  char *copy = static_cast<char *>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

double seconds(Ps time) { return static_cast<double>(time) * 1e-12; }
std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return (a + b - 1) / b; }
Ps ps(double s) { return static_cast<Ps>(s * 1e12 + 0.5); }

// An error with a result of its own.
struct PortError : std::runtime_error {
  PortError(int result, const std::string &what) : std::runtime_error(what), result(result) {}
  int result;
};

// Runs a function; its exceptions become results.
template <class Handle, class F>
int guarded(Handle *handle, F &&function) {
  if (handle == nullptr) return CX_CLUSTER_BAD_ARGUMENT;
  try {
    function();
    return CX_CLUSTER_OK;
  } catch (const PortError &error) {
    handle->error = error.what();
    return error.result;
  } catch (const UnreachableError &error) {
    handle->error = error.what();
    return CX_CLUSTER_UNREACHABLE;
  } catch (const TooManyRangesError &error) {
    handle->error = error.what();
    return CX_CLUSTER_TOO_MANY_RANGES;
  } catch (const std::logic_error &error) {
    handle->error = error.what();
    return CX_CLUSTER_BAD_ARGUMENT;
  } catch (const std::exception &error) {
    handle->error = error.what();
    return CX_CLUSTER_INTERNAL;
  }
}

void need(bool ok, const std::string &what) {
  if (!ok) throw std::invalid_argument(what);
}

// Packets of a train at flow level, the fewest that keep a job within `flow.steps`: trains times links. 0: messages
// would be of fewer than kTrains trains; flows share links instead.
std::uint32_t train_packets(const Topology &topology, const cx_comm_job &job) {
  constexpr std::uint64_t kTrains = 32;
  const ClusterConfig &config = topology.config();
  const std::uint64_t links = topology.path(0, topology.ranks() - 1, 0).size();
  std::map<std::uint64_t, std::uint64_t> messages;  // by packets
  for (std::size_t r = 0; r < job.ranks; ++r) {
    for (std::size_t i = 0; i < job.programs[r].count; ++i) {
      const cx_comm_command &command = job.programs[r].commands[i];
      if (command.op == CX_COMM_SEND) ++messages[std::max<std::uint64_t>(1, ceil_div(command.bytes, config.rdma.mtu))];
    }
  }
  if (messages.empty()) return 0;
  const std::uint64_t largest = messages.rbegin()->first;
  for (std::uint64_t packets = 1; packets == 1 || packets * kTrains <= largest; packets *= 2) {
    std::uint64_t trains = 0;
    for (const auto &[size, count] : messages) trains += count * ceil_div(size, packets);
    if (trains * links <= config.flow.steps) return static_cast<std::uint32_t>(packets);
  }
  return 0;
}

void fill_report(const Topology &topology, const CommOutcome &outcome, Fabric &fabric, cx_comm_report &report) {
  report.status = outcome.status;
  report.rank = outcome.rank;
  report.peer = outcome.peer;
  report.qp = outcome.qp;
  report.bytes_outstanding = outcome.bytes_outstanding;
  report.time_s = seconds(outcome.time);
  report.events = fabric.queue().executed();
  report.payload_bytes = outcome.payload_bytes;
  report.network_bytes = outcome.network_bytes;
  const FabricCounters counters = fabric.counters();
  report.data_packets = counters.data_packets;
  report.retransmitted = counters.retransmitted;
  report.dropped = counters.dropped;
  report.marked = counters.marked;
  report.pauses = counters.pauses;
  report.notifications = counters.notifications;
  report.timeouts = counters.timeouts;
  const std::vector<double> wire = fabric.wire_bytes();
  report.link_wire_bytes = static_cast<double *>(std::calloc(std::max<std::size_t>(wire.size(), 1), sizeof(double)));
  report.rank_end_s = static_cast<double *>(std::calloc(topology.ranks(), sizeof(double)));
  report.rank_sent_bytes = static_cast<uint64_t *>(std::calloc(topology.ranks(), sizeof(uint64_t)));
  report.rank_received_bytes = static_cast<uint64_t *>(std::calloc(topology.ranks(), sizeof(uint64_t)));
  report.message = copied(outcome.message);
  if (report.link_wire_bytes == nullptr || report.rank_end_s == nullptr || report.rank_sent_bytes == nullptr ||
      report.rank_received_bytes == nullptr || report.message == nullptr)
    throw std::bad_alloc();
  std::copy(wire.begin(), wire.end(), report.link_wire_bytes);
  for (std::size_t r = 0; r < outcome.rank_end.size(); ++r) report.rank_end_s[r] = seconds(outcome.rank_end[r]);
  std::copy(outcome.sent.begin(), outcome.sent.end(), report.rank_sent_bytes);
  std::copy(outcome.received.begin(), outcome.received.end(), report.rank_received_bytes);
}

}  // namespace

extern "C" {

cx_cluster *cx_cluster_open(const char *yaml_path, const char *const *sets, size_t set_count) {
  try {
    if (yaml_path == nullptr || (sets == nullptr && set_count != 0)) throw std::invalid_argument("no configuration");
    return new cx_cluster(load_cluster(yaml_path, to_strings(sets, set_count)));
  } catch (const std::exception &error) {
    open_error() = error.what();
  }
  return nullptr;
}

void cx_cluster_close(cx_cluster *cluster) { delete cluster; }

const char *cx_cluster_error(const cx_cluster *cluster) {
  return cluster != nullptr ? cluster->error.c_str() : open_error().c_str();
}

int cx_cluster_show(const cx_cluster *cluster, char **text) {
  if (cluster == nullptr || text == nullptr) return CX_CLUSTER_BAD_ARGUMENT;
  *text = copied(to_yaml(cluster->topology.config()));
  return *text != nullptr ? CX_CLUSTER_OK : CX_CLUSTER_INTERNAL;
}

int cx_cluster_help(const char *key_or_null, char **text) {
  if (text == nullptr) return CX_CLUSTER_BAD_ARGUMENT;
  try {
    *text = copied(cluster_help(key_or_null != nullptr ? key_or_null : ""));
    return CX_CLUSTER_OK;
  } catch (const std::exception &error) {
    *text = copied(error.what());
    return CX_CLUSTER_BAD_CONFIG;
  }
}

void cx_cluster_get_shape(const cx_cluster *cluster, cx_cluster_shape *shape) {
  const ClusterConfig &config = cluster->topology.config();
  *shape = {};
  shape->name = config.name.c_str();
  shape->kind = config.topology.kind.c_str();
  shape->ranks = cluster->topology.ranks();
  shape->nodes = config.nodes;
  shape->cards_per_node = config.node.cards;
  shape->ports_per_node = network_ports(config) / config.nodes;
  if (config.topology.kind == "ring") {
    shape->dim_count = 1;
    shape->dims[0] = network_ports(config);
  } else if (config.topology.kind == "torus") {
    shape->dim_count = static_cast<std::uint32_t>(config.topology.dims.size());
    std::copy(config.topology.dims.begin(), config.topology.dims.end(), shape->dims);
  }
  shape->mtu = config.rdma.mtu;
  shape->reduce_bytes_per_s = config.card.reduce_gbps * 1e9;
  shape->command_s = config.card.command_ns * 1e-9;
  shape->message_s = config.rdma.message_ns * 1e-9;
  shape->completion_s = config.rdma.completion_ns * 1e-9;
  shape->watchdog_s = config.watchdog_us * 1e-6;
  shape->detection_s = config.rdma.retransmit_us * 1e-6 * (config.rdma.retries + 1);
}

size_t cx_cluster_link_count(const cx_cluster *cluster) { return cluster->topology.links(); }

void cx_cluster_get_link(const cx_cluster *cluster, size_t link, cx_cluster_link *info) {
  const LinkParams &params = cluster->topology.edge_of(static_cast<std::uint32_t>(link)).params;
  const std::uint32_t mtu = cluster->topology.config().rdma.mtu;
  info->name = cluster->names.at(link).c_str();
  info->bytes_per_s = params.bytes_per_second;
  info->payload_bytes_per_s = params.bytes_per_second * mtu / static_cast<double>(params.framing.wire_bytes(mtu, 0));
  info->is_pcie = params.framing.kind == Framing::Kind::pcie ? 1 : 0;
}

int cx_cluster_path(cx_cluster *cluster, uint32_t source, uint32_t target, uint32_t channel, uint64_t bytes,
                    uint32_t *links, size_t capacity, size_t *count, double *latency_s) {
  return guarded(cluster, [&] {
    const Topology &topology = cluster->topology;
    need(source < topology.ranks() && target < topology.ranks() && source != target, "expected two different ranks");
    need(channel < 256, "expected a channel below 256");
    const auto path = topology.path(source, target, flow_of({source, target, static_cast<std::uint8_t>(channel)}));
    if (path.empty()) throw UnreachableError(NoRouteError(source, target).what());
    std::copy_n(path.begin(), std::min(capacity, path.size()), links);
    *count = path.size();
    const PathTime time = path_time(topology, path, bytes);
    const auto &config = topology.config();
    // path_time() counts this message's own headers; the caller counts those of full packets.
    double slowest = 0;
    for (const std::uint32_t link : path) {
      cx_cluster_link info;
      cx_cluster_get_link(cluster, link, &info);
      slowest = std::max(slowest, static_cast<double>(bytes) / info.payload_bytes_per_s);
    }
    *latency_s = seconds(time.forth) + static_cast<double>(std::max<std::uint64_t>(bytes, 1)) / time.narrowest -
                 slowest + (config.rdma.message_ns + config.rdma.completion_ns) * 1e-9;
  });
}

size_t cx_cluster_cut_count(const cx_cluster *cluster) { return cluster->cuts.size(); }

void cx_cluster_get_cut(const cx_cluster *cluster, size_t number, cx_cluster_cut *info) {
  const Cut &cut = cluster->cuts.at(number);
  *info = {cut.level.c_str(), cut.name.c_str(), cut.first, cut.count, cut.out, cut.in};
}

int cx_cluster_run(cx_cluster *cluster, const cx_comm_job *job, cx_comm_report *report) {
  return guarded(cluster, [&] {
    need(job != nullptr && report != nullptr, "no job or no report");
    *report = {};
    Topology topology = cluster->topology;
    need(job->programs != nullptr && job->ranks == topology.ranks(),
         "expected programs of " + std::to_string(topology.ranks()) + " ranks, got " + std::to_string(job->ranks));
    need(job->fidelity >= CX_CLUSTER_PACKET && job->fidelity <= CX_CLUSTER_SHARES, "there is no such fidelity");
    std::vector<ClusterFault> faults;
    for (std::size_t i = 0; i < job->fault_count; ++i) faults.push_back(parse_cluster_fault(topology, job->faults[i]));
    std::vector<std::pair<std::byte *, std::uint64_t>> memory;
    for (std::size_t r = 0; r < job->ranks; ++r) {
      memory.emplace_back(static_cast<std::byte *>(job->programs[r].memory), job->programs[r].memory_bytes);
      need((job->programs[r].memory == nullptr) == (job->programs[0].memory == nullptr), "memory of some ranks only");
    }
    std::unique_ptr<Fabric> fabric;
    if (job->fidelity == CX_CLUSTER_PACKET) {
      auto packets = std::make_unique<PacketFabric>(topology, memory);
      for (const ClusterFault &fault : faults) packets->cluster().inject(fault);
      fabric = std::move(packets);
    } else {
      auto flows = std::make_unique<FlowFabric>(topology);
      if (job->fidelity == CX_CLUSTER_FLOW && faults.empty()) report->train_packets = train_packets(topology, *job);
      if (report->train_packets != 0) flows->follow_trains(report->train_packets);
      for (const ClusterFault &fault : faults) flows->inject(fault);
      fabric = std::move(flows);
    }
    const ClusterConfig &config = topology.config();
    CommEngine engine(*fabric, job->programs, job->ranks, job->type,
                      {config.card.reduce_gbps * 1e9, ps(config.card.command_ns * 1e-9), ps(config.watchdog_us * 1e-6),
                       config.node.cards});
    if (job->trace != nullptr) engine.trace(*job->trace);
    const CommOutcome outcome = engine.run();
    fill_report(topology, outcome, *fabric, *report);
  });
}

void cx_comm_report_free(cx_comm_report *report) {
  std::free(report->link_wire_bytes);
  std::free(report->rank_end_s);
  std::free(report->rank_sent_bytes);
  std::free(report->rank_received_bytes);
  std::free(report->message);
  *report = {};
}

cx_verbs *cx_verbs_open(cx_cluster *cluster) {
  try {
    if (cluster == nullptr) throw std::invalid_argument("no cluster");
    return new cx_verbs(cluster->topology);
  } catch (const std::exception &error) {
    open_error() = error.what();
  }
  return nullptr;
}

void cx_verbs_close(cx_verbs *verbs) { delete verbs; }

const char *cx_verbs_error(const cx_verbs *verbs) {
  return verbs != nullptr ? verbs->error.c_str() : open_error().c_str();
}

static void check_rank(const cx_verbs *verbs, uint32_t rank) {
  need(rank < verbs->topology.ranks(), "there is no rank " + std::to_string(rank));
}

int cx_verbs_register(cx_verbs *verbs, uint32_t rank, void *memory, uint64_t address, uint64_t bytes, unsigned access,
                      uint32_t *key) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    need(memory != nullptr && key != nullptr && bytes != 0, "no memory");
    need(address <= ~std::uint64_t{0} - bytes, "the range ends beyond the last address");
    need(access < 16, "there is no such right");
    *key = verbs->packets.nic(rank).memory().add(static_cast<std::byte *>(memory), address, bytes, access);
  });
}

int cx_verbs_deregister(cx_verbs *verbs, uint32_t rank, uint32_t key) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    need(verbs->packets.nic(rank).memory().remove(key), "key " + std::to_string(key) + " is not in use");
  });
}

int cx_verbs_create_cq(cx_verbs *verbs, uint32_t rank, size_t capacity, uint32_t *cq) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    need(capacity != 0 && cq != nullptr, "a completion queue of no entries");
    auto &queues = verbs->queues[rank];
    *cq = static_cast<std::uint32_t>(queues.size());
    queues.push_back(std::make_unique<CompletionQueue>(capacity, &verbs->completions));
  });
}

static_assert(CX_VERBS_MAX_RANGES == kMaxRanges && CX_VERBS_NO_SRQ == kNoSharedQueue);

static std::vector<Range> to_ranges(const cx_verbs_range *ranges, size_t count) {
  need(ranges != nullptr || count == 0, "no ranges");
  std::vector<Range> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back({ranges[i].address, ranges[i].key, ranges[i].bytes});
  return out;
}

int cx_verbs_create_qp(cx_verbs *verbs, uint32_t rank, uint32_t send_cq, uint32_t receive_cq, uint32_t srq,
                       const cx_verbs_limits *limits, uint32_t *qp) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    need(limits != nullptr && limits->sends != 0 && limits->receives != 0, "a queue pair of no requests");
    auto &queues = verbs->queues[rank];
    need(send_cq < queues.size() && receive_cq < queues.size() && qp != nullptr, "there is no such completion queue");
    Nic &nic = verbs->packets.nic(rank);
    *qp = nic.create_qp(*queues[send_cq], *queues[receive_cq], srq);
    if (limits->receive_wait_ps != 0) nic.limit_wait(*qp, limits->receive_wait_ps);
    verbs->limits[rank].push_back(*limits);
  });
}

int cx_verbs_flush_qp(cx_verbs *verbs, uint32_t rank, uint32_t qp, int destroy) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    Nic &nic = verbs->packets.nic(rank);
    destroy != 0 ? nic.destroy_qp(qp) : nic.flush_qp(qp);
  });
}

int cx_verbs_create_srq(cx_verbs *verbs, uint32_t rank, size_t capacity, uint32_t *srq) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    need(capacity != 0 && srq != nullptr, "a shared receive queue of no receives");
    *srq = verbs->packets.nic(rank).create_shared_queue();
    verbs->shared[rank].push_back(capacity);
  });
}

int cx_verbs_destroy_srq(cx_verbs *verbs, uint32_t rank, uint32_t srq) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    verbs->packets.nic(rank).destroy_shared_queue(srq);
  });
}

int cx_verbs_post_srq_receive(cx_verbs *verbs, uint32_t rank, uint32_t srq, uint64_t id, const cx_verbs_range *ranges,
                              size_t range_count) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    Nic &nic = verbs->packets.nic(rank);
    if (nic.shared_receives(srq) >= verbs->shared[rank][srq]) {
      throw PortError(CX_CLUSTER_QUEUE_FULL, "rank " + std::to_string(rank) + ", shared receive queue " +
                                                 std::to_string(srq) + ": all " +
                                                 std::to_string(verbs->shared[rank][srq]) + " receives are in use");
    }
    nic.post_shared_receive(srq, {id, to_ranges(ranges, range_count)});
  });
}

int cx_verbs_srq_receives(cx_verbs *verbs, uint32_t rank, uint32_t srq, size_t *receives) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    need(receives != nullptr, "no place for the number");
    *receives = verbs->packets.nic(rank).shared_receives(srq);
  });
}

int cx_verbs_connect(cx_verbs *verbs, uint32_t rank, uint32_t qp, uint32_t peer, uint32_t peer_qp) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    check_rank(verbs, peer);
    need(rank != peer, "expected two different ranks");
    Nic &here = verbs->packets.nic(rank), &there = verbs->packets.nic(peer);
    // Own number: not connected.
    need(here.state(qp).peer == here.endpoint(), "queue pair " + std::to_string(qp) + " is connected");
    need(there.state(peer_qp).peer == there.endpoint(), "queue pair " + std::to_string(peer_qp) + " is connected");
    const std::uint32_t flow = flow_of({rank, peer, static_cast<std::uint8_t>(qp)});
    if (verbs->topology.path(rank, peer, flow).empty()) throw UnreachableError(NoRouteError(rank, peer).what());
    here.connect_qp(qp, there, peer_qp, flow);
    there.connect_qp(peer_qp, here, qp, flow);
  });
}

static void check_room(const cx_verbs *verbs, uint32_t rank, uint32_t qp, bool send) {
  const QueuePairState state = verbs->packets.nic(rank).state(qp);
  const cx_verbs_limits &limits = verbs->limits[rank][qp];
  if ((send ? state.sends : state.receives) >= (send ? limits.sends : limits.receives)) {
    throw PortError(CX_CLUSTER_QUEUE_FULL, "rank " + std::to_string(rank) + ", queue pair " + std::to_string(qp) +
                                               ": all " + std::to_string(send ? limits.sends : limits.receives) +
                                               (send ? " sends" : " receives") + " are in use");
  }
}

int cx_verbs_post_send(cx_verbs *verbs, uint32_t rank, uint32_t qp, const cx_verbs_send *send) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    need(send != nullptr && send->verb >= CX_VERBS_SEND && send->verb <= CX_VERBS_COMPARE_SWAP,
         "there is no such verb");
    SendRequest request;
    request.id = send->id;
    request.verb = static_cast<Verb>(send->verb);
    request.ranges = to_ranges(send->ranges, send->range_count);
    request.remote_address = send->remote_address;
    request.remote_key = send->remote_key;
    request.has_immediate = send->has_immediate != 0;
    request.immediate = send->immediate;
    request.operand = send->operand;
    request.compare = send->compare;
    need(!request.has_immediate || request.verb == Verb::send || request.verb == Verb::write,
         "an immediate goes with send and write only");
    check_room(verbs, rank, qp, true);
    verbs->packets.nic(rank).post_send(qp, request);
  });
}

int cx_verbs_post_receive(cx_verbs *verbs, uint32_t rank, uint32_t qp, uint64_t id, const cx_verbs_range *ranges,
                          size_t range_count) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    check_room(verbs, rank, qp, false);
    verbs->packets.nic(rank).post_receive(qp, {id, to_ranges(ranges, range_count)});
  });
}

int cx_verbs_poll(cx_verbs *verbs, uint32_t rank, uint32_t cq, cx_verbs_completion *completion) {
  int got = 0;
  const int result = guarded(verbs, [&] {
    check_rank(verbs, rank);
    need(cq < verbs->queues[rank].size() && completion != nullptr, "there is no such completion queue");
    CompletionQueue &queue = *verbs->queues[rank][cq];
    Completion from;
    if (!queue.poll(from)) {
      if (queue.overrun())
        throw PortError(CX_CLUSTER_OVERRUN, "completion queue " + std::to_string(cq) + " of rank " +
                                                std::to_string(rank) + " was full: completions are lost");
      return;
    }
    *completion = {
        from.id, from.bytes,    static_cast<int>(from.status), from.is_receive ? 1 : 0, from.has_immediate ? 1 : 0,
        from.qp, from.immediate};
    got = 1;
  });
  return result == CX_CLUSTER_OK ? got : result;
}

int cx_verbs_get_state(cx_verbs *verbs, uint32_t rank, uint32_t qp, cx_verbs_state *state) {
  return guarded(verbs, [&] {
    check_rank(verbs, rank);
    need(state != nullptr, "no state");
    const QueuePairState from = verbs->packets.nic(rank).state(qp);
    *state = {from.peer,          from.bytes_outstanding,         from.bytes_unsent,  from.sends, from.receives,
              from.receive_bytes, from.waits_for_receive ? 1 : 0, from.failed ? 1 : 0};
  });
}

int cx_verbs_inject(cx_verbs *verbs, const char *fault) {
  return guarded(verbs, [&] {
    need(fault != nullptr, "no fault");
    verbs->packets.inject(parse_cluster_fault(verbs->topology, fault));
  });
}

int cx_verbs_advance(cx_verbs *verbs, uint64_t limit_ps) {
  int why = 0;
  const int result = guarded(verbs, [&] {
    EventQueue &queue = verbs->packets.queue();
    const Ps end = queue.now() > kNever - limit_ps ? kNever : queue.now() + limit_ps;
    const std::uint64_t before = verbs->completions;
    for (;;) {
      if (queue.empty()) {
        why = 0;
        return;
      }
      if (queue.next_time() > end) {
        queue.run_until(end);
        why = 2;
        return;
      }
      queue.run_one();
      if (verbs->completions != before) {
        why = 1;
        return;
      }
    }
  });
  return result == CX_CLUSTER_OK ? why : result;
}

uint64_t cx_verbs_time_ps(const cx_verbs *verbs) { return const_cast<cx_verbs *>(verbs)->packets.queue().now(); }

}  // extern "C"
