// Runs the cx of this build as a user would.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tb/driver/tools/temporary_folder.hpp"

namespace cx::tb {

struct Result {
  int status = -1;   ///< exit status; -1 when a signal ended it
  std::string text;  ///< stdout and stderr
};

inline Result run_cx(const std::string &arguments) {
  Result result;
  FILE *pipe = popen((std::string(CX_BINARY) + " " + arguments + " 2>&1 </dev/null").c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[4096];
  while (const std::size_t n = fread(buffer, 1, sizeof(buffer), pipe)) result.text.append(buffer, n);
  const int code = pclose(pipe);
  result.status = WIFEXITED(code) ? WEXITSTATUS(code) : -1;
  return result;
}

/// What a command with --json prints; it has to end with this exit status.
inline nlohmann::json json_of(const std::string &arguments, int status = 0) {
  const Result result = run_cx(arguments + " --json");
  INFO(arguments << "\n" << result.text);
  REQUIRE(result.status == status);
  return nlohmann::json::parse(result.text);
}

}  // namespace cx::tb
