/* Validation: turns what callers pass into resolved problems, arguments and weights, or a sentence that says why not. */
#include "problem.h"
#include "status.h"
#include "tensor.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Copies a caller's struct of `bytes` bytes into ours; fields that an older caller does not know stay zero. */
static attend_status read_struct(const char *name, void *to, size_t to_bytes, const void *from, size_t from_bytes)
{
    if (!from) return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is NULL", name);
    if (from_bytes > to_bytes)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s has %zu bytes, this library (%s) knows %zu: the program was built for a newer attend", name,
                           from_bytes, attend_version(), to_bytes);
    memset(to, 0, to_bytes);
    memcpy(to, from, from_bytes);
    return ATTEND_OK;
}

static attend_status check_range(const char *name, int64_t value, int64_t least)
{
    if (value < least)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is %" PRId64 ", expected at least %" PRId64, name, value, least);
    return ATTEND_OK;
}

static attend_status check_layer_fields(attend_problem *p, attend_operation operation)
{
    if (operation == ATTEND_ATTENTION) {
        if (p->hidden_size || p->context_hidden_size || p->output_size)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "hidden_size, context_hidden_size and output_size belong to layers; leave them 0 here");
        return ATTEND_OK;
    }
    ATTEND_TRY(check_range("hidden_size", p->hidden_size, 1));
    ATTEND_TRY(check_range("context_hidden_size", p->context_hidden_size, 0));
    ATTEND_TRY(check_range("output_size", p->output_size, 0));
    if (p->output_size == 0) p->output_size = p->hidden_size;
    if (attend_problem_is_cross(p)) return ATTEND_OK;
    if (p->seqlen_k == 0) p->seqlen_k = p->seqlen_q;
    if (p->seqlen_k != p->seqlen_q)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "seqlen_k (%" PRId64 ") differs from seqlen_q (%" PRId64
                           ") in self-attention; give context_hidden_size for cross-attention",
                           p->seqlen_k, p->seqlen_q);
    return ATTEND_OK;
}

/* Whether the product of the sizes fits in 63 bits with room for 4-byte elements. */
static bool fits(const int64_t *sizes, int count)
{
    int64_t product = 4;
    for (int i = 0; i < count; i++)
        if (!attend_multiply(product, sizes[i], &product)) return false;
    return true;
}

static attend_status check_products(const attend_problem *p)
{
    int64_t dim = p->head_dim > p->head_dim_v ? p->head_dim : p->head_dim_v;
    int64_t seqlen = p->seqlen_q > p->seqlen_k ? p->seqlen_q : p->seqlen_k;
    int64_t width = p->hidden_size > p->output_size ? p->hidden_size : p->output_size;
    if (p->context_hidden_size > width) width = p->context_hidden_size;
    if (!fits((int64_t[]){p->batch, seqlen, p->num_heads, dim}, 4))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "batch·seqlen·num_heads·head_dim has more bytes than 63 bits can count");
    if (!fits((int64_t[]){p->batch, seqlen, width}, 3) || !fits((int64_t[]){width, p->num_heads, dim}, 3))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "the layer's tensors have more bytes than 63 bits can count");
    return ATTEND_OK;
}

