// The kernel's coroutines announce each switch of stacks to the address sanitizer. For the stack that sc_start() was
// called on they know no bounds and announce none; the sanitizer would then take what exceptions leave there for
// errors. This definition comes before the sanitizer's own and fills them in.
#include <dlfcn.h>
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>

#include <cstddef>

namespace {

struct Stack {
  void *bottom = nullptr;
  std::size_t size = 0;
};

Stack stack_of_host_thread() {
  Stack stack;
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return stack;
  pthread_attr_getstack(&attributes, &stack.bottom, &stack.size);
  pthread_attr_destroy(&attributes);
  return stack;
}

}  // namespace

extern "C" {

// For the linker, which takes this file from its library by this name.
extern const char cx_sanitizer_stacks;
const char cx_sanitizer_stacks = 0;

void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, std::size_t size) {
  using Function = void (*)(void **, const void *, std::size_t);
  static const auto next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "__sanitizer_start_switch_fiber"));
  if (bottom == nullptr) {
    thread_local const Stack host = stack_of_host_thread();
    bottom = host.bottom;
    size = host.size;
  }
  next(fake_stack, bottom, size);
}

}  // extern "C"
