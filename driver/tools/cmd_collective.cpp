// cx collective: collective operations of a simulated cluster.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "driver/collective/collective.hpp"
#include "driver/collective/sparse.hpp"
#include "driver/tools/collective_rows.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/sparse_collective.hpp"
#include "driver/tools/trace/collective_trace.hpp"

namespace cx::tools {
namespace {

using namespace cx::collective;

struct CollectiveOptions {
  std::string operation = "allreduce", cluster = "cx-trainer-16", algorithm = "auto", fidelity = "packet",
              type = "fp32", bytes = "1MiB..1GiB";
  std::string sparse = "oktopk";
  double density = 0.05;
  std::string format = "pairs";
  std::vector<std::string> sets, faults;
  std::string trace;
  uint32_t chunks = 0, root = 0;
  uint64_t seed = 1, check_mib = 4096;
  unsigned jobs = 0;
  bool json = false;
};

const std::vector<std::pair<std::string, Operation>> kOperations = {{"allreduce", Operation::kAllReduce},
                                                                    {"reduce-scatter", Operation::kReduceScatter},
                                                                    {"allgather", Operation::kAllGather},
                                                                    {"broadcast", Operation::kBroadcast},
                                                                    {"alltoall", Operation::kAllToAll}};
const std::vector<std::pair<std::string, ElementType>> kTypes = {{"fp32", ElementType::kFp32},
                                                                 {"int32", ElementType::kInt32},
                                                                 {"fp16", ElementType::kFp16},
                                                                 {"bf16", ElementType::kBf16}};

constexpr const char *kSparse = "sparse-allreduce";

template <class Value>
Value named(const std::vector<std::pair<std::string, Value>> &all, const std::string &name) {
  return std::find_if(all.begin(), all.end(), [&](const auto &entry) { return entry.first == name; })->second;
}

uint64_t parse_bytes(const std::string &text) {
  static constexpr std::pair<const char *, uint64_t> kUnits[] = {
      {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"B", 1}, {"", 1}};
  std::size_t digits = 0;
  while (digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits])) != 0) ++digits;
  const std::string unit = text.substr(digits);
  for (const auto &[name, factor] : kUnits) {
    if (digits > 0 && digits < 13 && unit == name) {
      const uint64_t bytes = std::stoull(text.substr(0, digits)) * factor;
      if (bytes >= 4 && bytes <= 4ull << 30) return bytes;
    }
  }
  throw UsageError(
      fmt::format("--bytes: '{}', expected a size like 64KiB, 100MiB or 1GiB, from 4 bytes to 4 GiB", text));
}

/// "1MiB..1GiB": each four times the one before, and the last. "1MiB,25MiB": these.
std::vector<uint64_t> parse_sizes(const std::string &text) {
  std::vector<uint64_t> sizes;
  const std::size_t dots = text.find("..");
  if (dots != std::string::npos) {
    const uint64_t first = parse_bytes(text.substr(0, dots)), last = parse_bytes(text.substr(dots + 2));
    if (last < first) throw UsageError(fmt::format("--bytes: '{}', expected the smaller size first", text));
    for (uint64_t bytes = first; bytes < last; bytes *= 4) sizes.push_back(bytes);
    sizes.push_back(last);
    return sizes;
  }
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    sizes.push_back(parse_bytes(text.substr(at, comma - at)));
    at = comma + 1;
  }
  return sizes;
}

struct Row {
  uint64_t bytes = 0;
  Outcome outcome;
  Utilisation use;
  double wall_s = 0;
  std::unique_ptr<CollectiveError> error;
};

Spec spec_of(const CollectiveOptions &options, const Cluster &cluster, uint64_t bytes) {
  Spec spec;
  spec.operation = named(kOperations, options.operation);
  spec.type = named(kTypes, options.type);
  spec.algorithm = options.algorithm;
  spec.count = std::max<uint64_t>(bytes / bytes_of(spec.type), 1);
  if (spec.operation == Operation::kAllToAll) {
    spec.count = (spec.count + cluster.ranks() - 1) / cluster.ranks() * cluster.ranks();
  }
  spec.chunks = options.chunks;
  spec.root = options.root;
  spec.fidelity = options.fidelity == "packet" ? Fidelity::kPacket : Fidelity::kFlow;
  spec.faults = options.faults;
  return spec;
}

Row run_row(const CollectiveOptions &options, uint64_t bytes) {
  // A cluster of its own: rows run beside each other.
  const Cluster cluster = Cluster::open(options.cluster, options.sets);
  Row row;
  Spec spec = spec_of(options, cluster, bytes);
  std::optional<CollectiveTrace> trace;
  if (!options.trace.empty()) spec.observer = &trace.emplace(options.trace, cluster);
  row.bytes = spec.count * bytes_of(spec.type);
  const auto begin = std::chrono::steady_clock::now();
  try {
    row.outcome = run_checked(cluster, spec, options.seed, nullptr, options.check_mib << 20);
    row.use = utilisation(cluster, row.outcome.job);
  } catch (const CollectiveError &error) {
    row.error = std::make_unique<CollectiveError>(error);
  }
  if (trace) trace->finish();
  row.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return row;
}

