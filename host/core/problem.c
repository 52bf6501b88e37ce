/* Validates a caller's problem and fills in its defaults. */
#include "core/problem.h"
#include "shared/absolute.h"
#include "core/struct.h"
#include "shared/rope.h"
#include "core/tensor.h"

#include <inttypes.h>
#include <math.h>

static attend_status check_range(const char *name, int64_t value, int64_t least)
{
    if (value < least)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "%s is %" PRId64 ", expected at least %" PRId64, name,
                           value, least);
    return ATTEND_OK;
}

static attend_status check_layer_fields(attend_problem *p, attend_operation operation)
{
    if (operation != ATTEND_LAYER) {
        if (operation != ATTEND_ATTENTION && p->seqlen_k == 0) p->seqlen_k = p->seqlen_q;
        if (p->hidden_size || p->context_hidden_size || p->output_size)
            return attend_fail(
                ATTEND_INVALID_ARGUMENT,
                "hidden_size, context_hidden_size and output_size belong to layers; leave them 0 here");
        return ATTEND_OK;
    }
    ATTEND_TRY(check_range("hidden_size", p->hidden_size, 1));
    ATTEND_TRY(check_range("context_hidden_size", p->context_hidden_size, 0));
    ATTEND_TRY(check_range("output_size", p->output_size, 0));
    if (p->output_size == 0) p->output_size = p->hidden_size;
    if (attend_problem_is_cross(p)) return ATTEND_OK;
    if (p->seqlen_k == 0) p->seqlen_k = p->seqlen_q;
    if (p->total_k == 0) p->total_k = p->total_q;
    if (p->seqlen_k < p->seqlen_q)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "seqlen_k (%" PRId64 ") is less than seqlen_q (%" PRId64
                           ") in self-attention; give context_hidden_size for cross-attention",
                           p->seqlen_k, p->seqlen_q);
    if (p->total_k != p->total_q)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "total_k (%" PRId64 ") differs from total_q (%" PRId64 ") in self-attention",
                           p->total_k, p->total_q);
    return ATTEND_OK;
}

/* Clips a window, chunk or prefix to the lengths, so that adding a position does not overflow. */
static void clip(const attend_problem *p, int64_t *value)
{
    int64_t all = p->seqlen_q > INT64_MAX / 4 || p->seqlen_k > INT64_MAX / 4 ? INT64_MAX / 2
                                                                             : p->seqlen_q + p->seqlen_k + 1;
    if (*value > all) *value = all;
}

static attend_status check_visibility(attend_problem *p)
{
    if (p->causal == ATTEND_CAUSAL_TOP_LEFT && p->align_bottom_right)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "causal is ATTEND_CAUSAL_TOP_LEFT, but align_bottom_right is set");
    if (p->causal == ATTEND_CAUSAL_BOTTOM_RIGHT) p->align_bottom_right = true;
    if (!p->windowed && (p->window_left || p->window_right))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "window_left and window_right count only with windowed; leave them 0 without it");
    if (!p->windowed) p->window_left = p->window_right = -1;
    ATTEND_TRY(check_range("window_left", p->window_left, -1));
    ATTEND_TRY(check_range("window_right", p->window_right, -1));
    ATTEND_TRY(check_range("chunk", p->chunk, 0));
    ATTEND_TRY(check_range("prefix", p->prefix, 0));
    clip(p, &p->window_left), clip(p, &p->window_right), clip(p, &p->chunk), clip(p, &p->prefix);
    ATTEND_TRY(check_range("block_q", p->block_q, 0));
    ATTEND_TRY(check_range("block_k", p->block_k, 0));
    if ((p->block_q == 0) != (p->block_k == 0))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "block_q (%" PRId64 ") and block_k (%" PRId64 ") are given both or neither",
                           p->block_q, p->block_k);
    ATTEND_TRY(check_range("block_list", p->block_list, 0));
    if (p->block_list && !p->block_q)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "block_list is %" PRId64 ", which counts only with block_q and block_k",
                           p->block_list);
    if (p->block_axes & ~(p->block_q ? ATTEND_PER_BATCH | ATTEND_PER_HEAD : 0))
        return attend_fail(
            ATTEND_INVALID_ARGUMENT,
            "block_axes is %d, expected ATTEND_PER_BATCH and ATTEND_PER_HEAD, with block_q and block_k",
            p->block_axes);
    if (p->mask_axes & ~15)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "mask_axes is %d, expected a sum of attend_axes",
                           p->mask_axes);
    return ATTEND_OK;
}

static attend_status check_packed(const attend_problem *p)
{
    ATTEND_TRY(check_range("total_q", p->total_q, 0));
    ATTEND_TRY(check_range("total_k", p->total_k, 0));
    if (!p->packed && (p->total_q || p->total_k))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "total_q and total_k count only with packed; leave them 0 without it");
    if (p->packed && p->left_padded)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "packed and left_padded exclude each other: packed sequences have no padding");
    if (p->packed && p->batch == 0 && (p->total_q || p->total_k))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "batch is 0, but total_q or total_k is not");
    return ATTEND_OK;
}

