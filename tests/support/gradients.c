/* Makes, runs and judges gradients; see gradients.h. */
#include "support/gradients.h"
#include "support/forget.h"
#include "core/problem.h"
#include "reference/reference.h"
#include "tool/values.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void take_out(void *job, int64_t b, int64_t h, int64_t i, const attend_reference_row *row)
{
    const attend_tensor *t = job;
    for (int64_t c = 0; c < t->shape[3]; c++) attend_store(t, b * t->stride[0] + i * t->stride[1] + h * t->stride[2] + c, row->out[c]);
}

static void make_out_f32(test_gradients *g, const test_fixture *f)
{
    attend_tensor out = f->out.tensor;
    attend_progress_tracker nobody = {0};
    const attend_key_part all = attend_all_keys(&f->problem);
    out.data = NULL, out.dtype = ATTEND_F32;
    test_memory_make(&g->out_f32, out, false, f->c.layout);
    assert_true(attend_reference_attention(&f->problem, &f->args, &all, 1, &nobody, take_out, &g->out_f32.tensor));
    g->grads.out_f32 = g->out_f32.tensor;
}

void test_gradients_make(test_gradients *g, const test_fixture *f, attend_dtype stored)
{
    const attend_problem *p = &f->problem;
    memset(g, 0, sizeof *g);
    attend_tensor out = f->out.tensor, lse = f->lse.tensor;
    out.data = lse.data = NULL;
    test_memory_make(&g->dout, out, true, f->c.layout);
    attend_values_gauss(f->c.seed + 77, 1, &g->dout.tensor);
    if (f->c.layout != LAYOUT_BROADCAST) test_forget_rows(&g->dout.tensor, NULL, f->seqlens_q);
    g->grads.dout = g->dout.tensor;
    if (f->c.seed % 3 == 0) make_out_f32(g, f);
    if (f->c.seed % 2) {
        test_memory_make(&g->dlse, lse, true, f->c.layout == LAYOUT_PADDED ? LAYOUT_FUSED : LAYOUT_PADDED); /* not the LSE's */
        attend_values_gauss(f->c.seed + 78, 1, &g->dlse.tensor);
        g->grads.dlse = g->dlse.tensor;
    }
    const bool gaps = f->c.seed / 2 % 2;
    for (int i = 0; i < ATTEND_GRADIENTS; i++) {
        const attend_expected e = attend_gradient_expected(p, (attend_gradient)i);
        attend_tensor t = {.rank = e.rank, .dtype = i <= ATTEND_GRADIENT_V ? stored : ATTEND_F32};
        if (e.rank == 0) continue;
        memcpy(t.shape, e.shape, sizeof t.shape);
        t = attend_tensor_row_major(t);
        for (int axis = 0; axis < t.rank && gaps; axis++) t.stride[axis] *= 3; /* of features' gradients below rank 4 */
        test_memory_make(&g->of[i], t, false, i <= ATTEND_GRADIENT_V ? f->c.layout : gaps ? LAYOUT_PADDED : LAYOUT_BSHD);
    }
    g->grads.dq = g->of[ATTEND_GRADIENT_Q].tensor, g->grads.dk = g->of[ATTEND_GRADIENT_K].tensor;
    g->grads.dv = g->of[ATTEND_GRADIENT_V].tensor;
    g->features = (attend_feature_grads){g->of[ATTEND_GRADIENT_BIAS].tensor, g->of[ATTEND_GRADIENT_SLOPES].tensor,
                                         g->of[ATTEND_GRADIENT_RELATIVE_TABLE].tensor, g->of[ATTEND_GRADIENT_HEAD_SCALES].tensor,
                                         g->of[ATTEND_GRADIENT_SINKS].tensor};
    g->grads.features = &g->features;
}

void test_gradients_free(test_gradients *g)
{
    test_memory_free(&g->dout), test_memory_free(&g->dlse), test_memory_free(&g->out_f32);
    for (int i = 0; i < ATTEND_GRADIENTS; i++) test_memory_free(&g->of[i]);
}

void test_gradients_run(test_gradients *g, test_fixture *f, attend_context *context)
{
    const attend_plan_options options = {.backward = true, .host_tensors = ATTEND_HOST_ALL};
    attend_status status;
    attend_plan *plan;
    char text[TEST_CASE_TEXT];
    if (attend_attention_plan_with(context, &f->c.problem, &options, &plan))
        fail_msg("%s: %s", test_case_text(&f->c, text), attend_error_message());
    memset(f->out.bytes, 0xff, f->out.size), memset(f->lse.bytes, 0xff, f->lse.size);
    for (int i = 0; i < ATTEND_GRADIENTS && !g->grads.accumulate; i++)
        if (g->of[i].bytes) memset(g->of[i].bytes, 0xff, g->of[i].size);
    test_forget_runs(plan); /* a plan before may have had its memory */
    status = attend_attention_forward(plan, &f->args);
    if (!status) status = attend_synchronize(context);
    test_forget_runs(plan);
    if (!status) status = attend_attention_backward(plan, &f->args, &g->grads, NULL);
    if (status || attend_synchronize(context)) fail_msg("%s: %s", test_case_text(&f->c, text), attend_error_message());
    attend_plan_destroy(plan);
}

typedef struct named_comparison {
    const char *name;
    const attend_gradient_comparison *c;
} named_comparison;

static void list(const attend_backward_comparison *c, named_comparison all[ATTEND_GRADIENTS])
{
    const named_comparison of[] = {{"dq", &c->dq}, {"dk", &c->dk}, {"dv", &c->dv}, {"bias", &c->bias}, {"slopes", &c->alibi_slopes},
                                   {"table", &c->relative_table}, {"scales", &c->head_scales}, {"sinks", &c->sinks}};
    memcpy(all, of, sizeof of);
}

double test_gradients_worst(const attend_backward_comparison *c, bool rule_2)
{
    named_comparison all[ATTEND_GRADIENTS];
    double worst = 0;
    list(c, all);
    for (int i = 0; i < ATTEND_GRADIENTS; i++) worst = fmax(worst, rule_2 ? all[i].c->quality_ratio : all[i].c->bound_ratio);
    return worst;
}

bool test_gradients_judge(const test_gradients *g, const test_fixture *f, attend_backward_comparison *r, char sentence[TEST_SENTENCE])
{
    named_comparison all[ATTEND_GRADIENTS];
    const attend_status status = attend_backward_compare(&f->c.problem, &f->args, &g->grads, NULL, r);
    if (status) {
        snprintf(sentence, TEST_SENTENCE, "%s: %s", attend_status_name(status), attend_error_message());
        return false;
    }
    list(r, all);
    for (int i = 0; i < ATTEND_GRADIENTS; i++) {
        const attend_gradient_comparison *c = all[i].c;
        const attend_element *e = &c->worst;
        if (c->elements && test_memory_written_outside(&g->of[i]) != PTRDIFF_MAX) {
            snprintf(sentence, TEST_SENTENCE, "wrote outside of %s", all[i].name);
            return false;
        }
        if (c->bound_ratio <= 1 && c->quality_ratio <= 1) continue; /* NaN is not */
        snprintf(sentence, TEST_SENTENCE,
                 "%s: bound %.3g, quality %.3g; worst at [b %" PRId64 ", h %" PRId64 ", row %" PRId64 ", column %" PRId64
                 "]: %.9g, expected %.9g, bound %.3g",
                 all[i].name, c->bound_ratio, c->quality_ratio, e->batch, e->head, e->row, e->column, e->actual, e->expected, e->bound);
        return false;
    }
    return true;
}
