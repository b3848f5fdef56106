// Checks that JSON is a profile document as docs/reference/profile-json.md lays it out, so that its readers need not.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace cx::tools {

/// Throws InputError, which begins with `source` and the path of the key at fault, when a key is missing, has the wrong
/// type, is out of range, points at something that is not there, or when columns differ in length. Unknown keys are
/// fine.
void check_profile_document(const nlohmann::json &document, const std::string &source);

}  // namespace cx::tools
