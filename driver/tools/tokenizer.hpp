// Text to token numbers and back, as a tokenizer file says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cx::tools {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Tokens of UTF-8 text. special: with those that the file puts around every text, such as [CLS] and [SEP]. Throws
  /// InputError for text that is not UTF-8 or that the vocabulary cannot spell (naming the character).
  virtual std::vector<int64_t> encode(const std::string &text, bool special = true) const = 0;

  /// Text of tokens; those that the file calls special have none. Bytes that are no UTF-8 become U+FFFD. Throws
  /// InputError for a number that the vocabulary lacks.
  virtual std::string decode(std::span<const int64_t> tokens) const = 0;

  /// One more than the largest token number.
  virtual int64_t size() const = 0;
};

/// A file is
/// - a JSON array of characters, each token one of them, numbered by position; or
/// - a Hugging Face tokenizer.json whose model is BPE (byte-level, byte fallback, or by characters), WordPiece or
///   WordLevel. Its truncation and padding are not applied.
/// Throws InputError for a damaged file, UnsupportedError naming the component for one that is not known.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path &file);

/// The same from the file's text; `name` stands for the file in messages.
std::unique_ptr<Tokenizer> parse_tokenizer(const std::string &json, const std::string &name);

}  // namespace cx::tools
