/* attend's definitions held to what PyTorch and transformers compute with their own code (tests/peers/features.py made the file):
   rotary frequencies and rotations, T5's buckets, ALiBi's slopes, and attention as Llama, Gemma 2, gpt-oss, BLOOM, T5 and torch's SDPA
   have it. The peers' fp32 results must stay within rule 1 of attend's fp64 reference. */
#include "core/problem.h"
#include "reference/reference.h"
#include "shared/relative.h"
#include "shared/score.h"
#include "shared/rope.h"

#include <cjson/cJSON.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static cJSON *peers;

static int read_peers(void **state)
{
    (void)state;
    FILE *f = fopen(TEST_DATA "/features/transformers.json", "rb");
    if (!f) return -1;
    static char text[1 << 18];
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    peers = cJSON_Parse(text);
    return peers ? 0 : -1;
}

static int free_peers(void **state)
{
    (void)state;
    cJSON_Delete(peers);
    return 0;
}

static const cJSON *of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!item) fail_msg("the file lacks %s", name);
    return item;
}

static double number(const cJSON *object, const char *name) { return of(object, name)->valuedouble; }

static int numbers(const cJSON *array, float *to)
{
    int count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array) to[count++] = (float)item->valuedouble;
    return count;
}

static void expect_near(const char *what, int i, double actual, double expected, double tolerance)
{
    if (!(fabs(actual - expected) <= tolerance)) fail_msg("%s[%d] is %.9g, the peer's is %.9g", what, i, actual, expected);
}

static attend_problem layer_of(int64_t head_dim)
{
    return (attend_problem){.batch = 1, .seqlen_q = 5000, .num_heads = 1, .head_dim = head_dim, .hidden_size = 8, .rotary = ATTEND_ROTARY_HALVES};
}

/* The peers take powers in fp32: a few units in the last place. */
static void frequencies_are_theirs(void **state)
{
    (void)state;
    const cJSON *c;
    cJSON_ArrayForEach(c, of(peers, "rotary"))
    {
        const char *name = of(c, "name")->valuestring;
        attend_problem p = layer_of(128), r;
        p.rotary_base = 500000;
        if (!strcmp(name, "linear")) p.rotary_scaling = ATTEND_ROTARY_LINEAR, p.rotary_factor = 4;
        if (!strcmp(name, "dynamic")) p.rotary_scaling = ATTEND_ROTARY_NTK, p.rotary_factor = 2, p.rotary_original_seqlen = 2048;
        if (!strcmp(name, "yarn")) p.rotary_scaling = ATTEND_ROTARY_YARN, p.rotary_factor = 16, p.rotary_original_seqlen = 4096;
        if (!strcmp(name, "llama3")) p.rotary_scaling = ATTEND_ROTARY_LLAMA3, p.rotary_factor = 8, p.rotary_original_seqlen = 8192;
        if (attend_problem_resolve(&p, sizeof p, ATTEND_LAYER, &r)) fail_msg("%s", attend_error_message());
        const attend_rope t = attend_rope_of(&r);
        const attend_reference_rotation reference = attend_reference_rotation_of(&r, false);
        float theirs[128];
        assert_int_equal(numbers(of(c, "frequencies"), theirs), 64);
        for (int i = 0; i < 64; i++) {
            expect_near(name, i, t.turns[i] * 6.28318530717958647692, theirs[i], 4e-6 * theirs[i]);
            expect_near(name, i, reference.angles[i], theirs[i], 4e-6 * theirs[i]);
        }
        expect_near(name, -1, t.factor, number(c, "factor"), 1e-6);
        expect_near(name, -1, reference.factor, number(c, "factor"), 1e-6);
    }
}

static void rotations_are_theirs(void **state)
{
    (void)state;
    const cJSON *c = of(peers, "rotations");
    float q[24], positions[3], theirs[2][24];
    attend_tensor none = {0};
    numbers(of(c, "q"), q), numbers(of(c, "positions"), positions), numbers(of(c, "halves"), theirs[0]), numbers(of(c, "interleaved"), theirs[1]);
    for (int kind = 0; kind < 2; kind++) {
        attend_problem p = layer_of(8), r;
        p.rotary = ATTEND_ROTARY_HALVES + kind;
        if (attend_problem_resolve(&p, sizeof p, ATTEND_LAYER, &r)) fail_msg("%s", attend_error_message());
        const attend_reference_rotation t = attend_reference_rotation_of(&r, false);
        for (int i = 0; i < 3; i++) {
            double y[8];
            for (int d = 0; d < 8; d++) y[d] = q[8 * i + d];
            attend_reference_rope(&t, 8, &none, &none, (int64_t)positions[i], y, NULL);
            for (int d = 0; d < 8; d++) expect_near(kind ? "interleaved" : "halves", 8 * i + d, y[d], theirs[kind][8 * i + d], 2e-5);
        }
    }
}

