// The main of a fuzz target without libFuzzer: replays inputs and, if asked, mutated ones.
//
//   fuzz_packets [--runs N] [--seconds S] [--seed S] [--save FILE] [--write-seeds DIR] [FILE|DIR]...
//
// --runs and --seconds mutate inputs that were given, for so many inputs or so long. An input that ends the process is
// written to --save (default crash-<seed>).
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tb/fuzz/fuzz.hpp"

namespace {

namespace fs = std::filesystem;
using cx::fuzz::Bytes;

constexpr std::size_t kMaxBytes = 4096;

std::mt19937_64 mutations;
Bytes current;
std::string save_to;

void save_and_die(int number) {
  const int file = open(save_to.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file >= 0) {
    const bool written = write(file, current.data(), current.size()) == static_cast<ssize_t>(current.size());
    close(file);
    const char text[] = "fuzz: the input is in ";
    if (written && write(2, text, sizeof text - 1) > 0 && write(2, save_to.data(), save_to.size()) > 0) {
      if (write(2, "\n", 1) < 0) _exit(1);
    }
  }
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void run(const Bytes &input) {
  current = input;
  LLVMFuzzerTestOneInput(current.data(), current.size());
}

std::vector<Bytes> read_all(const std::vector<fs::path> &paths) {
  std::vector<fs::path> files;
  for (const fs::path &path : paths) {
    if (!fs::is_directory(path)) files.push_back(path);
    if (fs::is_directory(path)) {
      for (const auto &entry : fs::directory_iterator(path)) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<Bytes> inputs;
  for (const fs::path &file : files) {
    std::ifstream in(file, std::ios::binary);
    if (!in) cx::fuzz::fail("cannot read " + file.string());
    inputs.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return inputs;
}

void write_seeds(const fs::path &folder) {
  fs::create_directories(folder);
  int number = 0;
  for (const Bytes &seed : cx::fuzz::seeds()) {
    char name[16];
    std::snprintf(name, sizeof name, "%03d", number++);
    std::ofstream(folder / name, std::ios::binary)
        .write(reinterpret_cast<const char *>(seed.data()), static_cast<std::streamsize>(seed.size()));
  }
  std::printf("%d seeds in %s\n", number, folder.c_str());
}

Bytes mutated(const Bytes &from) {
  Bytes bytes = from;
  const std::size_t size = std::min(bytes.size(), kMaxBytes);
  bytes.resize(kMaxBytes);
  const std::size_t left =
      LLVMFuzzerCustomMutator != nullptr
          ? LLVMFuzzerCustomMutator(bytes.data(), size, kMaxBytes, static_cast<unsigned>(mutations()))
          : LLVMFuzzerMutate(bytes.data(), size, kMaxBytes);
  bytes.resize(left);
  return bytes;
}

}  // namespace

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) {
  Bytes bytes(data, data + size);
  const auto below = [](std::size_t end) {
    return static_cast<std::size_t>(mutations() % std::max<std::size_t>(end, 1));
  };
  for (std::size_t count = 1 + below(3); count != 0; --count) {
    const std::size_t at = below(bytes.size());
    const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    switch (bytes.empty() ? 1 : below(5)) {
      case 0:
        bytes[at] ^= static_cast<uint8_t>(1u << below(8));
        break;
      case 1:
        if (bytes.size() < max_size) bytes.insert(place, static_cast<uint8_t>(below(256)));
        break;
      case 2:
        bytes[at] = static_cast<uint8_t>(below(2) ? below(256) : below(2) * 255);
        break;
      case 3:
        bytes.erase(place, bytes.begin() + static_cast<std::ptrdiff_t>(std::min(bytes.size(), at + 1 + below(8))));
        break;
      default: {
        const std::size_t from = below(bytes.size());
        const std::size_t count = std::min({below(9), bytes.size() - at, bytes.size() - from});
        std::memmove(&bytes[at], &bytes[from], count);
      }
    }
  }
  return cx::fuzz::give(bytes, data, max_size);
}

int main(int argc, char **argv) {
  uint64_t runs = 0, seed = 1;
  double seconds = 0;
  std::vector<fs::path> paths;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&] {
      return i + 1 < argc ? argv[++i] : (std::fprintf(stderr, "%s what?\n", argv[i]), std::exit(2), argv[i]);
    };
    if (option == "--runs") {
      runs = std::strtoull(value(), nullptr, 0);
    } else if (option == "--seconds") {
      seconds = std::strtod(value(), nullptr);
    } else if (option == "--seed") {
      seed = std::strtoull(value(), nullptr, 0);
    } else if (option == "--save") {
      save_to = value();
    } else if (option == "--write-seeds") {
      write_seeds(value());
      return 0;
    } else {
      paths.emplace_back(option);
    }
  }
  if (save_to.empty()) save_to = "crash-" + std::to_string(seed);
  mutations.seed(seed);
  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM}) std::signal(number, save_and_die);

  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  const std::vector<Bytes> corpus = read_all(paths);
  for (const Bytes &input : corpus) run(input);
  uint64_t done = 0;
  Bytes input;
  while (!corpus.empty() && (done < runs || elapsed() < seconds)) {
    // A chain of mutations starts from a seed again now and then.
    if (done % 16 == 0) input = corpus[mutations() % corpus.size()];
    input = mutated(input);
    alarm(20);
    run(input);
    ++done;
  }
  std::printf("%zu inputs replayed, %llu mutated (seed %llu), %.1f s\n", corpus.size(),
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(seed), elapsed());
  return 0;
}
