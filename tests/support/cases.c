/* The design without features: each case starts from a pair that is not covered yet. */
#include "support/cases.h"
#include "support/design.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQLEN_Q, SEQLEN_K, DIM, DIM_V, HEADS, BATCH, DTYPE, CAUSAL, VALUES, LAYOUT, LENGTHS, SCALE, FACTORS };
enum { MAX_CASES = 4096 };

static test_case make(const test_factors *f, const int *row, uint64_t seed)
{
    static const int64_t v_offsets[] = {0, 0, 8, -7};
    int64_t dim = f->head_dims[row[DIM]], dim_v = dim + v_offsets[row[DIM_V]];
    return (test_case){
        .problem = {.batch = f->batches[row[BATCH]], .seqlen_q = f->seqlens[row[SEQLEN_Q]], .seqlen_k = f->seqlens[row[SEQLEN_K]],
                    .num_heads = f->heads[row[HEADS]][0], .num_kv_heads = f->heads[row[HEADS]][1], .head_dim = dim,
                    .head_dim_v = dim_v < 1 ? 1 : dim_v > 256 ? 256 : dim_v, .dtype = f->dtypes[row[DTYPE]],
                    .causal = (attend_causal)row[CAUSAL], .softmax_scale = row[SCALE] ? -0.11f : 0},
        .values = (attend_values)row[VALUES],
        .layout = (test_layout)row[LAYOUT],
        .lengths = row[LENGTHS] != 0,
        .seed = seed,
    };
}

test_case *test_covering(const test_factors *f, int *count)
{
    test_design *d = malloc(sizeof *d);
    test_case *cases = malloc(MAX_CASES * sizeof *cases);
    *count = 0;
    const int levels[FACTORS] = {f->seqlen_count, f->seqlen_count, f->head_dim_count, 4, f->heads_count, f->batch_count,
                                 f->dtype_count, 3, ATTEND_VALUES_KINDS, LAYOUTS, 2, 2};
    d->factors = FACTORS, d->allows = NULL;
    memcpy(d->levels, levels, sizeof levels);
    test_design_begin(d);
    for (unsigned variation = 0; d->missing > 0 && *count < MAX_CASES; variation++) {
        int row[DESIGN_FACTORS];
        test_design_start(d, row);
        test_design_fill(d, 0, variation, row);
        test_design_take(d, row);
        cases[*count] = make(f, row, variation + 1), ++*count;
    }
    free(d);
    return cases;
}

const char *test_case_text(const test_case *c, char text[TEST_CASE_TEXT])
{
    static const char *const layouts[] = {"bshd", "bhsd", "padded", "fused", "broadcast"};
    const attend_problem *p = &c->problem;
    snprintf(text, TEST_CASE_TEXT,
             "b%" PRId64 " q%" PRId64 " k%" PRId64 " h%" PRId64 "/%" PRId64 " d%" PRId64 "/%" PRId64 " %s causal=%d %s %s%s%s%s%s",
             p->batch, p->seqlen_q, p->seqlen_k, p->num_heads, p->num_kv_heads, p->head_dim, p->head_dim_v,
             attend_dtype_name(p->dtype), (int)p->causal, attend_values_name(c->values), layouts[c->layout],
             c->lengths ? " lengths" : "", p->softmax_scale < 0 ? " scale<0" : "", *c->features ? ": " : "", c->features);
    return text;
}
