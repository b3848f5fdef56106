// The report: one HTML file that shows profiles and loads nothing (driver/report).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace cx::tools {

/// A profile document as JSON text, and what to call it: the name of its file.
struct ProfileText {
  std::string name;
  std::string json;
};

/// The page that the build bundled. Throws Error when there is none, which says how to get one.
std::string report_template();

/// The page with the documents (one or more) in it, gzip in base64, so that nothing in them is markup. Throws
/// InputError when a text is no profile document, and when `page` is no template.
std::string fill_report(const std::string &page, const std::vector<ProfileText> &documents);

/// Writes the report of the documents. Throws what the two above throw, and InputError when `file` cannot be written.
void write_report(const std::filesystem::path &file, const std::vector<ProfileText> &documents);

}  // namespace cx::tools
