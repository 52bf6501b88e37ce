/* Builds, runs and checks one case; see fixture.h. */
#include "support/fixture.h"
#include "support/forget.h"
#include "support/plans.h"
#include "support/guard.h"
#include "core/compare.h"
#include "core/problem.h"
#include "core/tensor.h"
#if ATTEND_HAVE_CUDA
#include "gpu/gpu.h"
#endif

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void expect_ok(attend_status status, const test_case *c)
{
    char text[TEST_CASE_TEXT];
    if (status) fail_msg("%s: %s: %s", test_case_text(c, text), attend_status_name(status), attend_error_message());
}

static void set_strides(attend_tensor *t, test_layout layout, bool input)
{
    int64_t s = t->shape[1], h = t->shape[2], d = t->shape[3], row;
    switch (layout) {
    case LAYOUT_BHSD: memcpy(t->stride, (int64_t[]){h * s * d, d, s * d, 1}, sizeof t->stride); return;
    case LAYOUT_PADDED:
        row = h * (d + 3) + 5;
        memcpy(t->stride, (int64_t[]){s * row + 7, row, d + 3, 1}, sizeof t->stride);
        return;
    case LAYOUT_FUSED: memcpy(t->stride, (int64_t[]){3 * s * h * d, 3 * h * d, d, 1}, sizeof t->stride); return;
    default: memcpy(t->stride, (int64_t[]){s * h * d, h * d, d, 1}, sizeof t->stride);
    }
    if (layout == LAYOUT_BROADCAST && input) t->stride[0] = 0;
}

/* [batch, heads, seqlen]: without gaps, with them, or heads side by side. */
static void set_lse_strides(attend_tensor *t, test_layout layout)
{
    const int64_t h = t->shape[1], s = t->shape[2];
    switch (layout) {
    case LAYOUT_PADDED: memcpy(t->stride, (int64_t[]){h * (2 * s + 3) + 1, 2 * s + 3, 2, 0}, sizeof t->stride); return;
    case LAYOUT_FUSED: memcpy(t->stride, (int64_t[]){s * h, 1, h, 0}, sizeof t->stride); return;
    default: memcpy(t->stride, (int64_t[]){h * s, s, 1, 0}, sizeof t->stride);
    }
}

void test_memory_make(test_memory *m, attend_tensor t, bool input, test_layout layout)
{
    uintptr_t begin, end;
    size_t element = attend_dtype_bytes(t.dtype), lead = 64;
    if (t.rank == 4) set_strides(&t, layout, input);
    if (t.rank == 3) set_lse_strides(&t, layout);
    if (layout == LAYOUT_FUSED && t.rank == 4) lead += (size_t)(t.shape[2] * t.shape[3]) * element;
    t.data = (void *)64; /* any address, for attend_tensor_extent() */
    assert_true(attend_tensor_extent(&t, &begin, &end));
    m->size = (end - begin) + lead;
    if (!input) m->size = (m->size + lead + 63) / 64 * 64;
    m->bytes = test_guarded(m->size);
    memset(m->bytes, 0xff, m->size);
    t.data = m->bytes + lead;
    m->tensor = t;
}

void test_memory_free(test_memory *m) { test_guarded_free(m->bytes); }

void test_forget_rows(const attend_tensor *t, const int64_t *starts, const int64_t *lengths)
{
    for (int64_t b = 0; b < t->shape[0]; b++)
        for (int64_t i = 0; i < t->shape[1]; i++)
            for (int64_t h = 0; h < t->shape[2]; h++)
                if ((starts && i < starts[b]) || (lengths && i >= lengths[b]))
                    memset((char *)t->data + (size_t)(b * t->stride[0] + i * t->stride[1] + h * t->stride[2]) * attend_dtype_bytes(t->dtype),
                           0xff, (size_t)t->shape[3] * attend_dtype_bytes(t->dtype));
}

static int64_t *draw_lengths(int64_t batch, int64_t longest, uint64_t seed)
{
    int64_t *lengths = malloc((size_t)(batch + 1) * sizeof *lengths);
    for (int64_t b = 0; b < batch; b++) lengths[b] = (int64_t)((seed * 2654435761u + (uint64_t)b * 40503u) % (uint64_t)(longest + 1));
    return lengths;
}

/* Replaces lengths by their cumulative sums; returns the total. */
static int64_t accumulate(int64_t *lengths, int64_t batch, int64_t **cu_seqlens)
{
    int64_t *cu = malloc((size_t)(batch + 1) * sizeof *cu);
    cu[0] = 0;
    for (int64_t b = 0; b < batch; b++) cu[b + 1] = cu[b] + lengths[b];
    free(lengths);
    *cu_seqlens = cu;
    return cu[batch];
}