nlohmann::ordered_json json_of(const Row &row) {
  if (row.error) {
    return {{"bytes", row.bytes},
            {"status", to_string(row.error->kind)},
            {"rank", row.error->rank},
            {"peer", row.error->peer},
            {"qp", row.error->qp},
            {"bytes_outstanding", row.error->bytes_outstanding},
            {"found_at_us", row.error->time_s * 1e6},
            {"message", row.error->what()}};
  }
  const Outcome &o = row.outcome;
  return {{"bytes", row.bytes},
          {"status", "done"},
          {"schedule", o.plan},
          {"time_us", o.job.time_s * 1e6},
          {"estimate_us", o.estimate_s * 1e6},
          {"lower_bound_us", o.bound.time_s * 1e6},
          {"lower_bound_reason", o.bound.reason},
          {"algorithm_gb_s", o.algorithm_bytes_per_s * 1e-9},
          {"bus_gb_s", o.bus_bytes_per_s * 1e-9},
          {"busiest_link", row.use.busiest_link},
          {"busiest_link_use", row.use.busiest},
          {"mean_network_link_use", row.use.mean},
          {"checked", o.checked},
          {"payload_bytes", o.job.payload_bytes},
          {"bytes_between_nodes", o.job.network_bytes},
          {"train_packets", o.job.train_packets},
          {"data_packets", o.job.data_packets},
          {"retransmitted", o.job.retransmitted},
          {"dropped", o.job.dropped},
          {"marked", o.job.marked},
          {"pauses", o.job.pauses},
          {"notifications", o.job.notifications},
          {"timeouts", o.job.timeouts},
          {"events", o.job.events},
          {"wall_s", row.wall_s}};
}

int collective(const CollectiveOptions &options) {
  const std::vector<uint64_t> sizes = parse_sizes(options.bytes);
  const Cluster cluster = Cluster::open(options.cluster, options.sets);
  if (!options.trace.empty() && sizes.size() != 1) {
    throw UsageError(fmt::format("--trace: --bytes is {} sizes, expected one", sizes.size()));
  }
  std::vector<Row> rows(sizes.size());
  run_rows(rows.size(), options.jobs, [&](std::size_t row) { rows[row] = run_row(options, sizes[row]); });

  bool failed = false;
  for (const Row &row : rows) failed |= row.error != nullptr;
  const cx_cluster_shape &shape = cluster.shape();
  if (options.json) {
    nlohmann::ordered_json json = {{"cluster", shape.name},
                                   {"topology", shape.kind},
                                   {"ranks", shape.ranks},
                                   {"nodes", shape.nodes},
                                   {"cards_per_node", shape.cards_per_node},
                                   {"operation", options.operation},
                                   {"type", options.type},
                                   {"fidelity", options.fidelity},
                                   {"faults", options.faults}};
    json["rows"] = nlohmann::ordered_json::array();
    for (const Row &row : rows) json["rows"].push_back(json_of(row));
    fmt::print("{}\n", json.dump(2));
    return failed ? kDeviceFault : kDone;
  }
  fmt::print("{} of {} on {}: {} ranks, {} nodes of {} cards, {}; {} fidelity\n", options.operation, options.type,
             shape.name, shape.ranks, shape.nodes, shape.cards_per_node, shape.kind, options.fidelity);
  for (const std::string &fault : options.faults) fmt::print("fault: {}\n", fault);
  fmt::print("{:>9} {:>13} {:>13} {:>9} {:>9} {:>6} {:>6}  {:7} {}\n", "bytes", "time us", "bound us", "alg GB/s",
             "bus GB/s", "link", "mean", "result", "schedule");
  for (const Row &row : rows) {
    if (row.error) {
      fmt::print("{:>9} {}: {} (found at {:.1f} us)\n", size_text(row.bytes), to_string(row.error->kind),
                 row.error->what(), row.error->time_s * 1e6);
      continue;
    }
    const Outcome &o = row.outcome;
    fmt::print("{:>9} {:>13.2f} {:>13.2f} {:>9.3f} {:>9.3f} {:>5.1f}% {:>5.1f}%  {:7} {}\n", size_text(row.bytes),
               o.job.time_s * 1e6, o.bound.time_s * 1e6, o.algorithm_bytes_per_s * 1e-9, o.bus_bytes_per_s * 1e-9,
               row.use.busiest * 100, row.use.mean * 100, o.checked ? "right" : "timing", o.plan);
  }
  if (options.fidelity == "flow") {
    std::string shared;
    for (const Row &row : rows) {
      if (!row.error && row.outcome.job.train_packets == 0)
        shared += (shared.empty() ? "" : ", ") + size_text(row.bytes);
    }
    if (!shared.empty()) fmt::print("links shared max-min fairly, without queues (flow.steps): {}\n", shared);
  }
  const Row &last = rows.back();
  if (!last.error) {
    fmt::print("bound of the last: {}; busiest link {}\n", last.outcome.bound.reason, last.use.busiest_link);
  }
  return failed ? kDeviceFault : kDone;
}

