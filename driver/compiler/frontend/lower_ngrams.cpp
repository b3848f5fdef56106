// TfIdfVectorizer on integers: comparisons of shifted rows with the pool of n-grams, summed over the row.
#include <algorithm>
#include <limits>
#include <set>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Integers = std::vector<int64_t>;
constexpr int64_t kMostTerms = 65536;

// The n-grams of one length, side by side.
struct Pool {
  int64_t length = 0;
  Integers columns;  ///< of the output
  Integers items;    ///< n-gram after n-gram
};

// Those between min_gram_length and max_gram_length; `columns` goes on with every n-gram, counted or not.
std::vector<Pool> read_pools(const NodeContext &n, const Integers &columns) {
  const Integers starts = n.integers("ngram_counts");
  const Integers items = n.integers("pool_int64s");
  const int64_t shortest = n.integer("min_gram_length", 1);
  const int64_t longest = n.integer("max_gram_length", 1);
  if (shortest < 1 || longest < shortest || longest > static_cast<int64_t>(starts.size())) {
    throw InputError("min_gram_length " + std::to_string(shortest) + " and max_gram_length " + std::to_string(longest) +
                     " do not fit ngram_counts, which has " + std::to_string(starts.size()) + " lengths");
  }
  std::vector<Pool> pools;
  std::size_t gram = 0;
  int64_t expected = 0;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const int64_t length = static_cast<int64_t>(i) + 1;
    const int64_t end = i + 1 < starts.size() ? starts[i + 1] : static_cast<int64_t>(items.size());
    if (starts[i] != expected || end < starts[i] || end > static_cast<int64_t>(items.size()) ||
        (end - starts[i]) % length != 0) {
      throw InputError("ngram_counts gives n-grams of length " + std::to_string(length) + " the places " +
                       std::to_string(starts[i]) + " to " + std::to_string(end) + " of " +
                       std::to_string(items.size()));
    }
    expected = end;
    const std::size_t count = static_cast<std::size_t>((end - starts[i]) / length);
    if (gram + count <= columns.size() && count != 0 && length >= shortest && length <= longest) {
      Pool pool;
      pool.length = length;
      const auto first = columns.begin() + static_cast<std::ptrdiff_t>(gram);
      pool.columns.assign(first, first + static_cast<std::ptrdiff_t>(count));
      pool.items.assign(items.begin() + starts[i], items.begin() + end);
      pools.push_back(std::move(pool));
    }
    gram += count;
  }
  if (gram != columns.size() || expected != static_cast<int64_t>(items.size())) {
    throw InputError("ngram_indexes has " + std::to_string(columns.size()) +
                     " elements, which is not the number of n-grams in pool_int64s");
  }
  return pools;
}

// [rows, grams]: how often each n-gram of a pool occurs in x [rows, items], with `skipped` items left out between two.
TensorId occurrences(Builder &b, TensorId x, const Pool &pool, int64_t skipped) {
  const Shape shape = b.shape(x);
  const int64_t step = skipped + 1;
  const int64_t places = shape[1] - (pool.length - 1) * step;
  const int64_t grams = static_cast<int64_t>(pool.columns.size());
  TensorId found = kNoTensor;
  for (int64_t k = 0; k < pool.length; ++k) {
    std::vector<double> wanted;
    for (int64_t g = 0; g < grams; ++g) {
      wanted.push_back(static_cast<double>(pool.items[static_cast<std::size_t>(g * pool.length + k)]));
    }
    const TensorId item = b.constant(make_constant("", b[x].type, {1, 1, grams}, wanted));
    const TensorId part = b.reshape(b.slice_axis(x, 1, k * step, places), {shape[0], places, 1});
    const TensorId equal = b.compare("eq", part, item);
    found = k == 0 ? equal : b.binary("and", found, equal);
  }
  return b.reshape(b.reduce("sum", b.cast(found, Type::F32), {1}), {shape[0], grams});
}

// Of each n-gram, in the order of ngram_indexes.
std::vector<float> weights_of(const NodeContext &n, std::size_t grams) {
  const onnx::AttributeProto *attribute = n.attribute("weights");
  if (attribute == nullptr) return std::vector<float>(grams, 1.0F);
  if (static_cast<std::size_t>(attribute->floats_size()) != grams) {
    throw InputError("weights has " + std::to_string(attribute->floats_size()) + " elements for " +
                     std::to_string(grams) + " n-grams");
  }
  return {attribute->floats().begin(), attribute->floats().end()};
}

