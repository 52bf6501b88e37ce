/* Rotary embedding of a caller's own Q and K: checks the arguments and calls the context's backend. */
#include "core/rotary.h"
#include "core/arguments.h"
#include "core/backend.h"
#include "core/struct.h"

#include <inttypes.h>

/* Resolves q or k with its output, and adds both to `named` for the check of overlaps. */
static attend_status resolve_tensor(const attend_problem *p, const char *const names[2], int64_t heads,
                                    attend_tensor *in, attend_tensor *out, attend_named_tensor *named,
                                    int *count)
{
    const int64_t shape[] = {attend_tensor_batch(p), attend_rows_q(p), heads, p->head_dim};
    attend_tensor given = *in;
    if (!given.data && given.rank == 0) {
        if (!out->data) return ATTEND_OK;
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is given without %s", names[1], names[0]);
    }
    ATTEND_TRY(attend_tensor_resolve(names[0], &given, ATTEND_INPUT, p->dtype, 4, shape, in));
    ATTEND_TRY(attend_tensor_check_rows(names[0], in));
    given = out->data ? *out : *in;
    ATTEND_TRY(attend_tensor_resolve(out->data ? names[1] : names[0], &given, ATTEND_OUTPUT, p->dtype, 4,
                                     shape, out));
    ATTEND_TRY(attend_tensor_check_rows(names[1], out));
    bool in_place = in->data == out->data;
    for (int axis = 0; axis < 4; axis++) in_place &= in->stride[axis] == out->stride[axis];
    if (!in_place) named[(*count)++] = (attend_named_tensor){names[0], in, ATTEND_INPUT};
    named[(*count)++] = (attend_named_tensor){in_place ? names[0] : names[1], out, ATTEND_OUTPUT};
    return ATTEND_OK;
}

/* Optional inputs. */
static attend_status resolve_rest(const attend_problem *p, attend_rotary_args *r, attend_named_tensor *named,
                                  int *count)
{
    const struct {
        const char *name;
        attend_tensor *tensor;
        attend_dtype dtype;
        attend_qk_norm least;
        int rank;
        int64_t shape[2];
    } rest[] = {
        {"positions",
         &r->positions,
         ATTEND_I32,
         ATTEND_QK_NORM_NONE,
         2,
         {attend_tensor_batch(p), attend_rows_q(p)}},
        {"q_norm", &r->q_norm, p->dtype, ATTEND_QK_NORM_RMS, 1, {p->head_dim, 0}},
        {"k_norm", &r->k_norm, p->dtype, ATTEND_QK_NORM_RMS, 1, {p->head_dim, 0}},
        {"q_norm_bias", &r->q_norm_bias, p->dtype, ATTEND_QK_NORM_LAYER, 1, {p->head_dim, 0}},
        {"k_norm_bias", &r->k_norm_bias, p->dtype, ATTEND_QK_NORM_LAYER, 1, {p->head_dim, 0}},
    };
    for (int i = 0; i < 5; i++) {
        attend_tensor given = *rest[i].tensor;
        if (!given.data) continue;
        if (p->qk_norm < rest[i].least)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "%s is given, but the problem's qk_norm does not use it", rest[i].name);
        ATTEND_TRY(attend_tensor_resolve(rest[i].name, &given, ATTEND_INPUT, rest[i].dtype, rest[i].rank,
                                         rest[i].shape, rest[i].tensor));
        if (rest[i].rank == 1) ATTEND_TRY(attend_tensor_check_rows(rest[i].name, rest[i].tensor));
        named[(*count)++] = (attend_named_tensor){rest[i].name, rest[i].tensor, ATTEND_INPUT};
    }
    return ATTEND_OK;
}

attend_status attend_token_lists_check(const attend_problem *p, const int64_t *seqlens_q,
                                       const int64_t *cu_seqlens_q)
{
    if (p->batch > 0 && p->packed && !cu_seqlens_q)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "cu_seqlens_q is missing: the problem is packed");
    if (!p->packed && cu_seqlens_q)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "cu_seqlens_q is given, but the problem does not ask for it (packed)");
    if (p->packed && seqlens_q)
        return attend_fail(
            ATTEND_INVALID_ARGUMENT,
            "seqlens_q and packed exclude each other: cu_seqlens_q gives the lengths of packed sequences");
    return ATTEND_OK;
}

