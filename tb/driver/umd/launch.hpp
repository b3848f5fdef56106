// One launch with its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "driver/runtime/image_builder.hpp"
#include "driver/umd/device.hpp"
#include "hw/regs/gen/packets.h"

namespace cx::tb {

/// The segment table names image and two data segments.
struct Launch {
  Launch(Device &device, const std::vector<std::byte> &image_bytes, uint64_t data_bytes)
      : image(device.allocate(image_bytes.size(), ImageBuilder::kMaxAlign)),
        in(device.allocate(data_bytes)),
        out(device.allocate(data_bytes)),
        table(device.allocate(4 * sizeof(cx_segment))) {
    device.upload(image.address(), image_bytes);
    const cx_segment segments[4] = {
        {image.address(), image.size()}, {0, 0}, {in.address(), in.size()}, {out.address(), out.size()}};
    device.upload(table.address(), std::as_bytes(std::span(segments)));
  }
  Fence submit(Queue &queue, uint32_t timeout_kcycles = 0) const {
    return queue.launch(image.address(), static_cast<uint32_t>(image.size()), table.address(), 4, timeout_kcycles,
                        {.interrupt = true});
  }
  DeviceBuffer image, in, out, table;
};

}  // namespace cx::tb