void check_items(const std::vector<Pool> &pools, Type type) {
  // Constants are made of doubles.
  const int64_t largest = type == Type::I32 ? std::numeric_limits<int32_t>::max() : int64_t{1} << 53;
  for (const Pool &pool : pools) {
    for (int64_t item : pool.items) {
      if (item > largest || item < -largest) {
        throw UnsupportedError("TfIdfVectorizer",
                               "pool_int64s holds " + std::to_string(item) + ", beyond +-" + std::to_string(largest));
      }
    }
  }
}

std::vector<TensorId> tf_idf_vectorizer(NodeContext &n) {
  Builder &b = n.b;
  if (n.has_attribute("pool_strings")) throw UnsupportedError(n.op(), "text is not computed on the device");
  const std::string mode = n.text("mode", "");
  if (mode != "TF" && mode != "IDF" && mode != "TFIDF") {
    throw InputError("attribute 'mode' is '" + mode + "', expected TF, IDF or TFIDF");
  }
  const int64_t most_skipped = n.integer("max_skip_count", 0);
  if (most_skipped < 0) throw InputError("max_skip_count is " + std::to_string(most_skipped));
  const Integers columns = n.integers("ngram_indexes");
  if (columns.empty()) throw InputError("attribute 'ngram_indexes' is empty");
  const int64_t width = *std::max_element(columns.begin(), columns.end()) + 1;
  if (*std::min_element(columns.begin(), columns.end()) < 0) throw InputError("ngram_indexes holds a negative element");
  if (std::set<int64_t>(columns.begin(), columns.end()).size() != columns.size()) {
    throw UnsupportedError(n.op(), "ngram_indexes puts two n-grams into one place");
  }
  Builder::check_table(width);

  TensorId x = n.input(0);
  const Shape shape = b.shape(x);
  if (b[x].type != Type::I32 && b[x].type != Type::I64) throw InputError("X must hold int32 or int64");
  if (shape.size() != 1 && shape.size() != 2) {
    throw InputError("X has shape " + to_text(shape) + ", expected one or two dimensions");
  }
  const int64_t rows = shape.size() == 2 ? shape[0] : 1;
  const int64_t length = shape.back();
  const Shape result = shape.size() == 2 ? Shape{rows, width} : Shape{width};
  const std::vector<Pool> pools = read_pools(n, columns);
  check_items(pools, b[x].type);
  x = b.reshape(x, {rows, length});

  // Counts side by side, the last column zero, and where each output comes from.
  std::vector<TensorId> counts;
  Integers source(static_cast<std::size_t>(width), -1);
  int64_t counted = 0;
  int64_t terms = 0;
  for (const Pool &pool : pools) {
    TensorId sum = kNoTensor;
    // Single items have nothing to skip.
    const int64_t skips = pool.length == 1 ? 0 : most_skipped;
    for (int64_t skipped = 0; skipped <= skips && length - (pool.length - 1) * (skipped + 1) > 0; ++skipped) {
      terms += pool.length;
      if (terms > kMostTerms)
        throw UnsupportedError(n.op(), "more than " + std::to_string(kMostTerms) + " comparisons");
      const TensorId found = occurrences(b, x, pool, skipped);
      sum = sum == kNoTensor ? found : b.binary("add", sum, found);
    }
    if (sum == kNoTensor) continue;
    counts.push_back(sum);
    for (int64_t column : pool.columns) source[static_cast<std::size_t>(column)] = counted++;
  }
  const TensorId zero = b.scalar(Type::F32, 0);
  if (counts.empty()) return {b.expand(zero, result)};
  if (std::find(source.begin(), source.end(), -1) != source.end()) {
    counts.push_back(b.expand(zero, {rows, 1}));
    std::replace(source.begin(), source.end(), int64_t{-1}, counted);
  }
  TensorId y = b.gather(counts.size() == 1 ? counts[0] : b.concat(counts, 1), 1, source);
  if (mode == "IDF") y = b.binary("min", y, 1.0);
  if (mode != "TF") {
    const std::vector<float> weights = weights_of(n, columns.size());
    std::vector<double> of_column(static_cast<std::size_t>(width), 0.0);
    for (std::size_t g = 0; g < columns.size(); ++g) of_column[static_cast<std::size_t>(columns[g])] = weights[g];
    y = b.binary("mul", y, b.constant(make_constant("", Type::F32, {1, width}, of_column)));
  }
  return {b.reshape(y, result)};
}

}  // namespace

void register_ngrams(LoweringTable &table) { table["TfIdfVectorizer"] = tf_idf_vectorizer; }

}  // namespace cx::compiler
