// Pinned host memory, device memory pools and copies between tensors of cx.h.
#include <span>
#include <string>

#include "driver/runtime/c_api.hpp"
#include "driver/umd/device_pool.hpp"

struct cx_host_memory {
  cx_device *owner;
  cx::HostBuffer buffer;              // of the library, or
  cx::HostRegistration registration;  // of the caller

  std::span<std::byte> bytes() const {
    return buffer ? std::span(buffer.data(), buffer.size()) : std::span(registration.data(), registration.size());
  }
};

using namespace cx::capi;

// ---- host memory ----

cx_result cx_host_memory_create(cx_device *device, uint64_t bytes, const char *name, cx_host_memory **memory) {
  return guarded([&] {
    require(device && memory, "device or memory is NULL");
    *memory = nullptr;
    return make(device, memory, device->device->allocate_host(bytes, true, name ? name : ""), cx::HostRegistration());
  });
}

cx_result cx_host_memory_register(cx_device *device, void *data, uint64_t bytes, int device_writes, const char *name,
                                  cx_host_memory **memory) {
  return guarded([&] {
    require(device && data && memory, "device, data or memory is NULL");
    *memory = nullptr;
    return make(
        device, memory, cx::HostBuffer(),
        device->device->register_host({static_cast<std::byte *>(data), bytes}, device_writes != 0, name ? name : ""));
  });
}

cx_result cx_host_memory_get_info(const cx_host_memory *memory, cx_host_memory_info *info) {
  return guarded([&] {
    require(memory != nullptr, "memory is NULL");
    cx_host_memory_info full{};
    full.data = memory->bytes().data();
    full.bytes = memory->bytes().size();
    full.registered = memory->registration ? 1 : 0;
    give(info, full);
    return CX_SUCCESS;
  });
}

cx_result cx_host_memory_free(cx_host_memory *memory) {
  return guarded([&] {
    if (memory && memory->owner->device->in_use(memory->bytes()))
      return fail(CX_ERROR_BUSY, "work that was given to the device uses this memory");
    return let_go(memory);
  });
}

// ---- pools ----

cx_result cx_device_pool_create(cx_device *device, const char *name, cx_device_pool **pool) {
  return guarded([&] {
    require(device && pool, "device or pool is NULL");
    *pool = nullptr;
    return make(device, pool, std::make_shared<cx::DevicePool>(*device->device, name ? name : "pool"));
  });
}

cx_result cx_device_pool_free(cx_device_pool *pool) {
  return guarded([&] { return let_go(pool); });
}

cx_result cx_device_pool_get_info(const cx_device_pool *pool, cx_device_pool_info *info) {
  return guarded([&] {
    require(pool != nullptr, "pool is NULL");
    const cx::DevicePool::Stats stats = pool->pool->stats();
    cx_device_pool_info full{};
    full.used_bytes = stats.used;
    full.reserved_bytes = stats.reserved;
    full.peak_used_bytes = stats.peak_used;
    full.peak_reserved_bytes = stats.peak_reserved;
    full.asked_bytes = stats.asked;
    full.allocations = stats.allocations;
    full.reused = stats.reused;
    full.free_blocks = stats.blocks;
    full.fragmentation = stats.fragmentation();
    give(info, full);
    return CX_SUCCESS;
  });
}

cx_result cx_device_pool_trim(cx_device_pool *pool, uint64_t keep_bytes, uint64_t *given_bytes) {
  return guarded([&] {
    require(pool != nullptr, "pool is NULL");
    const uint64_t given = pool->pool->trim(keep_bytes);
    if (given_bytes) *given_bytes = given;
    return CX_SUCCESS;
  });
}

// ---- copies ----

static_assert(CX_COPY_STAGED == static_cast<int>(cx::PeerCopy::Path::staged));
static_assert(CX_COPY_DIRECT == static_cast<int>(cx::PeerCopy::Path::direct));

cx_result cx_device_tensor_copy(const cx_device_tensor *to, const cx_device_tensor *from, cx_copy_info *info) {
  return guarded([&] {
    require_alike(to, from);
    require(!info || info->struct_size >= sizeof(size_t), "struct_size of info is not set");
    const cx::PeerCopy copy = cx::Device::copy_peer(*to->owner->device, to->tensor.address(), *from->owner->device,
                                                    from->tensor.address(), to->tensor.bytes());
    cx_copy_info full{};
    full.path = static_cast<uint32_t>(copy.path);
    full.duration_us = static_cast<double>(copy.duration_ps) * 1e-6;
    if (info) give(info, full);
    return CX_SUCCESS;
  });
}
