#include "driver/tools/tokenizer.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <queue>
#include <unordered_map>

#include "driver/include/cx/error.hpp"
#include "driver/tools/unicode.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::json;
using Vocabulary = std::unordered_map<std::string, int64_t>;
using Words = std::vector<std::string>;

// ---- characters ----

class CharacterSet : public Tokenizer {
 public:
  CharacterSet(const Json &list, const std::string &name) {
    for (const Json &item : list) {
      const auto text = item.get<std::string>();
      if (text.empty() || code_points(text).size() != 1) throw InputError(name + ": '" + text + "' is no character");
      if (!numbers_.emplace(text, static_cast<int64_t>(characters_.size())).second) {
        throw InputError(name + ": holds '" + text + "' twice");
      }
      characters_.push_back(text);
    }
    if (characters_.empty()) throw InputError(name + ": holds no characters");
  }

  std::vector<int64_t> encode(const std::string &text, bool) const override {
    std::vector<int64_t> tokens;
    for (const char32_t point : code_points(text)) {
      const auto found = numbers_.find(to_utf8(point));
      if (found == numbers_.end()) {
        throw InputError(fmt::format("character {} '{}' (U+{:04X}) is not in the tokenizer's set", tokens.size(),
                                     to_utf8(point), static_cast<uint32_t>(point)));
      }
      tokens.push_back(found->second);
    }
    return tokens;
  }

  std::string decode(std::span<const int64_t> tokens) const override {
    std::string text;
    for (const int64_t token : tokens) {
      if (token < 0 || token >= size()) throw InputError(fmt::format("the tokenizer has no token {}", token));
      text += characters_[static_cast<std::size_t>(token)];
    }
    return text;
  }

  int64_t size() const override { return static_cast<int64_t>(characters_.size()); }

 private:
  std::vector<std::string> characters_;
  std::unordered_map<std::string, int64_t> numbers_;
};

// ---- bytes as characters ----

/// Printable characters for all bytes: printable Latin-1 bytes stand for themselves, the others follow from U+0100.
const std::array<std::string, 256> &byte_characters() {
  static const std::array<std::string, 256> table = [] {
    std::array<std::string, 256> result;
    char32_t next = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      result[byte] = to_utf8(itself ? byte : next++);
    }
    return result;
  }();
  return table;
}

std::string bytes_to_characters(const std::string &text) {
  std::string result;
  for (const char c : text) result += byte_characters()[static_cast<unsigned char>(c)];
  return result;
}

std::string characters_to_bytes(const std::string &text) {
  static const std::map<std::string, char> table = [] {
    std::map<std::string, char> result;
    for (std::size_t byte = 0; byte < 256; ++byte) result[byte_characters()[byte]] = static_cast<char>(byte);
    return result;
  }();
  std::string bytes;
  for (const char32_t point : code_points(text)) {
    const std::string character = to_utf8(point);
    const auto found = table.find(character);
    if (found != table.end()) {
      bytes += found->second;
    } else {
      bytes += character;  // of an added token, which is plain text
    }
  }
  return bytes;
}

// ---- pieces of tokenizer.json ----

std::string type_of(const Json &component) {
  const auto type = component.find("type");
  return type == component.end() || !type->is_string() ? "without a type" : type->get<std::string>();
}

bool is_set(const Json &object, const std::string &key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null();
}

