#include "driver/tools/report_page.hpp"

#include <fmt/core.h>
#include <zlib.h>

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "driver/include/cx/error.hpp"
#include "driver/tools/profile_schema.hpp"
#include "driver/tools/xml_text.hpp"
#include "driver/umd/shipped_files.hpp"

namespace cx::tools {
namespace {

constexpr char kTitle[] = "<!--cx:title-->";
constexpr char kDocuments[] = "<!--cx:documents-->";

std::string gzip(const std::string &text) {
  z_stream stream{};
  constexpr int kGzip = 16;  // added to the window's bits: the format's header and checksum
  if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS + kGzip, 9, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw Error("zlib: no memory");
  }
  std::string packed;
  std::array<char, 1 << 16> piece;
  // zlib counts input in 32 bits.
  constexpr std::size_t kMost = std::size_t{1} << 30;
  std::size_t taken = 0;
  int state = Z_OK;
  while (state != Z_STREAM_END) {
    if (stream.avail_in == 0 && taken < text.size()) {
      const std::size_t n = std::min(kMost, text.size() - taken);
      stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(text.data() + taken));
      stream.avail_in = static_cast<uInt>(n);
      taken += n;
    }
    stream.next_out = reinterpret_cast<Bytef *>(piece.data());
    stream.avail_out = piece.size();
    state = deflate(&stream, taken == text.size() ? Z_FINISH : Z_NO_FLUSH);
    packed.append(piece.data(), piece.size() - stream.avail_out);
  }
  deflateEnd(&stream);
  return packed;
}

/// RFC 4648, with padding.
std::string base64(const std::string &bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < n ? static_cast<uint8_t>(bytes[i + k]) : 0);
    for (std::size_t k = 0; k < 4; ++k) text += k <= n ? kDigits[group >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

std::size_t only_place(const std::string &page, const char *marker) {
  const std::size_t place = page.find(marker);
  if (place == std::string::npos || page.find(marker, place + 1) != std::string::npos) {
    throw InputError(fmt::format("the report's template must have {} once", marker));
  }
  return place;
}

nlohmann::json parsed(const ProfileText &text) {
  try {
    nlohmann::json document = nlohmann::json::parse(text.json);
    check_profile_document(document, text.name);
    return document;
  } catch (const nlohmann::json::exception &error) {
    throw InputError(fmt::format("{}: {}", text.name, error.what()));
  }
}

}  // namespace

std::string report_template() {
  const std::filesystem::path file = shipped_folder("report") / "report.html";
  std::ifstream stream(file, std::ios::binary);
  std::string page(std::istreambuf_iterator<char>(stream), {});
  if (page.empty()) {
    throw Error(
        "the report page was not built: npm, or the packages that it fetches, were missing when CMake configured this "
        "build. Install npm, run CMake again and build cx_report_page (driver/report/README.md)");
  }
  return page;
}

std::string fill_report(const std::string &page, const std::vector<ProfileText> &documents) {
  if (documents.empty()) throw UsageError("a report needs a profile document");
  std::string title;
  std::string scripts;
  for (const ProfileText &document : documents) {
    const nlohmann::json profile = parsed(document);
    for (const nlohmann::json &run : profile.at("runs")) {
      title += fmt::format("{}{} on {}", title.empty() ? "" : ", ", run.at("model").get<std::string>(),
                           run.at("config").get<std::string>());
    }
    scripts += fmt::format("<script type=\"application/gzip\" class=\"cx-document\" data-file=\"{}\">{}</script>\n",
                           xml_text(document.name), base64(gzip(document.json)));
  }
  const std::size_t title_place = only_place(page, kTitle);
  const std::size_t documents_place = only_place(page, kDocuments);
  if (title_place > documents_place) throw InputError("the report's template has its title after its documents");
  const std::size_t after_title = title_place + sizeof(kTitle) - 1;
  return page.substr(0, title_place) + xml_text(title) + page.substr(after_title, documents_place - after_title) +
         scripts + page.substr(documents_place + sizeof(kDocuments) - 1);
}

void write_report(const std::filesystem::path &file, const std::vector<ProfileText> &documents) {
  const std::string page = fill_report(report_template(), documents);
  std::ofstream stream(file, std::ios::binary);
  stream << page;
  if (!stream.flush()) throw InputError(file.string() + ": cannot be written");
}

}  // namespace cx::tools
