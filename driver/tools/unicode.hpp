// UTF-8 text: characters, classes, normal forms and regular expressions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cx::tools {

/// Code points of UTF-8 text. Throws InputError with the offset of the first byte that is none.
std::vector<char32_t> code_points(std::string_view text);
std::string to_utf8(char32_t point);
std::string to_utf8(const std::vector<char32_t> &points);
/// Bytes of the character that starts with `first` (1 for a byte that starts none).
std::size_t utf8_length(char first);
/// The text with U+FFFD for every byte that is not part of a valid character.
std::string valid_utf8(std::string_view bytes);

bool is_space(char32_t point);        ///< White_Space
bool is_control(char32_t point);      ///< categories Cc, Cf, Cn, Co, Cs, but for tab, line feed and carriage return
bool is_punctuation(char32_t point);  ///< ASCII punctuation and categories P*
bool is_nonspacing_mark(char32_t point);
bool is_decimal_digit(char32_t point);  ///< categories N*
bool is_cjk(char32_t point);            ///< CJK ideographs, as BERT separates them
std::vector<char32_t> lower_case(char32_t point);

enum class NormalForm { nfc, nfd, nfkc, nfkd };
std::string normalise(const std::string &text, NormalForm form);

/// A regular expression over UTF-8 with Unicode classes.
class Regex {
 public:
  /// Throws InputError with what is wrong with the pattern.
  explicit Regex(const std::string &pattern);
  ~Regex();
  Regex(Regex &&) noexcept;
  Regex &operator=(Regex &&) noexcept;

  /// Begin and end of each match, in order, empty ones left out. Throws InputError when matching takes too many steps.
  std::vector<std::pair<std::size_t, std::size_t>> matches(const std::string &text) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

/// The pattern that matches `text` itself.
std::string quoted(const std::string &text);

}  // namespace cx::tools