int sparse(const CollectiveOptions &options) {
  if (options.type != "fp32") {
    throw UsageError(fmt::format("{} of {}, expected fp32", kSparse, options.type));
  }
  SparseCollectiveOptions sparse;
  sparse.cluster = options.cluster;
  sparse.fidelity = options.fidelity;
  sparse.method = options.sparse;
  sparse.density = options.density;
  sparse.format = options.format;
  sparse.trace = options.trace;
  sparse.sets = options.sets;
  sparse.faults = options.faults;
  sparse.sizes = parse_sizes(options.bytes);
  sparse.seed = options.seed;
  sparse.check_mib = options.check_mib;
  sparse.jobs = options.jobs;
  sparse.json = options.json;
  return sparse_allreduce(sparse);
}

}  // namespace

std::string size_text(uint64_t bytes) {
  static constexpr const char *kUnits[] = {"B", "KiB", "MiB", "GiB"};
  unsigned unit = 0;
  while (unit < 3 && bytes % 1024 == 0 && bytes != 0) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{} {}", bytes, kUnits[unit]);
}

void add_collective(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<CollectiveOptions>();
  CLI::App *command =
      app.add_subcommand("collective", "Collective operations of a simulated cluster (docs/network.md)");
  std::vector<std::string> operations, types;
  for (const auto &[name, operation] : kOperations) operations.push_back(name);
  operations.emplace_back(kSparse);
  for (const auto &[name, type] : kTypes) types.push_back(name);
  command->add_option("operation", options->operation, "What the cards do together")
      ->check(CLI::IsMember(operations))
      ->capture_default_str();
  command->add_option("--cluster", options->cluster, "Cluster: a YAML file, or the name of one that ships")
      ->capture_default_str();
  command->add_option("--set", options->sets, "Override of a cluster's key, as key.path=value; may be repeated")
      ->take_all()
      ->expected(1);
  command
      ->add_option("--bytes", options->bytes,
                   "Sizes of a rank's buffer: FIRST..LAST (each four times the one before), or a list with commas")
      ->capture_default_str();
  command->add_option("--algo", options->algorithm, "auto, or ring, tree, halving, doubling, direct, torus, hcp")
      ->capture_default_str();
  command->add_option("--fidelity", options->fidelity, "packet, or flow for a thousand cards and more")
      ->check(CLI::IsMember({"packet", "flow"}))
      ->capture_default_str();
  command->add_option("--type", options->type, "Elements")->check(CLI::IsMember(types))->capture_default_str();
  command->add_option("--chunks", options->chunks, "Parts that overlap; 0: the cost model chooses")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_option("--root", options->root, "broadcast: rank that has the data")->capture_default_str();
  command
      ->add_option(
          "--faults", options->faults,
          "link_down@link=A-B[,at_us=T][,until_us=T], slow_link@link=A-B,factor=F, lossy_link@link=A-B,loss=P, "
          "dead_node@node=N[,at_us=T]; may be repeated")
      ->take_all()
      ->expected(1);
  command->add_option("--check-mib", options->check_mib, "Rows that need more memory than this compute only time")
      ->capture_default_str();
  command->add_option("--trace", options->trace,
                      "File for ui.perfetto.dev: commands of every rank, use of every link; one size");
  command->add_option("--seed", options->seed, "Seed of the data")->capture_default_str();
  command->add_option("-j,--jobs", options->jobs, "Rows at a time; 0: one a core")->capture_default_str();
  command
      ->add_option("--sparse", options->sparse,
                   "sparse-allreduce: gather, oktopk; inter-node, inter-node-gather, inter-node-oktopk: dense in the "
                   "node, sparse between nodes")
      ->capture_default_str();
  command
      ->add_option("--format", options->format,
                   "sparse-allreduce: lists on the wire, pairs of 8 bytes or {index, gaps, bitmap}-{fp32, fp16, bf16}; "
                   "others than pairs by gather only")
      ->check(CLI::IsMember(collective::sparse_formats()))
      ->capture_default_str();
  command->add_option("--density", options->density, "sparse-allreduce: share of the elements that a rank sends")
      ->capture_default_str();
  command->add_flag("--json", options->json, "JSON instead of a table");
  command->callback([options, &invocation] {
    invocation.action = [options] { return options->operation == kSparse ? sparse(*options) : collective(*options); };
  });
}

}  // namespace cx::tools
