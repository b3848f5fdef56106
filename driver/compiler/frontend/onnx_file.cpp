#include "driver/compiler/frontend/onnx_file.hpp"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <google/protobuf/stubs/logging.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <sstream>

#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

std::string read_range(const std::filesystem::path &path, uint64_t offset, uint64_t length, const std::string &what) {
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error) throw InputError(what + ": cannot read '" + path.string() + "': " + error.message());
  if (offset > size || length > size - offset) {
    throw InputError(what + ": bytes " + std::to_string(offset) + " to " + std::to_string(offset + length) +
                     " lie beyond the " + std::to_string(size) + " bytes of '" + path.string() + "'");
  }
  std::string bytes(length, '\0');
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  if (!file.read(bytes.data(), static_cast<std::streamsize>(length))) {
    throw InputError(what + ": cannot read '" + path.string() + "'");
  }
  return bytes;
}

uint64_t parse_number(const std::string &text, const std::string &what) {
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos) {
    throw InputError(what + ": '" + printable(text) + "' is no number of bytes");
  }
  return std::stoull(text);
}

std::string read_external(const onnx::TensorProto &proto, const std::filesystem::path &folder, uint64_t bytes,
                          const std::string &what) {
  std::filesystem::path location;
  uint64_t offset = 0;
  for (const auto &entry : proto.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") offset = parse_number(entry.value(), what);
    if (entry.key() == "length" && parse_number(entry.value(), what) != bytes) {
      throw InputError(what + ": external data has " + entry.value() + " bytes, its shape needs " +
                       std::to_string(bytes));
    }
  }
  if (location.empty() || location.is_absolute())
    throw InputError(what + ": external data without a relative location");
  for (const auto &part : location) {
    if (part == "..") throw InputError(what + ": external data outside the model's folder");
  }
  return read_range(folder / location, offset, bytes, what);
}

template <typename Stored, typename Field>
void copy_field(const Field &field, int64_t count, const std::string &what, std::vector<std::byte> &data) {
  if (field.size() != count) {
    throw InputError(what + ": holds " + std::to_string(field.size()) + " elements, its shape needs " +
                     std::to_string(count));
  }
  for (int64_t i = 0; i < count; ++i) {
    const auto element = static_cast<Stored>(field.Get(static_cast<int>(i)));
    std::memcpy(data.data() + static_cast<std::size_t>(i) * sizeof(Stored), &element, sizeof(Stored));
  }
}

void copy_typed(const onnx::TensorProto &proto, Type type, int64_t count, const std::string &what,
                std::vector<std::byte> &data) {
  switch (type) {
    case Type::F32:
      return copy_field<float>(proto.float_data(), count, what, data);
    case Type::F64:
      return copy_field<double>(proto.double_data(), count, what, data);
    case Type::I64:
      return copy_field<int64_t>(proto.int64_data(), count, what, data);
    case Type::U32:
      return copy_field<uint32_t>(proto.uint64_data(), count, what, data);
    case Type::U64:
      return copy_field<uint64_t>(proto.uint64_data(), count, what, data);
    case Type::I32:
      return copy_field<int32_t>(proto.int32_data(), count, what, data);
    case Type::I16:
      return copy_field<int16_t>(proto.int32_data(), count, what, data);
    case Type::F16:
    case Type::BF16:
    case Type::U16:
      return copy_field<uint16_t>(proto.int32_data(), count, what, data);
    case Type::I8:
      return copy_field<int8_t>(proto.int32_data(), count, what, data);
    case Type::U8:
    case Type::Bool:
      return copy_field<uint8_t>(proto.int32_data(), count, what, data);
  }
}

// Bool elements other than 0 and 1 would make later comparisons of bytes wrong.
void normalise_booleans(std::vector<std::byte> &data) {
  for (std::byte &value : data) value = std::byte{static_cast<unsigned char>(value == std::byte{0} ? 0 : 1)};
}

}  // namespace

