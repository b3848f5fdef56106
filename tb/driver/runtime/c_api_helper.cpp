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

extern "C" cx_result info_from_thread(cx_device *device, cx_device_info *info) {
  cx_result result = CX_ERROR_INTERNAL;
  std::thread([&] { result = cx_device_get_info(device, info); }).join();
  return result;
}
