// A card in another process, over the vfio-user protocol.
#pragma once

#include <poll.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "driver/transport/transport.hpp"
#include "hw/common/vfio_user/channel.hpp"

namespace cx {

/// Client of `cx device`. The driver owns simulated time (vfio::kTimeCapability), so a run takes the same cycles as
/// with the card in this process. Memory of allocate() is shared with the card; other memory goes through messages.
/// Throws DeviceLostError from any call once the card's process is gone.
class VfioUserTransport final : public Transport {
 public:
  /// Connects to the socket at `path`. Throws InputError when nobody listens there or the peer is no such device.
  explicit VfioUserTransport(const std::string &path);
  ~VfioUserTransport() override;

  void read(int bar, uint64_t offset, void *data, size_t size) override;
  void write(int bar, uint64_t offset, const void *data, size_t size) override;
  std::byte *allocate(size_t bytes) override;
  void release(std::byte *memory, size_t bytes) override;
  void dma_map(uint64_t iova, size_t size, void *memory, bool writable) override;
  void dma_unmap(uint64_t iova, size_t size) override;
  bool map_peer(uint64_t iova, size_t size, Transport &peer, uint64_t offset, bool writable) override;
  uint64_t peer_traffic(uint64_t offset, uint64_t bytes, bool write) override;
  bool counts_peer_traffic() const override { return true; }
  Wake advance(uint64_t limit_ps) override;
  std::optional<uint32_t> take_interrupt() override;
  bool take_error() override;
  void inject(const std::string &fault) override;
  uint64_t time_ps() const override;

 private:
  struct Mirror {
    uint64_t size = 0;
    std::byte *memory = nullptr;
    bool writable = false;
  };
  static constexpr int kMemoryBar = 4;

  /// Takes the file behind BAR4 if the server offers one from the region's beginning.
  void fetch_memory_file();
  [[noreturn]] void lost() const;
  /// Sends a command and returns its reply; serves the card's own requests in between.
  vfio::Message request(uint16_t command, std::span<const std::byte> head, std::span<const std::byte> data = {},
                        std::span<const int> fds = {});
  /// The reply as a struct; throws InputError with what was expected when the command failed or the reply is short.
  template <class T>
  T query(uint16_t command, const T &question, const char *what);
  void negotiate();
  void set_up_interrupts();
  void serve_dma(const vfio::Message &message);
  std::byte *mirrored(uint64_t address, uint64_t bytes, bool write);
  void send_events(uint32_t kind, uint32_t first, const std::vector<int> &fds);
  void collect_interrupts();
  vfio::AdvanceReply ask_time(uint64_t limit_ps);

  std::string path_;
  std::unique_ptr<vfio::Channel> channel_;
  uint32_t transfer_ = vfio::kDefaultTransfer;  ///< bytes in one access
  uint32_t peer_fds_ = vfio::kDefaultFds;       ///< descriptors in one message
  std::vector<vfio::Fd> events_;                ///< by vector
  vfio::Fd error_event_;                        ///< of the error interrupt
  std::vector<pollfd> waits_;                   ///< for events_, then error_event_
  bool error_ = false;                          ///< the error interrupt has come
  bool faults_ = false;                         ///< the card lets faults be provoked
  std::deque<uint32_t> arrived_;
  vfio::Fd memory_file_;                    ///< behind BAR4, for other cards
  std::map<std::byte *, vfio::Fd> shared_;  ///< of allocate()
  std::map<uint64_t, Mirror> mirrors_;      ///< mappings without a descriptor, by address
  uint64_t time_ps_ = 0;
  bool time_known_ = true;
  uint16_t next_id_ = 1;
};

}  // namespace cx
