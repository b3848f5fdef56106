// The error of an access that the card refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cx {

/// "read of BAR0 offset 0x10 size 4"
std::string access_text(const std::string &operation, int bar, uint64_t offset, size_t size);

/// Throws DeviceFault with status BAD_ADDRESS.
[[noreturn]] void refused_access(const std::string &operation, int bar, uint64_t offset, size_t size,
                                 const std::string &reason);

}  // namespace cx
