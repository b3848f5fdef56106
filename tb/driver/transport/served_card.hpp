// A card in a child process, for tests of the driver.
#pragma once

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "driver/umd/device.hpp"
#include "hw/common/port/cx_serve.h"

namespace cx::tb {

/// Serves `yaml` at a socket of its own until it is destroyed. The process must not have opened a card itself.
class ServedCard {
 public:
  explicit ServedCard(const std::string &yaml, const std::vector<std::string> &overrides = {}) {
    static unsigned number = 0;
    path_ = "/tmp/cx-test-" + std::to_string(getpid()) + "-" + std::to_string(number++) + ".sock";
    int ready[2];
    if (pipe(ready) != 0) throw std::runtime_error("no pipe");
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(ready[0]);
      std::vector<const char *> sets;
      for (const std::string &set : overrides) sets.push_back(set.c_str());
      char *text = nullptr;
      const auto tell = [](void *context) { (void)!write(*static_cast<int *>(context), "r", 1); };
      cx_serve(yaml.c_str(), sets.data(), sets.size(), path_.c_str(), tell, &ready[1], &text);
      std::fprintf(stderr, "card: %s\n", text != nullptr ? text : "?");
      _exit(1);
    }
    close(ready[1]);
    char byte = 0;
    const bool up = child_ > 0 && read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    if (!up) throw std::runtime_error("the card did not start");
  }
  ServedCard(const ServedCard &) = delete;
  ~ServedCard() {
    stop();
    unlink(path_.c_str());
  }

  std::string path() const { return path_; }
  std::string address() const { return "vfio-user:" + path_; }
  /// kill -9.
  void stop() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    child_ = -1;
  }

 private:
  std::string path_;
  pid_t child_ = -1;
};

/// The card that a test runs on: in this process, or with CX_TEST_TRANSPORT=vfio-user in a child process, which serves
/// all cases of the test one after the other.
inline std::unique_ptr<Device> open_test_card(const std::string &yaml, const DeviceOptions &options = {}) {
  const char *transport = std::getenv("CX_TEST_TRANSPORT");
  if (transport == nullptr || std::string(transport) == "inproc") return Device::open(yaml, options);
  static std::unique_ptr<ServedCard> card;
  static std::string served;
  std::string wanted = yaml;
  for (const std::string &set : options.overrides) wanted += " " + set;
  if (served != wanted) {
    card = std::make_unique<ServedCard>(yaml, options.overrides);
    served = wanted;
  }
  DeviceOptions rest = options;
  rest.overrides.clear();
  return Device::connect(card->address(), rest);
}

}  // namespace cx::tb
