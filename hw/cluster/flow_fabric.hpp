// Messages as flows that share links max-min fairly: for clusters of a thousand cards. Rule: README.md.
#ifndef HW_CLUSTER_FLOW_FABRIC_HPP
#define HW_CLUSTER_FLOW_FABRIC_HPP

#include <memory>
#include <unordered_map>
#include <vector>

#include "hw/cluster/cluster_faults.hpp"
#include "hw/cluster/fifo.hpp"
#include "hw/cluster/topology.hpp"
#include "hw/cluster/train_network.hpp"
#include "hw/comm/fabric.hpp"

namespace cx::hw::net {

// What a message takes on an idle way besides its bytes over the narrowest link.
struct PathTime {
  Ps forth = 0;                      // from the last byte's departure at the narrowest link to its arrival
  Ps back = 0;                       // of an acknowledgement
  double wire_per_byte[2] = {1, 1};  // by Framing::Kind
  double narrowest = 0;              // payload bytes per second
};
// Of a message of `bytes`; `path` is not empty.
PathTime path_time(const Topology &topology, const std::vector<std::uint32_t> &path, std::uint64_t bytes);

class FlowFabric final : public Fabric, EventQueue::Handler, TrainNetwork::Owner {
 public:
  explicit FlowFabric(Topology &topology);

  // Before anything is sent: messages go as trains of packets through queues instead of sharing links max-min fairly.
  // `packets`: of a train. Not with faults.
  void follow_trains(std::uint32_t packets);
  // Throws ClusterFaultError for lossy links: flows know no packets.
  void inject(const ClusterFault &fault);

  EventQueue &queue() override { return queue_; }
  void listen(Listener &listener) override { listener_ = &listener; }
  void send(const Connection &connection, const std::byte *data, std::uint64_t bytes, std::uint32_t digest,
            std::uint64_t tag, bool awaited) override;
  void receive(const Connection &connection, std::byte *target, std::uint64_t bytes, std::uint64_t tag,
               bool announced) override;
  State state(const Connection &connection) override;
  FabricCounters counters() const override { return {}; }
  std::vector<double> wire_bytes() const override;

 private:
  struct Message {
    std::uint64_t bytes;
    const std::byte *data;
    std::uint64_t tag;
    Ps eligible;
    std::uint32_t digest;
    bool awaited;
  };
  struct Receive {
    std::byte *target;
    std::uint64_t bytes, tag;
    Ps known;  // to the sender
  };
  struct Use {
    std::uint32_t link;
    std::uint32_t place;  // in the link's list while active
    std::uint8_t framing;
  };
  // One direction between two ranks on one channel: one message at a time.
  struct Stream {
    Connection connection;
    std::uint32_t under_way = 0;         // of the messages: begun, not arrived; the last of them flows while `active`
    std::uint32_t delivered = 0;         // of these, as trains: there, not yet complete
    Fifo<std::uint64_t> unacknowledged;  // as trains: tags of what is there
    bool active = false, dead = false, frozen = false;
    bool packets = false;  // few enough that it matters which of them goes first
    bool last = false;     // of the packets: only the last is left
    std::uint32_t version = 0, mark = 0;
    std::vector<Use> uses;
    double left = 0, rate = 0, cap = 0;  // payload bytes, per second
    double share = 0;                    // while rates are computed
    std::uint64_t turn = 0;              // order of beginning
    Ps since = 0, last_arrival = 0;
    PathTime now_time;
    PathTime full;                // of a message of whole packets
    Fifo<Message> messages;       // not arrived
    Fifo<Receive> receives;       // the first belong to the messages under way
    Fifo<std::uint64_t> awaited;  // tags of what has drained and is not acknowledged
  };
  struct LinkState {
    double capacity = 0;  // wire bytes per second
    double carried = 0;
    std::vector<std::uint64_t> active;  // stream and use
    bool dirty = false;
    std::uint32_t mark = 0;
    double left = 0, load = 0;  // while rates are computed
    std::uint32_t before = 0;   // of take_turns(): messages with more than one packet left
  };
  enum What : std::uint32_t {
    kStart,
    kLast,
    kDrained,
    kArrived,
    kAcknowledged,
    kSolve,
    kFault,
    kFaultEnds,
    kReroute,
    kLost
  };

  void on_event(std::uint32_t what, std::uint64_t argument) override;
  void left(std::uint32_t stream) override;
  void delivered(std::uint32_t stream) override;
  void acknowledged(std::uint32_t stream) override;
  std::uint32_t stream_of(const Connection &connection);
  void route(Stream &stream);
  void try_start(std::uint32_t number);
  void begin(std::uint32_t number, double left);
  void end(std::uint32_t number);
  void touch(std::uint32_t link);
  void settle(Stream &stream);
  void solve();
  void share(const std::vector<std::uint32_t> &streams, const std::vector<std::uint32_t> &links);
  void set_rate(std::uint32_t number, double rate, bool turns);
  void take_turns(const std::vector<std::uint32_t> &streams);
  void drained(std::uint32_t number);
  void arrived(std::uint32_t number);
  void fault(std::size_t number, bool begins);

  Topology &topology_;
  EventQueue queue_;
  std::unique_ptr<TrainNetwork> trains_;
  std::vector<Stream> streams_;
  // By rank: streams by peer and channel, and the one that was asked for last.
  struct Numbers {
    std::uint64_t last_key = ~std::uint64_t{0};
    std::uint32_t last = 0;
    std::unordered_map<std::uint64_t, std::uint32_t> all;
  };
  std::vector<Numbers> numbers_;
  std::vector<LinkState> links_;
  std::vector<std::uint32_t> dirty_;
  struct Scratch {
    std::vector<std::uint32_t> dirty, streams, links, open, full, turns;
  };
  Scratch scratch_;  // of solve() and share()
  bool solving_ = false;
  std::uint64_t turns_ = 0;
  std::uint32_t mark_ = 0;
  std::vector<ClusterFault> faults_;
  std::vector<bool> dead_;  // nodes
  Listener *listener_ = nullptr;
};

}  // namespace cx::hw::net

#endif
