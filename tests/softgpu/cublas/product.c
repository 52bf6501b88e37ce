/* The two instances of product.inc. */
#include "cublas/product.h"

#include "numbers/clones.h"
#include "numbers/numbers.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 4, HALF_STEP = 8 };

#define real float
#define NAME(name) name##_float
#include "cublas/product.inc"
#undef real
#undef NAME

#define real double
#define NAME(name) name##_double
#include "cublas/product.inc"
