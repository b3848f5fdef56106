// Tensor files: round trips, damage, comparison.
#include "driver/tools/tensor_file.hpp"

#include <onnx/onnx_pb.h>
#include <unistd.h>
#include <zip.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>

#include "driver/include/cx/error.hpp"

namespace fs = std::filesystem;
using cx::HostTensor;
using namespace cx::tools;

namespace {

struct Folder {
  fs::path path = fs::temp_directory_path() / ("cx_tensor_" + std::to_string(getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
};

template <class T>
HostTensor tensor(const std::string &type, std::vector<int64_t> shape, const std::vector<T> &values) {
  HostTensor out{"t", type, std::move(shape), std::vector<std::byte>(values.size() * sizeof(T))};
  std::memcpy(out.bytes.data(), values.data(), out.bytes.size());
  return out;
}

std::string read(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write(const fs::path &path, const std::string &bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

TEST_CASE("a tensor survives .npy and .pb") {
  const Folder folder;
  const std::vector<HostTensor> tensors = {tensor<float>("float32", {2, 3}, {1, -2, 3.5F, 0, 1e-40F, 6}),
                                           tensor<int64_t>("int64", {3}, {-1, 0, INT64_MAX}),
                                           tensor<uint8_t>("bool", {2, 1}, {0, 1}),
                                           tensor<uint16_t>("float16", {1, 2}, {0x3C00, 0xFBFF}),
                                           tensor<double>("float64", {}, {2.25}),
                                           tensor<float>("float32", {0, 4}, {})};
  for (const HostTensor &original : tensors) {
    for (const char *extension : {".npy", ".pb"}) {
      const fs::path path = folder.path / ("t" + std::string(extension));
      save_tensor(original, path);
      const HostTensor back = load_tensor(path);
      CHECK(back.type == original.type);
      CHECK(back.shape == original.shape);
      CHECK(back.bytes == original.bytes);
    }
  }
}

TEST_CASE("a truncated tensor file is an error, whatever its length") {
  const Folder folder;
  const HostTensor original = tensor<float>("float32", {2, 2}, {1, 2, 3, 4});
  for (const char *extension : {".npy", ".pb"}) {
    const fs::path path = folder.path / ("t" + std::string(extension));
    save_tensor(original, path);
    const std::string whole = read(path);
    for (std::size_t length = 0; length < whole.size(); ++length) {
      write(path, whole.substr(0, length));
      INFO(extension << " cut to " << length);
      CHECK_THROWS_AS(load_tensor(path), cx::InputError);
    }
  }
}

TEST_CASE("what a .npy file may not hold is named") {
  const Folder folder;
  const fs::path path = folder.path / "t.npy";
  save_tensor(tensor<float>("float32", {2}, {1, 2}), path);
  const std::string whole = read(path);
  const auto with = [&](const std::string &from, const std::string &to) {
    std::string changed = whole;
    changed.replace(changed.find(from), from.size(), to);
    write(path, changed);
  };
  with("<f4", ">f4");
  CHECK_THROWS_WITH(load_tensor(path), Catch::Contains("big-endian"));
  with("False", "True ");
  CHECK_THROWS_WITH(load_tensor(path), Catch::Contains("Fortran"));
  with("<f4", "<c8");
  CHECK_THROWS_WITH(load_tensor(path), Catch::Contains("'c8'"));
  with("(2,)", "(3,)");
  CHECK_THROWS_WITH(load_tensor(path), Catch::Contains("needs 3 elements of 4"));
  CHECK_THROWS_WITH(load_tensor(folder.path / "absent.npy"), Catch::Contains("cannot be opened"));
  CHECK_THROWS_WITH(load_tensor(folder.path / "t.txt"), Catch::Contains(".npy, .npz or .pb"));
}

TEST_CASE("shapes in a .npy header that are none are refused") {
  const Folder folder;
  const fs::path path = folder.path / "t.npy";
  const auto with_shape = [&](const std::string &shape) {
    std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': " + shape + ", }\n";
    std::string file("\x93NUMPY\x01\x00", 8);
    file += static_cast<char>(header.size());
    file += '\0';
    write(path, file + header + std::string(8, '\0'));
    return load_tensor(path);
  };
  CHECK(with_shape("(1,)").shape == std::vector<int64_t>{1});
  CHECK(with_shape("( 1 , 1 )").shape == std::vector<int64_t>{1, 1});
  CHECK(with_shape("()").shape.empty());
  // 2^61 doubles would need 2^64 bytes, which is none in 64 bits.
  for (const char *shape : {"(-1,)", "(1", "1", "[1]", "(1,,1)", "(a,)", "(2,)", "(0,)", "(1000000000000000000001,)",
                            "(2305843009213693952,)", "(4611686018427387904, 4611686018427387904)"}) {
    INFO(shape);
    CHECK_THROWS_AS(with_shape(shape), cx::InputError);
  }
  write(path, std::string("\x93NUMPY\x01\x00\x0c\x00{'descr':    ", 22));
  CHECK_THROWS_AS(load_tensor(path), cx::InputError);
}

TEST_CASE("what a .pb file may not hold is named") {
  const Folder folder;
  const fs::path path = folder.path / "t.pb";
  const auto saved = [&](onnx::TensorProto proto) {
    write(path, proto.SerializeAsString());
    return load_tensor(path);
  };
  onnx::TensorProto good;
  good.set_data_type(onnx::TensorProto::DOUBLE);
  good.add_dims(2);
  good.add_double_data(1);
  good.add_double_data(2);
  CHECK(saved(good).bytes.size() == 16);
  onnx::TensorProto bad = good;
  bad.set_data_type(onnx::TensorProto::STRING);
  CHECK_THROWS_WITH(saved(bad), Catch::Contains("STRING"));
  bad = good;
  bad.set_data_type(onnx::TensorProto::COMPLEX64);
  CHECK_THROWS_AS(saved(bad), cx::UnsupportedError);
  bad = good;
  bad.set_data_type(77);
  CHECK_THROWS_AS(saved(bad), cx::InputError);
  bad = good;
  bad.set_dims(0, 3);
  CHECK_THROWS_WITH(saved(bad), Catch::Contains("needs 3 elements"));
  bad.set_dims(0, -2);
  CHECK_THROWS_AS(saved(bad), cx::InputError);
  bad.clear_double_data();
  bad.set_dims(0, int64_t{1} << 61);
  CHECK_THROWS_AS(saved(bad), cx::InputError);
  bad = good;
  bad.clear_double_data();
  bad.set_raw_data(std::string(15, 'x'));
  CHECK_THROWS_AS(saved(bad), cx::InputError);
  bad.clear_raw_data();
  bad.set_data_location(onnx::TensorProto::EXTERNAL);
  CHECK_THROWS_AS(saved(bad), cx::InputError);
}

TEST_CASE("the members of a .npz are found by name") {
  const Folder folder;
  save_tensor(tensor<float>("float32", {2}, {1, 2}), folder.path / "a.npy");
  save_tensor(tensor<int32_t>("int32", {1}, {7}), folder.path / "b.npy");
  const fs::path path = folder.path / "both.npz";
  int code = 0;
  zip_t *archive = zip_open(path.c_str(), ZIP_CREATE, &code);
  REQUIRE(archive != nullptr);
  for (const char *name : {"a.npy", "b.npy"}) {
    zip_source_t *source = zip_source_file(archive, (folder.path / name).c_str(), 0, -1);
    REQUIRE(zip_file_add(archive, name, source, 0) >= 0);
  }
  REQUIRE(zip_close(archive) == 0);
  const auto members = load_npz(path);
  REQUIRE(members.size() == 2);
  CHECK(members.at("a").shape == std::vector<int64_t>{2});
  CHECK(members.at("b").type == "int32");
  CHECK_THROWS_WITH(load_tensor(path), Catch::Contains("holds 2 arrays"));
  const std::string whole = read(path);
  for (std::size_t length = 0; length < whole.size(); length += 7) {
    write(path, whole.substr(0, length));
    INFO("cut to " << length);
    CHECK_THROWS_AS(load_npz(path), cx::InputError);
  }
}

TEST_CASE("comparison counts what is out of tolerance and treats NaN and infinity exactly") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const HostTensor expected = tensor<float>("float32", {5}, {1, 100, nan, inf, 0});
  CHECK(compare(expected, expected, 0, 0).passed());
  const Comparison close = compare(tensor<float>("float32", {5}, {1.0005F, 100.05F, nan, inf, 0}), expected, 1e-3, 0);
  CHECK(close.passed());
  CHECK(close.max_absolute == Approx(0.05).epsilon(1e-2));
  const Comparison far = compare(tensor<float>("float32", {5}, {1.1F, 100, 0, -inf, 1e-3F}), expected, 1e-3, 1e-7);
  CHECK(far.mismatches == 4);
  CHECK(far.first_mismatch == 0);
  CHECK_FALSE(compare(tensor<float>("float32", {5, 1}, {1, 100, nan, inf, 0}), expected, 1, 1).passed());
  const HostTensor big = tensor<int64_t>("int64", {1}, {(int64_t{1} << 60) + 1});
  CHECK_FALSE(compare(tensor<int64_t>("int64", {1}, {int64_t{1} << 60}), big, 0, 0).passed());
}

TEST_CASE("a tolerance may go by the largest magnitude, and rows may be compared by their largest element") {
  const HostTensor expected = tensor<float>("float32", {2, 3}, {100, 1e-6F, -2, 0, 5, 5});
  const HostTensor near = tensor<float>("float32", {2, 3}, {100, 5e-5F, -2, 1e-5F, 5, 4.99999F});
  CHECK(compare(near, expected, 1e-3, 0).mismatches == 2);
  const Comparison scaled = compare(near, expected, 1e-3, 0, 1e-6);
  CHECK(scaled.passed());
  CHECK(scaled.largest == 100);
  CHECK(compare(near, expected, 1e-3, 0, 1e-8).mismatches == 2);
  CHECK(same_top(near, expected));
  CHECK(same_top(tensor<float>("float32", {2, 3}, {7, 6, 5, 0, 1, 2}), expected));  // 5 and 5 are equally large
  CHECK_FALSE(same_top(tensor<float>("float32", {2, 3}, {7, 6, 8, 0, 1, 2}), expected));
  CHECK_FALSE(same_top(tensor<float>("float32", {2, 3}, {7, 6, 5, 3, 1, 2}), expected));
  CHECK_FALSE(same_top(tensor<float>("float32", {6}, {100, 0, 0, 0, 0, 0}), expected));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(same_top(tensor<float>("float32", {2, 3}, {100, nan, 0, 0, 5, 0}), expected));
}