static attend_status check_score(const attend_problem *p)
{
    int least = p->relative_bidirectional ? 4 : 2,
        exact = p->relative_buckets / (p->relative_bidirectional ? 4 : 2);
    if (!isfinite(p->softcap) || p->softcap < 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "softcap is %g, expected a finite number from 0 up",
                           (double)p->softcap);
    if ((unsigned)p->alibi > ATTEND_ALIBI_CAUSAL)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "alibi is %d, expected one of attend_alibi",
                           (int)p->alibi);
    if (p->bias_axes & ~15)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "bias_axes is %d, expected a sum of attend_axes",
                           p->bias_axes);
    if (p->relative_buckets == 0) return ATTEND_OK;
    if (p->relative_buckets < least || p->relative_buckets > 1 << 24 ||
        (p->relative_bidirectional && p->relative_buckets % 2))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "relative_buckets is %d, expected %s%d to 16777216",
                           p->relative_buckets, p->relative_bidirectional ? "an even number from " : "",
                           least);
    if (p->relative_max_distance <= exact || p->relative_max_distance > 1 << 24)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "relative_max_distance is %d, expected %d to 16777216",
                           p->relative_max_distance, exact + 1);
    return ATTEND_OK;
}

static attend_status check_rotary(attend_problem *p)
{
    attend_rotary_scaling scaling = p->rotary_scaling;
    if ((unsigned)p->rotary > ATTEND_ROTARY_INTERLEAVED)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "rotary is %d, expected one of attend_rotary",
                           (int)p->rotary);
    if ((unsigned)scaling > ATTEND_ROTARY_LLAMA3)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "rotary_scaling is %d, expected one of attend_rotary_scaling", (int)scaling);
    if (!p->rotary) {
        if (p->rotary_dim || p->rotary_base != 0 || scaling)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "rotary_dim, rotary_base and rotary_scaling count only with rotary");
        return ATTEND_OK;
    }
    if (p->rotary_dim == 0) p->rotary_dim = p->head_dim;
    if (p->rotary_dim < 2 || p->rotary_dim % 2 || p->rotary_dim > p->head_dim ||
        p->rotary_dim > 2 * ATTEND_ROPE_PAIRS)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "rotary_dim is %" PRId64 ", expected an even number up to head_dim (%" PRId64
                           ") and %d",
                           p->rotary_dim, p->head_dim, 2 * ATTEND_ROPE_PAIRS);
    if (p->rotary_base == 0) p->rotary_base = 10000;
    if (!(p->rotary_base > 1) || !isfinite(p->rotary_base))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "rotary_base is %g, expected a finite number above 1",
                           p->rotary_base);
    if (scaling == ATTEND_ROTARY_UNSCALED) return ATTEND_OK;
    if (!(p->rotary_factor >= 1) || !isfinite(p->rotary_factor))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "rotary_factor is %g, expected a finite number from 1 up",
                           p->rotary_factor);
    bool ramps = scaling == ATTEND_ROTARY_YARN || scaling == ATTEND_ROTARY_LLAMA3;
    ATTEND_TRY(check_range("rotary_original_seqlen", p->rotary_original_seqlen, ramps ? 1 : 0));
    if (p->rotary_low == 0) p->rotary_low = 1;
    if (p->rotary_high == 0) p->rotary_high = scaling == ATTEND_ROTARY_YARN ? 32 : 4;
    if (!(p->rotary_low > 0) || !(p->rotary_high > p->rotary_low) || !isfinite(p->rotary_high))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "rotary_low (%g) and rotary_high (%g) must be finite, positive and ascending",
                           p->rotary_low, p->rotary_high);
    if (p->rotary_attention_factor == 0) p->rotary_attention_factor = 0.1 * log(p->rotary_factor) + 1;
    if (!(p->rotary_attention_factor > 0) || !isfinite(p->rotary_attention_factor))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "rotary_attention_factor is %g, expected a finite number above 0",
                           p->rotary_attention_factor);
    return ATTEND_OK;
}

static attend_status check_absolute(attend_problem *p, attend_operation operation)
{
    const bool sinusoids = attend_has_sinusoids(p), learned = p->absolute == ATTEND_ABSOLUTE_LEARNED;
    if ((unsigned)p->absolute > ATTEND_ABSOLUTE_LEARNED)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "absolute is %d, expected one of attend_absolute",
                           (int)p->absolute);
    if (!sinusoids && p->absolute_base != 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "absolute_base is %g, which counts only with sinusoidal positions",
                           p->absolute_base);
    if (!learned && p->max_positions)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "max_positions is %" PRId64 ", which counts only with learned positions",
                           p->max_positions);
    if (!p->absolute) return ATTEND_OK;
    if (operation != ATTEND_LAYER)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "absolute positions belong to layers, which add them to x; leave absolute 0 here");
    if (attend_problem_is_cross(p))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "absolute positions are for self-attention, but context_hidden_size is given");
    if (learned) return check_range("max_positions", p->max_positions, 1);
    if (p->absolute_base == 0) p->absolute_base = 10000;
    if (!(p->absolute_base > 1) || !isfinite(p->absolute_base))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "absolute_base is %g, expected a finite number above 1",
                           p->absolute_base);
    return ATTEND_OK;
}

