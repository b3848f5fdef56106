#include "hw/vfio_user/side_doors.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

namespace cx::hw::vfio {

namespace {

constexpr int kPatienceMs = 1000;  // with a caller who sends nothing
constexpr std::size_t kLongestText = 1 << 16;

bool readable(int fd, int timeout_ms) {
  pollfd wait{fd, POLLIN, 0};
  return poll(&wait, 1, timeout_ms) > 0;
}

}  // namespace

SideDoors::~SideDoors() {
  for (const Door &door : doors_) unlink(door.path.c_str());
}

void SideDoors::add(const std::string &path, Handler handler) {
  doors_.push_back({path, cx::vfio::listen_at(path.c_str()), std::move(handler)});
}

bool SideDoors::serve_until(int other) {
  std::vector<pollfd> waits{{other, POLLIN, 0}};
  for (const Door &door : doors_) waits.push_back({door.listener.get(), POLLIN, 0});
  if (poll(waits.data(), waits.size(), -1) <= 0) return true;
  serve();
  return waits[0].revents == 0;
}

void SideDoors::serve() {
  for (const Door &door : doors_) {
    if (!readable(door.listener.get(), 0)) continue;
    const cx::vfio::Fd caller(accept4(door.listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (caller) answer(door, caller);
  }
}

void SideDoors::answer(const Door &door, const cx::vfio::Fd &caller) {
  std::string text;
  while (text.find('\n') == std::string::npos && text.size() < kLongestText) {
    char part[4096];
    if (!readable(caller.get(), kPatienceMs)) return;
    const ssize_t bytes = read(caller.get(), part, sizeof part);
    if (bytes <= 0) return;
    text.append(part, static_cast<std::size_t>(bytes));
  }
  const std::string reply = door.handler(text.substr(0, text.find('\n'))) + "\n";
  [[maybe_unused]] const ssize_t sent = send(caller.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
}

}  // namespace cx::hw::vfio
