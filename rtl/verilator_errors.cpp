// What happens when a Verilated model stops by itself, as a failed assertion does: an exception instead of an abort.
#include <verilated.h>

#include <stdexcept>
#include <string>

void vl_stop(const char *file, int line, const char *scope) VL_MT_UNSAFE {
  throw std::runtime_error("RTL assertion failed at " + std::string(file) + ":" + std::to_string(line) +
                           (scope != nullptr ? " in " + std::string(scope) : std::string()));
}

void vl_fatal(const char *file, int line, const char *, const char *message) VL_MT_UNSAFE {
  throw std::runtime_error("RTL simulation: " + std::string(message) + " at " + file + ":" + std::to_string(line));
}
