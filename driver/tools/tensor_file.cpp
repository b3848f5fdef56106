#include "driver/tools/tensor_file.hpp"

#include <fmt/core.h>
#include <onnx/onnx-data_pb.h>
#include <onnx/onnx_pb.h>
#include <zip.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>

#include "driver/include/cx/error.hpp"
#include "hw/common/num/formats.hpp"

namespace cx::tools {
namespace {

struct TypeName {
  const char *numpy;  ///< of HostTensor
  const char *descr;  ///< of a .npy header, without the byte order
  int onnx;
};

constexpr TypeName kTypes[] = {
    {"float32", "f4", onnx::TensorProto::FLOAT},   {"float64", "f8", onnx::TensorProto::DOUBLE},
    {"float16", "f2", onnx::TensorProto::FLOAT16}, {"bfloat16", "", onnx::TensorProto::BFLOAT16},
    {"int8", "i1", onnx::TensorProto::INT8},       {"uint8", "u1", onnx::TensorProto::UINT8},
    {"int16", "i2", onnx::TensorProto::INT16},     {"uint16", "u2", onnx::TensorProto::UINT16},
    {"int32", "i4", onnx::TensorProto::INT32},     {"uint32", "u4", onnx::TensorProto::UINT32},
    {"int64", "i8", onnx::TensorProto::INT64},     {"uint64", "u8", onnx::TensorProto::UINT64},
    {"bool", "b1", onnx::TensorProto::BOOL},
};

std::string read_file(const std::filesystem::path &path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw InputError(path.string() + ": cannot be opened");
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// The value of a key in a .npy header, which is a Python dictionary literal.
std::string header_value(const std::string &header, const std::string &key, const std::string &where) {
  const std::size_t at = header.find("'" + key + "':");
  if (at == std::string::npos) throw InputError(where + ": the .npy header has no '" + key + "'");
  const std::size_t value = header.find_first_not_of(' ', at + key.size() + 3);
  if (value == std::string::npos) throw InputError(where + ": the .npy header has no value of '" + key + "'");
  return header.substr(value);
}

/// "(3, 4)", "(3,)", "()".
std::vector<int64_t> parse_tuple(const std::string &text, const std::string &where) {
  constexpr std::size_t kDigits = 18;
  const std::size_t end = text.find(')');
  if (text.empty() || text[0] != '(' || end == std::string::npos)
    throw InputError(where + ": the .npy shape is no tuple");
  std::vector<int64_t> shape;
  for (std::size_t at = 1; at < end;) {
    const std::size_t stop = std::min(text.find(',', at), end);
    std::string item = text.substr(at, stop - at);
    item.erase(0, std::min(item.find_first_not_of(' '), item.size()));
    item.erase(std::min(item.find_last_not_of(' ') + 1, item.size()));
    at = stop + 1;
    if (item.empty() && stop == end) break;  // after the last comma
    if (item.empty() || item.size() > kDigits || item.find_first_not_of("0123456789") != std::string::npos) {
      throw InputError(where + ": the .npy shape has the dimension '" + item + "'");
    }
    shape.push_back(std::stoll(item));
  }
  return shape;
}

/// Bytes that a tensor's elements need, of which there are `present`.
uint64_t require_bytes(const HostTensor &tensor, uint64_t present, const std::string &where) {
  const uint64_t count = element_count(tensor.shape);
  const uint64_t size = element_bytes(tensor.type);
  if (count > present / size || count * size != present) {
    throw InputError(fmt::format("{}: {} bytes of data, but shape {} of {} needs {} elements of {}", where, present,
                                 shape_text(tensor.shape), tensor.type, count, size));
  }
  return present;
}

HostTensor parse_npy(const std::string &bytes, const std::string &where) {
  if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY", 6) != 0) {
    throw InputError(where + ": not a .npy file (bad magic)");
  }
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])); };
  const bool wide = byte(6) >= 2;
  if (wide && bytes.size() < 12) throw InputError(where + ": truncated .npy header");
  const std::size_t length = byte(8) | byte(9) << 8 | (wide ? byte(10) << 16 | byte(11) << 24 : 0);
  const std::size_t start = wide ? 12 : 10;
  if (bytes.size() < start + length) throw InputError(where + ": truncated .npy header");
  const std::string header = bytes.substr(start, length);

  const std::string descr = header_value(header, "descr", where);
  if (descr.size() < 5 || descr[0] != '\'') throw InputError(where + ": structured .npy types are not supported");
  const std::string type = descr.substr(2, descr.find('\'', 1) - 2);
  if (descr[1] == '>') throw InputError(where + ": big-endian .npy files are not supported");
  if (header_value(header, "fortran_order", where).rfind("False", 0) != 0) {
    throw InputError(where + ": Fortran order is not supported; save a C-ordered array");
  }
  HostTensor tensor;
  for (const TypeName &entry : kTypes) {
    if (type == entry.descr) tensor.type = entry.numpy;
  }
  if (tensor.type.empty()) throw InputError(where + ": element type '" + type + "' is not supported");
  tensor.shape = parse_tuple(header_value(header, "shape", where), where);
  const std::size_t data = start + length;
  const uint64_t expected = require_bytes(tensor, bytes.size() - data, where);
  tensor.bytes.resize(expected);
  std::memcpy(tensor.bytes.data(), bytes.data() + data, expected);
  return tensor;
}