static void draw_lists(test_fixture *f)
{
    attend_problem *p = &f->c.problem;
    uint64_t seed = f->c.seed;
    if (p->packed) {
        p->total_q = accumulate(draw_lengths(p->batch, p->seqlen_q, seed), p->batch, &f->cu_seqlens_q);
        p->total_k = accumulate(draw_lengths(p->batch, p->seqlen_k, seed + 1), p->batch, &f->cu_seqlens_k);
    } else if (f->c.lengths) {
        if (seed % 3 != 1) f->seqlens_q = draw_lengths(p->batch, p->seqlen_q, seed);
        if (seed % 3 != 2) f->seqlens_k = draw_lengths(p->batch, p->seqlen_k, seed + 1);
    }
    if (p->left_padded) f->starts_k = draw_lengths(p->batch, p->seqlen_k / 2, seed + 2);
}

void test_fixture_make(test_fixture *f, const test_case *c)
{
    memset(f, 0, sizeof *f);
    f->c = *c;
    draw_lists(f);
    expect_ok(attend_problem_resolve(&f->c.problem, sizeof f->c.problem, ATTEND_ATTENTION, &f->problem), c);
    const attend_problem *p = &f->problem;
    int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p), rows_k = attend_rows_k(p);
    test_memory_make(&f->q, attend_tensor_4d(NULL, p->dtype, batch, rows_q, p->num_heads, p->head_dim), true, c->layout);
    test_memory_make(&f->k, attend_tensor_4d(NULL, p->dtype, batch, rows_k, p->num_kv_heads, p->head_dim), true, c->layout);
    test_memory_make(&f->v, attend_tensor_4d(NULL, p->dtype, batch, rows_k, p->num_kv_heads, p->head_dim_v), true, c->layout);
    test_memory_make(&f->out, attend_tensor_4d(NULL, p->dtype, batch, rows_q, p->num_heads, p->head_dim_v), false, c->layout);
    test_memory_make(&f->lse, attend_tensor_3d(NULL, ATTEND_F32, batch, p->num_heads, rows_q), false, c->layout);
    attend_values_fill(c->values, c->seed, p, &f->q.tensor, &f->k.tensor, &f->v.tensor);
    if (c->layout != LAYOUT_BROADCAST) {
        test_forget_rows(&f->q.tensor, NULL, f->seqlens_q);
        test_forget_rows(&f->k.tensor, f->starts_k, f->seqlens_k);
        test_forget_rows(&f->v.tensor, f->starts_k, f->seqlens_k);
    }
    f->args = (attend_attention_args){.q = f->q.tensor, .k = f->k.tensor, .v = f->v.tensor, .out = f->out.tensor,
                                      .lse = f->lse.tensor, .features = &f->features};
    f->features = (attend_feature_args){.seqlens_q = f->seqlens_q, .seqlens_k = f->seqlens_k, .starts_k = f->starts_k,
                                        .cu_seqlens_q = f->cu_seqlens_q, .cu_seqlens_k = f->cu_seqlens_k};
    test_features_make(p, c->seed, &f->features, f->feature);
}

void test_fixture_free(test_fixture *f)
{
    test_memory *all[] = {&f->q, &f->k, &f->v, &f->out, &f->lse};
    for (int i = 0; i < 5; i++) test_memory_free(all[i]);
    free(f->seqlens_q), free(f->seqlens_k), free(f->starts_k), free(f->cu_seqlens_q), free(f->cu_seqlens_k);
    for (int i = 0; i < ATTEND_FEATURE_TENSORS; i++) test_guarded_free(f->feature[i]);
}

attend_context *test_context(void)
{
    const char *name = getenv("ATTEND_TEST_DEVICE");
    attend_context_options options = {.device = ATTEND_CPU};
    if (name && !strcmp(name, "cuda")) options.device = ATTEND_CUDA;
    if (name && !strcmp(name, "reference")) options.device = ATTEND_REFERENCE;
    attend_context *context;
    if (attend_context_create(&options, &context)) fail_msg("%s", attend_error_message());
    return context;
}

static int architecture(void)
{
    static int found;
    if (found) return found;
    attend_context *context = test_context();
    const char *text = strstr(attend_context_device_name(context), "(sm_");
    if (text) found = atoi(text + strlen("(sm_"));
    attend_context_destroy(context);
    return found;
}

