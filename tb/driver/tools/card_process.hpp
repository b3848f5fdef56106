// A card as a process of its own.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

namespace cx::tb {

/// cx device in the background until the end of the test; `ready` is what it prints.
class CardProcess {
 public:
  explicit CardProcess(const std::string &arguments, unsigned cards = 1) {
    const std::string command = std::string("exec ") + CX_BINARY + " device " + arguments;
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    child_ = fork();
    if (child_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      close(ends[0]);
      close(ends[1]);
      execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      _exit(127);
    }
    close(ends[1]);
    for (unsigned lines = 0; lines < cards;) {
      char byte = 0;
      if (read(ends[0], &byte, 1) != 1) break;
      ready += byte;
      lines += byte == '\n';
    }
    close(ends[0]);
  }
  ~CardProcess() { end(); }
  int end() {
    if (child_ <= 0) return -1;
    kill(child_, SIGTERM);
    int status = 0;
    waitpid(child_, &status, 0);
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string ready;

  pid_t pid() const { return child_; }

 private:
  pid_t child_ = -1;
};

}  // namespace cx::tb