template <class Stored, class Values>
void append(HostTensor &tensor, const Values &values) {
  for (const auto value : values) {
    const auto element = static_cast<Stored>(value);
    const auto *raw = reinterpret_cast<const std::byte *>(&element);
    tensor.bytes.insert(tensor.bytes.end(), raw, raw + sizeof(Stored));
  }
}

HostTensor parse_proto(const onnx::TensorProto &proto, const std::string &where) {
  HostTensor tensor;
  tensor.name = proto.name();
  for (const TypeName &entry : kTypes) {
    if (proto.data_type() == entry.onnx) tensor.type = entry.numpy;
  }
  if (tensor.type.empty()) {
    throw UnsupportedError("tensor type", fmt::format("{}: ONNX element type {} is not supported", where,
                                                      onnx::TensorProto::DataType_Name(proto.data_type())));
  }
  tensor.shape.assign(proto.dims().begin(), proto.dims().end());
  if (proto.has_raw_data()) {
    const std::string &raw = proto.raw_data();
    tensor.bytes.resize(raw.size());
    std::memcpy(tensor.bytes.data(), raw.data(), raw.size());
  } else {
    switch (proto.data_type()) {
      case onnx::TensorProto::FLOAT:
        append<float>(tensor, proto.float_data());
        break;
      case onnx::TensorProto::DOUBLE:
        append<double>(tensor, proto.double_data());
        break;
      case onnx::TensorProto::INT64:
        append<int64_t>(tensor, proto.int64_data());
        break;
      case onnx::TensorProto::UINT64:
        append<uint64_t>(tensor, proto.uint64_data());
        break;
      case onnx::TensorProto::UINT32:
        append<uint32_t>(tensor, proto.uint64_data());
        break;
      case onnx::TensorProto::INT32:
        append<int32_t>(tensor, proto.int32_data());
        break;
      case onnx::TensorProto::INT16:
        append<int16_t>(tensor, proto.int32_data());
        break;
      case onnx::TensorProto::UINT16:
      case onnx::TensorProto::FLOAT16:
      case onnx::TensorProto::BFLOAT16:
        append<uint16_t>(tensor, proto.int32_data());
        break;
      default:
        append<uint8_t>(tensor, proto.int32_data());
        break;
    }
  }
  require_bytes(tensor, tensor.bytes.size(), where);
  return tensor;
}

HostTensor parse_pb(const std::string &bytes, const std::string &where) {
  onnx::TensorProto proto;
  if (!proto.ParseFromString(bytes)) throw InputError(where + ": not an ONNX TensorProto");
  return parse_proto(proto, where);
}

const TypeName &type_of(const HostTensor &tensor) {
  for (const TypeName &entry : kTypes) {
    if (tensor.type == entry.numpy) return entry;
  }
  throw InputError("tensor " + tensor.name + " has the unknown type " + tensor.type);
}

