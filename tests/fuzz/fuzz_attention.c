/* Random problems with every feature in any combination, on the device under test, held against the fp64 reference: both rules,
   the LSE's bound, nothing written outside, and the same bits from a second plan that runs its work otherwise.

       fuzz_attention [COUNT [FIRST_SEED]]

   A problem depends on its seed alone: a failure is repeated by `fuzz_attention 1 SEED`. Exit status 1 where one failed. */
#include "support/feature_cases.h"
#include "core/problem.h"
#include "support/fixture.h"
#include "support/plans.h"
#include "shared/splitmix.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- drawing a problem ---- */

static uint64_t state;
static uint64_t bits(void) { return attend_draw(&state); }

static int64_t below(int64_t n) { return (int64_t)(bits() % (uint64_t)n); }
static bool one_in(int64_t n) { return below(n) == 0; }
/* From low to high, small ones as often as large ones by ratio. */
static int64_t by_ratio(int64_t low, int64_t high)
{
    double u = (double)(bits() >> 11) * 0x1p-53;
    return low + (int64_t)(exp(u * log((double)(high - low + 2))) - 1);
}

static float draw_scale(void)
{
    static const float scales[] = {1e-30f, 0.01f, 0.3f, 1, 8, 1e6f, 1e12f, 1e30f}; /* of the last two scores are huge */
    float scale = one_in(2) ? 0 : scales[below(sizeof scales / sizeof *scales)];
    return one_in(3) ? -(scale ? scale : 0.125f) : scale;
}

/* Of each feature at most one setting; `often`: one feature in so many is on. */
static void draw_features(test_case *c, int64_t often)
{
    size_t used = 0;
    for (int i = 0, next; test_feature_setting(i); i = next) {
        const size_t word = strcspn(test_feature_setting(i)->name, " ");
        for (next = i + 1; test_feature_setting(next); next++)
            if (strncmp(test_feature_setting(next)->name, test_feature_setting(i)->name, word)) break;
        if (!one_in(often)) continue;
        const test_setting *setting = test_feature_setting(i + (int)below(next - i));
        test_setting_apply(setting, &c->problem);
        if (used + strlen(setting->name) + 4 > sizeof c->features) continue; /* the text alone is cut */
        used += (size_t)sprintf(c->features + used, "%s%s", used ? " + " : "", setting->name);
    }
}

static test_case draw(uint64_t seed)
{
    static const int64_t longest[] = {8, 40, 70, 140, 300};
    state = seed * 0x632be59bd9b4e019u;
    const int64_t kv_heads = 1 + below(3), most = longest[below(5)], dim = one_in(4) ? 8 * by_ratio(1, 32) : by_ratio(1, 256);
    test_case c = {
        .problem = {.batch = one_in(40) ? 0 : 1 + by_ratio(0, 3), .seqlen_q = one_in(4) ? by_ratio(1, 8) : by_ratio(0, most),
                    .seqlen_k = by_ratio(0, most), .num_heads = kv_heads * by_ratio(1, 6), .num_kv_heads = kv_heads,
                    .head_dim = dim, .head_dim_v = one_in(3) ? by_ratio(1, 256) : 0, .dtype = (attend_dtype)below(3),
                    .softmax_scale = draw_scale()},
        .values = (attend_values)below(ATTEND_VALUES_KINDS),
        .layout = (test_layout)below(LAYOUTS),
        .lengths = one_in(3),
        .seed = seed,
    };
    if (one_in(3)) c.problem.seqlen_k = c.problem.seqlen_q;
    if (fabsf(c.problem.softmax_scale) == 1e-30f) c.values = ATTEND_VALUES_GAUSS; /* other kinds divide by the scale */
    draw_features(&c, 2 + below(12));
    if (c.problem.packed || c.problem.left_padded) c.layout = (test_layout)below(LAYOUT_BROADCAST);
    if (c.problem.packed) c.lengths = false;
    return c;
}

/* ---- running one ---- */

typedef struct tally {
    int64_t ran, refused, failed;
    double bound, lse, quality;
} tally;

static attend_status run(const test_fixture *f, attend_context *context)
{
    attend_plan *plan;
    attend_status status = test_attention_plan(context, &f->c.problem, &plan);
    if (status) return status;
    status = attend_attention_forward(plan, &f->args);
    if (!status) status = attend_synchronize(context);
    attend_plan_destroy(plan);
    return status;
}

