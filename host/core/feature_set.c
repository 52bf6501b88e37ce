/* Features as bits with names: selection, refusals, `attend info --kernels` and docs/features.md all read
   them here. */
#include "core/feature_set.h"
#include "core/struct.h"

#include <stdio.h>

static const char *const names[] = {
    "causal",        "sliding window",
    "chunks",        "prefix",
    "segments",      "mask",
    "block mask",    "packed sequences",
    "softcap",       "ALiBi",
    "relative bias", "bias",
    "head scales",   "sinks",
    "left padding",  "rotary",
    "QK-norm",       "absolute positions",
};
enum { FEATURES = sizeof names / sizeof *names };

const char *attend_feature_name(int bit) { return bit >= 0 && bit < FEATURES ? names[bit] : NULL; }

uint64_t attend_features_of(const attend_problem *p)
{
    const struct {
        bool on;
        attend_feature feature;
    } list[] = {
        {p->causal != ATTEND_CAUSAL_NONE, ATTEND_FEATURE_CAUSAL},
        {p->windowed, ATTEND_FEATURE_WINDOW},
        {p->chunk > 0, ATTEND_FEATURE_CHUNK},
        {p->prefix > 0, ATTEND_FEATURE_PREFIX},
        {p->segments, ATTEND_FEATURE_SEGMENTS},
        {p->mask_axes != 0, ATTEND_FEATURE_MASK},
        {p->block_q > 0 || p->block_k > 0, ATTEND_FEATURE_BLOCK_MASK},
        {p->packed, ATTEND_FEATURE_PACKED},
        {p->softcap > 0, ATTEND_FEATURE_SOFTCAP},
        {p->alibi != ATTEND_ALIBI_NONE, ATTEND_FEATURE_ALIBI},
        {p->relative_buckets > 0, ATTEND_FEATURE_RELATIVE_BIAS},
        {p->bias_axes != 0, ATTEND_FEATURE_BIAS},
        {p->head_scales, ATTEND_FEATURE_HEAD_SCALES},
        {p->sinks, ATTEND_FEATURE_SINKS},
        {p->left_padded, ATTEND_FEATURE_LEFT_PADDING},
        {p->rotary != ATTEND_ROTARY_NONE, ATTEND_FEATURE_ROTARY},
        {p->qk_norm != ATTEND_QK_NORM_NONE, ATTEND_FEATURE_QK_NORM},
        {p->absolute != ATTEND_ABSOLUTE_NONE, ATTEND_FEATURE_ABSOLUTE},
    };
    uint64_t features = 0;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].on) features |= (uint64_t)list[i].feature;
    return features;
}

uint64_t attend_problem_features_sized(const attend_problem *problem, size_t problem_bytes)
{
    attend_problem p = {0};
    return attend_struct_read(ATTEND_STRUCT(attend_problem), "problem", &p, problem, problem_bytes)
               ? 0
               : attend_features_of(&p);
}

void attend_features_text(uint64_t features, char *text, size_t bytes)
{
    size_t length = 0;
    text[0] = 0;
    for (int bit = 0; bit < FEATURES; bit++)
        if (features >> bit & 1 && length < bytes)
            length += (size_t)snprintf(text + length, bytes - length, "%s%s", length ? ", " : "", names[bit]);
}

attend_status attend_features_check(const attend_problem *problem, uint64_t supported, const char *who)
{
    char text[256];
    uint64_t lacking = attend_features_of(problem) & ~supported;
    if (!lacking) return ATTEND_OK;
    attend_features_text(lacking, text, sizeof text);
    return attend_fail(ATTEND_UNSUPPORTED, "%s does not support: %s", who, text);
}