std::string to_npy(const HostTensor &tensor) {
  const TypeName &type = type_of(tensor);
  std::string descr = type.descr;
  if (descr.empty()) descr = "u2";
  std::string shape;
  for (const int64_t dim : tensor.shape) shape += std::to_string(dim) + ",";
  std::string header = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}), }}",
                                   descr.back() == '1' ? '|' : '<', descr, shape);
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(header.size() & 0xFF);
  out += static_cast<char>(header.size() >> 8);
  out += header;
  out.append(reinterpret_cast<const char *>(tensor.bytes.data()), tensor.bytes.size());
  return out;
}

std::string to_pb(const HostTensor &tensor) {
  onnx::TensorProto proto;
  proto.set_name(tensor.name);
  proto.set_data_type(type_of(tensor).onnx);
  for (const int64_t dim : tensor.shape) proto.add_dims(dim);
  proto.set_raw_data(tensor.bytes.data(), tensor.bytes.size());
  return proto.SerializeAsString();
}

template <class Stored>
Stored stored(const HostTensor &tensor, uint64_t index) {
  Stored value;
  std::memcpy(&value, tensor.bytes.data() + index * sizeof(Stored), sizeof(Stored));
  return value;
}

double element(const HostTensor &tensor, uint64_t index) {
  const std::string &type = tensor.type;
  if (type == "float32") return stored<float>(tensor, index);
  if (type == "float64") return stored<double>(tensor, index);
  if (type == "float16") return num::decode_fp16(stored<uint16_t>(tensor, index));
  if (type == "bfloat16") return num::decode_bf16(stored<uint16_t>(tensor, index));
  if (type == "int8") return stored<int8_t>(tensor, index);
  if (type == "uint8" || type == "bool") return stored<uint8_t>(tensor, index);
  if (type == "int16") return stored<int16_t>(tensor, index);
  if (type == "uint16") return stored<uint16_t>(tensor, index);
  if (type == "int32") return stored<int32_t>(tensor, index);
  if (type == "uint32") return stored<uint32_t>(tensor, index);
  if (type == "int64") return static_cast<double>(stored<int64_t>(tensor, index));
  return static_cast<double>(stored<uint64_t>(tensor, index));
}

}  // namespace

HostTensor load_tensor(const std::filesystem::path &path) {
  const std::string extension = path.extension();
  if (extension == ".npz") {
    std::map<std::string, HostTensor> members = load_npz(path);
    if (members.size() != 1) {
      throw InputError(fmt::format("{}: holds {} arrays; give a file with one", path.string(), members.size()));
    }
    return std::move(members.begin()->second);
  }
  if (extension == ".npy") return parse_npy(read_file(path), path.string());
  if (extension == ".pb") return parse_pb(read_file(path), path.string());
  throw InputError(path.string() + ": expected a .npy, .npz or .pb file");
}

std::map<std::string, HostTensor> load_npz(const std::filesystem::path &path) {
  int code = 0;
  const std::unique_ptr<zip_t, decltype(&zip_discard)> archive(zip_open(path.c_str(), ZIP_RDONLY, &code), zip_discard);
  if (!archive) throw InputError(fmt::format("{}: not a readable .npz file (zip error {})", path.string(), code));
  std::map<std::string, HostTensor> members;
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    if (zip_stat_index(archive.get(), i, 0, &stat) != 0) throw InputError(path.string() + ": damaged .npz directory");
    constexpr zip_uint64_t kLargest = zip_uint64_t{1} << 34;
    if (stat.size > kLargest) throw InputError(fmt::format("{}: member {} is too large", path.string(), stat.name));
    std::string bytes(stat.size, '\0');
    const std::unique_ptr<zip_file_t, decltype(&zip_fclose)> file(zip_fopen_index(archive.get(), i, 0), zip_fclose);
    if (!file || zip_fread(file.get(), bytes.data(), bytes.size()) != static_cast<zip_int64_t>(bytes.size())) {
      throw InputError(fmt::format("{}: member {} is damaged", path.string(), stat.name));
    }
    std::string name = stat.name;
    if (name.size() > 4 && name.substr(name.size() - 4) == ".npy") name.resize(name.size() - 4);
    HostTensor tensor = parse_npy(bytes, path.string() + ":" + name);
    tensor.name = name;
    members.emplace(name, std::move(tensor));
  }
  return members;
}

