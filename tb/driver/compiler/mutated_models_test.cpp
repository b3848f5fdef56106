// Model files that are changed at random: each ends in a program or in a typed message, never in a crash, an endless
// run, another exception or the host's memory.
//
// Batches run in processes of their own, so that a crash is reported with the number of the mutant and the rest goes
// on. Environment: CX_MUTANTS (how many; default below), CX_MUTANT_SEED, CX_MUTANT (only this one, in the test's
// process).
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <random>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "tb/common/data.hpp"
#include "tb/driver/compiler/backend/bench.hpp"
#include "tb/driver/compiler/model_changes.hpp"
#include "tb/driver/compiler/onnx_model.hpp"

using namespace cx::compiler;
namespace fs = std::filesystem;
using Random = ModelRandom;

namespace {

constexpr uint64_t kDefaultMutants = 10'000;
constexpr uint64_t kDefaultSeed = 20260101;
constexpr uint64_t kBatch = 500;
constexpr int kSecondsOfCpu = 20;           // for one mutant
constexpr rlim_t kBytes = rlim_t{6} << 30;  // for a process
constexpr std::uintmax_t kLargestSeedFile = 64 * 1024;

// ---- files ----

template <class List>
auto &any_of(List &list, Random &random) {
  return list[random() % list.size()];
}

/// Models built here, and small ones that the machine has: the cases of the ONNX suites (of every operator) and the
/// reference models.
std::vector<onnx::ModelProto> seed_models() {
  std::vector<onnx::ModelProto> models = small_models();
  std::vector<fs::path> files;
  for (const fs::path &folder :
       {cx::tb::onnx_suites() / "node", cx::tb::onnx_suites() / "simple", cx::tb::data_dir() / "models"}) {
    if (!fs::exists(folder)) continue;
    for (const auto &entry : fs::recursive_directory_iterator(folder)) {
      if (entry.path().extension() == ".onnx" && entry.file_size() <= kLargestSeedFile) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  const std::size_t built = models.size();
  for (const fs::path &file : files) {
    std::ifstream in(file, std::ios::binary);
    onnx::ModelProto model;
    if (model.ParseFromIstream(&in)) models.push_back(std::move(model));
  }
  // Those built here come as often as those found.
  for (std::size_t i = 0; models.size() < 2 * files.size(); ++i) models.push_back(models[i % built]);
  return models;
}

void change_bytes(std::string &bytes, const std::vector<onnx::ModelProto> &seeds, Random &random) {
  if (bytes.empty()) return;
  const auto place = [&] { return random() % bytes.size(); };
  switch (random() % 5) {
    case 0:
      for (uint64_t i = 0, count = 1 + random() % 8; i < count; ++i) {
        bytes[place()] = static_cast<char>(random());
      }
      break;
    case 1:
      bytes[place()] ^= static_cast<char>(1U << random() % 8);
      break;
    case 2:
      bytes.resize(place());
      break;
    case 3: {  // a part of another file
      const std::string other = any_of(seeds, random).SerializeAsString();
      if (other.empty()) break;
      const std::size_t from = random() % other.size();
      bytes.insert(place(), other.substr(from, random() % 200));
      break;
    }
    default: {
      const std::size_t from = place();
      bytes.erase(from, random() % 32);
    }
  }
}

std::string mutant(const std::vector<onnx::ModelProto> &seeds, uint64_t seed) {
  Random random(seed);
  onnx::ModelProto model = any_of(seeds, random);
  const bool in_bytes = random() % 4 == 0;
  for (uint64_t i = 0, count = 1 + random() % 3; i < count && !in_bytes; ++i) change_model(model, seeds, random);
  std::string bytes = model.SerializeAsString();
  for (uint64_t i = 0, count = 1 + random() % 2; i < count && in_bytes; ++i) change_bytes(bytes, seeds, random);
  return bytes;
}

// ---- what becomes of it ----

enum class Outcome { refused, unsupported, imported, compiled };

/// Throws what is no typed error of the caller's input.
Outcome outcome_of(const fs::path &file, uint64_t seed) {
  Random random(seed);
  ImportOptions options;
  try {
    for (const InputInfo &info : inspect_onnx(file)) {
      Shape shape;
      bool open = false;
      for (const Dimension &dimension : info.shape) {
        open = open || dimension.value < 0;
        shape.push_back(dimension.value >= 0 ? dimension.value : dimension.symbol == "n" ? 1 : 4);
      }
      if (open) options.input_shapes[info.name] = shape;
    }
    const Graph graph = import_onnx(file, options);
    if (random() % 4 != 0) return Outcome::imported;
    compile(graph, cx::tb::tiny_target());
    return Outcome::compiled;
  } catch (const cx::UnsupportedError &error) {
    if (std::string(error.what()).size() < 10) throw std::logic_error("a message without content");
    return Outcome::unsupported;
  } catch (const cx::InputError &error) {
    if (std::string(error.what()).size() < 10) throw std::logic_error("a message without content");
    return Outcome::refused;
  }
}

/// What a batch tells the test.
struct Shared {
  uint64_t at = 0;  ///< mutant that is being tried
  uint64_t counts[4] = {};
  uint64_t failures = 0;
  struct {
    uint64_t index;
    char what[240];
  } failure[64];
};

void limit_process() {
#if !defined(__SANITIZE_ADDRESS__)
  const rlimit memory{kBytes, kBytes};
  setrlimit(RLIMIT_AS, &memory);
#endif
  const rlimit core{0, 0};
  setrlimit(RLIMIT_CORE, &core);
}

void allow_cpu(int seconds) {
  itimerval timer{};
  timer.it_value.tv_sec = seconds;
  setitimer(ITIMER_PROF, &timer, nullptr);
}

void add_failure(Shared &shared, uint64_t index, const std::string &what) {
  if (shared.failures < std::size(shared.failure)) {
    auto &entry = shared.failure[shared.failures];
    entry.index = index;
    std::strncpy(entry.what, what.c_str(), sizeof entry.what - 1);
  }
  ++shared.failures;
}

void try_one(const std::vector<onnx::ModelProto> &seeds, uint64_t seed, uint64_t index, const fs::path &file,
             Shared &shared) {
  std::ofstream(file, std::ios::binary) << mutant(seeds, seed + index);
  try {
    ++shared.counts[static_cast<int>(outcome_of(file, seed + index))];
  } catch (const std::exception &error) {
    add_failure(shared, index, std::string("exception: ") + error.what());
  }
}

/// Tries [begin, end); returns the first that is left.
uint64_t run_batch(const std::vector<onnx::ModelProto> &seeds, uint64_t seed, uint64_t begin, uint64_t end,
                   const fs::path &file, Shared &shared) {
  shared.at = begin;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    limit_process();
    for (uint64_t index = begin; index < end; ++index) {
      shared.at = index;
      allow_cpu(kSecondsOfCpu);
      try_one(seeds, seed, index, file, shared);
    }
    shared.at = end;
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  if (shared.at == end) return end;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF) {
    add_failure(shared, shared.at, "more than " + std::to_string(kSecondsOfCpu) + " s of CPU");
  } else if (WIFSIGNALED(status)) {
    add_failure(shared, shared.at, std::string("signal: ") + strsignal(WTERMSIG(status)));
  } else {
    add_failure(shared, shared.at, "the process ended with " + std::to_string(WEXITSTATUS(status)));
  }
  return shared.at + 1;
}

uint64_t number_from(const char *variable, uint64_t fallback) {
  const char *text = std::getenv(variable);
  return text == nullptr ? fallback : std::stoull(text);
}

}  // namespace

TEST_CASE("changed model files give a program or a message") {
  const uint64_t seed = number_from("CX_MUTANT_SEED", kDefaultSeed);
  const uint64_t count = number_from("CX_MUTANTS", kDefaultMutants);
  const std::vector<onnx::ModelProto> seeds = seed_models();
  const TemporaryFile file("");
  if (std::getenv("CX_MUTANT") != nullptr) {
    const uint64_t index = number_from("CX_MUTANT", 0);
    std::ofstream("mutant.onnx", std::ios::binary) << mutant(seeds, seed + index);
    std::cout << "mutant " << index << " of seed " << seed << " is in mutant.onnx\n";
    CHECK_NOTHROW(outcome_of("mutant.onnx", seed + index));
    return;
  }
  void *memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  Shared &shared = *new (memory) Shared;
  for (uint64_t next = 0; next < count;) {
    next = run_batch(seeds, seed, next, std::min(next + kBatch, count), file.path(), shared);
  }
  std::cout << count << " mutants of " << seeds.size() << " models, seed " << seed << ": " << shared.counts[0]
            << " refused, " << shared.counts[1] << " unsupported, " << shared.counts[2] << " imported, "
            << shared.counts[3] << " compiled\n";
  for (uint64_t i = 0; i < std::min<uint64_t>(shared.failures, std::size(shared.failure)); ++i) {
    UNSCOPED_INFO("mutant " << shared.failure[i].index << " (CX_MUTANT=" << shared.failure[i].index
                            << " CX_MUTANT_SEED=" << seed << "): " << shared.failure[i].what);
  }
  CHECK(shared.failures == 0);
  // A test that refuses everything at the door tests nothing.
  CHECK(shared.counts[2] + shared.counts[3] > count / 20);
  CHECK(shared.counts[3] > count / 100);
  munmap(memory, sizeof(Shared));
}
