/* The progress callback: called from the calling thread, never back, to the end; asking to stop stops; and it changes no bit. */
#include "support/fixture.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct watch {
    pthread_t caller;
    int calls, stop_at; /* stop_at 0: never */
    int64_t done, total;
    bool elsewhere, backwards;
} watch;

static bool look(void *user, int64_t done, int64_t total)
{
    watch *w = user;
    w->elsewhere |= !pthread_equal(w->caller, pthread_self());
    w->backwards |= done < w->done || done > total || (w->total && total != w->total);
    w->done = done, w->total = total;
    return ++w->calls != w->stop_at;
}

static attend_context *watched(watch *w, int threads)
{
    attend_context *plain = test_context(), *context;
    attend_context_options options = {.device = attend_context_device(plain), .threads = threads, .progress = look, .progress_user = w};
    attend_context_destroy(plain);
    w->caller = pthread_self();
    if (attend_context_create(&options, &context)) fail_msg("%s", attend_error_message());
    return context;
}

static test_case some_case(int64_t seqlen_q, int64_t seqlen_k)
{
    return (test_case){.problem = {.batch = 2, .seqlen_q = seqlen_q, .seqlen_k = seqlen_k, .num_heads = 4, .num_kv_heads = 2, .head_dim = 32,
                                   .causal = ATTEND_CAUSAL_BOTTOM_RIGHT},
                       .seed = 3};
}

/* Few rows, whole rows, and keys split in spans. */
static const int64_t shapes[][2] = {{1, 1500}, {500, 500}, {20, 3000}};

static void it_tells_of_the_way_to_the_end_and_changes_no_bit(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        for (int threads = 1; threads <= 3; threads += 2) {
            test_case c = some_case(shapes[i][0], shapes[i][1]);
            test_fixture f;
            watch w = {0};
            test_fixture_make(&f, &c);
            attend_context *plain = test_context(), *context = watched(&w, threads);
            test_fixture_run(&f, plain);
            unsigned char *before = malloc(f.out.size);
            memcpy(before, f.out.bytes, f.out.size);
            memset(f.out.bytes, 0xff, f.out.size);
            test_fixture_run(&f, context);
            assert_memory_equal(before, f.out.bytes, f.out.size);
            assert_true(w.calls > 0 && w.total > 0);
            assert_int_equal(w.done, w.total);
            assert_false(w.elsewhere || w.backwards);
            free(before);
            test_fixture_free(&f);
            attend_context_destroy(plain), attend_context_destroy(context);
        }
}

static void it_can_stop_a_run(void **state)
{
    (void)state;
    test_case c = some_case(900, 900);
    test_fixture f;
    attend_plan *plan;
    watch w = {.stop_at = 1};
    test_fixture_make(&f, &c);
    attend_context *context = watched(&w, 1);
    assert_int_equal(attend_attention_plan(context, &c.problem, &plan), ATTEND_OK);
    attend_status status = attend_attention_forward(plan, &f.args);
    if (w.total > w.done) {
        assert_int_equal(status, ATTEND_CANCELLED);
        assert_string_equal(attend_status_name(status), "ATTEND_CANCELLED");
        assert_non_null(strstr(attend_error_message(), "the progress callback asked to stop after"));
        assert_int_equal(w.calls, 1);
    }
    w.stop_at = 0, w.done = w.calls = 0; /* the context and the plan go on as before */
    assert_int_equal(attend_attention_forward(plan, &f.args), ATTEND_OK);
    assert_int_equal(attend_synchronize(context), ATTEND_OK);
    test_fixture_check(&f);
    assert_int_equal(w.done, w.total);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    test_fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_tells_of_the_way_to_the_end_and_changes_no_bit),
        cmocka_unit_test(it_can_stop_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