std::string replace_all(std::string text, const std::string &from, const std::string &to) {
  if (from.empty()) return text;
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// {"String": ...} or {"Regex": ...}, or the text itself.
Regex pattern_of(const Json &pattern) {
  if (pattern.is_string()) return Regex(quoted(pattern.get<std::string>()));
  if (pattern.contains("String")) return Regex(quoted(pattern.at("String").get<std::string>()));
  return Regex(pattern.at("Regex").get<std::string>());
}

using TextStep = std::function<std::string(const std::string &)>;

std::string bert_normalised(const std::string &text, bool clean, bool chinese, bool strip, bool lower) {
  std::vector<char32_t> points;
  for (const char32_t point : code_points(text)) {
    if (clean && (point == 0 || point == 0xFFFD || is_control(point))) continue;
    if (clean && is_space(point)) {
      points.push_back(' ');
    } else if (chinese && is_cjk(point)) {
      points.insert(points.end(), {' ', point, ' '});
    } else {
      points.push_back(point);
    }
  }
  std::string result = to_utf8(points);
  if (strip) {
    points.clear();
    for (const char32_t point : code_points(normalise(result, NormalForm::nfd))) {
      if (!is_nonspacing_mark(point)) points.push_back(point);
    }
    result = to_utf8(points);
  }
  if (!lower) return result;
  std::string lowered;
  for (const char32_t point : code_points(result)) lowered += to_utf8(lower_case(point));
  return lowered;
}

std::string stripped(const std::string &text, bool left, bool right) {
  std::vector<char32_t> points = code_points(text);
  std::size_t begin = 0;
  std::size_t end = points.size();
  while (left && begin < end && is_space(points[begin])) ++begin;
  while (right && end > begin && is_space(points[end - 1])) --end;
  return to_utf8(std::vector<char32_t>(points.begin() + static_cast<std::ptrdiff_t>(begin),
                                       points.begin() + static_cast<std::ptrdiff_t>(end)));
}

TextStep make_normaliser(const Json &json) {
  const std::string type = type_of(json);
  if (type == "Sequence") {
    std::vector<TextStep> steps;
    for (const Json &step : json.at("normalizers")) steps.push_back(make_normaliser(step));
    return [steps](std::string text) {
      for (const TextStep &step : steps) text = step(text);
      return text;
    };
  }
  static const std::map<std::string, NormalForm> kForms = {
      {"NFC", NormalForm::nfc}, {"NFD", NormalForm::nfd}, {"NFKC", NormalForm::nfkc}, {"NFKD", NormalForm::nfkd}};
  if (const auto form = kForms.find(type); form != kForms.end()) {
    return [form = form->second](const std::string &text) { return normalise(text, form); };
  }
  if (type == "Lowercase") {
    return [](const std::string &text) { return bert_normalised(text, false, false, false, true); };
  }
  if (type == "StripAccents") {
    return [](const std::string &text) {
      std::vector<char32_t> points = code_points(text);
      std::erase_if(points, is_nonspacing_mark);
      return to_utf8(points);
    };
  }
  if (type == "BertNormalizer") {
    const bool lower = json.value("lowercase", true);
    const bool strip = is_set(json, "strip_accents") ? json.at("strip_accents").get<bool>() : lower;
    const bool clean = json.value("clean_text", true);
    const bool chinese = json.value("handle_chinese_chars", true);
    return [=](const std::string &text) { return bert_normalised(text, clean, chinese, strip, lower); };
  }
  if (type == "Strip") {
    return [left = json.value("strip_left", true), right = json.value("strip_right", true)](const std::string &text) {
      return stripped(text, left, right);
    };
  }
  if (type == "Prepend") {
    return [prefix = json.at("prepend").get<std::string>()](const std::string &text) {
      return text.empty() ? text : prefix + text;
    };
  }
  if (type == "Replace") {
    const auto pattern = std::make_shared<Regex>(pattern_of(json.at("pattern")));
    return [pattern, content = json.at("content").get<std::string>()](const std::string &text) {
      std::string result;
      std::size_t at = 0;
      for (const auto &[begin, end] : pattern->matches(text)) {
        result.append(text, at, begin - at).append(content);
        at = end;
      }
      return result.append(text, at);
    };
  }
  throw UnsupportedError("normalizer " + type, "normalizer " + type + " is not supported");
}

/// How a piece of text is cut at matches of a pattern.
enum class Behaviour { removed, isolated, merged_with_previous, merged_with_next, contiguous };

Behaviour behaviour_of(const Json &json, Behaviour fallback) {
  static const std::map<std::string, Behaviour> kNames = {{"Removed", Behaviour::removed},
                                                          {"Isolated", Behaviour::isolated},
                                                          {"MergedWithPrevious", Behaviour::merged_with_previous},
                                                          {"MergedWithNext", Behaviour::merged_with_next},
                                                          {"Contiguous", Behaviour::contiguous}};
  if (!is_set(json, "behavior")) return fallback;
  const auto name = json.at("behavior").get<std::string>();
  const auto found = kNames.find(name);
  if (found == kNames.end()) throw UnsupportedError("split " + name, "split behaviour " + name + " is not supported");
  return found->second;
}

struct Cut {
  std::size_t begin, end;
  bool match;
};

Words cut(const std::string &text, const std::vector<std::pair<std::size_t, std::size_t>> &matches, bool invert,
          Behaviour behaviour) {
  std::vector<Cut> cuts;
  std::size_t at = 0;
  for (const auto &[begin, end] : matches) {
    if (begin > at) cuts.push_back({at, begin, invert});
    cuts.push_back({begin, end, !invert});
    at = end;
  }
  if (at < text.size()) cuts.push_back({at, text.size(), invert});
  std::vector<Cut> merged;
  switch (behaviour) {
    case Behaviour::isolated:
      merged = cuts;
      break;
    case Behaviour::removed:
      std::copy_if(cuts.begin(), cuts.end(), std::back_inserter(merged), [](const Cut &c) { return !c.match; });
      break;
    case Behaviour::merged_with_previous:
      for (const Cut &c : cuts) {
        if (c.match && !merged.empty() && !merged.back().match) {
          merged.back().end = c.end;
          merged.back().match = true;
        } else {
          merged.push_back(c);
        }
      }
      break;
    case Behaviour::merged_with_next:
      for (const Cut &c : cuts) {
        if (!c.match && !merged.empty() && merged.back().match) {
          merged.back().end = c.end;
          merged.back().match = false;
        } else {
          merged.push_back(c);
        }
      }
      break;
    case Behaviour::contiguous:
      for (const Cut &c : cuts) {
        if (!merged.empty() && merged.back().match == c.match) {
          merged.back().end = c.end;
        } else {
          merged.push_back(c);
        }
      }
      break;
  }
  Words words;
  for (const Cut &c : merged) words.push_back(text.substr(c.begin, c.end - c.begin));
  return words;
}

/// Matches of single characters.
std::vector<std::pair<std::size_t, std::size_t>> where(const std::string &text, bool (*wanted)(char32_t)) {
  std::vector<std::pair<std::size_t, std::size_t>> found;
  std::size_t at = 0;
  for (const char32_t point : code_points(text)) {
    const std::size_t length = to_utf8(point).size();
    if (wanted(point)) found.emplace_back(at, at + length);
    at += length;
  }
  return found;
}

/// Cuts one piece; `first`: it begins the whole text.
using CutStep = std::function<Words(const std::string &text, bool first)>;

Words digits(const std::string &text, bool individual) {
  return cut(text, where(text, is_decimal_digit), false, individual ? Behaviour::isolated : Behaviour::contiguous);
}

CutStep make_metaspace(const Json &json) {
  const std::string replacement = json.value("replacement", std::string("\xE2\x96\x81"));
  std::string scheme = json.value("prepend_scheme", std::string("always"));
  if (!json.contains("prepend_scheme") && !json.value("add_prefix_space", true)) scheme = "never";
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    throw UnsupportedError("Metaspace", "prepend_scheme " + scheme + " is not supported");
  }
  const bool split = json.value("split", true);
  const auto pattern = std::make_shared<Regex>(quoted(replacement));
  return [=](const std::string &text, bool first) {
    std::string marked = replace_all(text, " ", replacement);
    const bool wanted = scheme == "always" || (scheme == "first" && first);
    if (wanted && marked.rfind(replacement, 0) != 0) marked.insert(0, replacement);
    return split ? cut(marked, pattern->matches(marked), false, Behaviour::merged_with_next) : Words{marked};
  };
}