onnx::ModelProto read_model(const std::filesystem::path &path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) throw InputError("'" + path.string() + "': no such file");
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error) throw InputError("'" + path.string() + "': " + error.message());
  if (size == 0) throw InputError("'" + path.string() + "' is empty");
  if (size >= static_cast<uint64_t>(std::numeric_limits<int>::max())) {
    throw InputError("'" + path.string() + "' is larger than the 2 GiB that an ONNX file may have");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError("'" + path.string() + "': cannot be read");
  // In pieces: a second copy of all weights would cost more than parsing them.
  constexpr int kPiece = 1 << 20;
  google::protobuf::io::IstreamInputStream pieces(&file, kPiece);
  // The parser's own messages on stderr would repeat ours.
  google::protobuf::LogSilencer silencer;
  onnx::ModelProto model;
  google::protobuf::io::CodedInputStream stream(&pieces);
  if (!model.ParseFromCodedStream(&stream) || !stream.ConsumedEntireMessage() || file.bad()) {
    throw InputError("'" + path.string() + "' is no ONNX model, or is damaged or truncated");
  }
  if (!model.has_graph()) throw InputError("'" + path.string() + "' holds no ONNX graph");
  return model;
}

Type type_from_onnx(int data_type, const std::string &what) {
  switch (data_type) {
    case onnx::TensorProto::FLOAT:
      return Type::F32;
    case onnx::TensorProto::FLOAT16:
      return Type::F16;
    case onnx::TensorProto::BFLOAT16:
      return Type::BF16;
    case onnx::TensorProto::DOUBLE:
      return Type::F64;
    case onnx::TensorProto::INT8:
      return Type::I8;
    case onnx::TensorProto::UINT8:
      return Type::U8;
    case onnx::TensorProto::INT16:
      return Type::I16;
    case onnx::TensorProto::UINT16:
      return Type::U16;
    case onnx::TensorProto::INT32:
      return Type::I32;
    case onnx::TensorProto::UINT32:
      return Type::U32;
    case onnx::TensorProto::INT64:
      return Type::I64;
    case onnx::TensorProto::UINT64:
      return Type::U64;
    case onnx::TensorProto::BOOL:
      return Type::Bool;
    default: {
      // Newer than libonnx's schema.
      static const std::map<int, std::string> newer = {
          {17, "FLOAT8E4M3FN"}, {18, "FLOAT8E4M3FNUZ"}, {19, "FLOAT8E5M2"}, {20, "FLOAT8E5M2FNUZ"},
          {21, "UINT4"},        {22, "INT4"},           {23, "FLOAT4E2M1"}, {24, "FLOAT8E8M0"}};
      std::string name = std::to_string(data_type);
      if (const auto found = newer.find(data_type); found != newer.end()) {
        name = found->second;
      } else if (onnx::TensorProto::DataType_IsValid(data_type)) {
        name = onnx::TensorProto::DataType_Name(static_cast<onnx::TensorProto::DataType>(data_type));
      }
      throw UnsupportedError("tensor type " + name, what + ": element type " + name + " is not supported");
    }
  }
}

Tensor read_tensor(const onnx::TensorProto &proto, const std::filesystem::path &folder) {
  const std::string what = "tensor '" + printable(proto.name()) + "'";
  const Type type = type_from_onnx(proto.data_type(), what);
  Tensor tensor{proto.name(), type, Shape(proto.dims().begin(), proto.dims().end()), std::nullopt};
  if (proto.has_segment()) throw UnsupportedError("tensor segment", what + ": data in segments is not supported");
  int64_t count = 0;
  try {
    count = elements(tensor.shape);
  } catch (const InputError &error) {
    throw InputError(what + ": " + error.what());
  }
  if (count > kMaxElements) throw InputError(what + ": shape " + to_text(tensor.shape) + " is too large");
  const auto bytes = static_cast<std::size_t>(count) * bytes_of(type);
  std::string external;
  const std::string *raw = nullptr;
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) {
    external = read_external(proto, folder, bytes, what);
    raw = &external;
  } else if (proto.has_raw_data()) {
    raw = &proto.raw_data();
  }
  std::vector<std::byte> data;
  if (raw != nullptr) {
    if (raw->size() != bytes) {
      throw InputError(what + ": holds " + std::to_string(raw->size()) + " bytes, its shape " + to_text(tensor.shape) +
                       " of " + name_of(type) + " needs " + std::to_string(bytes));
    }
    const auto *first = reinterpret_cast<const std::byte *>(raw->data());
    data.assign(first, first + bytes);
  } else {
    // Checked before the allocation: the elements must be in the file.
    const int64_t stored = proto.float_data_size() + proto.double_data_size() + proto.int32_data_size() +
                           int64_t{proto.int64_data_size()} + proto.uint64_data_size();
    if (stored != count) {
      throw InputError(what + ": holds " + std::to_string(stored) + " elements, its shape " + to_text(tensor.shape) +
                       " needs " + std::to_string(count));
    }
    data.resize(bytes);
    copy_typed(proto, type, count, what, data);
  }
  if (type == Type::Bool) normalise_booleans(data);
  tensor.data = std::move(data);
  return tensor;
}

