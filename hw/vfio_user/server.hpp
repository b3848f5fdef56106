// Serves one PCIe function to one vfio-user client at a time.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "hw/common/vfio_user/channel.hpp"
#include "hw/vfio_user/function.hpp"
#include "hw/vfio_user/side_doors.hpp"

namespace cx::hw::vfio {

namespace wire = cx::vfio;

class Server final : public HostLink {
 public:
  /// Simulated time between two looks at the socket while the function is busy and the client does not own time.
  static constexpr std::uint64_t kSlicePs = 20'000'000;
  static constexpr std::uint32_t kMaxTransfer = wire::kDefaultTransfer;
  static constexpr std::size_t kMaxMappings = 65535;

  explicit Server(Function &function) : function_(function) {}
  ~Server() { forget_client(); }

  /// The doors are looked after while a client is served; they outlive the server's use.
  void open_doors(SideDoors &doors) { doors_ = &doors; }

  /// Serves a client until it is gone, then unmaps its memory, closes its descriptors and power-cycles the function.
  void serve(wire::Fd connection);

  // ---- host memory without a descriptor: messages to the client ----
  bool read(std::uint64_t address, std::byte *to, std::uint64_t bytes) override;
  bool write(std::uint64_t address, const std::byte *from, std::uint64_t bytes) override;

 private:
  struct Reply {
    int error = 0;  ///< errno; 0: done
    std::vector<std::byte> payload{};
    std::optional<int> fd{};  ///< comes along; stays its owner's
  };
  struct Mapping {
    std::uint64_t bytes = 0;
    void *memory = nullptr;  ///< of mmap(); null: through messages
    std::size_t mapped_bytes = 0;
  };
  struct Vector {
    wire::Fd event;
    bool masked = false;
    bool pending = false;
  };

  void handle(wire::Message message);
  Reply dispatch(wire::Message &message);
  Reply version(const wire::Message &message);
  Reply dma_map(wire::Message &message);
  Reply dma_unmap(const wire::Message &message);
  Reply get_info(const wire::Message &message);
  Reply get_region_info(const wire::Message &message);
  Reply get_irq_info(const wire::Message &message);
  Reply set_irqs(wire::Message &message);
  Reply region_read(const wire::Message &message);
  Reply region_write(const wire::Message &message);
  Reply region_write_multi(const wire::Message &message);
  Reply device_reset();
  Reply advance(const wire::Message &message);
  Reply inject(const wire::Message &message);
  Reply peer_traffic(const wire::Message &message);
  int check_access(std::uint32_t region, std::uint64_t offset, std::uint64_t count) const;
  Reply reply_struct(const void *value, std::size_t bytes, std::uint32_t argsz) const;

  std::uint32_t irq_count(std::uint32_t index) const;
  void set_event(std::uint32_t index, std::uint32_t vector, wire::Fd event);
  void signal(std::uint32_t index, std::uint32_t vector);
  void deliver_interrupts();
  void unmap(std::map<std::uint64_t, Mapping>::iterator mapping);
  void forget_client();
  /// Asks the client to move bytes of its memory; nothing when it refuses or is gone.
  std::optional<wire::Message> ask(std::uint16_t command, std::span<const std::byte> head,
                                   std::span<const std::byte> data);

  Function &function_;
  SideDoors *doors_ = nullptr;
  std::optional<wire::Channel> channel_;
  bool gone_ = false;        ///< the client cannot be reached any more
  bool negotiated_ = false;  ///< VERSION was agreed
  bool owns_time_ = false;   ///< the client moves simulated time
  bool faults_ = false;      ///< the client may provoke faults
  bool busy_ = false;        ///< the function may have something to do
  std::uint32_t client_transfer_ = wire::kDefaultTransfer;
  bool takes_fds_ = true;  ///< descriptors may go to the client
  std::uint16_t next_id_ = 0;
  std::map<std::uint64_t, Mapping> mappings_;  ///< by address
  std::array<std::vector<Vector>, wire::kIrqs> irqs_;
  std::deque<wire::Message> waiting_;  ///< commands that came while a reply was awaited
};

}  // namespace cx::hw::vfio
