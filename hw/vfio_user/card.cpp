// The chip as a PCIe function behind the vfio-user server.
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "hw/common/port/cx_port.h"
#include "hw/common/port/cx_serve.h"
#include "hw/common/port/pci_id.h"
#include "hw/vfio_user/server.hpp"
#include "hw/vfio_user/side_doors.hpp"

namespace cx::hw::vfio {

namespace {

class Card final : public Function {
 public:
  Card(const char *yaml, const char *const *sets, size_t count) : yaml_(yaml), sets_(sets, sets + count) { open(); }
  ~Card() override { cx_port_close(port_); }

  std::uint64_t region_bytes(std::uint32_t index) const override {
    return index == wire::kConfig || index <= wire::kBar5 ? cx_port_region_bytes(port_, bar_of(index)) : 0;
  }

  std::optional<RegionMemory> region_memory(std::uint32_t index) const override {
    std::uint64_t bytes = 0;
    const int file = index <= wire::kBar5 ? cx_port_region_file(port_, bar_of(index), &bytes) : -1;
    if (file < 0) return std::nullopt;
    return RegionMemory{file, bytes};
  }

  bool read(std::uint32_t region, std::uint64_t offset, std::byte *to, std::size_t bytes) override {
    return in_pieces(region, offset, bytes, [&](std::uint64_t at, std::size_t done, std::size_t size) {
      return cx_port_read(port_, bar_of(region), at, to + done, size) == CX_PORT_OK;
    });
  }
  bool write(std::uint32_t region, std::uint64_t offset, const std::byte *from, std::size_t bytes) override {
    return in_pieces(region, offset, bytes, [&](std::uint64_t at, std::size_t done, std::size_t size) {
      return cx_port_write(port_, bar_of(region), at, from + done, size) == CX_PORT_OK;
    });
  }

  Mapped map(std::uint64_t address, std::uint64_t bytes, std::byte *memory, bool readable, bool writeable) override {
    return mapped(cx_port_dma_map(port_, address, bytes, memory, access(readable, writeable)));
  }
  Mapped map(std::uint64_t address, std::uint64_t bytes, HostLink &link, bool readable, bool writeable) override {
    const cx_port_window window = {
        &link,
        [](void *context, uint64_t iova, void *to, size_t size) {
          return static_cast<HostLink *>(context)->read(iova, static_cast<std::byte *>(to), size) ? 0 : -1;
        },
        [](void *context, uint64_t iova, const void *from, size_t size) {
          return static_cast<HostLink *>(context)->write(iova, static_cast<const std::byte *>(from), size) ? 0 : -1;
        }};
    return mapped(cx_port_dma_map_window(port_, address, bytes, &window, access(readable, writeable)));
  }
  void unmap(std::uint64_t address, std::uint64_t bytes) override { cx_port_dma_unmap(port_, address, bytes); }

  std::uint32_t vectors() const override { return CX_PCI_MSIX_VECTORS; }
  void arm(std::uint32_t vector, bool armed) override { cx_port_arm_vector(port_, vector, armed ? 1 : 0); }
  std::optional<std::uint32_t> take_interrupt() override {
    std::uint32_t vector = 0;
    if (cx_port_take_interrupt(port_, &vector) != 1) return std::nullopt;
    return vector;
  }

  bool take_error() override { return cx_port_take_error(port_) != 0; }
  bool allows_faults() const override { return cx_port_fault_door(port_) != 0; }
  std::string inject(const std::string &fault) override {
    return cx_port_inject(port_, fault.c_str()) == CX_PORT_OK ? "" : cx_port_error(port_);
  }

  /// Registers of BAR0 at hexadecimal offsets: simulated time in ps and their values, in hexadecimal.
  std::string peek(const std::string &line) const {
    std::istringstream words(line);
    std::ostringstream reply;
    reply << std::hex << cx_port_time_ps(port_);
    std::uint64_t offset = 0;
    while (words >> std::hex >> offset) {
      std::uint32_t value = 0;
      if (cx_port_peek(port_, offset, &value) != CX_PORT_OK) return std::string("error: ") + cx_port_error(port_);
      reply << ' ' << value;
    }
    return words.eof() ? reply.str() : "error: expected hexadecimal offsets";
  }