bool test_wants_row(const attend_kernel_info *row)
{
    const char *part = getenv("ATTEND_TEST_ROWS");
    if (row->device != ATTEND_CUDA || row->backward || (part && !strstr(row->name, part))) return false;
    return row->architecture_exact ? row->architecture_min == architecture() : row->architecture_min <= architecture();
}

bool test_wants_promise(const attend_kernel_info *row, int promise)
{
    const bool halved = getenv("ATTEND_TEST_SHORT") && row->dtype != ATTEND_F32;
    return test_wants_row(row) && (!halved || (promise + row->head_dim_max / 32) % 2 == (row->dtype == ATTEND_BF16));
}

int test_multiprocessors(const attend_context *context)
{
#if ATTEND_HAVE_CUDA
    if (attend_context_device(context) == ATTEND_CUDA) return ((const attend_gpu_context *)context->state)->multiprocessors;
#endif
    (void)context;
    return 0;
}

uint64_t test_supported(const attend_context *context)
{
    uint64_t features = 0;
    attend_kernel_info info;
    if (attend_context_device(context) == ATTEND_REFERENCE) return UINT64_MAX;
    for (size_t i = 0; attend_kernel(i, &info); i++)
        if (info.device == attend_context_device(context)) features |= info.features;
    return features;
}

void test_fixture_run(test_fixture *f, attend_context *context)
{
    attend_plan *plan;
    expect_ok(test_attention_plan(context, &f->c.problem, &plan), &f->c);
    test_forget_runs(plan); /* a plan before may have had its memory */
    memset(f->out.bytes, 0xff, f->out.size), memset(f->lse.bytes, 0xff, f->lse.size);
    expect_ok(attend_attention_forward(plan, &f->args), &f->c);
    expect_ok(attend_synchronize(context), &f->c);
    attend_plan_destroy(plan);
}

ptrdiff_t test_memory_written_outside(const test_memory *m)
{
    const attend_tensor *t = &m->tensor;
    const size_t element = attend_dtype_bytes(t->dtype), lead = (size_t)((unsigned char *)t->data - m->bytes);
    unsigned char *copy = malloc(m->size);
    memcpy(copy, m->bytes, m->size);
    for (int64_t n = 0; n < attend_tensor_elements(t); n++) {
        int64_t at = 0, rest = n;
        for (int i = t->rank - 1; i >= 0; i--) at += rest % t->shape[i] * t->stride[i], rest /= t->shape[i];
        memset(copy + lead + (size_t)at * element, 0xff, element);
    }
    size_t i = 0;
    while (i < m->size && copy[i] == 0xff) i++;
    free(copy);
    return i < m->size ? (ptrdiff_t)i - (ptrdiff_t)lead : PTRDIFF_MAX;
}

bool test_fixture_judge(const test_fixture *f, bool rule_2, attend_comparison *r, char sentence[TEST_SENTENCE])
{
    attend_status status = attend_compare(&f->c.problem, &f->args, NULL, r);
    if (status) {
        snprintf(sentence, TEST_SENTENCE, "%s: %s", attend_status_name(status), attend_error_message());
        return false;
    }
    ptrdiff_t outside = test_memory_written_outside(&f->out);
    if (outside != PTRDIFF_MAX) {
        snprintf(sentence, TEST_SENTENCE, "wrote outside of out, at byte %td from its start", outside);
        return false;
    }
    const attend_element *e = r->lse_bound_ratio > 1 ? &r->worst_lse : &r->worst;
    bool within = r->bound_ratio <= 1 && r->lse_bound_ratio <= 1; /* NaN is not */
    if (rule_2 ? r->passed : within) return true;
    snprintf(sentence, TEST_SENTENCE,
             "bound %.3g, quality %.3g, lse %.3g; worst at [b %" PRId64 ", h %" PRId64 ", row %" PRId64 ", column %" PRId64
             "]: %.9g, expected %.9g, bound %.3g",
             r->bound_ratio, r->quality_ratio, r->lse_bound_ratio, e->batch, e->head, e->row, e->column, e->actual, e->expected,
             e->bound);
    return false;
}

attend_comparison test_fixture_check(const test_fixture *f)
{
    char text[TEST_CASE_TEXT], sentence[TEST_SENTENCE];
    attend_comparison r;
    if (!test_fixture_judge(f, true, &r, sentence)) fail_msg("%s: %s", test_case_text(&f->c, text), sentence);
    return r;
}
