#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <random>

#include "driver/include/cx/error.hpp"
#include "driver/runtime/image_builder.hpp"
#include "driver/runtime/program.hpp"
#include "tb/driver/runtime/sample_program.hpp"

using namespace cx;

namespace {

// A file that goes with its scope.
struct Scratch {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("cx_container_" + std::to_string(getpid()) + ".cxb");
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
  std::vector<char> read() const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

std::vector<char> container() {
  const auto bytes = to_container(test::sample_program(0xabcdef));
  const auto *data = reinterpret_cast<const char *>(bytes.data());
  return {data, data + bytes.size()};
}

Program parse(const std::vector<char> &bytes) { return parse_container(std::as_bytes(std::span(bytes)), "memory.cxb"); }

void require_equal(const std::vector<Binding> &a, const std::vector<Binding> &b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    REQUIRE(a[i].name == b[i].name);
    REQUIRE(a[i].type == b[i].type);
    REQUIRE(a[i].shape == b[i].shape);
    REQUIRE(a[i].segment == b[i].segment);
    REQUIRE(a[i].bytes == b[i].bytes);
  }
}

void require_equal(const Program &a, const Program &b) {
  REQUIRE(a.name == b.name);
  REQUIRE(a.precision == b.precision);
  REQUIRE(a.arch_hash == b.arch_hash);
  REQUIRE(a.image == b.image);
  REQUIRE(a.workspace_bytes == b.workspace_bytes);
  REQUIRE(a.macs == b.macs);
  require_equal(a.inputs, b.inputs);
  require_equal(a.outputs, b.outputs);
  REQUIRE(a.debug.size() == b.debug.size());
  for (size_t i = 0; i < a.debug.size(); ++i) {
    REQUIRE(a.debug[i].engine == b.debug[i].engine);
    REQUIRE(a.debug[i].first == b.debug[i].first);
    REQUIRE(a.debug[i].count == b.debug[i].count);
    REQUIRE(a.debug[i].node == b.debug[i].node);
  }
}

uint32_t word(const std::vector<char> &bytes, size_t at) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// Makes all checksums right again, so that what lies behind them is reached.
void reseal(std::vector<char> &bytes) {
  const auto all = std::as_writable_bytes(std::span(bytes));
  for (int i = 0; i < 4; ++i) {
    const size_t entry = 64 + 32 * static_cast<size_t>(i);
    uint64_t offset = 0, size = 0;
    std::memcpy(&offset, bytes.data() + entry + 8, 8);
    std::memcpy(&size, bytes.data() + entry + 16, 8);
    if (offset > bytes.size() || size > bytes.size() - offset) continue;
    const uint32_t crc = crc32(all.subspan(offset, size));
    std::memcpy(bytes.data() + entry + 24, &crc, 4);
  }
  std::memset(bytes.data() + 60, 0, 4);
  const uint32_t crc = crc32(all.first(64 + 4 * 32));
  std::memcpy(bytes.data() + 60, &crc, 4);
}

}  // namespace

TEST_CASE("a program survives its container") {
  Scratch scratch;
  const Program program = test::sample_program(0xabcdef);
  save(program, scratch.path);
  require_equal(load_program(scratch.path), program);
  const auto bytes = scratch.read();
  REQUIRE(container() == bytes);
  require_equal(parse(bytes), program);

  Program bare = program;
  bare.inputs.clear();
  bare.outputs.clear();
  bare.debug.clear();
  bare.name.clear();
  bare.precision.clear();
  bare.workspace_bytes = 0;
  save(bare, scratch.path);
  require_equal(load_program(scratch.path), bare);
}

TEST_CASE("every damaged bit of a container is found") {
  const auto good = container();
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    auto bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
    INFO("bit " << bit);
    REQUIRE_THROWS_AS(parse(bytes), InputError);
  }
}

