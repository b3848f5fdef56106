// Text inside HTML, SVG and XML.
#pragma once

#include <string>
#include <string_view>

namespace cx::tools {

/// Characters that markup gives a meaning to, as references; good for text and for attributes in double quotes.
std::string xml_text(std::string_view text);

}  // namespace cx::tools