Initializers::Initializers(onnx::GraphProto &graph, std::filesystem::path folder)
    : graph_(graph), folder_(std::move(folder)), tensors_(static_cast<std::size_t>(graph.initializer_size())) {}

Tensor Initializers::read(int index) {
  const std::lock_guard lock(mutex_);
  std::optional<Tensor> &tensor = tensors_.at(static_cast<std::size_t>(index));
  if (!tensor) {
    onnx::TensorProto &proto = *graph_.mutable_initializer(index);
    tensor = read_tensor(proto, folder_);
    // clear_raw_data() would keep the memory.
    const std::unique_ptr<std::string> raw(proto.release_raw_data());
  }
  return *tensor;
}

std::string printable(const std::string &text) {
  constexpr std::size_t kLongest = 200;
  std::string result = text.substr(0, kLongest);
  for (char &character : result) {
    if (static_cast<unsigned char>(character) < 0x20 || character == 0x7F) character = '?';
  }
  return text.size() > kLongest ? result + "..." : result;
}

std::string to_text(const onnx::ModelProto &model) {
  std::ostringstream out;
  const auto value = [](const onnx::ValueInfoProto &info) {
    if (!info.type().has_tensor_type()) return printable(info.name()) + ": no tensor";
    const auto &tensor = info.type().tensor_type();
    std::string text = printable(info.name()) + ": type " + std::to_string(tensor.elem_type()) + " [";
    for (int d = 0; d < tensor.shape().dim_size(); ++d) {
      const auto &dimension = tensor.shape().dim(d);
      text += d == 0 ? "" : ", ";
      text += dimension.has_dim_value() ? std::to_string(dimension.dim_value()) : printable(dimension.dim_param());
    }
    return text + "]";
  };
  const auto list = [](const auto &names) {
    std::string text;
    for (const std::string &name : names) text += (text.empty() ? "" : ", ") + printable(name);
    return text;
  };
  out << "model " << printable(model.graph().name()) << '\n';
  for (const auto &opset : model.opset_import()) {
    out << "  opset " << opset.version() << (opset.domain().empty() ? "" : " of " + printable(opset.domain())) << '\n';
  }
  for (const auto &input : model.graph().input()) out << "  input " << value(input) << '\n';
  for (const auto &tensor : model.graph().initializer()) {
    out << "  initializer " << printable(tensor.name()) << ": type " << tensor.data_type() << " [";
    for (int d = 0; d < tensor.dims_size(); ++d) out << (d == 0 ? "" : ", ") << tensor.dims(d);
    out << "]\n";
  }
  for (const auto &node : model.graph().node()) {
    out << "  " << list(node.output()) << " = " << printable(node.op_type()) << '(' << list(node.input()) << ')';
    for (const auto &attribute : node.attribute()) out << ' ' << printable(attribute.name());
    out << "  # " << printable(node.name()) << '\n';
  }
  for (const auto &output : model.graph().output()) out << "  output " << value(output) << '\n';
  return out.str();
}

}  // namespace cx::compiler
