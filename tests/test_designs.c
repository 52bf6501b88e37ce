/* What the suites' cases promise, brief or not: every two things that cases are made of meet in one of them, and so does every triple of
   features. Told from the cases themselves, not from how they were found. */
#include "support/feature_cases.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* What no case can have at once; each is the beginning of a name. */
static const char *const strangers[][2] = {
    {"causal top-left", "alignment"}, {"padding", "packed"},         {"packed", "layout bhsd"},       {"packed", "layout padded"},
    {"packed", "layout packed"},      {"packed", "layout broadcast"}, {"padding", "layout broadcast"}, {"packed", "lengths yes"},
};

/* Things that some case has, "dtype f32" and the like, and which case has them; of one kind where they begin with the same word. */
enum { MOST_THINGS = 128, MOST_CASES = 2048 };
static char things[MOST_THINGS][40];
static int thing_count, case_count;
static bool has[MOST_CASES][MOST_THINGS];

static void note(int n, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(int n, const char *format, ...)
{
    char name[sizeof *things];
    va_list list;
    int i = 0;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    while (i < thing_count && strcmp(things[i], name)) i++;
    assert_true(i < MOST_THINGS && n < MOST_CASES);
    if (i == thing_count) strcpy(things[thing_count++], name);
    has[n][i] = true;
}

static void forget(void) { memset(has, 0, sizeof has), thing_count = 0; }

static bool begins(const char *name, const char *with) { return !strncmp(name, with, strlen(with)); }
static bool may_meet(int a, int b)
{
    const size_t word = strcspn(things[a], " ");
    if (word == strcspn(things[b], " ") && !strncmp(things[a], things[b], word)) return false;
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        for (int swapped = 0; swapped < 2; swapped++)
            if (begins(things[swapped ? b : a], strangers[i][0]) && begins(things[swapped ? a : b], strangers[i][1])) return false;
    return true;
}

static void expect_pairs(void)
{
    for (int a = 0; a < thing_count; a++)
        for (int b = a + 1; b < thing_count; b++) {
            int n = 0;
            while (n < case_count && !(has[n][a] && has[n][b])) n++;
            if (n == case_count && may_meet(a, b)) fail_msg("of %d cases none has %s and %s", case_count, things[a], things[b]);
        }
}

static void expect_triples(void)
{
    for (int a = 0; a < thing_count; a++)
        for (int b = a + 1; b < thing_count; b++)
            for (int c = b + 1; c < thing_count && may_meet(a, b); c++) {
                int n = 0;
                while (n < case_count && !(has[n][a] && has[n][b] && has[n][c])) n++;
                if (n == case_count && may_meet(a, c) && may_meet(b, c))
                    fail_msg("of %d cases none has %s, %s and %s", case_count, things[a], things[b], things[c]);
            }
}

static const char *const layouts[] = {"bshd", "bhsd", "padded", "packed", "broadcast"};

static void shapes_and_inputs_meet(void **state)
{
    (void)state;
    static const int64_t seqlens[] = {0, 1, 7, 64, 65, 127, 130}, dims[] = {1, 8, 33, 40, 64, 72, 80, 96, 128, 160, 192, 256}, batches[] = {0, 1, 3};
    static const int64_t heads[][2] = {{1, 1}, {2, 1}, {3, 3}, {6, 2}};
    static const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};
    test_factors factors = {seqlens, 7, dims, 12, heads, 4, batches, 3, dtypes, 3};
    test_case *cases = test_covering(&factors, &case_count);
    forget();
    for (int n = 0; n < case_count; n++) {
        const attend_problem *p = &cases[n].problem;
        note(n, "seqlen_q %" PRId64, p->seqlen_q), note(n, "seqlen_k %" PRId64, p->seqlen_k), note(n, "dim %" PRId64, p->head_dim);
        note(n, "heads %" PRId64 "/%" PRId64, p->num_heads, p->num_kv_heads), note(n, "batch %" PRId64, p->batch);
        note(n, "dtype %s", attend_dtype_name(p->dtype)), note(n, "causal %d", (int)p->causal), note(n, "values %s", attend_values_name(cases[n].values));
        note(n, "layout %s", layouts[cases[n].layout]), note(n, "lengths %d", cases[n].lengths), note(n, "sign %d", p->softmax_scale < 0);
    }
    free(cases);
    assert_int_equal(thing_count, 7 + 7 + 12 + 4 + 3 + 3 + 3 + ATTEND_VALUES_KINDS + LAYOUTS + 2 + 2);
    expect_pairs();
}

/* The settings that a case names, which must be in its problem; their features alone, or all of their names. */
static void note_settings(int n, const test_case *c, bool features_alone)
{
    for (const char *at = c->features; *at; at += strspn(at, " +")) {
        const char *const end = strstr(at, " + ");
        const size_t length = end ? (size_t)(end - at) : strlen(at);
        const test_setting *s;
        attend_problem with = c->problem;
        int i = 0;
        while ((s = test_feature_setting(i)) && (strlen(s->name) != length || strncmp(s->name, at, length))) i++;
        assert_non_null(s);
        test_setting_apply(s, &with);
        assert_memory_equal(&with, &c->problem, sizeof with);
        note(n, "%.*s", (int)(features_alone ? strcspn(s->name, " ") : length), s->name);
        at += length;
    }
}

static bool splits(const attend_problem *p) { return p->seqlen_k > 512 && p->seqlen_q * p->num_heads / p->num_kv_heads <= 64; }

static void check_features(bool brief)
{
    int settings = 0;
    test_case *cases = test_feature_cases(UINT64_MAX, brief, &case_count);
    while (test_feature_setting(settings)) settings++;
    forget();
    for (int n = 0; n < case_count; n++) {
        const attend_problem *p = &cases[n].problem;
        note_settings(n, &cases[n], false);
        note(n, "dtype %s", attend_dtype_name(p->dtype)), note(n, "values %s", attend_values_name(cases[n].values));
        note(n, "layout %s", layouts[cases[n].layout]), note(n, "lengths %s", cases[n].lengths ? "yes" : "no"), note(n, "split %d", splits(p));
    }
    assert_int_equal(thing_count, settings + 3 + ATTEND_VALUES_KINDS + LAYOUTS + 2 + 2);
    expect_pairs();
    forget();
    for (int n = 0; n < case_count; n++) {
        note_settings(n, &cases[n], true);
        note(n, "dtype %s", cases[n].problem.dtype == ATTEND_F32 ? "f32" : "16 bits");
        if (cases[n].lengths) note(n, "lengths yes");
        if (splits(&cases[n].problem)) note(n, "split");
    }
    expect_triples();
    free(cases);
}

static void features_meet(void **state) { (void)state, check_features(false); }
static void features_meet_in_brief(void **state) { (void)state, check_features(true); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes_and_inputs_meet), cmocka_unit_test(features_meet),
                                       cmocka_unit_test(features_meet_in_brief)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
