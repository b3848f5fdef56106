// A second socket beside a served card, by which faults are provoked whether or not it has a client.
#pragma once

#include <string>

#include "hw/common/vfio_user/channel.hpp"
#include "hw/vfio_user/function.hpp"

namespace cx::hw::vfio {

/// Listens at PATH.faults. A caller sends the text of a fault and a newline and gets "ok", or "error: " and why, and a
/// newline. Faults reach the card between messages of its client.
class FaultDoor {
 public:
  /// Throws std::runtime_error when it cannot listen.
  FaultDoor(Function &function, const std::string &card_path);
  ~FaultDoor();
  FaultDoor(const FaultDoor &) = delete;

  /// Serves whoever knocks until `other` has something to read. False at once when it has.
  bool serve_until(int other);
  /// Serves who has knocked; does not wait.
  void serve();

 private:
  void answer(cx::vfio::Fd caller);

  Function &function_;
  std::string path_;
  cx::vfio::Fd listener_;
};

}  // namespace cx::hw::vfio
