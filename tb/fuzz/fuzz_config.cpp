// Configurations of cards: each is refused with a message or resolves, and what it resolves to loads again as the same.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

#include "hw/config/config.hpp"
#include "tb/fuzz/fuzz.hpp"

using namespace cx;
using namespace cx::fuzz;

namespace {

/// A file in memory.
class File {
 public:
  explicit File(const std::string &text) : fd_(memfd_create("config", MFD_CLOEXEC)) {
    require(fd_ >= 0 && write(fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size()), "no file in memory");
  }
  ~File() { close(fd_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::string text(data, data + size);
  // Other files are no input of this target.
  if (text.find("include") != std::string::npos) return 0;
  config::Chip chip;
  try {
    chip = config::load(File(text).path());
  } catch (const std::exception &error) {
    require(*error.what() != '\0', "a configuration is refused without a message");
    return 0;
  }
  const config::Chip again = config::load(File(config::to_yaml(chip)).path());
  require(again == chip, "a resolved configuration does not load as the same");
  return 0;
}

std::vector<Bytes> fuzz::seeds() {
  const std::vector<std::string> texts = {
      "name: a\nchip: {clock_mhz: 500}\ndmmu:\n  tiles: 2\n  tile: {rows: 8, cols: 8, acc_rows: 256}\n  rtl_tiles: "
      "none\n",
      "dmmu:\n  rtl_tiles: [0, 3]\n  tiles: 4\n  dataflow: os\n  overlap_folds: false\n",
      "spm: {kib: 64, banks: 4}\ndram: {mib: 16, channels: 2, bandwidth_gbps: 12.8}\npcie: {gen: 3, width: 4}\n",
      "&a name: *a\n",
      "[1, 2, {a: b}]\n",
      "%YAML 1.2\n---\nvpu: {lanes: 8}\n...\n",
      "chip: {clock_mhz: 1e3}\n",
      "queues: {count: 0x4}\nsemaphores: {count: -1}\n",
      "name: \"\\u0041\\n\"\n",
      "? {a: 1}\n: b\n"};
  std::vector<Bytes> seeds;
  for (const std::string &text : texts) seeds.emplace_back(text.begin(), text.end());
  return seeds;
}
