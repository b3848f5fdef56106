#include <thread>

#include "driver/include/cx/cx.h"
#include "driver/runtime/program.hpp"
#include "tb/driver/runtime/sample_program.hpp"

extern "C" int write_sample_program(const char *path, uint64_t arch_hash) {
  try {
    cx::save(cx::test::sample_program(arch_hash), path);
    return 0;
  } catch (const std::exception &) {
    return 1;
  }
}

extern "C" cx_result signal_between_threads(cx_device *device) {
  constexpr uint64_t kRounds = 10;
  cx_timeline *ping = nullptr, *pong = nullptr;
  cx_result here = cx_timeline_create(device, 0, &ping), there = cx_timeline_create(device, 0, &pong);
  const auto answer = [&] {
    for (uint64_t i = 1; i <= kRounds && there == CX_SUCCESS; ++i) {
      there = cx_timeline_wait(ping, i, 0, 60'000);
      if (there == CX_SUCCESS) there = cx_timeline_signal(pong, i);
    }
  };
  std::thread other(answer);
  for (uint64_t i = 1; i <= kRounds && here == CX_SUCCESS; ++i) {
    here = cx_timeline_signal(ping, i);
    if (here == CX_SUCCESS) here = cx_timeline_wait(pong, i, 0, 60'000);
  }
  cx_timeline_signal(ping, kRounds);
  other.join();
  cx_timeline_free(ping);
  cx_timeline_free(pong);
  return here != CX_SUCCESS ? here : there;
}

extern "C" cx_result info_from_thread(cx_device *device, cx_device_info *info) {
  cx_result result = CX_ERROR_INTERNAL;
  std::thread([&] { result = cx_device_get_info(device, info); }).join();
  return result;
}
