// cx report: profile documents as one HTML file.
#include <fmt/core.h>

#include <fstream>

#include "driver/include/cx/error.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/report_page.hpp"

namespace cx::tools {
namespace {

struct ReportOptions {
  std::vector<std::string> documents;
  std::string html;
};

ProfileText read_document(const std::string &path) {
  std::ifstream stream(path, std::ios::binary);
  ProfileText document{std::filesystem::path(path).filename(), {std::istreambuf_iterator<char>(stream), {}}};
  if (!stream || document.json.empty()) throw InputError(path + ": cannot be read, or is empty");
  return document;
}

int report(const ReportOptions &options) {
  std::vector<ProfileText> documents;
  for (const std::string &path : options.documents) documents.push_back(read_document(path));
  write_report(options.html, documents);
  fmt::print("{}: {} bytes\n", options.html, std::filesystem::file_size(options.html));
  return kDone;
}

}  // namespace

void add_report(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App *command = app.add_subcommand(
      "report",
      "Put profile documents of cx profile --document into one HTML file that any browser opens, without a network");
  command->add_option("documents", options->documents, "One document, or two to compare")->required()->expected(1, 2);
  command->add_option("--html", options->html, "File to write")->required();
  command->callback([options, &invocation] { invocation.action = [options] { return report(*options); }; });
}

}  // namespace cx::tools
