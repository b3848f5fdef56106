// Numbers in messages.
#pragma once

#include <cstdint>
#include <sstream>
#include <string>

namespace cx {

inline std::string hex(uint64_t value) {
  std::ostringstream text;
  text << "0x" << std::hex << value;
  return text.str();
}

}  // namespace cx
