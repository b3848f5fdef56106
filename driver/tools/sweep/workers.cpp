#include "driver/tools/sweep/workers.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "driver/include/cx/error.hpp"

namespace cx::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct Try {
  SweepPoint point;
  uint32_t attempt = 1;
};

struct Child {
  Try work;
  pid_t pid = -1;
  int pipe = -1;
  Clock::time_point begin;
  std::string text;
  bool late = false;
};

[[noreturn]] void be_child(const SweepSpec &spec, const SweepPoint &point, int pipe, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  // What a point writes is not this command's output.
  const int nowhere = open("/dev/null", O_RDWR);
  dup2(nowhere, STDIN_FILENO);
  dup2(nowhere, STDOUT_FILENO);
  dup2(nowhere, STDERR_FILENO);
  std::string line;
  try {
    line = to_json_line(evaluate(spec, point)) + "\n";
  } catch (...) {
    _exit(1);
  }
  for (std::size_t at = 0; at < line.size();) {
    const ssize_t written = write(pipe, line.data() + at, line.size() - at);
    if (written < 0 && errno != EINTR) _exit(1);
    if (written > 0) at += static_cast<std::size_t>(written);
  }
  // Nothing is torn down: the process ends.
  _exit(0);
}

Child start(const SweepSpec &spec, Try work) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw Error(fmt::format("no pipe for a point: {}", std::strerror(errno)));
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    close(ends[0]);
    close(ends[1]);
    throw Error(fmt::format("no process for a point: {}", std::strerror(errno)));
  }
  if (pid == 0) {
    close(ends[0]);
    be_child(spec, work.point, ends[1], parent);
  }
  close(ends[1]);
  Child child;
  child.work = std::move(work);
  child.pid = pid;
  child.pipe = ends[0];
  child.begin = Clock::now();
  return child;
}

/// Reads what is there; whether the child has closed its end.
bool drained(Child &child) {
  char buffer[4096];
  const ssize_t got = read(child.pipe, buffer, sizeof buffer);
  if (got > 0) child.text.append(buffer, static_cast<std::size_t>(got));
  return got == 0 || (got < 0 && errno != EINTR);
}

std::string how_it_ended(const Child &child, int status, double timeout_s) {
  if (child.late) return fmt::format("took more than {} s", timeout_s);
  if (WIFSIGNALED(status))
    return fmt::format("its process was ended by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  return fmt::format("its process ended with status {} and no result", WEXITSTATUS(status));
}

}  // namespace

void run_in_processes(const SweepSpec &spec, const std::vector<SweepPoint> &points, unsigned jobs,
                      const SweepSink &done) {
  std::deque<Try> waiting;
  for (const SweepPoint &point : points) waiting.push_back({point, 1});
  std::vector<Child> running;
  const auto finish = [&](Child &child) {
    close(child.pipe);
    int status = 0;
    while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
    }
    const double wall_s = std::chrono::duration<double>(Clock::now() - child.begin).count();
    SweepResult result;
    if (!child.text.empty() && child.text.back() == '\n') {
      result = from_json_line(child.text);
    } else {
      result.state = SweepResult::State::failed;
      result.reason = how_it_ended(child, status, spec.timeout_s);
      result.wall_s = wall_s;
      if (child.work.attempt <= spec.retries) {
        waiting.push_back({child.work.point, child.work.attempt + 1});
        return;
      }
    }
    result.point = child.work.point;
    result.attempts = child.work.attempt;
    done(result);
  };
  try {
    while (!waiting.empty() || !running.empty()) {
      while (!waiting.empty() && running.size() < std::max(1u, jobs)) {
        Try next = std::move(waiting.front());
        waiting.pop_front();
        running.push_back(start(spec, std::move(next)));
      }
      std::vector<pollfd> ends;
      double left_s = spec.timeout_s;
      for (const Child &child : running) {
        ends.push_back({child.pipe, POLLIN, 0});
        left_s = std::min(left_s, spec.timeout_s - std::chrono::duration<double>(Clock::now() - child.begin).count());
      }
      const int ready = poll(ends.data(), ends.size(), static_cast<int>(std::clamp(left_s * 1000 + 1, 1.0, 60'000.0)));
      if (ready < 0 && errno != EINTR) throw Error(fmt::format("poll: {}", std::strerror(errno)));
      for (std::size_t i = running.size(); i-- > 0;) {
        Child &child = running[i];
        if (!child.late && std::chrono::duration<double>(Clock::now() - child.begin).count() > spec.timeout_s) {
          child.late = true;
          kill(child.pid, SIGKILL);
        }
        if (ready <= 0 || ends[i].revents == 0 || !drained(child)) continue;
        Child ended = std::move(child);
        running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
        finish(ended);
      }
    }
  } catch (...) {
    for (const Child &child : running) {
      kill(child.pid, SIGKILL);
      waitpid(child.pid, nullptr, 0);
      close(child.pipe);
    }
    throw;
  }
}

}  // namespace cx::tools