  void reset() override { cx_port_function_reset(port_); }
  void power_cycle() override {
    cx_port_close(port_);
    open();
  }

  Wake advance(std::uint64_t limit_ps) override {
    switch (cx_port_advance(port_, limit_ps)) {
      case CX_PORT_ADVANCED_INTERRUPT:
        return Wake::interrupt;
      case CX_PORT_ADVANCED_LIMIT:
        return Wake::limit;
      case CX_PORT_ADVANCED_IDLE:
        return Wake::idle;
      default:
        return Wake::broken;
    }
  }
  std::optional<std::uint64_t> peer_traffic(std::uint64_t offset, std::uint64_t bytes, bool write) override {
    std::uint64_t duration = 0;
    if (cx_port_peer_traffic(port_, offset, bytes, write ? 1 : 0, &duration) != CX_PORT_OK) return std::nullopt;
    return duration;
  }
  std::uint64_t time_ps() const override { return cx_port_time_ps(port_); }

 private:
  void open() {
    port_ = cx_port_open(yaml_.c_str(), sets_.data(), sets_.size());
    if (port_ == nullptr) throw std::runtime_error(cx_port_error(nullptr));
  }
  static int bar_of(std::uint32_t region) {
    return region == wire::kConfig ? static_cast<int>(CX_PORT_CONFIG_SPACE) : static_cast<int>(region);
  }
  static int access(bool readable, bool writeable) {
    return (readable ? CX_PORT_DMA_READ : 0) | (writeable ? CX_PORT_DMA_WRITE : 0);
  }
  static Mapped mapped(int result) {
    if (result == CX_PORT_OK) return Mapped::ok;
    return result == CX_PORT_OVERLAP ? Mapped::overlap : Mapped::bad;
  }
  // Configuration space takes naturally aligned accesses of 1, 2 and 4 bytes; a client may ask for any run of bytes.
  template <class Access>
  static bool in_pieces(std::uint32_t region, std::uint64_t offset, std::size_t bytes, Access access) {
    if (region != wire::kConfig) return access(offset, 0, bytes);
    for (std::size_t done = 0; done < bytes;) {
      const std::uint64_t at = offset + done;
      std::size_t size = 4;
      while (at % size != 0 || size > bytes - done) size /= 2;
      if (!access(at, done, size)) return false;
      done += size;
    }
    return true;
  }

  std::string yaml_;
  std::vector<const char *> sets_;
  cx_port *port_ = nullptr;
};

}  // namespace

}  // namespace cx::hw::vfio

extern "C" int cx_serve(const char *yaml_path, const char *const *sets, size_t set_count, const char *socket_path,
                        void (*ready)(void *context), void *context, char **text) {
  try {
    if (yaml_path == nullptr || socket_path == nullptr || (sets == nullptr && set_count != 0)) {
      throw std::invalid_argument("no configuration or no socket path");
    }
    cx_port_share_memory();
    cx::hw::vfio::Card card(yaml_path, sets, set_count);
    const cx::vfio::Fd listener = cx::vfio::listen_at(socket_path);
    cx::hw::vfio::Server server(card);
    cx::hw::vfio::SideDoors doors;
    doors.add(std::string(socket_path) + ".registers", [&card](const std::string &line) { return card.peek(line); });
    if (card.allows_faults()) {
      doors.add(std::string(socket_path) + ".faults", [&card](const std::string &line) {
        const std::string problem = card.inject(line);
        return problem.empty() ? std::string("ok") : "error: " + problem;
      });
    }
    server.open_doors(doors);
    if (ready != nullptr) ready(context);
    for (;;) {
      if (doors.serve_until(listener.get())) continue;
      cx::vfio::Fd client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client) {
        server.serve(std::move(client));
      } else if (errno != EINTR && errno != ECONNABORTED) {
        throw std::runtime_error(std::string(socket_path) + ": " + std::strerror(errno));
      }
    }
  } catch (const std::exception &error) {
    *text = strdup(error.what());
    return CX_PORT_BAD_CONFIG;
  }
}
