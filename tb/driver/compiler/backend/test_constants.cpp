// Constants as the program holds them: each element by itself against what is written in parts, and shared places.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "driver/compiler/backend/tile.hpp"
#include "hw/common/num/formats.hpp"
#include "tb/common/seed.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::compiler::backend;

namespace {

using Bytes = std::vector<std::byte>;

/// Calls f with each index of a box in the order of memory that nests as `order`.
template <typename F>
void each_index(const Box &box, const std::vector<int> &order, F f) {
  Dims at(box.size.size(), 0);
  for (int64_t left = product(box.size); left > 0; --left) {
    f(at);
    for (std::size_t d = order.size(); d-- > 0;) {
      const auto dimension = static_cast<std::size_t>(order[d]);
      if (++at[dimension] < box.size[dimension]) break;
      at[dimension] = 0;
    }
  }
}

Bytes reference(const Tensor &tensor, const Box &box, const std::vector<int> &order, const Quantiser &quantiser) {
  const auto values = tensor.values<float>();
  Bytes bytes;
  each_index(box, order, [&](const Dims &at) {
    int64_t place = 0;
    for (std::size_t d = 0; d < at.size(); ++d) place = place * tensor.shape[d] + box.start[d] + at[d];
    float value = values[static_cast<std::size_t>(place)];
    if (!quantiser.factors.empty()) {
      const auto axis = static_cast<std::size_t>(std::max(quantiser.axis, 0));
      const int64_t index = quantiser.axis < 0 ? 0 : box.start[axis] + at[axis];
      value = static_cast<float>(value * quantiser.factors[static_cast<std::size_t>(index)]);
    }
    std::byte encoded[4];
    const auto size = static_cast<std::size_t>(element_bytes(quantiser.dtype));
    if (quantiser.dtype == Dtype::FP32) {
      std::memcpy(encoded, &value, size);
    } else {
      num::narrow(static_cast<num::DType>(quantiser.dtype), &value, encoded, 1);
    }
    bytes.insert(bytes.end(), encoded, encoded + size);
  });
  return bytes;
}

}  // namespace

TEST_CASE("constants are their elements in every order, of boxes larger than a part") {
  std::mt19937 random(cx::test::fresh_seed());
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (int round = 0; round < 24; ++round) {
    const std::size_t rank = 1 + random() % 3;
    Shape shape(rank);
    // Some have one part, some many, some a dimension of more elements than a part has.
    for (int64_t &size : shape) size = 1 + below(rank == 1 ? 300'000 : rank == 2 ? 700 : 80);
    if (rank == 2 && round % 4 == 0) shape = {3 + below(40), 20'000 + below(20'000)};
    std::vector<float> values(static_cast<std::size_t>(elements(shape)));
    for (float &value : values) {
      value = random() % 5 == 0 ? 0.0F
                                : std::ldexp(static_cast<float>(below(2001) - 1000), -8 - static_cast<int>(below(20)));
    }
    const Tensor tensor = Tensor::constant("w", shape, values);
    Box box{Dims(rank, 0), shape};
    if (round % 3 == 0) {
      for (std::size_t d = 0; d < rank; ++d) {
        box.start[d] = below(1 + shape[d] / 4);
        box.size[d] = shape[d] - box.start[d] - below(1 + shape[d] / 4);
      }
    }
    std::vector<int> order(rank);
    for (std::size_t d = 0; d < rank; ++d) order[d] = static_cast<int>(d);
    std::shuffle(order.begin(), order.end(), random);
    constexpr Dtype kTypes[] = {Dtype::FP32, Dtype::FP16, Dtype::BF16, Dtype::FP8_E4M3, Dtype::INT8};
    Quantiser quantiser{kTypes[random() % std::size(kTypes)], -1, {}};
    if (element_bytes(quantiser.dtype) == 1) {
      quantiser.axis = static_cast<int>(below(static_cast<int64_t>(rank) + 1)) - 1;
      const int64_t factors = quantiser.axis < 0 ? 1 : shape[static_cast<std::size_t>(quantiser.axis)];
      for (int64_t i = 0; i < factors; ++i) quantiser.factors.push_back(1.0 + static_cast<double>(below(100)));
    }
    INFO(to_text(shape) << " as type " << static_cast<int>(quantiser.dtype));
    const Bytes expected = reference(tensor, box, order, quantiser);
    REQUIRE((constant_elements(tensor, box, order, quantiser) == expected));

    // Visited in parts, the same elements come, however they are ordered.
    std::map<Bytes, int64_t> balance;
    const auto size = static_cast<std::size_t>(element_bytes(quantiser.dtype));
    const auto count = [&](std::span<const std::byte> bytes, int64_t step) {
      for (std::size_t i = 0; i < bytes.size(); i += size) {
        balance[Bytes(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                      bytes.begin() + static_cast<std::ptrdiff_t>(i + size))] += step;
      }
    };
    count(expected, 1);
    visit_constant(tensor, box, quantiser, [&](std::span<const std::byte> bytes) { count(bytes, -1); });
    for (const auto &[element, left] : balance) REQUIRE(left == 0);
    Bytes small(expected.size() - 1);
    REQUIRE_THROWS_AS(write_constant(tensor, box, order, quantiser, small), Error);
  }
}

TEST_CASE("equal constants have one place, in the image and among shared ones") {
  const auto filled = [](unsigned char value) {
    return [value](std::span<std::byte> to) { std::fill(to.begin(), to.end(), std::byte{value}); };
  };
  const auto shared = std::make_shared<SharedConstants>();
  for (const bool share : {false, true}) {
    ImageBuilder image;
    ConstantPool pool(image, share ? shared.get() : nullptr, 3);
    const int64_t a = pool.place(100, filled(1)), b = pool.place(70, filled(2));
    REQUIRE(a != b);
    REQUIRE(pool.place(100, filled(1)) == a);
    REQUIRE(pool.place(70, filled(2)) == b);
    REQUIRE(pool.place(99, filled(1)) != a);
    REQUIRE(pool.bytes() == 269);
    pool.begin_trial();
    pool.place(1000, [](std::span<std::byte>) { FAIL("a trial writes nothing"); });
    pool.end_trial();
    REQUIRE(pool.bytes() == 269);
    const std::span<const std::byte> all = share ? shared->bytes() : image.constants();
    REQUIRE(all[static_cast<std::size_t>(a) + 99] == std::byte{1});
    REQUIRE(all[static_cast<std::size_t>(b)] == std::byte{2});
  }
  // Contents that another program brought count as used again, once for each program.
  REQUIRE(shared->reused_bytes() == 0);
  ImageBuilder image;
  ConstantPool second(image, shared.get(), 3);
  second.place(70, filled(2));
  second.place(70, filled(2));
  second.place(10, filled(9));
  REQUIRE(second.bytes() == 80);
  REQUIRE(shared->reused_bytes() == 70);
}
