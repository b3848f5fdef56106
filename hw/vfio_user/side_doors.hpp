// Sockets beside that of a served card, for who is not its client: they are served whether or not it has one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "hw/common/vfio_user/channel.hpp"

namespace cx::hw::vfio {

/// A caller of a door sends a line and gets a line. Lines reach the card between messages of its client.
class SideDoors {
 public:
  using Handler = std::function<std::string(const std::string &line)>;

  SideDoors() = default;
  ~SideDoors();
  SideDoors(const SideDoors &) = delete;
  SideDoors &operator=(const SideDoors &) = delete;

  /// Listens at `path`. Throws std::runtime_error when it cannot.
  void add(const std::string &path, Handler handler);

  /// Serves whoever knocks until `other` has something to read. False at once when it has.
  bool serve_until(int other);
  /// Serves who has knocked; does not wait.
  void serve();

 private:
  struct Door {
    std::string path;
    cx::vfio::Fd listener;
    Handler handler;
  };
  static void answer(const Door &door, const cx::vfio::Fd &caller);

  std::vector<Door> doors_;
};

}  // namespace cx::hw::vfio
