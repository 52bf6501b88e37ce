/* The kinds of input of docs/numerics.md, element by element from a counter-based generator. */
#include "tool/values.h"
#include "reference/reference.h"
#include "shared/splitmix.h"

#include <math.h>
#include <string.h>

static const char *const names[ATTEND_VALUES_KINDS] = {"gauss",   "sharp",    "constant", "offset",
                                                       "cancel",  "needle",   "ascend",   "descend",
                                                       "uniform", "negative", "exact"};

const char *attend_values_name(attend_values kind) { return kind < ATTEND_VALUES_KINDS ? names[kind] : NULL; }

bool attend_values_named(const char *name, attend_values *kind)
{
    for (int i = 0; i < ATTEND_VALUES_KINDS; i++)
        if (!strcmp(name, names[i])) {
            *kind = (attend_values)i;
            return true;
        }
    return false;
}

static double uniform(uint64_t bits) { return ((double)(bits >> 11) + 0.5) * 0x1p-53; }

/* Box-Muller. */
static double gauss(uint64_t seed, uint64_t index)
{
    uint64_t a = attend_mix(seed ^ attend_mix(index));
    return sqrt(-2 * log(uniform(a))) * cos(6.283185307179586 * uniform(attend_mix(a)));
}

/* The indices of an element, and its number in the tensor. */
typedef struct coordinates {
    int64_t b, i, h, c;
    uint64_t index;
} coordinates;

typedef struct filling {
    attend_values kind;
    uint64_t seed;
    const attend_problem *problem;
    double deviation; /* of plain values */
} filling;

static double scale_for(const attend_problem *p, double score)
{
    /* 0: the default, as in attend_problem */
    double scale = p->softmax_scale != 0 ? fabs(p->softmax_scale) : 1 / sqrt((double)p->head_dim);
    return score / (scale * (double)p->head_dim);
}

static double sign_of_scale(const attend_problem *p) { return p->softmax_scale < 0 ? -1 : 1; }

/* +1 or -1, the same for all keys of a head: a vector along which scores are built. */
static double direction(const filling *f, int64_t b, int64_t kv_head, int64_t c)
{
    return attend_mix(f->seed ^ attend_mix((uint64_t)(b * 1000003 + kv_head * 1009 + c))) & 1 ? 1 : -1;
}

static double key(const filling *f, const coordinates *at)
{
    const attend_problem *p = f->problem;
    uint64_t own = (uint64_t)at->index, pair = own;
    double line = direction(f, at->b, at->h, at->c);
    double where = p->seqlen_k > 1 ? (double)at->i / (double)(p->seqlen_k - 1) : 0;
    switch (f->kind) {
    case ATTEND_VALUES_CANCEL:
        if (at->i & 1) pair -= (uint64_t)(p->num_kv_heads * p->head_dim); /* the previous key */
        return gauss(f->seed + 1, pair);
    case ATTEND_VALUES_ASCEND: return line * where + 0.02 * gauss(f->seed + 1, own);
    case ATTEND_VALUES_DESCEND: return line * (1 - where) + 0.02 * gauss(f->seed + 1, own);
    case ATTEND_VALUES_NEGATIVE: return line * (1 + 0.02 * gauss(f->seed + 1, own));
    /* random signs: nearly orthogonal vectors of one length */
    case ATTEND_VALUES_NEEDLE: return attend_mix(f->seed + 1 + own) & 1 ? 1 : -1;
    default: return gauss(f->seed + 1, own);
    }
}

/* The key that gets nearly all the weight of a query: its own position, a neighbour, or a random one. */
static int64_t needle(const filling *f, const coordinates *at)
{
    const attend_problem *p = f->problem;
    uint64_t draw =
        attend_mix(f->seed + 77 + (uint64_t)((at->b * p->seqlen_q + at->i) * p->num_heads + at->h));
    int64_t shift = p->causal == ATTEND_CAUSAL_BOTTOM_RIGHT ? p->seqlen_k - p->seqlen_q : 0,
            edge = at->i + shift;
    int64_t j = draw % 4 == 0   ? edge
                : draw % 4 == 1 ? edge + 1
                : draw % 4 == 2 ? edge - 1
                                : (int64_t)(draw >> 8) % p->seqlen_k;
    return j < 0 ? 0 : j >= p->seqlen_k ? p->seqlen_k - 1 : j;
}

