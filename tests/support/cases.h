/* The covering design of docs/numerics.md: cases such that every pair of values of any two factors occurs in one of them. */
#ifndef ATTEND_TEST_SUPPORT_CASES_H
#define ATTEND_TEST_SUPPORT_CASES_H

#include "tool/values.h"

typedef enum test_layout {
    LAYOUT_BSHD,   /* [batch, seqlen, heads, dim] without gaps */
    LAYOUT_BHSD,   /* [batch, heads, seqlen, dim] in memory */
    LAYOUT_PADDED, /* odd gaps between rows and heads: only the first row is aligned to more than an element */
    LAYOUT_FUSED, /* the middle of [batch, seqlen, 3, heads, dim] */
    LAYOUT_BROADCAST, /* inputs: all batch entries are one */
    LAYOUTS
} test_layout;

enum { TEST_CASE_FEATURES = 160, TEST_CASE_TEXT = 160 + TEST_CASE_FEATURES };

typedef struct test_case {
    attend_problem problem;
    attend_values values;
    test_layout layout;
    bool lengths;
    uint64_t seed;
    char features[TEST_CASE_FEATURES]; /* for messages; "" in the design without features */
} test_case;

/* The levels of the factors that a suite combines. */
typedef struct test_factors {
    const int64_t *seqlens;
    int seqlen_count;
    const int64_t *head_dims;
    int head_dim_count;
    const int64_t (*heads)[2]; /* num_heads, num_kv_heads */
    int heads_count;
    const int64_t *batches;
    int batch_count;
    const attend_dtype *dtypes;
    int dtype_count;
} test_factors;

/* The design for these factors, computed greedily, always the same; free() it. */
test_case *test_covering(const test_factors *factors, int *count);

/* "b3 q127 k1000 h8/2 d64/64 f16 causal=2 needle fused lengths" */
const char *test_case_text(const test_case *c, char text[TEST_CASE_TEXT]);

#endif