attend_status attend_problem_resolve(const attend_problem *problem, size_t bytes, attend_operation operation,
                                     attend_problem *p)
{
    ATTEND_TRY(read_struct("problem", p, sizeof *p, problem, bytes));
    ATTEND_TRY(check_range("batch", p->batch, 0));
    ATTEND_TRY(check_range("seqlen_q", p->seqlen_q, 0));
    ATTEND_TRY(check_range("seqlen_k", p->seqlen_k, 0));
    ATTEND_TRY(check_range("num_heads", p->num_heads, 1));
    ATTEND_TRY(check_range("num_kv_heads", p->num_kv_heads, 0));
    ATTEND_TRY(check_range("head_dim", p->head_dim, 1));
    ATTEND_TRY(check_range("head_dim_v", p->head_dim_v, 0));
    if (p->num_kv_heads == 0) p->num_kv_heads = p->num_heads;
    if (p->head_dim_v == 0) p->head_dim_v = p->head_dim;
    if (p->num_heads % p->num_kv_heads)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "num_heads (%" PRId64 ") is not a multiple of num_kv_heads (%" PRId64 ")",
                           p->num_heads, p->num_kv_heads);
    if ((unsigned)p->dtype > ATTEND_BF16)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "dtype is %d, expected ATTEND_F32, ATTEND_F16 or ATTEND_BF16", (int)p->dtype);
    if ((unsigned)p->causal > ATTEND_CAUSAL_BOTTOM_RIGHT)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "causal is %d, expected one of attend_causal", (int)p->causal);
    if (!isfinite(p->softmax_scale)) return attend_fail(ATTEND_INVALID_ARGUMENT, "softmax_scale is not finite");
    if (p->softmax_scale == 0) p->softmax_scale = (float)(1 / sqrt((double)p->head_dim));
    ATTEND_TRY(check_layer_fields(p, operation));
    return check_products(p);
}

/* One expected argument: where it stands, what it must look like. */
typedef struct expected {
    const char *name;
    attend_tensor *tensor; /* read and replaced by the resolved one */
    attend_tensor_role role;
    bool optional;
    attend_dtype dtype;
    int rank;
    int64_t shape[ATTEND_MAX_RANK];
} expected;

enum { MAX_ARGUMENTS = 8 };

static attend_status resolve_all(const expected *arguments, int count)
{
    attend_named_tensor named[MAX_ARGUMENTS];
    for (int i = 0; i < count; i++) {
        const expected *e = &arguments[i];
        attend_tensor given = *e->tensor;
        named[i] = (attend_named_tensor){e->name, e->tensor, e->role};
        if (e->optional && !given.data) continue;
        ATTEND_TRY(attend_tensor_resolve(e->name, &given, e->role, e->dtype, e->rank, e->shape, e->tensor));
    }
    return attend_tensors_disjoint(named, count);
}

static attend_status check_rows(const expected *arguments, int count)
{
    for (int i = 0; i < count; i++)
        if (arguments[i].tensor->data) ATTEND_TRY(attend_tensor_check_rows(arguments[i].name, arguments[i].tensor));
    return ATTEND_OK;
}

attend_status attend_attention_args_resolve(const attend_problem *p, const attend_attention_args *args, size_t bytes,
                                            attend_attention_args *r)
{
    ATTEND_TRY(read_struct("args", r, sizeof *r, args, bytes));
    const expected arguments[] = {
        {"q", &r->q, ATTEND_INPUT, false, p->dtype, 4, {p->batch, p->seqlen_q, p->num_heads, p->head_dim}},
        {"k", &r->k, ATTEND_INPUT, false, p->dtype, 4, {p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim}},
        {"v", &r->v, ATTEND_INPUT, false, p->dtype, 4, {p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim_v}},
        {"out", &r->out, ATTEND_OUTPUT, false, p->dtype, 4, {p->batch, p->seqlen_q, p->num_heads, p->head_dim_v}},
        {"lse", &r->lse, ATTEND_OUTPUT, true, ATTEND_F32, 3, {p->batch, p->num_heads, p->seqlen_q}},
    };
    ATTEND_TRY(resolve_all(arguments, 5));
    return check_rows(arguments, 4);
}