CutStep make_cutter(const Json &json) {
  const std::string type = type_of(json);
  if (type == "Sequence") {
    std::vector<CutStep> steps;
    for (const Json &step : json.at("pretokenizers")) steps.push_back(make_cutter(step));
    return [steps](const std::string &text, bool first) {
      Words words = {text};
      for (const CutStep &step : steps) {
        Words next;
        bool leads = first;
        for (const std::string &word : words) {
          const Words parts = step(word, leads);
          next.insert(next.end(), parts.begin(), parts.end());
          leads = false;
        }
        words = std::move(next);
      }
      return words;
    };
  }
  if (type == "ByteLevel") {
    static const char *const kPattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
    const bool prefix = json.value("add_prefix_space", true);
    const bool use_pattern = json.value("use_regex", true);
    const auto pattern = std::make_shared<Regex>(kPattern);
    return [=](const std::string &text, bool) {
      const std::string marked = prefix && text.rfind(' ', 0) != 0 ? " " + text : text;
      Words words = use_pattern ? cut(marked, pattern->matches(marked), false, Behaviour::isolated) : Words{marked};
      for (std::string &word : words) word = bytes_to_characters(word);
      return words;
    };
  }
  if (type == "Split") {
    const auto pattern = std::make_shared<Regex>(pattern_of(json.at("pattern")));
    return [pattern, invert = json.value("invert", false), behaviour = behaviour_of(json, Behaviour::isolated)](
               const std::string &text, bool) { return cut(text, pattern->matches(text), invert, behaviour); };
  }
  if (type == "Whitespace") {
    // Rust's \w has marks and connectors, which PCRE's lacks.
    const auto pattern = std::make_shared<Regex>(
        R"([\p{L}\p{Nl}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]+|[^\p{L}\p{Nl}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}\s]+)");
    return [pattern](const std::string &text, bool) {
      return cut(text, pattern->matches(text), true, Behaviour::removed);
    };
  }
  if (type == "WhitespaceSplit") {
    return [](const std::string &text, bool) { return cut(text, where(text, is_space), false, Behaviour::removed); };
  }
  if (type == "BertPreTokenizer") {
    return [](const std::string &text, bool) {
      Words words;
      for (const std::string &word : cut(text, where(text, is_space), false, Behaviour::removed)) {
        const Words parts = cut(word, where(word, is_punctuation), false, Behaviour::isolated);
        words.insert(words.end(), parts.begin(), parts.end());
      }
      return words;
    };
  }
  if (type == "Punctuation") {
    return [behaviour = behaviour_of(json, Behaviour::isolated)](const std::string &text, bool) {
      return cut(text, where(text, is_punctuation), false, behaviour);
    };
  }
  if (type == "Digits") {
    return [individual = json.value("individual_digits", false)](const std::string &text, bool) {
      return digits(text, individual);
    };
  }
  if (type == "Metaspace") return make_metaspace(json);
  throw UnsupportedError("pre_tokenizer " + type, "pre-tokenizer " + type + " is not supported");
}

