// The report page and the checks of the profile documents that go into it.
#include "driver/tools/report_page.hpp"

#include <zlib.h>

#include <array>
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "driver/include/cx/error.hpp"
#include "driver/tools/profile_schema.hpp"

using namespace cx;
using namespace cx::tools;
using Json = nlohmann::json;
using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

namespace {

constexpr char kTemplate[] = "<title><!--cx:title--></title><body><!--cx:documents--></body>";

std::string small_text() {
  std::ifstream file("tb/driver/report/small_profile.json");
  return {std::istreambuf_iterator<char>(file), {}};
}

Json small() { return Json::parse(small_text()); }

std::string message(const Json &document) {
  try {
    check_profile_document(document, "doc.json");
  } catch (const InputError &error) {
    return error.what();
  }
  return "accepted";
}

/// runs/0/nodes/1/name as the messages spell it.
std::string spelled(const std::string &pointer) {
  const std::string indexed = std::regex_replace(pointer, std::regex("/([0-9]+)(?=/|$)"), "[$1]");
  return std::regex_replace(indexed, std::regex("/"), ".").substr(1);
}

/// What may be absent, and members of maps whose keys are not fixed.
bool optional(const std::string &path) {
  static const std::regex expression(
      R"(comparison|.*\.energy_uj|.*\.engines\.[a-z]+|.*critical_path\.by_reason\.[a-z]+)");
  const bool of_node = path.find("summary") == std::string::npos;
  return std::regex_match(path, expression) && of_node;
}

Json of_another_type(const Json &value) {
  if (value.is_string()) return 1;
  if (value.is_object() || value.is_array()) return "text";
  return Json::object();
}

/// Calls `visit` with the JSON pointer of each value below the top.
template <typename Visit>
void walk(const Json &value, const std::string &pointer, Visit &&visit) {
  if (!pointer.empty()) visit(pointer);
  if (!value.is_structured()) return;
  for (const auto &[key, child] : value.items()) walk(child, pointer + "/" + key, visit);
}

std::string inflated(const std::string &packed) {
  z_stream stream{};
  REQUIRE(inflateInit2(&stream, MAX_WBITS + 16) == Z_OK);
  stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string text;
  std::array<char, 4096> piece;
  int state = Z_OK;
  while (state == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef *>(piece.data());
    stream.avail_out = piece.size();
    state = inflate(&stream, Z_NO_FLUSH);
    text.append(piece.data(), piece.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  REQUIRE(state == Z_STREAM_END);
  return text;
}

std::string from_base64(const std::string &text) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    const std::size_t digit = digits.find(c);
    REQUIRE(digit != std::string::npos);
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count >= 8) bytes += static_cast<char>(bits >> (count -= 8) & 255);
  }
  return bytes;
}

}  // namespace

TEST_CASE("a complete document passes, with unknown keys and without optional ones") {
  CHECK(message(small()) == "accepted");
  Json document = small();
  document["later"] = 1;
  document["runs"][0]["spans"]["later"] = "x";
  document.erase("comparison");
  document["runs"][0]["nodes"][0].erase("energy_uj");
  CHECK(message(document) == "accepted");
}

TEST_CASE("every key of a document is missed by its path") {
  const Json good = small();
  int tried = 0;
  walk(good, "", [&](const std::string &pointer) {
    const std::string path = spelled(pointer);
    if (path.back() == ']' || optional(path)) return;
    Json document = good;
    const Json::json_pointer place(pointer);
    document.at(place.parent_pointer()).erase(place.back());
    // Without its error a change needs figures.
    const bool alternative = path == "runs[0].what_if[1].error";
    CHECK_THAT(message(document),
               StartsWith("doc.json: " + (alternative ? "runs[0].what_if[1].latency_us" : path) + ": "));
    ++tried;
  });
  CHECK(tried > 100);
}

TEST_CASE("every value of a document is checked for its type") {
  const Json good = small();
  int tried = 0;
  walk(good, "", [&](const std::string &pointer) {
    Json document = good;
    Json &value = document.at(Json::json_pointer(pointer));
    value = of_another_type(value);
    CHECK_THAT(message(document), StartsWith("doc.json: " + spelled(pointer) + ": is no") ||
                                      StartsWith("doc.json: " + spelled(pointer) + ": is neither"));
    ++tried;
  });
  CHECK(tried > 250);
}