attend_status attend_layer_args_resolve(const attend_problem *p, const attend_layer_args *args, size_t bytes,
                                        attend_layer_args *r)
{
    ATTEND_TRY(read_struct("args", r, sizeof *r, args, bytes));
    bool cross = attend_problem_is_cross(p);
    if (!cross && r->context.data)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "context is given, but the problem's context_hidden_size is 0");
    const expected arguments[] = {
        {"x", &r->x, ATTEND_INPUT, false, p->dtype, 3, {p->batch, p->seqlen_q, p->hidden_size}},
        {"context", &r->context, ATTEND_INPUT, !cross, p->dtype, 3, {p->batch, p->seqlen_k, p->context_hidden_size}},
        {"out", &r->out, ATTEND_OUTPUT, false, p->dtype, 3, {p->batch, p->seqlen_q, p->output_size}},
        {"q", &r->q, ATTEND_OUTPUT, true, p->dtype, 4, {p->batch, p->seqlen_q, p->num_heads, p->head_dim}},
        {"k", &r->k, ATTEND_OUTPUT, true, p->dtype, 4, {p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim}},
        {"v", &r->v, ATTEND_OUTPUT, true, p->dtype, 4, {p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim_v}},
        {"heads", &r->heads, ATTEND_OUTPUT, true, p->dtype, 4, {p->batch, p->seqlen_q, p->num_heads, p->head_dim_v}},
        {"lse", &r->lse, ATTEND_OUTPUT, true, ATTEND_F32, 3, {p->batch, p->num_heads, p->seqlen_q}},
    };
    ATTEND_TRY(resolve_all(arguments, 8));
    return check_rows(arguments, 7);
}

/* One of a matrix's strides is 1 and the other steps over a whole row or column, as GEMM needs it. */
static attend_status check_matrix(const char *name, const attend_tensor *w)
{
    bool by_rows = (w->stride[1] == 1 || w->shape[1] == 1) && w->stride[0] >= w->shape[1];
    bool by_columns = (w->stride[0] == 1 || w->shape[0] == 1) && w->stride[1] >= w->shape[0];
    if (!by_rows && !by_columns && w->shape[0] > 1 && w->shape[1] > 1)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s has strides [%" PRId64 ", %" PRId64 "]: one must be 1, the other at least the extent it steps over",
                           name, w->stride[0], w->stride[1]);
    return ATTEND_OK;
}

attend_status attend_layer_weights_resolve(const attend_problem *p, const attend_layer_weights *weights, size_t bytes,
                                           attend_layer_weights *r)
{
    ATTEND_TRY(read_struct("weights", r, sizeof *r, weights, bytes));
    int64_t source = attend_problem_is_cross(p) ? p->context_hidden_size : p->hidden_size;
    int64_t q = p->num_heads * p->head_dim, k = p->num_kv_heads * p->head_dim, v = p->num_kv_heads * p->head_dim_v;
    const expected arguments[] = {
        {"wq", &r->wq, ATTEND_INPUT, false, p->dtype, 2, {q, p->hidden_size}},
        {"wk", &r->wk, ATTEND_INPUT, false, p->dtype, 2, {k, source}},
        {"wv", &r->wv, ATTEND_INPUT, false, p->dtype, 2, {v, source}},
        {"wo", &r->wo, ATTEND_INPUT, false, p->dtype, 2, {p->output_size, p->num_heads * p->head_dim_v}},
        {"bq", &r->bq, ATTEND_INPUT, true, p->dtype, 1, {q}},
        {"bk", &r->bk, ATTEND_INPUT, true, p->dtype, 1, {k}},
        {"bv", &r->bv, ATTEND_INPUT, true, p->dtype, 1, {v}},
        {"bo", &r->bo, ATTEND_INPUT, true, p->dtype, 1, {p->output_size}},
    };
    ATTEND_TRY(resolve_all(arguments, 8));
    for (int i = 0; i < 4; i++) ATTEND_TRY(check_matrix(arguments[i].name, arguments[i].tensor));
    for (int i = 4; i < 8; i++)
        if (arguments[i].tensor->data) ATTEND_TRY(attend_tensor_check_rows(arguments[i].name, arguments[i].tensor));
    return ATTEND_OK;
}

attend_status attend_lengths_check(const char *name, const int64_t *lengths, int64_t batch, int64_t seqlen)
{
    for (int64_t b = 0; lengths && b < batch; b++)
        if (lengths[b] < 0 || lengths[b] > seqlen)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "%s[%" PRId64 "] is %" PRId64 ", expected 0 to %" PRId64, name, b,
                               lengths[b], seqlen);
    return ATTEND_OK;
}
