// Largest error of each vector function over all 2^32 inputs (POW: random pairs), and whether the backends agree.
//   cx_vmath_measure [--stride N] [--pairs N] [--compare-only | --errors-only] [FUNCTION...]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tb/hw/common/vmath_reference.hpp"

namespace {

using namespace cx::vmath;
constexpr size_t kBlock = 4096;

struct Worst {
  double ulps = 0;
  uint32_t a = 0, b = 0;
  uint64_t inputs = 0;
  uint64_t differences = 0;  // between backends

  void take(double u, uint32_t x, uint32_t y) {
    if (u > ulps) {
      ulps = u;
      a = x;
      b = y;
    }
  }
};

uint64_t differing(const std::vector<float> &x, const std::vector<float> &y, size_t n) {
  uint64_t count = 0;
  for (size_t i = 0; i < n; ++i) count += std::bit_cast<uint32_t>(x[i]) != std::bit_cast<uint32_t>(y[i]);
  return count;
}

Worst measure(Unary f, uint64_t stride, bool errors, bool compare) {
  const bool both = compare && available(Backend::AVX2);
  std::vector<float> x(kBlock), fast(kBlock), plain(kBlock);
  Worst worst;
  for (uint64_t start = 0; start < (uint64_t{1} << 32); start += stride * kBlock) {
    size_t n = 0;
    for (; n < kBlock && start + n * stride < (uint64_t{1} << 32); ++n) {
      x[n] = std::bit_cast<float>(static_cast<uint32_t>(start + n * stride));
    }
    apply(f, x.data(), fast.data(), n);
    worst.inputs += n;
    if (both) {
      kernels(Backend::PORTABLE).unary[static_cast<size_t>(f)](x.data(), plain.data(), n);
      worst.differences += differing(fast, plain, n);
    }
    if (!errors) continue;
    for (size_t i = 0; i < n; ++i) {
      worst.take(reference::ulps(fast[i], reference::value(f, x[i])), std::bit_cast<uint32_t>(x[i]), 0);
    }
  }
  return worst;
}

// Three quarters of the pairs have an ordinary result, one quarter any bits at all.
Worst measure(Binary f, uint64_t pairs, bool errors, bool compare) {
  const bool both = compare && available(Backend::AVX2);
  std::mt19937_64 random(2024);
  std::vector<float> a(kBlock), b(kBlock), fast(kBlock), plain(kBlock);
  Worst worst;
  for (uint64_t done = 0; done < pairs; done += kBlock) {
    for (size_t i = 0; i < kBlock; ++i) {
      const uint64_t bits = random();
      a[i] = std::bit_cast<float>(static_cast<uint32_t>(bits));
      b[i] = std::bit_cast<float>(static_cast<uint32_t>(bits >> 32));
      if (i % 4 != 0) {
        const double share = static_cast<double>(random() >> 11) * 0x1p-53 * 300.0 - 150.0;
        a[i] = std::bit_cast<float>(static_cast<uint32_t>(bits) & 0x7FFFFFFFu);
        if (i % 4 == 1) a[i] = 1.0f + std::ldexp(static_cast<float>(bits & 0xFFFF), -static_cast<int>(bits >> 60) - 17);
        b[i] = static_cast<float>(share / std::log2(static_cast<double>(a[i])));
      }
    }
    apply(f, a.data(), b.data(), fast.data(), kBlock);
    worst.inputs += kBlock;
    if (both) {
      kernels(Backend::PORTABLE).binary[static_cast<size_t>(f)](a.data(), b.data(), plain.data(), kBlock);
      worst.differences += differing(fast, plain, kBlock);
    }
    if (!errors) continue;
    for (size_t i = 0; i < kBlock; ++i) {
      worst.take(reference::ulps(fast[i], reference::value(f, a[i], b[i])), std::bit_cast<uint32_t>(a[i]),
                 std::bit_cast<uint32_t>(b[i]));
    }
  }
  return worst;
}

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

int main(int argc, char **argv) {
  uint64_t stride = 1;
  uint64_t pairs = uint64_t{1} << 30;
  bool errors = true;
  bool compare = true;
  std::vector<std::string> chosen;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--stride" && i + 1 < argc) {
      stride = std::max(1ull, std::strtoull(argv[++i], nullptr, 0));
    } else if (arg == "--pairs" && i + 1 < argc) {
      pairs = std::strtoull(argv[++i], nullptr, 0);
    } else if (arg == "--compare-only") {
      errors = false;
    } else if (arg == "--errors-only") {
      compare = false;
    } else if (arg[0] == '-') {
      std::fprintf(stderr,
                   "usage: cx_vmath_measure [--stride N] [--pairs N] [--compare-only | --errors-only] [FUNCTION...]\n");
      return 2;
    } else {
      chosen.push_back(arg);
    }
  }
  const auto wanted = [&](const char *name) {
    return chosen.empty() || std::find(chosen.begin(), chosen.end(), name) != chosen.end();
  };
  const auto report = [](const char *name, const Worst &w, double took) {
    std::printf("%-9s %.4f ulp at %08x %08x, %llu inputs, %llu differences between backends, %.0f s\n", name, w.ulps,
                w.a, w.b, static_cast<unsigned long long>(w.inputs), static_cast<unsigned long long>(w.differences),
                took);
    std::fflush(stdout);
  };
  for (size_t f = 0; f < kUnaryCount; ++f) {
    const auto function = static_cast<Unary>(f);
    if (!wanted(name(function))) continue;
    const double start = seconds();
    const Worst worst = measure(function, stride, errors, compare);
    report(name(function), worst, seconds() - start);
  }
  for (size_t f = 0; f < kBinaryCount; ++f) {
    const auto function = static_cast<Binary>(f);
    if (!wanted(name(function))) continue;
    const double start = seconds();
    const Worst worst = measure(function, pairs / stride, errors, compare);
    report(name(function), worst, seconds() - start);
  }
  return 0;
}
