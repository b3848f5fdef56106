// Exceptions on the stacks of thread processes and on that of sc_start(): under the address sanitizer both have to be
// stacks that it knows.
#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>
#include <systemc>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace {

using sc_core::SC_NS;
using sc_core::sc_time;

// Whether the address sanitizer, if there is one, takes the stack that runs for the one that it clears.
bool sanitizer_knows_stack() {
#ifdef __SANITIZE_ADDRESS__
  void *fake = nullptr;
  const void *bottom = nullptr;
  std::size_t size = 0;
  char other = 0;
  __sanitizer_start_switch_fiber(&fake, &other, 1);
  __sanitizer_finish_switch_fiber(fake, &bottom, &size);
  __sanitizer_start_switch_fiber(&fake, bottom, size);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
  const auto *here = static_cast<const char *>(__builtin_frame_address(0));
  return here >= bottom && here < static_cast<const char *>(bottom) + size;
#else
  return true;
#endif
}

int deep(int levels) {
  volatile char frame[200] = {};
  frame[levels % 200] = 1;
  if (levels == 0) throw std::runtime_error("from below");
  return deep(levels - 1) + frame[levels % 200];
}

bool throws(int levels) {
  try {
    deep(levels);
  } catch (const std::runtime_error &) {
    return true;
  }
  return false;
}

TEST_CASE("exceptions on the stacks of thread processes") {
  struct Top : sc_core::sc_module {
    std::vector<std::string> log;
    sc_core::sc_event go;

    explicit Top(sc_core::sc_module_name name) : sc_module(name), go("go") {
      for (int number = 0; number < 3; ++number) {
        sc_core::sc_spawn([this, number] { body(number); }, ("thread" + std::to_string(number)).c_str());
      }
    }
    void body(int number) {
      for (int round = 0; round < 3; ++round) {
        const bool sound = sanitizer_knows_stack() && throws(40 + number) && sanitizer_knows_stack();
        log.push_back(std::to_string(number) + (sound ? " sound" : " lost"));
        if (round == 0) wait(sc_time(1 + number, SC_NS));
        if (round == 1) wait(sc_time(100, SC_NS), go);
      }
      for (;;) wait(go);  // the kernel does not announce the switch at a process's end
    }
  };
  Top top("top");
  const auto run = [&](double ns) {
    sc_core::sc_start(sc_time(ns, SC_NS));
    CHECK(sanitizer_knows_stack());
    CHECK(throws(60));
  };
  CHECK(throws(60));
  run(0.5);
  CHECK(top.log == std::vector<std::string>{"0 sound", "1 sound", "2 sound"});
  run(5);
  CHECK(top.log.size() == 6);
  top.go.notify();
  run(1);
  REQUIRE(top.log.size() == 9);
  for (const std::string &line : top.log) CHECK(line.ends_with("sound"));
}

}  // namespace
