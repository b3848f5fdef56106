#include "hw/noc/store.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "hw/common/num/whole.hpp"

namespace cx::hw {

namespace {

constexpr std::uint64_t kLargePage = std::uint64_t{1} << 21;
constexpr std::uint64_t kPage = 4096;

[[noreturn]] void fail(const char *what, const char *doing) {
  throw std::system_error(errno, std::generic_category(), std::string(what) + ": " + doing + " the store");
}

}  // namespace

Store::Store(std::uint64_t bytes, const char *what, bool shared) : bytes_(num::round_up(bytes, kPage)), what_(what) {
  if (shared) {
    shared_ = std::make_unique<SharedMemory>(bytes_);
    data_ = reinterpret_cast<std::byte *>(shared_->data());
    return;
  }
  // Aligned for large pages; what lies before and after goes back, so that an access beyond the end is noticed.
  const std::uint64_t slack = bytes_ >= kLargePage ? kLargePage : 0;
  void *mapped =
      ::mmap(nullptr, bytes_ + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) fail(what_, "reserving");
  auto *first = static_cast<std::byte *>(mapped);
  data_ = first;
  if (slack == 0) return;
  const auto address = reinterpret_cast<std::uintptr_t>(first);
  const std::uint64_t before = num::round_up(address, kLargePage) - address;
  data_ = first + before;
  if (before != 0) ::munmap(first, before);
  if (slack != before) ::munmap(data_ + bytes_, slack - before);
  ::madvise(data_, bytes_, MADV_HUGEPAGE);  // a wish: the host may have none
}

Store::~Store() {
  if (!shared_) ::munmap(data_, bytes_);
}

void Store::clear() {
  if (shared_) {
    shared_->renew();
    return;
  }
  // Anonymous private pages read as zero again.
  if (::madvise(data_, bytes_, MADV_DONTNEED) != 0) fail(what_, "clearing");
}

}  // namespace cx::hw