// ---- models ----

class Model {
 public:
  virtual ~Model() = default;
  virtual void encode(const std::string &word, std::vector<int64_t> &tokens) const = 0;
};

Vocabulary vocabulary_of(const Json &model) {
  Vocabulary vocabulary;
  for (const auto &[token, number] : model.at("vocab").items()) {
    const auto value = number.get<int64_t>();
    if (value < 0 || value > std::numeric_limits<int32_t>::max()) {
      throw InputError(fmt::format("token '{}' has the number {}", token, value));
    }
    vocabulary.emplace(token, value);
  }
  if (vocabulary.empty()) throw InputError("the vocabulary is empty");
  return vocabulary;
}

/// Pairs of tokens become one, the pair of lowest rank first.
class PairModel : public Model {
 public:
  explicit PairModel(const Json &model) : vocabulary_(vocabulary_of(model)) {
    const auto text = [&](const char *key) {
      return is_set(model, key) ? model.at(key).get<std::string>() : std::string();
    };
    prefix_ = text("continuing_subword_prefix");
    suffix_ = text("end_of_word_suffix");
    byte_fallback_ = model.value("byte_fallback", false);
    fuse_unknown_ = model.value("fuse_unk", false);
    ignore_merges_ = model.value("ignore_merges", false);
    if (is_set(model, "unk_token")) unknown_ = number_of(text("unk_token"), "unk_token");
    int64_t rank = 0;
    for (const Json &merge : model.at("merges")) {
      std::string left, right;
      if (merge.is_string()) {
        const auto pair = merge.get<std::string>();
        const std::size_t space = pair.find(' ');
        if (space == std::string::npos) throw InputError("merge '" + pair + "' is no pair");
        left = pair.substr(0, space);
        right = pair.substr(space + 1);
      } else {
        left = merge.at(0).get<std::string>();
        right = merge.at(1).get<std::string>();
      }
      const bool has_prefix = !prefix_.empty() && right.rfind(prefix_, 0) == 0;
      const std::string whole = left + (has_prefix ? right.substr(prefix_.size()) : right);
      merges_.emplace(std::pair{number_of(left, "merge"), number_of(right, "merge")},
                      Merge{rank++, number_of(whole, "merge")});
    }
  }

  void encode(const std::string &word, std::vector<int64_t> &tokens) const override {
    if (ignore_merges_) {
      if (const auto whole = vocabulary_.find(word); whole != vocabulary_.end()) {
        tokens.push_back(whole->second);
        return;
      }
    }
    merge(symbols_of(word), tokens);
  }

 private:
  struct Merge {
    int64_t rank;
    int64_t result;
  };
  struct Symbol {
    int64_t token;
    int previous, next;
    bool alive = true;
  };
  struct Candidate {
    int64_t rank;
    int at;
    int64_t left, right;
    bool operator>(const Candidate &other) const { return std::tie(rank, at) > std::tie(other.rank, other.at); }
  };

  int64_t number_of(const std::string &token, const std::string &what) const {
    const auto found = vocabulary_.find(token);
    if (found == vocabulary_.end()) throw InputError(what + ": token '" + token + "' is not in the vocabulary");
    return found->second;
  }

