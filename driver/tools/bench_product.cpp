#include "driver/tools/bench_product.hpp"

#include <algorithm>

namespace cx::tools {

std::vector<float> small_integers(std::size_t count, std::mt19937_64 &random) {
  std::vector<float> values(count);
  for (float &value : values) value = static_cast<float>(static_cast<int>(random() % 5) - 2);
  return values;
}

std::vector<std::byte> raw(const std::vector<float> &values) {
  const auto *bytes = reinterpret_cast<const std::byte *>(values.data());
  return {bytes, bytes + values.size() * sizeof(float)};
}

compiler::TensorId add_tensor(compiler::Graph &graph, const std::string &name, const compiler::Shape &shape,
                              const std::vector<float> *values) {
  compiler::Tensor tensor;
  tensor.name = name;
  tensor.shape = shape;
  if (values != nullptr) tensor.data = raw(*values);
  return graph.add(std::move(tensor));
}

void add_node(compiler::Graph &graph, const std::string &name, const std::string &op,
              std::vector<compiler::TensorId> inputs, compiler::TensorId output,
              std::map<std::string, compiler::Attribute> attributes) {
  graph.nodes.push_back({name, op, std::move(inputs), {output}, std::move(attributes)});
}

compiler::Graph product_graph(const std::string &name, const ProductShape &shape, const std::vector<float> &weights) {
  compiler::Graph graph;
  graph.name = name;
  graph.inputs = {add_tensor(graph, "a", {shape.m, shape.k})};
  const compiler::TensorId weight = add_tensor(graph, "b", {shape.k, shape.n}, &weights);
  graph.outputs = {add_tensor(graph, "c", {shape.m, shape.n})};
  add_node(graph, "gemm", "MatMul", {graph.inputs[0], weight}, graph.outputs[0]);
  return graph;
}

int64_t longest_exact_k(const std::string &precision) {
  // FP16 keeps integers up to 2048, BF16 up to 256: the magnitudes of random-sign sums stay below with a wide margin
  // only for a short k.
  return precision == "bf16" ? 512 : 16384;
}

uint64_t wrong_elements(const ProductShape &shape, const std::vector<float> &a, const std::vector<float> &b,
                        const HostTensor &c, int64_t rows) {
  const auto *actual = reinterpret_cast<const float *>(c.bytes.data());
  uint64_t wrong = 0;
  const int64_t step = std::max<int64_t>(1, shape.m / rows);
  std::vector<double> line(shape.n);
  for (int64_t i = 0; i < shape.m; i += step) {
    std::fill(line.begin(), line.end(), 0.0);
    for (int64_t l = 0; l < shape.k; ++l) {
      const double x = a[i * shape.k + l];
      for (int64_t j = 0; j < shape.n; ++j) line[j] += x * b[l * shape.n + j];
    }
    for (int64_t j = 0; j < shape.n; ++j) wrong += line[j] != actual[i * shape.n + j] ? 1 : 0;
  }
  return wrong;
}

}  // namespace cx::tools
