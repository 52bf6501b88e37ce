/* The two instances of gemm_entries.inc. */
#include "cublas/gemm.h"

#define INT int
#define NAME(name) name
#include "cublas/gemm_entries.inc"
#undef INT
#undef NAME

#define INT int64_t
#define NAME(name) name##_64
#include "cublas/gemm_entries.inc"
