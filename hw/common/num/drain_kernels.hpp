// Internal: the compiled variants behind drain.hpp, for everything but the copy. avx2:: may be called only where
// path_available(Path::kAvx2).
#pragma once

#include "hw/common/num/drain.hpp"

namespace cx::num::portable {
void drain_row(const DrainStage &stage, const uint32_t *words, void *out, size_t n);
}

namespace cx::num::avx2 {
void drain_row(const DrainStage &stage, const uint32_t *words, void *out, size_t n);
}
