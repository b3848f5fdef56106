// Tokenizers: files of the common forms against an independent implementation's tokens, and what is refused.
#include "driver/tools/tokenizer.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "driver/include/cx/error.hpp"
#include "driver/tools/unicode.hpp"
#include "tb/common/seed.hpp"

using cx::tools::load_tokenizer;
using cx::tools::parse_tokenizer;
using Tokens = std::vector<int64_t>;

namespace {

const std::string kFolder = "tb/driver/tools/tokenizers/";

nlohmann::json read_json(const std::string &path) {
  std::ifstream in(path);
  REQUIRE(in);
  return nlohmann::json::parse(in);
}

/// A BPE of single letters, one merge, and what a test adds.
nlohmann::json small_bpe() {
  return {{"model",
           {{"type", "BPE"},
            {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"abc", 4}, {"bc", 5}}},
            {"merges", {"b c", "a b", "a bc"}}}}};
}

}  // namespace

TEST_CASE("tokens and texts are those of an independent implementation") {
  for (const std::string name : {"byte_level", "split_byte_level", "word_piece", "byte_fallback"}) {
    const auto tokenizer = load_tokenizer(kFolder + name + ".json");
    const auto cases = read_json(kFolder + name + ".cases.json");
    CHECK(cases.size() > 50);
    for (const auto &entry : cases) {
      INFO(name << ": " << entry["text"]);
      const Tokens tokens = tokenizer->encode(entry["text"]);
      CHECK(tokens == entry["ids"].get<Tokens>());
      CHECK(tokenizer->decode(tokens) == entry["decoded"]);
      for (const int64_t token : tokens) CHECK(token < tokenizer->size());
    }
  }
}

TEST_CASE("byte-level tokenizers give every text back") {
  const uint64_t seed = cx::test::fresh_seed();
  std::mt19937_64 random(seed);
  const auto tokenizer = load_tokenizer(kFolder + "byte_level.json");
  for (int i = 0; i < 200; ++i) {
    std::vector<char32_t> points;
    const std::size_t length = random() % 30;
    while (points.size() < length) {
      const auto point = static_cast<char32_t>(random() % (random() % 2 == 0 ? 0x80 : 0x11000));
      if (point < 0xD800 || point > 0xDFFF) points.push_back(point);
    }
    const std::string text = cx::tools::to_utf8(points);
    INFO("seed " << seed << ", text " << i << ": " << text);
    CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
  }
}

TEST_CASE("merges go by rank, then from the left") {
  // Worked by hand: b c comes first, then a bc; a b only where no c follows.
  const auto tokenizer = parse_tokenizer(small_bpe().dump(), "t");
  CHECK(tokenizer->encode("abc") == Tokens{4});
  CHECK(tokenizer->encode("ab") == Tokens{3});
  CHECK(tokenizer->encode("aabcb") == Tokens{0, 4, 1});
  CHECK(tokenizer->encode("bcbc") == Tokens{5, 5});
  CHECK(tokenizer->encode("").empty());

  nlohmann::json equal = small_bpe();
  equal["model"]["vocab"] = {{"a", 0}, {"aa", 1}};
  equal["model"]["merges"] = {"a a"};
  CHECK(parse_tokenizer(equal.dump(), "t")->encode("aaaaa") == Tokens{1, 1, 0});
}