static attend_status check_lists_given(const attend_problem *p, const attend_rotary_args *r)
{
    ATTEND_TRY(attend_token_lists_check(p, r->seqlens_q, r->cu_seqlens_q));
    if (p->batch > 0 && p->left_padded && !r->starts_k)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "starts_k is missing: the problem is left_padded");
    if (!p->left_padded && r->starts_k)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "starts_k is given, but the problem does not ask for it (left_padded)");
    if (r->positions.data && r->first_positions)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "positions and first_positions exclude each other: both give a token's position");
    if (!p->rotary && (r->positions.data || r->first_positions))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "%s is given, but the problem does not ask for it (rotary)",
                           r->positions.data ? "positions" : "first_positions");
    if (p->first_position && r->first_positions)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "first_positions is given, but the problem has a first_position (%" PRId64
                           ") for all",
                           p->first_position);
    return ATTEND_OK;
}

attend_status attend_rotary_args_resolve(const attend_problem *p, const attend_rotary_args *args,
                                         size_t bytes, attend_rotary_args *r)
{
    static const char *const q[] = {"q", "q_out"}, *const k[] = {"k", "k_out"};
    attend_named_tensor named[9];
    int count = 0;
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_rotary_args), "args", r, args, bytes));
    ATTEND_TRY(resolve_tensor(p, q, p->num_heads, &r->q, &r->q_out, named, &count));
    ATTEND_TRY(resolve_tensor(p, k, p->num_kv_heads, &r->k, &r->k_out, named, &count));
    if (count == 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "q and k are both missing: there is nothing to rotate");
    if (r->backward && p->qk_norm)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "backward is set, but qk_norm is too: only rotations have a backward");
    ATTEND_TRY(check_lists_given(p, r));
    ATTEND_TRY(resolve_rest(p, r, named, &count));
    return attend_tensors_disjoint(named, count);
}

attend_status attend_rotary_lists_check(const attend_problem *p, const attend_rotary_args *r)
{
    ATTEND_TRY(attend_lengths_check("seqlens_q", r->seqlens_q, p->batch, p->seqlen_q));
    ATTEND_TRY(attend_lengths_check("starts_k", r->starts_k, p->batch, p->seqlen_q));
    for (int64_t b = 0; r->first_positions && b < p->batch; b++)
        if (r->first_positions[b] < -ATTEND_LAST_POSITION || r->first_positions[b] > ATTEND_LAST_POSITION)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "first_positions[%" PRId64 "] is %" PRId64
                               ", expected -2147483647 to 2147483647",
                               b, r->first_positions[b]);
    return attend_cu_seqlens_check("cu_seqlens_q", r->cu_seqlens_q, p->batch, p->seqlen_q, p->total_q);
}

attend_rope attend_rotary_rope(const attend_problem *p, const attend_rotary_args *args)
{
    attend_rope rope = attend_rope_of(p);
    if (args->backward) rope.sine_factor = -rope.sine_factor;
    return rope;
}

attend_row_positions attend_rotary_row_positions(const attend_problem *p, const attend_rotary_args *args)
{
    const attend_feature_args features = {
        .starts_k = args->starts_k, .cu_seqlens_q = args->cu_seqlens_q, .positions = args->positions};
    attend_row_positions row_positions = attend_row_positions_of(p, &features, NULL);
    row_positions.firsts = args->first_positions, row_positions.lengths = args->seqlens_q;
    return row_positions;
}

int attend_rotary_tensors(const attend_rotary_args *a, attend_rope_tensor tensors[2])
{
    int count = 0;
    if (a->q.data) tensors[count++] = (attend_rope_tensor){a->q, a->q_out, a->q_norm, a->q_norm_bias};
    if (a->k.data) tensors[count++] = (attend_rope_tensor){a->k, a->k_out, a->k_norm, a->k_norm_bias};
    return count;
}

attend_status attend_rotary_apply_sized(attend_context *context, const attend_problem *problem,
                                        size_t problem_bytes, const attend_rotary_args *args,
                                        size_t args_bytes)
{
    attend_problem p;
    attend_rotary_args r;
    if (!context) return attend_fail(ATTEND_INVALID_ARGUMENT, "context is NULL");
    ATTEND_TRY(attend_problem_resolve(problem, problem_bytes, ATTEND_ROTATION, &p));
    ATTEND_TRY(attend_rotary_args_resolve(&p, args, args_bytes, &r));
    return context->backend->rotary(context, &p, &r);
}
