// cx device: a card as a process of its own.
#include <fmt/core.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include "driver/include/cx/error.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/trace/join_traces.hpp"
#include "driver/tools/trace/trace_file.hpp"
#include "hw/common/port/cx_serve.h"

namespace cx::tools {
namespace {

struct DeviceCommand {
  ChipOptions chip;
  std::string socket, trace;
  unsigned count = 1;
};

/// The sockets of this process, for the signal handler.
char socket_of_process[108];
char faults_of_process[sizeof socket_of_process + 8];  // of the door for faults, if there is one
char registers_of_process[sizeof socket_of_process + 16];

void leave(int) {
  unlink(socket_of_process);
  unlink(faults_of_process);
  unlink(registers_of_process);
  _exit(kDone);
}

int serve(const DeviceCommand &options, const std::string &path, const std::string &trace_path) {
  const std::string yaml = options.chip.path();
  std::vector<const char *> sets;
  for (const std::string &set : options.chip.sets) sets.push_back(set.c_str());
  std::strncpy(socket_of_process, path.c_str(), sizeof socket_of_process - 1);
  std::optional<TraceSignals> signals;
  std::optional<TraceFile> trace;
  if (!trace_path.empty()) {
    signals.emplace([] { leave(0); });
    signals->watch(&trace.emplace(trace_path, false));
  }
  std::snprintf(faults_of_process, sizeof faults_of_process, "%s.faults", socket_of_process);
  std::snprintf(registers_of_process, sizeof registers_of_process, "%s.registers", socket_of_process);
  const auto ready = [](void *context) {
    std::signal(SIGTERM, leave);
    std::signal(SIGINT, leave);
    fmt::print("listening at {}\n", *static_cast<const std::string *>(context));
    std::fflush(stdout);
  };
  char *text = nullptr;
  std::string copy = path;
  cx_serve(yaml.c_str(), sets.data(), sets.size(), path.c_str(), ready, &copy, &text);
  const std::unique_ptr<char, decltype(&std::free)> owner(text, std::free);
  throw InputError(text != nullptr ? text : "the card stopped");
}

/// One trace of those of all cards, which are kept when that fails.
void join_cards(const std::string &path, unsigned cards) {
  std::vector<std::string> parts;
  for (unsigned n = 0; n < cards; ++n) {
    const std::string part = path + "." + std::to_string(n);
    if (std::filesystem::exists(part)) parts.push_back(part);
  }
  if (parts.empty()) return;
  for (const std::string &part : join_traces(parts, path).cut) {
    fmt::print(stderr, "cx: the trace of a card broke off, {} has what was whole ({})\n", path, part);
  }
  for (const std::string &part : parts) std::filesystem::remove(part);
}

/// One process for each card: a process simulates one.
int serve_all(const DeviceCommand &options) {
  // The signals are waited for: those that end the command end the cards first, whose traces are joined then.
  sigset_t signals, before;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, &before);
  std::vector<pid_t> children;
  for (unsigned n = 0; n < options.count; ++n) {
    const pid_t child = fork();
    if (child < 0) throw Error("no process for card " + std::to_string(n));
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      sigprocmask(SIG_SETMASK, &before, nullptr);
      try {
        const std::string number = "." + std::to_string(n);
        serve(options, options.socket + number, options.trace.empty() ? "" : options.trace + number);
      } catch (const std::exception &error) {
        fmt::print(stderr, "cx: {}\n", error.what());
      }
      _exit(kBadInput);
    }
    children.push_back(child);
  }
  int signal = 0;
  sigwait(&signals, &signal);
  // The first card that ends ends the others.
  int status = 0;
  const pid_t ended = signal == SIGCHLD ? wait(&status) : -1;
  for (const pid_t child : children) {
    if (child != ended) kill(child, SIGTERM);
  }
  while (wait(nullptr) > 0) {
  }
  if (!options.trace.empty()) join_cards(options.trace, options.count);
  return WIFEXITED(status) ? WEXITSTATUS(status) : int{kDeviceFault};
}

int device(const DeviceCommand &options) {
  if (options.count == 1) return serve(options, options.socket, options.trace);
  return serve_all(options);
}

}  // namespace

void add_device(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<DeviceCommand>();
  CLI::App *command = app.add_subcommand("device", "Serve a card as a process of its own, over the vfio-user protocol");
  options->chip.add_to(*command, false);
  command->add_option("--socket", options->socket, "Socket to listen at; with --count N: SOCKET.0 to SOCKET.N-1")
      ->required();
  command->add_option("--count", options->count, "Cards to serve, each in a process")
      ->check(CLI::Range(1U, 64U))
      ->capture_default_str();
  command->add_option("--trace", options->trace,
                      "File for a timeline of what the card does, complete when the process is ended by a signal; with "
                      "--count N of all cards, joined at the end of FILE.0 to FILE.N-1");
  command->callback([options, &invocation] { invocation.action = [options] { return device(*options); }; });
}

}  // namespace cx::tools
