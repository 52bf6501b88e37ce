// Names in a file of kernels that is compiled once a dtype: whoever includes it defines ATTEND_FAMILY, their
// prefix.
#pragma once

#define CONCAT_(a, b) a##b
#define CONCAT(a, b)  CONCAT_(a, b)
#define NAMED(suffix) CONCAT(ATTEND_FAMILY, suffix)
#define ROWS          CONCAT(attend_, NAMED(_rows))
#define ROW_COUNT     CONCAT(attend_, NAMED(_row_count))
