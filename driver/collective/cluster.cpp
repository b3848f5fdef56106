#include "driver/collective/cluster.hpp"

#include <cstdlib>
#include <filesystem>

#include "driver/umd/shipped_files.hpp"

namespace cx {

namespace fs = std::filesystem;

const char *to_string(CollectiveError::Kind kind) {
  switch (kind) {
    case CollectiveError::Kind::kMismatch:
      return "mismatch";
    case CollectiveError::Kind::kLength:
      return "length";
    case CollectiveError::Kind::kPeerLost:
      return "peer lost";
    case CollectiveError::Kind::kWatchdog:
      return "watchdog";
    case CollectiveError::Kind::kNoRoute:
      return "no route";
    case CollectiveError::Kind::kFailed:
      return "failed";
  }
  return "?";
}

uint64_t bytes_of(ElementType type) { return type == ElementType::kFp16 || type == ElementType::kBf16 ? 2 : 4; }

namespace {

fs::path cluster_file(const std::string &file_or_name) {
  std::error_code error;
  if (fs::is_regular_file(file_or_name, error)) return file_or_name;
  const fs::path folder = shipped_folder("clusters");
  if (file_or_name.find('/') == std::string::npos && !folder.empty()) {
    const fs::path shipped = folder / (file_or_name + ".yaml");
    if (fs::is_regular_file(shipped, error)) return shipped;
  }
  throw InputError(file_or_name + ": no such cluster file, nor one that ships in " +
                   (folder.empty() ? "share/cxvp/clusters, which is not there" : folder.string()));
}

std::vector<const char *> pointers(const std::vector<std::string> &texts) {
  std::vector<const char *> out;
  for (const std::string &text : texts) out.push_back(text.c_str());
  return out;
}

}  // namespace

Cluster Cluster::open(const std::string &file_or_name, const std::vector<std::string> &sets) {
  const auto set_pointers = pointers(sets);
  Cluster cluster;
  cluster.cluster_.reset(cx_cluster_open(cluster_file(file_or_name).c_str(), set_pointers.data(), set_pointers.size()));
  if (!cluster.cluster_) throw InputError(cx_cluster_error(nullptr));
  const cx_cluster *handle = cluster.handle();
  cx_cluster_get_shape(handle, &cluster.shape_);
  for (std::size_t i = 0; i < cx_cluster_link_count(handle); ++i) {
    cx_cluster_link link;
    cx_cluster_get_link(handle, i, &link);
    cluster.links_.push_back({link.name, link.bytes_per_s, link.payload_bytes_per_s, link.is_pcie != 0});
  }
  for (std::size_t i = 0; i < cx_cluster_cut_count(handle); ++i) {
    cx_cluster_cut cut;
    cx_cluster_get_cut(handle, i, &cut);
    cluster.cuts_.push_back({cut.level, cut.name, cut.first, cut.count, cut.out_bytes_per_s, cut.in_bytes_per_s});
  }
  return cluster;
}

Cluster::Path Cluster::path(uint32_t source, uint32_t target, uint32_t channel, uint64_t bytes) const {
  Path path;
  path.links.resize(16);
  for (;;) {
    std::size_t count = 0;
    const int result = cx_cluster_path(handle(), source, target, channel, bytes, path.links.data(), path.links.size(),
                                       &count, &path.latency_s);
    if (result != CX_CLUSTER_OK) throw InputError(cx_cluster_error(handle()));
    const bool whole = count <= path.links.size();
    path.links.resize(count);
    if (whole) return path;
  }
}

std::string Cluster::yaml() const {
  char *text = nullptr;
  if (cx_cluster_show(handle(), &text) != CX_CLUSTER_OK) throw Error("the cluster's configuration cannot be printed");
  const std::unique_ptr<char, decltype(&std::free)> owner(text, std::free);
  return text;
}

JobReport Cluster::run(const std::vector<cx_comm_program> &programs, ElementType type, Fidelity fidelity,
                       const std::vector<std::string> &faults, JobObserver *observer, double sample_s) const {
  const auto fault_pointers = pointers(faults);
  struct Context {
    const std::vector<cx_comm_program> *programs;
    JobObserver *observer;
  } context{&programs, observer};
  const cx_comm_trace trace{
      &context,
      [](void *of, uint32_t rank, uint32_t index, uint64_t begin, uint64_t end) {
        const auto &[lists, seen] = *static_cast<Context *>(of);
        seen->command(rank, (*lists)[rank].commands[index], begin, end);
      },
      [](void *of, uint64_t time, const double *bytes) { static_cast<Context *>(of)->observer->links(time, bytes); },
      std::max<uint64_t>(1, static_cast<uint64_t>(sample_s * 1e12))};
  const cx_comm_job job{static_cast<int>(fidelity),
                        static_cast<int>(type),
                        programs.data(),
                        programs.size(),
                        fault_pointers.data(),
                        fault_pointers.size(),
                        observer != nullptr ? &trace : nullptr};
  cx_comm_report raw;
  const int result = cx_cluster_run(handle(), &job, &raw);
  if (result == CX_CLUSTER_BAD_ARGUMENT) throw UsageError(cx_cluster_error(handle()));
  if (result != CX_CLUSTER_OK) throw Error(cx_cluster_error(handle()));
  const std::unique_ptr<cx_comm_report, decltype(&cx_comm_report_free)> owner(&raw, cx_comm_report_free);
  if (raw.status != CX_COMM_DONE) {
    const auto kind = raw.status == CX_COMM_MISMATCH    ? CollectiveError::Kind::kMismatch
                      : raw.status == CX_COMM_LENGTH    ? CollectiveError::Kind::kLength
                      : raw.status == CX_COMM_PEER_LOST ? CollectiveError::Kind::kPeerLost
                      : raw.status == CX_COMM_WATCHDOG  ? CollectiveError::Kind::kWatchdog
                      : raw.status == CX_COMM_NO_ROUTE  ? CollectiveError::Kind::kNoRoute
                                                        : CollectiveError::Kind::kFailed;
    throw CollectiveError(kind, raw.rank, raw.peer, raw.qp, raw.bytes_outstanding, raw.time_s, raw.message);
  }
  JobReport report;
  report.time_s = raw.time_s;
  report.events = raw.events;
  report.data_packets = raw.data_packets;
  report.retransmitted = raw.retransmitted;
  report.dropped = raw.dropped;
  report.marked = raw.marked;
  report.pauses = raw.pauses;
  report.notifications = raw.notifications;
  report.timeouts = raw.timeouts;
  report.train_packets = raw.train_packets;
  report.payload_bytes = raw.payload_bytes;
  report.network_bytes = raw.network_bytes;
  report.link_wire_bytes.assign(raw.link_wire_bytes, raw.link_wire_bytes + links_.size());
  report.rank_end_s.assign(raw.rank_end_s, raw.rank_end_s + programs.size());
  report.rank_sent_bytes.assign(raw.rank_sent_bytes, raw.rank_sent_bytes + programs.size());
  report.rank_received_bytes.assign(raw.rank_received_bytes, raw.rank_received_bytes + programs.size());
  return report;
}

}  // namespace cx