TEST_CASE("a container cut off anywhere is found") {
  const auto good = container();
  for (size_t size = 0; size < good.size(); ++size) {
    INFO("size " << size);
    REQUIRE_THROWS_AS(parse({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}), InputError);
  }
  auto longer = good;
  longer.push_back(0);
  REQUIRE_THROWS_AS(parse(longer), InputError);
}

TEST_CASE("complaints name offset and expectation") {
  const auto good = container();
  const auto expect = [&](size_t at, char value, const char *message) {
    auto bytes = good;
    bytes[at] = value;
    REQUIRE_THROWS_WITH(parse(bytes), Catch::Contains("memory.cxb: ") && Catch::Contains(message));
  };
  expect(0, 'X', "offset 0x0: magic is");
  expect(4, 9, "offset 0x4: container version is 0x9, expected 0x1");
  expect(6, 1, "offset 0x6: header size");
  expect(8, 1, "offset 0x8: file size");
  expect(16, 0, "offset 0x3c: checksum of header and section table");
  expect(40, 1, "offset 0x28: number of sections");
  expect(44, 1, "offset 0x2c: size of a section entry");
  expect(48, 77, "offset 0x30: version of the instruction set");
  expect(52, 1, "offset 0x34: reserved word");
  expect(56, 1, "offset 0x38: reserved word");
  expect(64, 1 + 1, "checksum of header and section table");
  expect(word(good, 64 + 8) + 40, 1, "image section's checksum");
  REQUIRE_THROWS_WITH(load_program("/nonexistent/x.cxb"), Catch::Contains("cannot be read"));
  REQUIRE_THROWS_AS(load_program(std::filesystem::temp_directory_path()), InputError);
  REQUIRE_THROWS_AS(save(test::sample_program(1), "/nonexistent/x.cxb"), InputError);
}

TEST_CASE("nonsense with right checksums is refused without a crash") {
  const auto good = container();
  const uint32_t seed = 99;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  int refused = 0, loaded = 0;
  for (int round = 0; round < 6000; ++round) {
    auto bytes = good;
    const int changes = 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < changes; ++i) {
      // Constants and instructions of the image may be anything; aim at the rest.
      const size_t names = word(good, 64 + 32 + 8);
      const size_t at = random() % 2 ? 16 + random() % 300 : names + random() % (good.size() - names);
      static constexpr unsigned char kNasty[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
      bytes[at] = static_cast<char>(random() % 2 ? kNasty[random() % 5] : random());
    }
    reseal(bytes);
    try {
      const Program program = parse(bytes);
      disassemble(program);
      ++loaded;
    } catch (const InputError &) {
      ++refused;
    }
  }
  REQUIRE(refused > 1000);
  REQUIRE(loaded > 10);  // names, sizes and counts that mean something else are still programs
}