static double query(const filling *f, const coordinates *at)
{
    const attend_problem *p = f->problem;
    int64_t kv_head = at->h / (p->num_heads / p->num_kv_heads);
    double line = direction(f, at->b, kv_head, at->c) * sign_of_scale(p);
    switch (f->kind) {
    case ATTEND_VALUES_SHARP: return 4 * gauss(f->seed, at->index);
    case ATTEND_VALUES_UNIFORM: return 1e-3 * gauss(f->seed, at->index);
    case ATTEND_VALUES_ASCEND:
    case ATTEND_VALUES_DESCEND: return line * scale_for(p, 40);
    case ATTEND_VALUES_NEGATIVE: return -line * scale_for(p, 30);
    case ATTEND_VALUES_EXACT: return 0;
    case ATTEND_VALUES_NEEDLE: {
        if (p->seqlen_k == 0) return 0;
        coordinates target = {at->b, needle(f, at), kv_head, at->c, 0};
        target.index =
            (uint64_t)(((target.b * p->seqlen_k + target.i) * p->num_kv_heads + kv_head) * p->head_dim +
                       at->c);
        return key(f, &target) * scale_for(p, 20) * sign_of_scale(p);
    }
    default: return gauss(f->seed, at->index);
    }
}

static double value(const filling *f, const coordinates *at)
{
    const attend_problem *p = f->problem;
    double head = (double)at->h; /* heads differ by an integer, so that a wrong KV head changes the result */
    uint64_t pair = at->index;
    switch (f->kind) {
    case ATTEND_VALUES_CONSTANT: return 1 + head;
    case ATTEND_VALUES_OFFSET: return gauss(f->seed + 2, at->index) + 100 + head;
    case ATTEND_VALUES_CANCEL:
        if (at->i & 1) return -gauss(f->seed + 2, pair - (uint64_t)(p->num_kv_heads * p->head_dim_v));
        return gauss(f->seed + 2, pair);
    case ATTEND_VALUES_EXACT: return (double)(attend_mix(f->seed + 2 + at->index) % 17) - 8;
    default: return gauss(f->seed + 2, at->index) + head;
    }
}

static void fill_token(const filling *f, const attend_tensor *t, int64_t b, int64_t i,
                       double (*element)(const filling *, const coordinates *))
{
    const int64_t *shape = t->shape, *stride = t->stride;
    for (int64_t h = 0; h < shape[2]; h++)
        for (int64_t c = 0; c < shape[3]; c++) {
            const uint64_t index = (uint64_t)(((b * shape[1] + i) * shape[2] + h) * shape[3] + c);
            const coordinates at = {b, i, h, c, index};
            attend_store(t, b * stride[0] + i * stride[1] + h * stride[2] + c * stride[3], element(f, &at));
        }
}

static void fill(const filling *f, const attend_tensor *t,
                 double (*element)(const filling *, const coordinates *))
{
    const int64_t rows = t->shape[1], tokens = t->shape[0] * rows;
    if (tokens * t->shape[2] * t->shape[3] < 1 << 20) {
        for (int64_t n = 0; n < tokens; n++) fill_token(f, t, n / rows, n % rows, element);
        return;
    }
#pragma omp parallel for
    for (int64_t n = 0; n < tokens; n++) fill_token(f, t, n / rows, n % rows, element);
}

void attend_values_fill(attend_values kind, uint64_t seed, const attend_problem *problem,
                        const attend_tensor *q, const attend_tensor *k, const attend_tensor *v)
{
    const filling f = {kind, attend_mix(seed), problem, 1};
    fill(&f, q, query);
    fill(&f, k, key);
    fill(&f, v, value);
}

static double plain(const filling *f, const coordinates *at)
{
    return f->deviation * gauss(f->seed, at->index);
}

void attend_values_gauss(uint64_t seed, float deviation, const attend_tensor *tensor)
{
    attend_tensor t = *tensor; /* with four axes; missing leading ones have length 1 */
    int lead = ATTEND_MAX_RANK - tensor->rank;
    for (int axis = 0; axis < ATTEND_MAX_RANK; axis++) {
        t.shape[axis] = axis < lead ? 1 : tensor->shape[axis - lead];
        t.stride[axis] = axis < lead ? 0 : tensor->stride[axis - lead];
    }
    fill(&(filling){.seed = attend_mix(seed), .deviation = (double)deviation}, &t, plain);
}