static bool same_bits(test_fixture *f, attend_context *other)
{
    unsigned char *out = malloc(f->out.size), *lse = malloc(f->lse.size);
    memcpy(out, f->out.bytes, f->out.size), memcpy(lse, f->lse.bytes, f->lse.size);
    memset(f->out.bytes, 0xff, f->out.size), memset(f->lse.bytes, 0xff, f->lse.size);
    bool same = !run(f, other) && !memcmp(out, f->out.bytes, f->out.size) && !memcmp(lse, f->lse.bytes, f->lse.size);
    free(out), free(lse);
    return same;
}

/* Rule 2 has no term for what two kinds of problems make of a kernel's base 2 (docs/numerics.md, "What rule 2 leaves out"), nor for
   huge scores: rule 1 asks of them that they give numbers. */
static bool is_held_to_rule_2(const test_case *c, const attend_context *context)
{
    const attend_problem *p = &c->problem;
    const float scale = fabsf(p->softmax_scale);
    const bool terms = p->alibi || p->relative_buckets > 0 || p->bias_axes; /* of which a head's scale of 0 leaves nothing else too */
    if (scale > 1e6f) return false;
    if (p->dtype == ATTEND_F32) return !terms || (scale != 1e-30f && c->values != ATTEND_VALUES_EXACT && !p->head_scales);
    return scale != 1e6f || attend_context_device(context) == ATTEND_CPU;
}

static void fuzz_one(uint64_t seed, attend_context *const contexts[2], uint64_t supported, tally *t)
{
    char text[TEST_CASE_TEXT], sentence[TEST_SENTENCE] = "";
    test_case c = draw(seed);
    attend_problem resolved;
    if (attend_problem_features(&c.problem) & ~supported) return;
    attend_problem announced = c.problem; /* packed totals are drawn with the lists */
    if (announced.packed) announced.total_q = announced.total_k = 1;
    if (attend_problem_resolve(&announced, sizeof announced, ATTEND_ATTENTION, &resolved)) {
        t->refused++;
        return;
    }
    test_fixture f;
    attend_comparison r = {0};
    test_fixture_make(&f, &c);
    const bool rule_2 = is_held_to_rule_2(&c, contexts[0]);
    attend_status status = run(&f, contexts[0]);
    t->ran++;
    if (status) {
        snprintf(sentence, sizeof sentence, "%s: %s", attend_status_name(status), attend_error_message());
    } else if (test_fixture_judge(&f, rule_2, &r, sentence)) {
        t->bound = fmax(t->bound, r.bound_ratio), t->lse = fmax(t->lse, r.lse_bound_ratio);
        if (rule_2) t->quality = fmax(t->quality, r.quality_ratio);
        if (!same_bits(&f, contexts[1])) strcpy(sentence, "another run gave other bits");
    }
    if (*sentence) {
        t->failed++;
        printf("seed %" PRIu64 ": %s: %s\n", seed, test_case_text(&c, text), sentence);
    }
    test_fixture_free(&f);
}

static attend_context *open_context(int threads)
{
    const char *name = getenv("ATTEND_TEST_DEVICE");
    attend_context *context;
    attend_context_options options = {.device = name && !strcmp(name, "cuda") ? ATTEND_CUDA : ATTEND_CPU, .threads = threads};
    if (attend_context_create(&options, &context)) fprintf(stderr, "%s\n", attend_error_message()), exit(2);
    return context;
}

int main(int argc, char **argv)
{
    const uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000, first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    attend_context *contexts[] = {open_context(1), open_context(3)};
    const uint64_t supported = test_supported(contexts[0]);
    tally t = {0};
    for (uint64_t i = 0; i < count; i++) fuzz_one(first + i, contexts, supported, &t);
    printf("%s: %" PRId64 " problems ran, %" PRId64 " were refused, %" PRId64 " failed; worst rule-1 ratio %.3f (lse %.3f), rule-2 %.3f\n",
           attend_context_device_name(contexts[0]), t.ran, t.refused, t.failed, t.bound, t.lse, t.quality);
    for (int i = 0; i < 2; i++) attend_context_destroy(contexts[i]);
    return t.failed > 0 || t.ran == 0;
}