  std::vector<int64_t> symbols_of(const std::string &word) const {
    const std::vector<char32_t> points = code_points(word);
    std::vector<int64_t> symbols;
    bool after_unknown = false;
    for (std::size_t i = 0; i < points.size(); ++i) {
      const std::string character = to_utf8(points[i]);
      const std::string token = (i > 0 ? prefix_ : "") + character + (i + 1 == points.size() ? suffix_ : "");
      if (const auto found = vocabulary_.find(token); found != vocabulary_.end()) {
        symbols.push_back(found->second);
        after_unknown = false;
        continue;
      }
      if (byte_fallback_ && push_bytes(token, symbols)) {
        after_unknown = false;
        continue;
      }
      if (!unknown_) {
        throw InputError(fmt::format("the tokenizer's vocabulary has neither '{}' (U+{:04X}) nor an unknown token",
                                     token, static_cast<uint32_t>(points[i])));
      }
      if (!fuse_unknown_ || !after_unknown) symbols.push_back(*unknown_);
      after_unknown = true;
    }
    return symbols;
  }

  bool push_bytes(const std::string &token, std::vector<int64_t> &symbols) const {
    std::vector<int64_t> bytes;
    for (const char c : token) {
      const auto found = vocabulary_.find(fmt::format("<0x{:02X}>", static_cast<unsigned char>(c)));
      if (found == vocabulary_.end()) return false;
      bytes.push_back(found->second);
    }
    symbols.insert(symbols.end(), bytes.begin(), bytes.end());
    return true;
  }

  void merge(const std::vector<int64_t> &symbols, std::vector<int64_t> &tokens) const {
    std::vector<Symbol> list;
    const int count = static_cast<int>(symbols.size());
    for (int i = 0; i < count; ++i) {
      list.push_back({symbols[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1});
    }
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto consider = [&](int at) {
      if (at < 0 || list[at].next < 0) return;
      const int64_t left = list[at].token;
      const int64_t right = list[list[at].next].token;
      if (const auto found = merges_.find({left, right}); found != merges_.end()) {
        queue.push({found->second.rank, at, left, right});
      }
    };
    for (int i = 0; i < count; ++i) consider(i);
    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      Symbol &left = list[top.at];
      if (!left.alive || left.next < 0 || left.token != top.left || list[left.next].token != top.right) continue;
      Symbol &right = list[left.next];
      left.token = merges_.at({top.left, top.right}).result;
      left.next = right.next;
      right.alive = false;
      if (left.next >= 0) list[left.next].previous = top.at;
      consider(left.previous);
      consider(top.at);
    }
    for (const Symbol &symbol : list) {
      if (symbol.alive) tokens.push_back(symbol.token);
    }
  }

  Vocabulary vocabulary_;
  std::map<std::pair<int64_t, int64_t>, Merge> merges_;
  std::string prefix_, suffix_;
  std::optional<int64_t> unknown_;
  bool byte_fallback_ = false, fuse_unknown_ = false, ignore_merges_ = false;
};

/// The longest token first; a word that cannot be spelled is unknown as a whole.
class WordPieceModel : public Model {
 public:
  explicit WordPieceModel(const Json &model)
      : vocabulary_(vocabulary_of(model)),
        prefix_(model.value("continuing_subword_prefix", std::string("##"))),
        longest_(model.value("max_input_chars_per_word", std::size_t{100})) {
    const auto found = vocabulary_.find(model.value("unk_token", std::string("[UNK]")));
    if (found == vocabulary_.end()) throw InputError("the unknown token is not in the vocabulary");
    unknown_ = found->second;
  }

  void encode(const std::string &word, std::vector<int64_t> &tokens) const override {
    const std::vector<char32_t> points = code_points(word);
    std::vector<int64_t> pieces;
    bool known = points.size() <= longest_;
    for (std::size_t begin = 0; known && begin < points.size();) {
      std::size_t end = points.size();
      for (; end > begin; --end) {
        const std::vector<char32_t> part(points.begin() + static_cast<std::ptrdiff_t>(begin),
                                         points.begin() + static_cast<std::ptrdiff_t>(end));
        const auto found = vocabulary_.find((begin > 0 ? prefix_ : "") + to_utf8(part));
        if (found == vocabulary_.end()) continue;
        pieces.push_back(found->second);
        break;
      }
      known = end > begin;
      begin = end;
    }
    if (known) {
      tokens.insert(tokens.end(), pieces.begin(), pieces.end());
    } else {
      tokens.push_back(unknown_);
    }
  }

 private:
  Vocabulary vocabulary_;
  std::string prefix_;
  std::size_t longest_;
  int64_t unknown_ = 0;
};

