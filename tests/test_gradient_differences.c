/* The reference's gradients are those of its own forward: central differences, in fp64 throughout, of every gradient under every
   setting of every feature, alone and beside a softcap, sinks, head scales and a bias. */
#include "reference/reference.h"
#include "core/tensor.h"
#include "support/feature_cases.h"
#include "support/fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const double step = 0x1p-13, tolerance = 1e-6; /* relative to the largest of its tensor, and 1 */

/* A tensor of doubles with the values and strides of another; the memory it reaches. */
static attend_tensor doubles_of(const attend_tensor *t)
{
    attend_tensor d = *t;
    int64_t last = 0;
    if (!t->data) return d;
    for (int i = 0; i < t->rank; i++) last += (t->shape[i] > 0 ? t->shape[i] - 1 : 0) * t->stride[i];
    d.data = calloc((size_t)last + 1, sizeof(double)), d.dtype = ATTEND_REFERENCE_F64;
    for (int64_t n = 0; n <= last; n++) ((double *)d.data)[n] = attend_load(t, n);
    return d;
}

typedef struct loss_job {
    const attend_problem *p;
    const attend_gradients *g;
    double loss;
} loss_job;

/* Σ dout·out + Σ dlse·lse */
static void add_row(void *job, int64_t b, int64_t h, int64_t i, const attend_reference_row *row)
{
    loss_job *l = job;
    const attend_tensor *dout = &l->g->dout, *dlse = &l->g->dlse;
    for (int64_t c = 0; c < l->p->head_dim_v; c++)
        l->loss += row->out[c] * attend_load(dout, b * dout->stride[0] + i * dout->stride[1] + h * dout->stride[2] + c);
    if (row->lse != -INFINITY)
        l->loss += row->lse * attend_load(dlse, b * dlse->stride[0] + h * dlse->stride[1] + i * dlse->stride[2]);
}

static double loss(const attend_problem *p, const attend_attention_args *args, const attend_gradients *g)
{
    loss_job l = {p, g, 0};
    const attend_key_part all = attend_all_keys(p);
    attend_progress_tracker nobody = {0};
    assert_true(attend_reference_attention(p, args, &all, 1, &nobody, add_row, &l));
    return l.loss;
}

static void check_one(const char *who, const attend_problem *p, const attend_attention_args *args, const attend_gradients *g,
                      const attend_tensor *input, int gradient, const double *exact)
{
    const attend_expected e = attend_gradient_expected(p, (attend_gradient)gradient);
    attend_tensor dense = {.rank = e.rank};
    memcpy(dense.shape, e.shape, sizeof e.shape);
    dense = attend_tensor_row_major(dense);
    int64_t elements = 1;
    double largest = 1;
    for (int i = 0; i < e.rank; i++) elements *= e.shape[i];
    for (int64_t n = 0; n < elements; n++) largest = fmax(largest, fabs(exact[n]));
    for (int64_t n = elements > 100 ? gradient : 0; n < elements; n += elements > 100 ? 7 : 1) {
        int64_t at = 0;
        for (int i = 0; i < e.rank; i++) at += n / dense.stride[i] % e.shape[i] * input->stride[i];
        double *x = (double *)input->data + at, kept = *x;
        if (kept == -INFINITY) {
            assert_true(exact[n] == 0);
            continue;
        }
        *x = kept + step;
        const double above = loss(p, args, g);
        *x = kept - step;
        const double difference = (above - loss(p, args, g)) / (2 * step);
        *x = kept;
        if (!(fabs(difference - exact[n]) <= tolerance * largest))
            fail_msg("%s: %s[%d] is %.9g, differences say %.9g", who, e.name, (int)n, exact[n], difference);
    }
}

static void check_case(const test_case *c)
{
    test_fixture f;
    test_fixture_make(&f, c);
    const attend_problem *p = &f.problem;
    attend_attention_args a = f.args;
    attend_feature_args features = f.features;
    attend_tensor *inputs[ATTEND_GRADIENTS] = {&a.q, &a.k, &a.v, &features.bias, &features.alibi_slopes, &features.relative_table,
                                               &features.head_scales, &features.sinks};
    a.features = &features;
    attend_gradients g = {.dlse = doubles_of(&f.lse.tensor), .dout = doubles_of(&f.out.tensor)};
    attend_reference_gradient of[ATTEND_GRADIENTS];
    attend_progress_tracker nobody = {0};
    for (int64_t n = 0; n < attend_tensor_elements(&g.dout); n++) ((double *)g.dout.data)[n] = sin((double)n + 1);
    for (int64_t n = 0; n < attend_tensor_elements(&g.dlse); n++) ((double *)g.dlse.data)[n] = cos((double)n);
    for (int i = 0; i < ATTEND_GRADIENTS; i++) {
        *inputs[i] = doubles_of(inputs[i]);
        if (inputs[i]->data) g.of[i].data = inputs[i]->data;
    }
    assert_true(attend_reference_backward(p, &a, &g, false, 1, &nobody, of));
    for (int i = 0; i < ATTEND_GRADIENTS; i++)
        if (of[i].exact) check_one(c->features, p, &a, &g, inputs[i], i, of[i].exact);
    attend_reference_backward_free(of);
    for (int i = 0; i < ATTEND_GRADIENTS; i++) free(inputs[i]->data);
    free(g.dout.data), free(g.dlse.data);
    test_fixture_free(&f);
}

static void differences_say_the_same(void **state)
{
    (void)state;
    for (int i = -1; i < 0 || test_feature_setting(i); i++)
        for (int beside = 0; beside < 2; beside++) {
            test_case c = {.problem = {.batch = 2, .seqlen_q = 5, .seqlen_k = 7, .num_heads = 4, .num_kv_heads = 2, .head_dim = 3,
                                       .head_dim_v = 2, .softmax_scale = 0.7f},
                           .seed = 8 + 6 * (uint64_t)beside};
            if (beside) {
                c.problem.softcap = 1.5f, c.problem.sinks = c.problem.head_scales = true;
                c.problem.bias_axes = ATTEND_PER_HEAD | ATTEND_PER_KEY, c.problem.relative_buckets = 4, c.problem.relative_max_distance = 6;
            }
            if (i >= 0) {
                const int axes = c.problem.bias_axes;
                test_setting_apply(test_feature_setting(i), &c.problem);
                if (test_feature_setting(i)->fields.bias_axes == 0) c.problem.bias_axes = axes;
                strcpy(c.features, test_feature_setting(i)->name);
            }
            check_case(&c);
        }
}

/* Any of the sixteen ways in which a bias varies. */
static void every_bias_has_its_sums(void **state)
{
    (void)state;
    for (int axes = 1; axes < 16; axes++) {
        test_case c = {.problem = {.batch = 2, .seqlen_q = 4, .seqlen_k = 5, .num_heads = 4, .num_kv_heads = 2, .head_dim = 3, .bias_axes = axes},
                       .seed = 8, .features = "bias"};
        check_case(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(differences_say_the_same), cmocka_unit_test(every_bias_has_its_sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