TEST_CASE("programs that contradict themselves are refused") {
  const auto refuse = [](const std::function<void(Program &)> &change, const char *message) {
    Program program = test::sample_program(5);
    change(program);
    REQUIRE_THROWS_WITH(validate(program), Catch::Contains(message));
    REQUIRE_THROWS_AS(save(program, "/tmp/never-written.cxb"), InputError);
  };
  validate(test::sample_program(5));
  refuse([](Program &p) { p.arch_hash = 6; }, "architecture hash");
  refuse([](Program &p) { p.inputs[0].type = "float31"; }, "unknown element type");
  refuse([](Program &p) { p.inputs[0].bytes = 4; }, "has 4 bytes, expected 256");
  refuse([](Program &p) { p.inputs[0].shape = {-1}; }, "negative dimension");
  refuse([](Program &p) { p.inputs[0].shape = {1ll << 40, 1ll << 40}; }, "2^62");
  refuse([](Program &p) { p.inputs[0].segment = 1; }, "segment 1, expected 2 to 3");
  refuse([](Program &p) { p.inputs[0].segment = 4; }, "segment 4");
  refuse([](Program &p) { p.outputs[0].segment = 2; }, "shares segment 2");
  refuse([](Program &p) { p.outputs.push_back(p.outputs[0]); }, "exists twice");
  validate(test::sample_program(5, 64, 1.5f, true));
  const auto refuse_update = [](auto &&change, const char *message) {
    Program program = test::sample_program(5, 64, 1.5f, true);
    change(program);
    REQUIRE_THROWS_WITH(validate(program), Catch::Contains(message));
  };
  refuse_update([](Program &p) { p.outputs[0].type = "int32"; }, "shares segment 2");
  refuse_update(
      [](Program &p) {
        p.outputs.push_back(p.outputs[0]);
        p.outputs[1].name = "z";
      },
      "shares segment 2");
  const auto shared = std::make_shared<SharedConstants>();
  Program sharing = test::sample_program(5, 64, 1.5f, false, shared);
  validate(sharing);
  REQUIRE_THROWS_WITH(to_container(sharing), Catch::Contains("shares its constants and cannot be stored"));
  sharing.constants_segment = 3;
  REQUIRE_THROWS_WITH(validate(sharing), Catch::Contains("lie in segment 3"));
  sharing.constants_segment = 4;
  sharing.constants_bytes = 65;
  REQUIRE_THROWS_WITH(validate(sharing), Catch::Contains("uses 65 bytes of shared constants, there are 64"));
  refuse([](Program &p) { p.debug[0].count = 9; }, "debug entry");
  refuse([](Program &p) { p.debug[0].engine = 2; }, "debug entry");
  refuse([](Program &p) { p.image[0] ^= std::byte{1}; }, "magic");
  refuse([](Program &p) { p.image.pop_back(); }, "image_bytes");
}

TEST_CASE("a program as text names every instruction and its node") {
  const std::string text = disassemble(test::sample_program(5));
  REQUIRE_THAT(text, Catch::Contains("; program sample fp32 arch 0x5"));
  REQUIRE_THAT(text, Catch::Contains("; input x float32 [1, 64] segment 2"));
  REQUIRE_THAT(text,
               Catch::Contains(".stream load ; 8 instructions") && Catch::Contains(".stream vpu ; 8 instructions"));
  REQUIRE_THAT(text, Catch::Contains("V_UNARY func=RELU") && Catch::Contains("; relu\n"));
  REQUIRE_THAT(text, Catch::Contains("DMA_LOAD") && Catch::Contains("; input\n"));
}

TEST_CASE("shared constants have one place for each content") {
  SharedConstants constants;
  const std::vector<std::byte> a(100, std::byte{1}), b(100, std::byte{2}), c(64, std::byte{3});
  REQUIRE(constants.place(a) == 0);
  REQUIRE(constants.place(b) == 128);
  REQUIRE(constants.place(a) == 0);
  REQUIRE(constants.place(std::span(a).first(99)) == 256);
  REQUIRE(constants.reused_bytes() == 100);
  const uint64_t size = constants.bytes().size();
  REQUIRE(size == 355);
  REQUIRE(constants.place(c) == 384);
  constants.cut(size);
  REQUIRE(constants.bytes().size() == size);
  REQUIRE(constants.place(b) == 128);
  REQUIRE(constants.place(c) == 384);
  REQUIRE(constants.place(c) == 384);
  // Bytes between two places are zero, whatever lay there before; a place that could not be written is none.
  const uint64_t end = constants.bytes().size();
  const std::vector<std::byte> ones(200, std::byte{0xff});
  REQUIRE(constants.place(ones) == end);
  constants.cut(end);
  REQUIRE(constants.place(std::span(a).first(1)) == end);
  REQUIRE(constants.place(std::span(b).first(1)) == end + 64);
  for (uint64_t at = end + 1; at < end + 64; ++at) REQUIRE(constants.bytes()[at] == std::byte{0});
  const uint64_t size_before = constants.bytes().size();
  REQUIRE_THROWS_AS(constants.place(1000, [](std::span<std::byte>) { throw InputError("no such element"); }),
                    InputError);
  REQUIRE(constants.bytes().size() == size_before);
}