void save_tensor(const HostTensor &tensor, const std::filesystem::path &path) {
  const std::string bytes = path.extension() == ".pb" ? to_pb(tensor) : to_npy(tensor);
  std::ofstream out(path, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) throw InputError(path.string() + ": cannot be written");
}

std::vector<HostTensor> load_data_set(const std::filesystem::path &folder, const std::string &prefix) {
  std::vector<HostTensor> tensors;
  for (int i = 0;; ++i) {
    const std::filesystem::path path = folder / (prefix + "_" + std::to_string(i) + ".pb");
    if (!std::filesystem::exists(path)) return tensors;
    tensors.push_back(load_tensor(path));
  }
}

std::vector<HostTensor> load_items(const std::filesystem::path &path, Holds holds) {
  if (holds == Holds::tensor) return {load_tensor(path)};
  const std::string bytes = read_file(path);
  onnx::SequenceProto sequence;
  if (holds == Holds::optional) {
    onnx::OptionalProto optional;
    if (!optional.ParseFromString(bytes)) throw InputError(path.string() + ": not an ONNX OptionalProto");
    if (optional.has_tensor_value()) return {parse_proto(optional.tensor_value(), path.string())};
    sequence = optional.sequence_value();
  } else if (!sequence.ParseFromString(bytes)) {
    throw InputError(path.string() + ": not an ONNX SequenceProto");
  }
  std::vector<HostTensor> tensors;
  for (const auto &tensor : sequence.tensor_values()) tensors.push_back(parse_proto(tensor, path.string()));
  return tensors;
}

Comparison compare(const HostTensor &actual, const HostTensor &expected, double rtol, double atol, double largest_tol) {
  Comparison result;
  if (actual.type != expected.type || actual.shape != expected.shape) {
    result.problem = fmt::format("{} {}, expected {} {}", actual.type, shape_text(actual.shape), expected.type,
                                 shape_text(expected.shape));
    return result;
  }
  result.elements = element_count(expected.shape);
  for (uint64_t i = 0; i < result.elements; ++i) {
    const double magnitude = std::abs(element(expected, i));
    if (std::isfinite(magnitude)) result.largest = std::max(result.largest, magnitude);
  }
  if (actual.bytes == expected.bytes) return result;
  const double floor = atol + largest_tol * result.largest;
  const bool wide_integer = expected.type == "int64" || expected.type == "uint64";  // beyond double's 53 bits
  for (uint64_t i = 0; i < result.elements; ++i) {
    const double a = element(actual, i);
    const double e = element(expected, i);
    const bool same = wide_integer ? stored<uint64_t>(actual, i) == stored<uint64_t>(expected, i) : a == e;
    if (same || (std::isnan(a) && std::isnan(e))) continue;
    const double difference = std::abs(a - e);
    bool bad = !(difference <= floor + rtol * std::abs(e));
    if (std::isinf(a) || std::isinf(e) || wide_integer) bad = true;
    if (std::isfinite(difference)) {
      result.max_absolute = std::max(result.max_absolute, difference);
      if (std::abs(e) > atol) result.max_relative = std::max(result.max_relative, difference / std::abs(e));
    }
    if (bad && result.mismatches++ == 0) result.first_mismatch = i;
  }
  return result;
}

bool same_top(const HostTensor &actual, const HostTensor &expected) {
  if (actual.type != expected.type || actual.shape != expected.shape) return false;
  const uint64_t count = element_count(expected.shape);
  if (count == 0) return true;
  const uint64_t row = expected.shape.empty() ? 1 : static_cast<uint64_t>(expected.shape.back());
  for (uint64_t begin = 0; begin < count; begin += row) {
    uint64_t top = begin;
    uint64_t wanted = begin;
    for (uint64_t i = begin; i < begin + row; ++i) {
      if (std::isnan(element(actual, i)) != std::isnan(element(expected, i))) return false;
      if (element(actual, i) > element(actual, top)) top = i;
      if (element(expected, i) > element(expected, wanted)) wanted = i;
    }
    if (element(expected, top) != element(expected, wanted)) return false;
  }
  return true;
}

}  // namespace cx::tools
