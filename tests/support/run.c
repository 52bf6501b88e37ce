/* Makes, runs and frees small problems */
#include "support/plans.h"
#include "support/run.h"
#include "support/forget.h"
#include "shared/float16.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static attend_tensor tensor(attend_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return attend_tensor_4d(calloc((size_t)(a * b * c * d + 1), attend_dtype_bytes(dtype)), dtype, a, b, c, d);
}

test_run test_run_make(attend_dtype dtype, int64_t d, int64_t batch, int64_t seqlen_q, int64_t seqlen_k, int64_t heads,
                       int64_t kv_heads, attend_causal causal)
{
    test_run r = {.p = {.batch = batch, .seqlen_q = seqlen_q, .seqlen_k = seqlen_k, .num_heads = heads, .num_kv_heads = kv_heads,
                        .head_dim = d, .head_dim_v = d, .dtype = dtype, .causal = causal, .softmax_scale = 0.125f}};
    r.q = tensor(dtype, batch, seqlen_q, heads, d), r.out = tensor(dtype, batch, seqlen_q, heads, d);
    r.k = tensor(dtype, batch, seqlen_k, kv_heads, d), r.v = tensor(dtype, batch, seqlen_k, kv_heads, d);
    r.lse = attend_tensor_3d(calloc((size_t)(batch * heads * seqlen_q + 1), sizeof(float)), ATTEND_F32, batch, heads, seqlen_q);
    const attend_tensor *inputs[] = {&r.q, &r.k, &r.v};
    for (int i = 0; i < 3; i++) {
        attend_tensor t = *inputs[i];
        t.stride[3] = 1, t.stride[2] = d, t.stride[1] = d * t.shape[2], t.stride[0] = t.stride[1] * t.shape[1];
        attend_values_gauss((uint64_t)i + 1, 1.5f, &t);
    }
    return r;
}

void test_run_free(test_run *r) { free(r->q.data), free(r->k.data), free(r->v.data), free(r->out.data), free(r->lse.data); }

void test_run_go(test_run *r, attend_context *context, const char *who)
{
    attend_plan *plan;
    attend_attention_args args = {.q = r->q, .k = r->k, .v = r->v, .out = r->out, .lse = r->lse, .features = &(attend_feature_args){.mask = r->mask}};
    if (test_attention_plan(context, &r->p, &plan)) fail_msg("%s: %s", who, attend_error_message());
    test_forget_runs(plan); /* a plan before may have had its memory */
    if (attend_attention_forward(plan, &args) || attend_synchronize(context)) fail_msg("%s: %s", who, attend_error_message());
    attend_plan_destroy(plan);
}

size_t test_row_bytes(const attend_tensor *t) { return (size_t)(t->shape[2] * t->shape[3]) * attend_dtype_bytes(t->dtype); }

char *test_row(const attend_tensor *t, int64_t b, int64_t i)
{
    return (char *)t->data + (size_t)(b * t->shape[1] + i) * test_row_bytes(t);
}

float test_get(const attend_tensor *t, int64_t b, int64_t i, int64_t h, int64_t c)
{
    const char *element = test_row(t, b, i) + (size_t)(h * t->shape[3] + c) * attend_dtype_bytes(t->dtype);
    uint16_t bits;
    float value;
    if (t->dtype == ATTEND_F32) return memcpy(&value, element, 4), value;
    memcpy(&bits, element, 2);
    return t->dtype == ATTEND_F16 ? attend_from_f16(bits) : attend_from_bf16(bits);
}

void test_set(const attend_tensor *t, int64_t b, int64_t i, int64_t h, int64_t c, float value)
{
    char *element = test_row(t, b, i) + (size_t)(h * t->shape[3] + c) * attend_dtype_bytes(t->dtype);
    uint16_t bits = t->dtype == ATTEND_F16 ? attend_to_f16(value) : attend_to_bf16(value);
    if (t->dtype == ATTEND_F32)
        memcpy(element, &value, 4);
    else
        memcpy(element, &bits, 2);
}