class WordModel : public Model {
 public:
  explicit WordModel(const Json &model) : vocabulary_(vocabulary_of(model)) {
    if (!is_set(model, "unk_token")) return;
    const auto found = vocabulary_.find(model.at("unk_token").get<std::string>());
    if (found != vocabulary_.end()) unknown_ = found->second;
  }

  void encode(const std::string &word, std::vector<int64_t> &tokens) const override {
    const auto found = vocabulary_.find(word);
    if (found == vocabulary_.end() && !unknown_) {
      throw InputError("the tokenizer's vocabulary has neither '" + word + "' nor an unknown token");
    }
    tokens.push_back(found == vocabulary_.end() ? *unknown_ : found->second);
  }

 private:
  Vocabulary vocabulary_;
  std::optional<int64_t> unknown_;
};

std::string model_type(const Json &model) {
  if (model.contains("type")) return type_of(model);
  // Old files do not say.
  return model.contains("merges") ? "BPE" : model.contains("max_input_chars_per_word") ? "WordPiece" : "WordLevel";
}

std::unique_ptr<Model> make_model(const Json &model) {
  const std::string type = model_type(model);
  if (type == "BPE") return std::make_unique<PairModel>(model);
  if (type == "WordPiece") return std::make_unique<WordPieceModel>(model);
  if (type == "WordLevel") return std::make_unique<WordModel>(model);
  throw UnsupportedError("model " + type,
                         "tokenizer model " + type + " is not supported; BPE, WordPiece and WordLevel are");
}

// ---- from tokens to text ----

/// Works on the list of token texts, of which the last step leaves what is put together.
using JoinStep = std::function<Words(Words)>;

std::string join(const Words &words) {
  std::string text;
  for (const std::string &word : words) text += word;
  return text;
}

/// What WordPiece decoders do about spaces before punctuation and contractions.
std::string cleaned(std::string text) {
  for (const auto &[from, to] : std::initializer_list<std::pair<const char *, const char *>>{{" .", "."},
                                                                                             {" ?", "?"},
                                                                                             {" !", "!"},
                                                                                             {" ,", ","},
                                                                                             {" ' ", "'"},
                                                                                             {" n't", "n't"},
                                                                                             {" 'm", "'m"},
                                                                                             {" do not", " don't"},
                                                                                             {" 's", "'s"},
                                                                                             {" 've", "'ve"},
                                                                                             {" 're", "'re"}}) {
    text = replace_all(text, from, to);
  }
  return text;
}

Words fallback_bytes(const Words &words) {
  Words result;
  std::string bytes;
  const auto flush = [&] {
    if (!bytes.empty()) result.push_back(valid_utf8(bytes));
    bytes.clear();
  };
  for (const std::string &word : words) {
    if (word.size() == 6 && word.rfind("<0x", 0) == 0 && word[5] == '>' &&
        word.find_first_not_of("0123456789ABCDEFabcdef", 3) == 5) {
      bytes += static_cast<char>(std::stoi(word.substr(3, 2), nullptr, 16));
    } else {
      flush();
      result.push_back(word);
    }
  }
  flush();
  return result;
}

JoinStep make_joiner(const Json &json) {
  const std::string type = type_of(json);
  if (type == "Sequence") {
    std::vector<JoinStep> steps;
    for (const Json &step : json.at("decoders")) steps.push_back(make_joiner(step));
    return [steps](Words words) {
      for (const JoinStep &step : steps) words = step(std::move(words));
      return words;
    };
  }
  if (type == "ByteLevel") {
    return [](const Words &words) { return Words{valid_utf8(characters_to_bytes(join(words)))}; };
  }
  if (type == "WordPiece") {
    return [prefix = json.value("prefix", std::string("##")), clean = json.value("cleanup", true)](Words words) {
      for (std::size_t i = 0; i < words.size(); ++i) {
        if (i > 0) words[i] = words[i].rfind(prefix, 0) == 0 ? words[i].substr(prefix.size()) : " " + words[i];
        if (clean) words[i] = cleaned(words[i]);
      }
      return words;
    };
  }
  if (type == "BPEDecoder") {
    return [suffix = json.value("suffix", std::string("</w>"))](Words words) {
      for (std::size_t i = 0; i < words.size(); ++i) {
        words[i] = replace_all(words[i], suffix, i + 1 < words.size() ? " " : "");
      }
      return words;
    };
  }
  if (type == "Metaspace") {
    const bool prefixed =
        json.value("prepend_scheme", std::string("always")) != "never" && json.value("add_prefix_space", true);
    return [replacement = json.value("replacement", std::string("\xE2\x96\x81")), prefixed](Words words) {
      for (std::size_t i = 0; i < words.size(); ++i) {
        if (i == 0 && prefixed && words[i].rfind(replacement, 0) == 0) words[i].erase(0, replacement.size());
        words[i] = replace_all(words[i], replacement, " ");
      }
      return words;
    };
  }
  if (type == "ByteFallback") return fallback_bytes;
  if (type == "Fuse") {
    return [](const Words &words) { return Words{join(words)}; };
  }
  if (type == "Replace") {
    const TextStep replace = make_normaliser(json);
    return [replace](Words words) {
      for (std::string &word : words) word = replace(word);
      return words;
    };
  }
  if (type == "Strip") {
    const auto content = json.at("content").get<std::string>();
    return [content, start = json.value("start", 0), stop = json.value("stop", 0)](Words words) {
      for (std::string &word : words) {
        for (int i = 0; i < start && word.rfind(content, 0) == 0; ++i) word.erase(0, content.size());
        for (int i = 0; i < stop && word.size() >= content.size() &&
                        word.compare(word.size() - content.size(), content.size(), content) == 0;
             ++i) {
          word.resize(word.size() - content.size());
        }
      }
      return words;
    };
  }
  throw UnsupportedError("decoder " + type, "decoder " + type + " is not supported");
}

