#include "hw/vfio_user/fault_door.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

namespace cx::hw::vfio {

namespace {

constexpr int kPatienceMs = 1000;  // with a caller who sends nothing
constexpr std::size_t kLongestText = 4096;

bool readable(int fd, int timeout_ms) {
  pollfd wait{fd, POLLIN, 0};
  return poll(&wait, 1, timeout_ms) > 0;
}

}  // namespace

FaultDoor::FaultDoor(Function &function, const std::string &card_path)
    : function_(function), path_(card_path + ".faults"), listener_(cx::vfio::listen_at(path_.c_str())) {}

FaultDoor::~FaultDoor() { unlink(path_.c_str()); }

bool FaultDoor::serve_until(int other) {
  pollfd waits[2] = {{other, POLLIN, 0}, {listener_.get(), POLLIN, 0}};
  if (poll(waits, 2, -1) <= 0) return true;
  if ((waits[1].revents & POLLIN) != 0) serve();
  return waits[0].revents == 0;
}

void FaultDoor::serve() {
  if (!readable(listener_.get(), 0)) return;
  cx::vfio::Fd caller(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (caller) answer(std::move(caller));
}

void FaultDoor::answer(cx::vfio::Fd caller) {
  std::string text;
  while (text.find('\n') == std::string::npos && text.size() < kLongestText) {
    char part[256];
    if (!readable(caller.get(), kPatienceMs)) return;
    const ssize_t bytes = read(caller.get(), part, sizeof part);
    if (bytes <= 0) return;
    text.append(part, static_cast<std::size_t>(bytes));
  }
  const std::string problem = function_.inject(text.substr(0, text.find('\n')));
  const std::string reply = problem.empty() ? "ok\n" : "error: " + problem + "\n";
  [[maybe_unused]] const ssize_t sent = send(caller.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
}

}  // namespace cx::hw::vfio
