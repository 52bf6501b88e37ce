/* Inputs that reveal errors which normally distributed numbers do not: the kinds of docs/numerics.md. Shared
   by the command (--values) and the tests; not part of the library. */
#ifndef ATTEND_TOOL_VALUES_H
#define ATTEND_TOOL_VALUES_H

#include <attend/attend.h>

typedef enum attend_values {
    ATTEND_VALUES_GAUSS,
    ATTEND_VALUES_SHARP,    /* gauss with q four times as large */
    ATTEND_VALUES_CONSTANT, /* every value of a KV head the same, heads differ */
    ATTEND_VALUES_OFFSET,   /* v + 100 */
    ATTEND_VALUES_CANCEL,   /* pairs of equal keys with opposite values: the output is about 0 */
    ATTEND_VALUES_NEEDLE,   /* one key has nearly all the weight of a query, often the last visible one */
    ATTEND_VALUES_ASCEND,   /* scores grow with the key: the running maximum moves in every tile */
    ATTEND_VALUES_DESCEND,
    ATTEND_VALUES_UNIFORM,  /* q near 0: all weights nearly equal */
    ATTEND_VALUES_NEGATIVE, /* all scores near -30: a padding key counted with score 0 would dominate */
    ATTEND_VALUES_EXACT,    /* q = 0, small integers in v: exact if 2^n keys are visible */
    ATTEND_VALUES_KINDS
} attend_values;

/* "gauss", …; NULL past the last kind. */
const char *attend_values_name(attend_values kind);
/* False for an unknown name. */
bool attend_values_named(const char *name, attend_values *kind);

/* Fills q, k and v (resolved tensors of the problem's shapes, any strides and dtype, on the host). The value
   of an element depends only on kind, seed and its indices. Broadcast axes get the values of their last
   index. */
void attend_values_fill(attend_values kind, uint64_t seed, const attend_problem *problem,
                        const attend_tensor *q, const attend_tensor *k, const attend_tensor *v);

/* Fills a tensor with normally distributed values. */
void attend_values_gauss(uint64_t seed, float deviation, const attend_tensor *tensor);

#endif
