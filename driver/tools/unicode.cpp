#include "driver/tools/unicode.hpp"

#include <fmt/core.h>
#include <utf8proc.h>

#include <cstdlib>

#include "driver/include/cx/error.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace cx::tools {
namespace {

utf8proc_category_t category(char32_t point) { return utf8proc_category(static_cast<utf8proc_int32_t>(point)); }

/// The character at `at`, or -1.
int64_t decode_at(std::string_view text, std::size_t at, std::size_t &length) {
  utf8proc_int32_t point = -1;
  const auto *bytes = reinterpret_cast<const utf8proc_uint8_t *>(text.data() + at);
  const utf8proc_ssize_t used = utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size() - at), &point);
  if (used <= 0) return -1;
  length = static_cast<std::size_t>(used);
  return point;
}

}  // namespace

std::vector<char32_t> code_points(std::string_view text) {
  std::vector<char32_t> points;
  points.reserve(text.size());
  for (std::size_t at = 0, length = 0; at < text.size(); at += length) {
    const int64_t point = decode_at(text, at, length);
    if (point < 0) throw InputError(fmt::format("the text is not UTF-8: byte {} starts no character", at));
    points.push_back(static_cast<char32_t>(point));
  }
  return points;
}

std::string to_utf8(char32_t point) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(point), bytes);
  return {reinterpret_cast<const char *>(bytes), static_cast<std::size_t>(length)};
}

std::string to_utf8(const std::vector<char32_t> &points) {
  std::string text;
  for (const char32_t point : points) text += to_utf8(point);
  return text;
}

std::size_t utf8_length(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
}

std::string valid_utf8(std::string_view bytes) {
  std::string text;
  for (std::size_t at = 0, length = 0; at < bytes.size(); at += length) {
    if (decode_at(bytes, at, length) < 0) {
      text += "\xEF\xBF\xBD";
      length = 1;
    } else {
      text.append(bytes.substr(at, length));
    }
  }
  return text;
}

bool is_space(char32_t point) {
  return (point >= 9 && point <= 13) || point == 0x20 || point == 0x85 || point == 0xA0 || point == 0x1680 ||
         (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 || point == 0x202F ||
         point == 0x205F || point == 0x3000;
}

bool is_control(char32_t point) {
  if (point == '\t' || point == '\n' || point == '\r') return false;
  switch (category(point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
      return true;
    default:
      return false;
  }
}

bool is_punctuation(char32_t point) {
  if ((point >= 33 && point <= 47) || (point >= 58 && point <= 64) || (point >= 91 && point <= 96) ||
      (point >= 123 && point <= 126)) {
    return true;
  }
  const utf8proc_category_t c = category(point);
  return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool is_nonspacing_mark(char32_t point) { return category(point) == UTF8PROC_CATEGORY_MN; }

bool is_decimal_digit(char32_t point) {
  const utf8proc_category_t c = category(point);
  return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool is_cjk(char32_t point) {
  constexpr std::pair<char32_t, char32_t> kRanges[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                                       {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                                       {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  for (const auto &[first, last] : kRanges) {
    if (point >= first && point <= last) return true;
  }
  return false;
}

std::vector<char32_t> lower_case(char32_t point) {
  if (point == 0x130) return {U'i', 0x307};  // the only character whose lower case has two
  return {static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(point)))};
}

std::string normalise(const std::string &text, NormalForm form) {
  int options = UTF8PROC_STABLE;
  if (form == NormalForm::nfc || form == NormalForm::nfkc) options |= UTF8PROC_COMPOSE;
  if (form == NormalForm::nfd || form == NormalForm::nfkd) options |= UTF8PROC_DECOMPOSE;
  if (form == NormalForm::nfkc || form == NormalForm::nfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t *result = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t *>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, std::free);
  if (length < 0) throw InputError(std::string("the text is not UTF-8: ") + utf8proc_errmsg(length));
  return {reinterpret_cast<const char *>(result), static_cast<std::size_t>(length)};
}

struct Regex::Code {
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code{nullptr, pcre2_code_free};
};

Regex::Regex(const std::string &pattern) : code_(std::make_unique<Code>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                                  &error, &offset, nullptr));
  if (!code_->code) {
    PCRE2_UCHAR message[256];
    pcre2_get_error_message(error, message, sizeof message);
    throw InputError(fmt::format("the regular expression {} is wrong at {}: {}", pattern, offset,
                                 reinterpret_cast<const char *>(message)));
  }
}

Regex::~Regex() = default;
Regex::Regex(Regex &&) noexcept = default;
Regex &Regex::operator=(Regex &&) noexcept = default;

std::vector<std::pair<std::size_t, std::size_t>> Regex::matches(const std::string &text) const {
  std::vector<std::pair<std::size_t, std::size_t>> found;
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(code_->code.get(), nullptr), pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  pcre2_set_match_limit(context.get(), 10'000'000);
  pcre2_set_heap_limit(context.get(), 64 * 1024);  // KiB
  std::size_t at = 0;
  while (at < text.size()) {
    // The text is checked once, with the first match.
    const int result = pcre2_match(code_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                   found.empty() && at == 0 ? 0 : PCRE2_NO_UTF_CHECK, data.get(), context.get());
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      PCRE2_UCHAR message[256];
      pcre2_get_error_message(result, message, sizeof message);
      throw InputError(std::string("matching the tokenizer's regular expression failed: ") +
                       reinterpret_cast<const char *>(message));
    }
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(data.get());
    if (bounds[1] > bounds[0]) {
      found.emplace_back(bounds[0], bounds[1]);
      at = bounds[1];
    } else {
      at = bounds[1] + (bounds[1] < text.size() ? utf8_length(text[bounds[1]]) : 1);
    }
  }
  return found;
}

std::string quoted(const std::string &text) {
  std::string pattern;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && static_cast<unsigned char>(c) < 0x80) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace cx::tools