// ---- the whole ----

struct AddedToken {
  int64_t number = 0;
  std::string content;
  bool special = false, normalised = false, strip_left = false, strip_right = false, single_word = false;
};

/// A part of the text: a token that was found in it, or text.
struct Part {
  std::string text;
  std::optional<int64_t> token;
  bool first = false;  ///< the text begins with it
};

bool is_word_character(char32_t point) {
  return point == '_' || is_decimal_digit(point) || (!is_space(point) && !is_punctuation(point) && !is_control(point));
}

class HuggingFace : public Tokenizer {
 public:
  explicit HuggingFace(const Json &json) : model_(make_model(json.at("model"))) {
    for (const auto &[token, number] : vocabulary_of(json.at("model"))) name(number, token);
    if (is_set(json, "normalizer")) normaliser_ = make_normaliser(json.at("normalizer"));
    if (is_set(json, "added_tokens")) {
      for (const Json &item : json.at("added_tokens")) {
        AddedToken token;
        token.number = item.at("id").get<int64_t>();
        token.content = item.at("content").get<std::string>();
        token.special = item.value("special", false);
        token.normalised = item.value("normalized", !token.special);
        token.strip_left = item.value("lstrip", false);
        token.strip_right = item.value("rstrip", false);
        token.single_word = item.value("single_word", false);
        if (token.content.empty() || token.number < 0) throw InputError("an added token has no content or number");
        name(token.number, token.content);
        if (token.normalised && normaliser_) token.content = normaliser_(token.content);
        if (token.special) special_.push_back(token.number);
        added_.push_back(std::move(token));
      }
    }
    if (is_set(json, "pre_tokenizer")) cutter_ = make_cutter(json.at("pre_tokenizer"));
    if (is_set(json, "decoder")) joiner_ = make_joiner(json.at("decoder"));
    if (is_set(json, "post_processor")) read_frame(json.at("post_processor"));
  }

  std::vector<int64_t> encode(const std::string &text, bool special) const override {
    code_points(text);  // refuses what is not UTF-8
    std::vector<int64_t> tokens;
    if (special) tokens = before_;
    for (const Part &raw : find_added({{text, std::nullopt, true}}, false)) {
      if (raw.token) {
        tokens.push_back(*raw.token);
        continue;
      }
      Part normal = raw;
      if (normaliser_) normal.text = normaliser_(raw.text);
      for (const Part &part : find_added({normal}, true)) {
        if (part.token) {
          tokens.push_back(*part.token);
          continue;
        }
        if (part.text.empty()) continue;
        for (const std::string &word : cutter_ ? cutter_(part.text, part.first) : Words{part.text}) {
          if (!word.empty()) model_->encode(word, tokens);
        }
      }
    }
    if (special) tokens.insert(tokens.end(), after_.begin(), after_.end());
    return tokens;
  }

  std::string decode(std::span<const int64_t> tokens) const override {
    Words words;
    for (const int64_t token : tokens) {
      if (token < 0 || token >= size() || !names_[static_cast<std::size_t>(token)]) {
        throw InputError(fmt::format("the tokenizer has no token {}", token));
      }
      if (std::find(special_.begin(), special_.end(), token) != special_.end()) continue;
      words.push_back(*names_[static_cast<std::size_t>(token)]);
    }
    if (joiner_) return join(joiner_(words));
    std::string text;
    for (const std::string &word : words) text += (text.empty() ? "" : " ") + word;
    return text;
  }