static void buckets_are_theirs(void **state)
{
    (void)state;
    const cJSON *c;
    cJSON_ArrayForEach(c, of(peers, "buckets"))
    {
        const attend_problem p = {.relative_buckets = (int)number(c, "buckets"), .relative_max_distance = (int)number(c, "max_distance"),
                                  .relative_bidirectional = cJSON_IsTrue(of(c, "bidirectional"))};
        float theirs[601];
        assert_int_equal(numbers(of(c, "of"), theirs), 601);
        for (int i = 0; i < 601; i++) {
            expect_near("bucket", i - 300, attend_relative_bucket(&p, i - 300), theirs[i], 0);
            expect_near("the reference's bucket", i - 300, (double)attend_reference_bucket(&p, i - 300), theirs[i], 0);
        }
    }
}

static void slopes_are_theirs(void **state)
{
    (void)state;
    const cJSON *c;
    cJSON_ArrayForEach(c, of(peers, "slopes"))
    {
        float theirs[16];
        int heads = numbers(of(c, "slopes"), theirs);
        for (int h = 0; h < heads; h++) expect_near("slope", h, attend_alibi_slope(h, heads), theirs[h], 1e-6 * theirs[h]);
    }
}

/* What each case of attention asks for; extra: the field of features that the file's extra numbers fill. */
static void set_features(const char *name, attend_problem *p, attend_feature_args *a, float *extra, uint8_t *seen)
{
    int64_t n = p->seqlen_q, heads = p->num_heads;
    bool decoder = strcmp(name, "t5_encoder") && strncmp(name, "sdpa", 4);
    if (decoder) p->causal = ATTEND_CAUSAL_TOP_LEFT;
    if (!strcmp(name, "gemma2")) p->softmax_scale = 0.5f, p->softcap = 3, p->windowed = true, p->window_left = 3;
    if (!strcmp(name, "gpt_oss")) {
        p->windowed = true, p->window_left = 4, p->sinks = true;
        a->sinks = attend_tensor_1d(extra, ATTEND_F32, heads);
    }
    if (!strcmp(name, "bloom")) p->alibi = ATTEND_ALIBI_CAUSAL;
    if (!strncmp(name, "t5", 2)) {
        p->softmax_scale = 1, p->relative_buckets = 8, p->relative_max_distance = 20, p->relative_bidirectional = !decoder;
        a->relative_table = attend_tensor_2d(extra, ATTEND_F32, heads, 8);
    }
    if (!strcmp(name, "sdpa_mask")) {
        for (int64_t i = 0; i < heads * n * n; i++) seen[i] = extra[i] != 0;
        p->mask_axes = ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY;
        a->mask = attend_tensor_4d(seen, ATTEND_U8, 1, heads, n, n);
    }
    if (!strcmp(name, "sdpa_bias")) {
        p->bias_axes = ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY;
        a->bias = attend_tensor_4d(extra, ATTEND_F32, 1, heads, n, n);
    }
}

static void attention_is_theirs(void **state)
{
    (void)state;
    const cJSON *c, *shape = of(peers, "shape");
    int64_t heads = (int64_t)number(shape, "heads"), kv = (int64_t)number(shape, "kv_heads"), d = (int64_t)number(shape, "head_dim"),
            n = (int64_t)number(shape, "seqlen");
    int count = 0;
    cJSON_ArrayForEach(c, of(peers, "attention"))
    {
        static float q[1024], k[1024], v[1024], out[1024], extra[1024];
        static uint8_t seen[1024];
        const char *name = of(c, "name")->valuestring;
        attend_problem p = {.batch = 1, .seqlen_q = n, .seqlen_k = n, .num_heads = heads, .num_kv_heads = kv, .head_dim = d};
        assert_int_equal(numbers(of(c, "q"), q), heads * n * d);
        numbers(of(c, "k"), k), numbers(of(c, "v"), v), numbers(of(c, "out"), out);
        numbers(cJSON_GetObjectItemCaseSensitive(c, "extra"), extra);
        attend_feature_args features = {0};
        attend_attention_args args = {.q = attend_tensor_4d(q, ATTEND_F32, 1, n, heads, d), .k = attend_tensor_4d(k, ATTEND_F32, 1, n, kv, d),
                                      .v = attend_tensor_4d(v, ATTEND_F32, 1, n, kv, d), .out = attend_tensor_4d(out, ATTEND_F32, 1, n, heads, d),
                                      .features = &features};
        set_features(name, &p, &features, extra, seen);
        attend_comparison r;
        if (attend_compare(&p, &args, &(attend_compare_options){.threads = 1}, &r)) fail_msg("%s: %s", name, attend_error_message());
        print_message("%-10s rule 1 %.3f, rule 2 %.3f\n", name, r.bound_ratio, r.quality_ratio);
        if (!(r.bound_ratio <= 1)) fail_msg("%s: row %d, head %d: %.9g, the peer's is %.9g", name, (int)r.worst.row, (int)r.worst.head, r.worst.expected, r.worst.actual);
        count++;
    }
    assert_int_equal(count, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_are_theirs), cmocka_unit_test(rotations_are_theirs), cmocka_unit_test(buckets_are_theirs),
        cmocka_unit_test(slopes_are_theirs),      cmocka_unit_test(attention_is_theirs),
    };
    return cmocka_run_group_tests(tests, read_peers, free_peers);
}
