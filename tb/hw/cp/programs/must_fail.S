#include "test.h"
/* Check 3 of this program is wrong on purpose. */
TEST_BEGIN
  OP_RR(1, add, 1, 1, 2)
  OP_RR(2, add, 1, 2, 3)
  OP_RR(3, add, 2, 2, 5)
  OP_RR(4, add, 2, 3, 5)
TEST_END