  int64_t size() const override { return static_cast<int64_t>(names_.size()); }

 private:
  void name(int64_t number, const std::string &text) {
    constexpr int64_t kMost = int64_t{1} << 24;
    if (number >= kMost) throw InputError(fmt::format("token '{}' has the number {}", text, number));
    if (number >= size()) names_.resize(static_cast<std::size_t>(number) + 1);
    names_[static_cast<std::size_t>(number)] = text;
  }

  /// Tokens that are put before and after every text.
  void read_frame(const Json &json) {
    const std::string type = type_of(json);
    if (type == "ByteLevel") return;
    if (type == "Sequence") {
      for (const Json &step : json.at("processors")) read_frame(step);
    } else if (type == "TemplateProcessing") {
      bool past = false;
      for (const Json &item : json.at("single")) {
        if (item.contains("Sequence")) {
          past = true;
          continue;
        }
        const auto name = item.at("SpecialToken").at("id").get<std::string>();
        for (const Json &number : json.at("special_tokens").at(name).at("ids")) {
          (past ? after_ : before_).push_back(number.get<int64_t>());
        }
      }
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      before_.push_back(json.at("cls").at(1).get<int64_t>());
      after_.push_back(json.at("sep").at(1).get<int64_t>());
    } else {
      throw UnsupportedError("post_processor " + type, "post-processor " + type + " is not supported");
    }
  }

  /// Cuts added tokens out of the text, at each place the longest. `normalised`: those that are looked for in
  /// normalised text.
  std::vector<Part> find_added(const std::vector<Part> &parts, bool normalised) const {
    std::vector<Part> result;
    for (const Part &part : parts) {
      if (part.token) {
        result.push_back(part);
        continue;
      }
      std::size_t begin = 0;
      const auto push_text = [&](std::size_t end) {
        if (end > begin)
          result.push_back({part.text.substr(begin, end - begin), std::nullopt, part.first && begin == 0});
      };
      for (std::size_t at = 0; at < part.text.size();) {
        const AddedToken *best = nullptr;
        std::size_t length = 0;
        for (const AddedToken &token : added_) {
          if (token.normalised != normalised) continue;
          if (token.content.size() <= length) continue;
          if (part.text.compare(at, token.content.size(), token.content) != 0) continue;
          if (token.single_word && !stands_alone(part.text, at, token.content.size())) continue;
          best = &token;
          length = token.content.size();
        }
        if (best == nullptr) {
          at += utf8_length(part.text[at]);
          continue;
        }
        std::size_t left = at;
        std::size_t right = at + length;
        if (best->strip_left) left = begin + stripped(part.text.substr(begin, at - begin), false, true).size();
        if (best->strip_right) right = part.text.size() - stripped(part.text.substr(right), true, false).size();
        push_text(left);
        result.push_back({"", best->number, false});
        begin = at = right;
      }
      push_text(part.text.size());
    }
    return result;
  }

  static bool stands_alone(const std::string &text, std::size_t at, std::size_t length) {
    const std::vector<char32_t> before = code_points(std::string_view(text).substr(0, at));
    const std::vector<char32_t> after = code_points(std::string_view(text).substr(at + length));
    return (before.empty() || !is_word_character(before.back())) &&
           (after.empty() || !is_word_character(after.front()));
  }

  std::unique_ptr<Model> model_;
  std::vector<std::optional<std::string>> names_;
  std::vector<AddedToken> added_;
  std::vector<int64_t> special_, before_, after_;
  TextStep normaliser_;
  CutStep cutter_;
  JoinStep joiner_;
};

}  // namespace

std::unique_ptr<Tokenizer> parse_tokenizer(const std::string &json, const std::string &name) {
  try {
    const Json parsed = Json::parse(json);
    if (parsed.is_array()) return std::make_unique<CharacterSet>(parsed, name);
    if (parsed.is_object() && parsed.contains("model")) return std::make_unique<HuggingFace>(parsed);
    throw InputError("neither a list of characters nor an object with a model");
  } catch (const Json::exception &error) {
    throw InputError(name + ": not a tokenizer file: " + error.what());
  } catch (const UnsupportedError &error) {
    throw UnsupportedError(error.op(), name + ": " + error.what());
  } catch (const InputError &error) {
    throw InputError(name + ": " + error.what());
  }
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path &file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError(file.string() + ": cannot be read (tokenizer file)");
  return parse_tokenizer({std::istreambuf_iterator<char>(in), {}}, file.string());
}

}  // namespace cx::tools