TEST_CASE("indices must point at something that is there") {
  const std::vector<std::pair<std::string, int64_t>> ends = {
      {"spans/name", 7},         {"spans/track", 4},          {"spans/node", 2},           {"spans/cause", 6},
      {"spans/reason", 8},       {"nodes/0/bound", 8},        {"critical_path/span", 6},   {"critical_path/reason", 8},
      {"critical_path/node", 2}, {"stalls/0/track", 4},       {"stalls/0/node", 2},        {"stalls/0/waiting_for", 4},
      {"stalls/0/reason", 8},    {"roofline/points/node", 2}, {"memory/buffers/space", 2}, {"memory/buffers/name", 7},
      {"memory/buffers/kind", 2}};
  for (const auto &[where, end] : ends) {
    for (const Json &bad : {Json(end), Json(-2), Json(0.5), Json(~uint64_t{0})}) {
      Json document = small();
      Json &value = document.at(Json::json_pointer("/runs/0/" + where));
      (value.is_array() ? value[0] : value) = bad;
      CAPTURE(where, bad.dump());
      CHECK_THAT(message(document), StartsWith("doc.json: " + spelled("/runs/0/" + where)));
    }
    Json document = small();
    Json &value = document.at(Json::json_pointer("/runs/0/" + where));
    (value.is_array() ? value[0] : value) = end - 1;
    CHECK(message(document) == "accepted");
  }
}

TEST_CASE("columns, order, versions and ranges are checked") {
  const auto with = [](const std::string &pointer, const Json &value) {
    Json document = small();
    document.at(Json::json_pointer(pointer)) = value;
    return message(document);
  };
  CHECK_THAT(with("/runs/0/spans/duration", {1}), Contains("runs[0].spans.duration: has 1 entries, start has 6"));
  CHECK_THAT(with("/runs/0/spans/start/3", 1), Contains("runs[0].spans.start[3]: is less than the one before"));
  CHECK_THAT(with("/runs/0/spans/duration/3", -1), Contains("runs[0].spans.duration[3]: is -1, less than 0"));
  CHECK_THAT(with("/runs/0/counters/0/time/2", 1), Contains("runs[0].counters[0].time[2]: is less"));
  CHECK_THAT(with("/runs/0/critical_path/start/3", 1), Contains("runs[0].critical_path.start[3]: is less"));
  CHECK_THAT(with("/runs/0/nodes/0/by_reason", {1, 2}),
             Contains("runs[0].nodes[0].by_reason: has 2 entries for 8 reasons"));
  CHECK_THAT(with("/runs/0/tracks/0/clock", "sun"), Contains("runs[0].tracks[0].clock: is neither"));
  CHECK_THAT(with("/runs", Json::array()), Contains("runs: is empty"));
  CHECK_THAT(with("/version", 2), Contains("version: is 2; this program reads version 1"));
  CHECK_THAT(with("/format", "other"), Contains("no profile document"));
  CHECK_THAT(message(Json::array()), Contains("no profile document"));
}

TEST_CASE("documents are in the page byte for byte, and nothing of them is markup") {
  Json document = small();
  document["runs"][0]["model"] = "</script><script>alert(1)</script>&\"";
  document["runs"][0]["names"][0] = "<!--cx:documents--></script>";
  for (std::size_t padding = 0; padding < 3; ++padding) {  // all lengths of base64's last group
    const std::string text = document.dump() + std::string(padding, ' ');
    const std::string page = fill_report(kTemplate, {{"a\"<b>.json", text}, {"second.json", small_text()}});
    CHECK_THAT(page, StartsWith("<title>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot; on tiny, "
                                "small.onnx on tiny</title>"));
    const std::regex element(
        "<script type=\"application/gzip\" class=\"cx-document\" data-file=\"([^\"<>]*)\">([^<]*)</script>");
    std::vector<std::pair<std::string, std::string>> found;
    for (std::sregex_iterator i(page.begin(), page.end(), element), end; i != end; ++i)
      found.emplace_back((*i)[1], (*i)[2]);
    REQUIRE(found.size() == 2);
    CHECK(found[0].first == "a&quot;&lt;b&gt;.json");
    CHECK(inflated(from_base64(found[0].second)) == text);
    CHECK(found[1].first == "second.json");
    CHECK(inflated(from_base64(found[1].second)) == small_text());
    const std::regex any("<script");
    CHECK(std::distance(std::sregex_iterator(page.begin(), page.end(), any), std::sregex_iterator()) == 2);
  }
}

TEST_CASE("what is no document or no template is refused") {
  CHECK_THROWS_WITH(fill_report(kTemplate, {{"x.json", "{\"format\": "}}), StartsWith("x.json: "));
  CHECK_THROWS_AS(fill_report(kTemplate, {{"x.json", "\xff"}}), InputError);
  CHECK_THROWS_WITH(fill_report(kTemplate, {{"x.json", "[]"}}), Contains("no profile document"));
  CHECK_THROWS_AS(fill_report(kTemplate, {}), UsageError);
  CHECK_THROWS_WITH(fill_report("<title><!--cx:title--></title>", {{"x.json", small_text()}}),
                    Contains("<!--cx:documents--> once"));
  CHECK_THROWS_WITH(fill_report(std::string(kTemplate) + kTemplate, {{"x.json", small_text()}}), Contains("once"));
}
