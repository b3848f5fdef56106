// A cluster of cards as the driver sees it: shape, ways, cuts, and jobs for its communication engines.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "driver/include/cx/error.hpp"
#include "hw/common/port/cx_cluster.h"

namespace cx {

/// A collective ended in an error: on which rank, and what that rank was waiting for. Tools exit with 3.
class CollectiveError : public DeviceFault {
 public:
  enum class Kind { kMismatch, kLength, kPeerLost, kWatchdog, kNoRoute, kFailed };
  CollectiveError(Kind kind, uint32_t rank, uint32_t peer, uint32_t qp, uint64_t bytes_outstanding, double time_s,
                  const std::string &message)
      : DeviceFault(Record{}, message),
        kind(kind),
        rank(rank),
        peer(peer),
        qp(qp),
        bytes_outstanding(bytes_outstanding),
        time_s(time_s) {}
  Kind kind;
  uint32_t rank, peer, qp;
  uint64_t bytes_outstanding;
  double time_s;  ///< simulated, at which it was found
};
const char *to_string(CollectiveError::Kind kind);

/// kShares: flow level that never follows trains of packets.
enum class Fidelity { kPacket = CX_CLUSTER_PACKET, kFlow = CX_CLUSTER_FLOW, kShares = CX_CLUSTER_SHARES };
enum class ElementType { kFp32 = CX_COMM_FP32, kInt32 = CX_COMM_INT32, kFp16 = CX_COMM_FP16, kBf16 = CX_COMM_BF16 };
uint64_t bytes_of(ElementType type);

/// What one job cost.
struct JobReport {
  double time_s = 0;
  uint64_t events = 0;
  uint64_t data_packets = 0, retransmitted = 0, dropped = 0, marked = 0, pauses = 0, notifications = 0, timeouts = 0;
  uint32_t train_packets = 0;  ///< flow level: packets of a train; 0: flows shared links max-min fairly
  uint64_t payload_bytes = 0;  ///< of all messages
  uint64_t network_bytes = 0;  ///< of messages between nodes
  std::vector<double> link_wire_bytes, rank_end_s;
  std::vector<uint64_t> rank_sent_bytes, rank_received_bytes;  ///< payload
};

/// What a job does, as it does it.
class JobObserver {
 public:
  /// A command is complete, ps: SEND and RECV since they were posted, others since they had the engine.
  virtual void command(uint32_t rank, const cx_comm_command &command, uint64_t begin_ps, uint64_t end_ps) = 0;
  /// Bytes that every link has carried since the beginning.
  virtual void links(uint64_t time_ps, const double *wire_bytes) = 0;

 protected:
  ~JobObserver() = default;
};

class Cluster {
 public:
  struct Link {
    std::string name;
    double bytes_per_s, payload_bytes_per_s;
    bool is_pcie;
  };
  struct Cut {
    std::string level, name;
    uint32_t first, count;
    double out_bytes_per_s, in_bytes_per_s;
  };
  struct Path {
    std::vector<uint32_t> links;
    double latency_s;  ///< of the message beyond its bytes over the slowest link
  };

  /// A YAML file, or the name of a cluster that ships. Throws InputError: file, line, column, key, what was expected;
  /// two ranks without a way to each other.
  static Cluster open(const std::string &file_or_name, const std::vector<std::string> &sets = {});

  const cx_cluster_shape &shape() const { return shape_; }
  uint32_t ranks() const { return shape_.ranks; }
  const std::vector<Link> &links() const { return links_; }
  const std::vector<Cut> &cuts() const { return cuts_; }
  Path path(uint32_t source, uint32_t target, uint32_t channel, uint64_t bytes) const;
  std::string yaml() const;

  /// Throws CollectiveError, InputError for a fault that cannot be read, UsageError for a wrong program.
  JobReport run(const std::vector<cx_comm_program> &programs, ElementType type, Fidelity fidelity,
                const std::vector<std::string> &faults = {}, JobObserver *observer = nullptr,
                double sample_s = 1e-6) const;
  cx_cluster *handle() const { return cluster_.get(); }

 private:
  struct Close {
    void operator()(cx_cluster *cluster) const { cx_cluster_close(cluster); }
  };
  std::unique_ptr<cx_cluster, Close> cluster_;
  cx_cluster_shape shape_{};
  std::vector<Link> links_;
  std::vector<Cut> cuts_;
};

}  // namespace cx