TEST_CASE("long words take time in proportion") {
  const auto tokenizer = parse_tokenizer(small_bpe().dump(), "t");
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "abc";
  CHECK(tokenizer->encode(text) == Tokens(100'000, 4));
}

TEST_CASE("a tokenizer may be a list of characters") {
  const auto tokenizer = parse_tokenizer(R"(["\n", "a", "ß", "数"])", "t");
  CHECK(tokenizer->encode("数ßa\n") == Tokens{3, 2, 1, 0});
  CHECK(tokenizer->decode(Tokens{3, 2, 1, 0}) == "数ßa\n");
  CHECK(tokenizer->size() == 4);
  CHECK_THROWS_WITH(tokenizer->encode("aab"), Catch::Contains("character 2 'b' (U+0062)"));
  CHECK_THROWS_AS(tokenizer->decode(Tokens{4}), cx::InputError);
  CHECK_THROWS_AS(tokenizer->decode(Tokens{-1}), cx::InputError);
  CHECK_THROWS_WITH(parse_tokenizer(R"(["a", "a"])", "t"), Catch::Contains("twice"));
  CHECK_THROWS_WITH(parse_tokenizer(R"(["ab"])", "t"), Catch::Contains("no character"));
  CHECK_THROWS_AS(parse_tokenizer("[]", "t"), cx::InputError);
}

TEST_CASE("text that a tokenizer cannot spell is named, or unknown") {
  const auto strict = parse_tokenizer(small_bpe().dump(), "t");
  CHECK_THROWS_WITH(strict->encode("axb"), Catch::Contains("'x' (U+0078)"));
  CHECK_THROWS_WITH(strict->encode("a\xFF"), Catch::Contains("not UTF-8"));
  nlohmann::json json = small_bpe();
  json["model"]["vocab"]["?"] = 6;
  json["model"]["unk_token"] = "?";
  CHECK(parse_tokenizer(json.dump(), "t")->encode("axyb") == Tokens{0, 6, 6, 1});
  json["model"]["fuse_unk"] = true;
  CHECK(parse_tokenizer(json.dump(), "t")->encode("axyb") == Tokens{0, 6, 1});
}

TEST_CASE("added tokens are found in the text, the longest at each place") {
  nlohmann::json json = small_bpe();
  json["added_tokens"] = {{{"id", 10}, {"content", "<x>"}, {"special", true}},
                          {{"id", 11}, {"content", "<x>>"}, {"special", false}, {"normalized", false}},
                          {{"id", 12}, {"content", "cab"}, {"single_word", true}, {"normalized", false}}};
  const auto tokenizer = parse_tokenizer(json.dump(), "t");
  CHECK(tokenizer->encode("a<x>b") == Tokens{0, 10, 1});
  CHECK(tokenizer->encode("a<x>>b") == Tokens{0, 11, 1});
  CHECK(tokenizer->encode("cab") == Tokens{12});
  CHECK(tokenizer->encode("cabc") == Tokens{2, 4});
  CHECK(tokenizer->decode(Tokens{0, 10, 1}) == "a b");  // no decoder: tokens with spaces between, special ones left out
}

TEST_CASE("tokenizer files that are damaged or not supported are refused") {
  CHECK_THROWS_WITH(load_tokenizer("/absent/tokenizer.json"), Catch::Contains("/absent/tokenizer.json"));
  for (const char *text : {"", "{", "7", "{}", R"({"model": {}})", R"({"model": {"type": "BPE", "vocab": {"a": 0}}})",
                           R"({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})",
                           R"({"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}})",
                           R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})",
                           R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["aa"]}})",
                           R"({"model": {"type": "WordPiece", "vocab": {"a": 0}}})"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_tokenizer(text, "file.json"), cx::InputError);
    CHECK_THROWS_WITH(parse_tokenizer(text, "file.json"), Catch::Contains("file.json"));
  }
  const auto refused = [](const std::string &key, const nlohmann::json &value) {
    nlohmann::json json = small_bpe();
    json[key] = value;
    CHECK_THROWS_AS(parse_tokenizer(json.dump(), "t"), cx::UnsupportedError);
    CHECK_THROWS_WITH(parse_tokenizer(json.dump(), "t"), Catch::Contains(value.at("type").get<std::string>()));
  };
  refused("normalizer", {{"type", "Precompiled"}});
  refused("pre_tokenizer", {{"type", "UnicodeScripts"}});
  refused("post_processor", {{"type", "Odd"}});
  refused("decoder", {{"type", "CTC"}});
  refused("model", {{"type", "Unigram"}});
  nlohmann::json json = small_bpe();
  json["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}};
  CHECK_THROWS_WITH(parse_tokenizer(json.dump(), "t"), Catch::Contains("(a"));
}

TEST_CASE("a pattern that backtracks without end is stopped") {
  nlohmann::json json = small_bpe();
  json["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}};
  const auto tokenizer = parse_tokenizer(json.dump(), "t");
  CHECK_THROWS_WITH(tokenizer->encode(std::string(60, 'a') + "b"), Catch::Contains("regular expression"));
}

TEST_CASE("pieces are cut at matches as the behaviour says") {
  // Two separators in a row: what they join differs.
  const auto pieces = [](const std::string &behaviour) {
    nlohmann::json json;
    json["model"] = {{"type", "WordLevel"},
                     {"vocab", {{"a", 0}, {"-", 1}, {"--", 2}, {"b", 3}, {"a-", 4}, {"-b", 5}, {"?", 6}}},
                     {"unk_token", "?"}};
    json["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behaviour}};
    return parse_tokenizer(json.dump(), "t")->encode("a--b");
  };
  CHECK(pieces("Removed") == Tokens{0, 3});
  CHECK(pieces("Isolated") == Tokens{0, 1, 1, 3});
  CHECK(pieces("MergedWithPrevious") == Tokens{4, 1, 3});
  CHECK(pieces("MergedWithNext") == Tokens{0, 1, 5});
  CHECK(pieces("Contiguous") == Tokens{0, 2, 3});
}
