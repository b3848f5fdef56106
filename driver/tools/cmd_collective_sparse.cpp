// cx collective sparse-allreduce.
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "driver/collective/sparse.hpp"
#include "driver/tools/collective_rows.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/sparse_collective.hpp"
#include "driver/tools/trace/collective_trace.hpp"

namespace cx::tools {
namespace {

using namespace cx::collective;

struct Row {
  SparseSpec spec;
  bool checked = false;
  SparseOutcome sparse;
  Outcome dense;
  std::unique_ptr<CollectiveError> error;
};

Row run_row(const SparseCollectiveOptions &options, uint64_t bytes) {
  const Cluster cluster = Cluster::open(options.cluster, options.sets);
  Row row;
  SparseSpec &spec = row.spec;
  spec.method = options.method;
  spec.count = std::max<uint64_t>(bytes / 4, 1);
  spec.format = options.format;
  spec.k = k_of_density(spec.count, options.density);
  spec.fidelity = options.fidelity == "packet" ? Fidelity::kPacket : Fidelity::kFlow;
  spec.faults = options.faults;
  std::optional<CollectiveTrace> trace;
  if (!options.trace.empty()) spec.observer = &trace.emplace(options.trace, cluster);
  try {
    uint64_t needed = 0;
    for (const uint64_t of_rank : sparse_layout(cluster, spec).memory_bytes) needed += of_rank;
    row.checked = needed <= options.check_mib << 20;
    row.sparse = row.checked ? run_sparse_checked(cluster, spec, options.seed) : run_sparse(cluster, spec);
    Spec dense;
    dense.count = spec.count;
    dense.fidelity = spec.fidelity;
    dense.faults = spec.faults;
    row.dense = run(cluster, dense);
  } catch (const CollectiveError &error) {
    row.error = std::make_unique<CollectiveError>(error);
  }
  if (trace) trace->finish();
  spec.observer = nullptr;
  return row;
}

double ratio(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

nlohmann::ordered_json json_of(const Row &row) {
  nlohmann::ordered_json json = {{"bytes", row.spec.count * 4}, {"k", row.spec.k}};
  if (row.error) {
    json.update({{"status", to_string(row.error->kind)},
                 {"rank", row.error->rank},
                 {"peer", row.error->peer},
                 {"qp", row.error->qp},
                 {"bytes_outstanding", row.error->bytes_outstanding},
                 {"found_at_us", row.error->time_s * 1e6},
                 {"message", row.error->what()}});
    return json;
  }
  const SparseOutcome &o = row.sparse;
  json.update({{"status", "done"},
               {"schedule", o.plan},
               {"time_us", o.job.time_s * 1e6},
               {"lower_bound_us", o.bound.time_s * 1e6},
               {"lower_bound_reason", o.bound.reason},
               {"checked", row.checked},
               {"moved_bytes", o.job.payload_bytes},
               {"moved_between_nodes", o.job.network_bytes},
               {"most_sent_by_a_rank", o.most_sent},
               {"most_received_by_a_rank", o.most_received},
               {"dense_ring_bytes", o.dense_ring_bytes},
               {"of_dense_ring", o.volume_ratio()}});
  json["dense"] = {{"schedule", row.dense.plan},
                   {"time_us", row.dense.job.time_s * 1e6},
                   {"moved_bytes", row.dense.job.payload_bytes},
                   {"moved_between_nodes", row.dense.job.network_bytes}};
  json["of_dense"] = ratio(o.job.payload_bytes, row.dense.job.payload_bytes);
  json["of_dense_between_nodes"] = ratio(o.job.network_bytes, row.dense.job.network_bytes);
  json["gain"] = row.dense.job.time_s / o.job.time_s;
  return json;
}

}  // namespace

int sparse_allreduce(const SparseCollectiveOptions &options) {
  const Cluster cluster = Cluster::open(options.cluster, options.sets);
  if (!options.trace.empty() && options.sizes.size() != 1) {
    throw UsageError(fmt::format("--trace: --bytes is {} sizes, expected one", options.sizes.size()));
  }
  std::vector<Row> rows(options.sizes.size());
  run_rows(rows.size(), options.jobs, [&](std::size_t row) { rows[row] = run_row(options, options.sizes[row]); });

  bool failed = false;
  for (const Row &row : rows) failed |= row.error != nullptr;
  const cx_cluster_shape &shape = cluster.shape();
  if (options.json) {
    nlohmann::ordered_json json = {{"cluster", shape.name},
                                   {"topology", shape.kind},
                                   {"ranks", shape.ranks},
                                   {"nodes", shape.nodes},
                                   {"cards_per_node", shape.cards_per_node},
                                   {"operation", "sparse-allreduce"},
                                   {"method", options.method},
                                   {"density", options.density},
                                   {"format", options.format},
                                   {"fidelity", options.fidelity},
                                   {"faults", options.faults}};
    json["rows"] = nlohmann::ordered_json::array();
    for (const Row &row : rows) json["rows"].push_back(json_of(row));
    fmt::print("{}\n", json.dump(2));
    return failed ? kDeviceFault : kDone;
  }
  fmt::print("sparse-allreduce of fp32 on {}: {} ranks, {} nodes of {} cards, {}; {}, density {}; {} fidelity\n",
             shape.name, shape.ranks, shape.nodes, shape.cards_per_node, shape.kind, options.method, options.density,
             options.fidelity);
  for (const std::string &fault : options.faults) fmt::print("fault: {}\n", fault);
  fmt::print("{:>9} {:>12} {:>12} {:>6} {:>12} {:>8} {:>8} {:>8}  {:7} {}\n", "bytes", "time us", "dense us", "gain",
             "moved MB", "of ring", "of dense", "network", "result", "schedule; dense");
  for (const Row &row : rows) {
    if (row.error) {
      fmt::print("{:>9} {}: {} (found at {:.1f} us)\n", size_text(row.spec.count * 4), to_string(row.error->kind),
                 row.error->what(), row.error->time_s * 1e6);
      continue;
    }
    const SparseOutcome &o = row.sparse;
    const JobReport &dense = row.dense.job;
    fmt::print("{:>9} {:>12.2f} {:>12.2f} {:>5.2f}x {:>12.3f} {:>7.1f}% {:>7.1f}% {:>7.1f}%  {:7} {}; {}\n",
               size_text(row.spec.count * 4), o.job.time_s * 1e6, dense.time_s * 1e6, dense.time_s / o.job.time_s,
               static_cast<double>(o.job.payload_bytes) * 1e-6, o.volume_ratio() * 100,
               ratio(o.job.payload_bytes, dense.payload_bytes) * 100,
               ratio(o.job.network_bytes, dense.network_bytes) * 100, row.checked ? "right" : "timing", o.plan,
               row.dense.plan);
  }
  fmt::print(
      "moved: payload of all ranks; of ring: against a dense ring, 2 (ranks - 1) bytes; of dense, network: "
      "against the dense schedule, all and between nodes\n");
  return failed ? kDeviceFault : kDone;
}

}  // namespace cx::tools