static attend_status check_turns(attend_problem *p, attend_operation operation)
{
    ATTEND_TRY(check_rotary(p));
    if (p->first_position && !p->rotary && !p->absolute)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "first_position is %" PRId64 ", which counts only with rotary or absolute",
                           p->first_position);
    if (p->first_position < 0 || p->first_position > ATTEND_LAST_POSITION)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "first_position is %" PRId64 ", expected 0 to 2147483647",
                           p->first_position);
    if ((unsigned)p->qk_norm > ATTEND_QK_NORM_LAYER)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "qk_norm is %d, expected one of attend_qk_norm",
                           (int)p->qk_norm);
    if (!(p->qk_norm_epsilon >= 0) || !isfinite(p->qk_norm_epsilon))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "qk_norm_epsilon is %g, expected a finite number from 0 up",
                           (double)p->qk_norm_epsilon);
    if (p->qk_norm_epsilon == 0) p->qk_norm_epsilon = 1e-6f;
    if (operation == ATTEND_ROTATION && !attend_has_rope_or_norm(p))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "rotary and qk_norm are both none: there is nothing to apply");
    if (!attend_has_rope_or_norm(p)) return ATTEND_OK;
    if (operation == ATTEND_ATTENTION)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "rotary and qk_norm belong to layers, which project Q and K; leave them 0 here, "
                           "and use attend_rotary_apply() for your own");
    if (attend_problem_is_cross(p))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "rotary and qk_norm are for self-attention, but context_hidden_size is given");
    return ATTEND_OK;
}

/* Whether the product of the sizes, in 4-byte elements, fits in 63 bits. Sizes of 0 count as 1, since parts
   of the product are computed too. */
static bool fits(const int64_t *sizes, int count)
{
    int64_t product = 4;
    for (int i = 0; i < count; i++)
        if (!attend_multiply(product, sizes[i] ? sizes[i] : 1, &product)) return false;
    return true;
}

static attend_status check_products(const attend_problem *p)
{
    int64_t dim = p->head_dim > p->head_dim_v ? p->head_dim : p->head_dim_v;
    int64_t seqlen = p->seqlen_q > p->seqlen_k ? p->seqlen_q : p->seqlen_k;
    int64_t width = p->hidden_size > p->output_size ? p->hidden_size : p->output_size;
    if (p->context_hidden_size > width) width = p->context_hidden_size;
    int64_t total = p->total_q > p->total_k ? p->total_q : p->total_k;
    if (!fits((int64_t[]){p->batch, seqlen, p->num_heads, dim}, 4) ||
        !fits((int64_t[]){total, p->num_heads, dim}, 3))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "batch·seqlen·num_heads·head_dim has more bytes than 63 bits can count");
    if (!fits((int64_t[]){p->batch, seqlen, width}, 3) || !fits((int64_t[]){total, width}, 2) ||
        !fits((int64_t[]){width, p->num_heads, dim}, 3) || !fits((int64_t[]){p->max_positions, width}, 2))
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "the layer's tensors have more bytes than 63 bits can count");
    return ATTEND_OK;
}

attend_status attend_problem_resolve(const attend_problem *problem, size_t bytes, attend_operation operation,
                                     attend_problem *p)
{
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_problem), "problem", p, problem, bytes));
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
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "num_heads (%" PRId64 ") is not a multiple of num_kv_heads (%" PRId64 ")",
                           p->num_heads, p->num_kv_heads);
    if ((unsigned)p->dtype > ATTEND_BF16)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "dtype is %d, expected ATTEND_F32, ATTEND_F16 or ATTEND_BF16", (int)p->dtype);
    if ((unsigned)p->causal > ATTEND_CAUSAL_BOTTOM_RIGHT)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "causal is %d, expected one of attend_causal",
                           (int)p->causal);
    if (!isfinite(p->softmax_scale))
        return attend_fail(ATTEND_INVALID_ARGUMENT, "softmax_scale is %g, expected a finite number",
                           (double)p->softmax_scale);
    if (p->softmax_scale == 0) p->softmax_scale = (float)(1 / sqrt((double)p->head_dim));
    ATTEND_TRY(check_visibility(p));
    ATTEND_TRY(check_packed(p));
    ATTEND_TRY(check_score(p));
    ATTEND_TRY(check_layer_fields(p, operation));
    ATTEND_TRY(check_absolute(p, operation));
    ATTEND_TRY(check_turns(p, operation));
    return check_products(p);
}
