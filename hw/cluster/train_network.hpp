// Messages as trains of packets that wait in queues: what flows that share at once cannot show. Rule: README.md.
#ifndef HW_CLUSTER_TRAIN_NETWORK_HPP
#define HW_CLUSTER_TRAIN_NETWORK_HPP

#include <cstdint>
#include <vector>

#include "hw/cluster/fifo.hpp"
#include "hw/cluster/topology.hpp"
#include "hw/link/event_queue.hpp"

namespace cx::hw::net {

class TrainNetwork final : EventQueue::Handler {
 public:
  class Owner {
   public:
    // The last packet of the stream's message has left its card: the next message may begin, from within the call.
    virtual void left(std::uint32_t stream) = 0;
    // The last packet of the stream's message is at the other card; its acknowledgement is back.
    virtual void delivered(std::uint32_t stream) = 0;
    virtual void acknowledged(std::uint32_t stream) = 0;

   protected:
    ~Owner() = default;
  };

  // Trains have `packets` packets, fewer at a message's end and where a window or a link's credits are small. One size
  // for all messages: streams of a card take turns by trains.
  TrainNetwork(const Topology &topology, EventQueue &queue, Owner &owner, std::uint32_t packets);

  // Streams are numbered from 0 without gaps. Links from card to card, and back for acknowledgements.
  void add_stream(std::uint32_t stream, const std::vector<std::uint32_t> &forth,
                  const std::vector<std::uint32_t> &back);
  // One message at a time: not before left() of the one before.
  void begin(std::uint32_t stream, std::uint64_t bytes);
  // Bytes on the wire since the start, headers included.
  double carried(std::uint32_t link) const { return links_[link].carried; }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Train {
    std::uint32_t stream = 0, packets = 0, bytes = 0, next = kNone;
    std::uint32_t charged = 0;  // credits of the link that it came by
    std::uint32_t hop = 0;      // next link of its way
    bool first = false, last = false;
    bool is_acknowledgement = false;  // of `packets`; `last`: and of a message
    Ps tail = 0;                      // its last packet's arrival at the vertex where it is
  };
  struct Queue {
    std::uint32_t head = kNone, tail = kNone;
  };
  struct LinkState {
    Framing framing;
    double bytes_per_second = 0, carried = 0;
    Ps latency = 0, delay = 0;
    std::uint64_t credit_bytes = 0;
    std::int64_t credits = 0;
    Queue data, acknowledgements;
    bool from_card = false, busy = false, staging = false;
    bool paused = false, pausing = false;
    std::uint64_t holds = 0;    // bytes that came by this link and wait at its end
    Fifo<std::uint32_t> ready;  // streams of the card that take turns
  };
  struct Stream {
    std::uint32_t path_begin = 0, hops = 0, back_begin = 0, back_hops = 0;
    std::uint32_t most = 1;  // packets of a train
    std::uint64_t left = 0;  // bytes of the message that goes
    bool going = false, fresh = false, queued = false;
    std::uint32_t in_flight = 0, unreported = 0;  // packets
    Ps last_arrival = 0;
  };
  enum What : std::uint32_t { kFree, kHead, kDelivered, kCredits, kPause, kResume };

  void on_event(std::uint32_t what, std::uint64_t argument) override;
  bool sendable(const Stream &stream) const { return stream.going && stream.in_flight < window_; }
  void activate(std::uint32_t stream);
  void stage(std::uint32_t link);
  void append(Queue &queue, std::uint32_t train);
  void try_send(std::uint32_t link);
  void head_arrived(std::uint32_t train);
  void train_delivered(std::uint32_t train);
  void leave_buffer(std::uint32_t link, const Train &train, Ps credits_at);
  std::uint64_t wire_bytes(const LinkState &link, const Train &train) const;
  std::uint32_t link_at(const Train &train, std::uint32_t hop) const {
    const Stream &stream = streams_[train.stream];
    return paths_[(train.is_acknowledgement ? stream.back_begin : stream.path_begin) + hop];
  }
  std::uint32_t hops(const Train &train) const {
    const Stream &stream = streams_[train.stream];
    return train.is_acknowledgement ? stream.back_hops : stream.hops;
  }
  std::uint32_t make_train();

  EventQueue &queue_;
  Owner &owner_;
  std::uint32_t packets_, mtu_, ack_packets_;
  std::uint32_t window_;  // packets
  bool pauses_;
  std::uint64_t xoff_, xon_;
  std::vector<LinkState> links_;
  std::vector<Stream> streams_;
  std::vector<std::uint32_t> paths_;
  std::vector<Train> trains_;
  std::uint32_t free_ = kNone;
};

}  // namespace cx::hw::net

#endif
