/* The reference's gradients of a layer are those of its own forward: central differences, in fp64 throughout, of every gradient of
   small layers with every kind of projection, norm and position. */
#include "core/tensor.h"
#include "reference/reference.h"
#include "support/layer_gradients.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const double step = 0x1p-13, tolerance = 2e-6; /* relative to the largest of its tensor, and 1 */

/* Σ dout·out + Σ dlse·lse */
static double loss(const test_trained *l, const attend_layer_args *args, const attend_layer_gradients *g)
{
    attend_reference_layer r;
    attend_progress_tracker nobody = {0};
    attend_layer_args a = *args;
    double sum = 0, *lse = calloc((size_t)attend_tensor_elements(&g->dlse) + 1, sizeof *lse);
    a.lse = g->dlse, a.lse.data = lse;
    assert_true(attend_reference_run_layer(&l->p, &l->weights, &a, ATTEND_REFERENCE_EXACT, 1, &nobody, &r));
    for (int64_t n = 0; n < attend_tensor_elements(&g->dout); n++) sum += attend_load(&g->dout, n) * ((double *)r.out.data)[n];
    for (int64_t n = 0; n < attend_tensor_elements(&g->dlse); n++)
        if (lse[n] != -INFINITY) sum += attend_load(&g->dlse, n) * lse[n];
    attend_reference_free_layer(&r);
    free(lse);
    return sum;
}

static void check(const test_trained *l, const attend_layer_args *args, const attend_layer_gradients *g, const test_trained_tensor *t,
                  const double *exact)
{
    double largest = 1;
    const int64_t elements = attend_tensor_elements(t->gradient);
    for (int64_t n = 0; n < elements; n++) largest = fmax(largest, fabs(exact[n]));
    for (int64_t n = 0; n < elements; n++) {
        double *x = (double *)t->value->data + n, kept = *x;
        if (!isfinite(kept)) { /* a row past its length, or a bias that hides */
            assert_true(exact[n] == 0);
            continue;
        }
        *x = kept + step;
        const double above = loss(l, args, g);
        *x = kept - step;
        const double difference = (above - loss(l, args, g)) / (2 * step);
        *x = kept;
        if (!(fabs(difference - exact[n]) <= tolerance * largest))
            fail_msg("%s: %s[%d] is %.9g, differences say %.9g", l->c->name, t->name, (int)n, exact[n], difference);
    }
}

static void differences_say_the_same(void **state)
{
    (void)state;
    for (int i = 0; i < test_layer_case_count; i++) {
        test_trained narrow, l;
        attend_layer_args args;
        attend_feature_args features;
        attend_layer_gradients g;
        attend_reference_layer_gradients of;
        attend_progress_tracker nobody = {0};
        test_trained_make(&narrow, &test_layer_cases[i], true);
        test_trained_resolve(&narrow, &args, &features, &g);
        test_trained_widen(&l, &narrow, ATTEND_REFERENCE_F64);
        args.x = l.args.x, args.context = l.args.context;
        features.bias = l.features.bias, features.alibi_slopes = l.features.alibi_slopes, features.relative_table = l.features.relative_table;
        features.head_scales = l.features.head_scales, features.sinks = l.features.sinks;
        for (int axis = 0; axis < 4; axis++)
            if (features.bias.shape[axis] == 1) features.bias.stride[axis] = 0;
        g.dout = l.grads.dout, g.dlse = l.grads.dlse;
        assert_true(attend_reference_layer_backward(&l.p, &l.weights, &args, &g, ATTEND_REFERENCE_EXACT, 1, &nobody, &of));
        for (int t = 0; t < TEST_TRAINED_TENSORS; t++) {
            const test_trained_tensor tensor = test_trained_tensor_of(&l, t);
            const double *exact = t == 0 ? of.dx : t == 1 ? of.dcontext : t < 2 + ATTEND_LAYER_WEIGHTS ? of.weights[t - 2]
                                                     : of.of[ATTEND_GRADIENT_BIAS + t - 2 - ATTEND_LAYER_WEIGHTS].exact;
            if (tensor.value->data) check(&l, &args, &g, &tensor, exact);
        }
        attend_reference_layer_backward_free(&of);
        test_trained_free(&l), test_trained_free(&narrow);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(differences_say_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
