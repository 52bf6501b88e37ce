/* Runs on any streams: those that share memory are ordered, and the host waits for all of them. Each result has the bits of a run
   that was alone on the device. */
#include "attend/work.h"
#include "core/backend.h"
#include "gpu/gpu.h"

#include <pthread.h>

static void runs_that_share_follow_each_other(void **state)
{
    (void)state;
    for (int c = 0; c < WORK_CASES; c++) {
        work w = work_start(&work_cases[c], false);
        char *wanted = work_expected(&w);
        for (int round = 0; round < 4; round++) {
            for (int r = 0; r < RUNS; r++) {
                if (round == 1) OK(attend_context_set_stream(w.context, w.streams[r % STREAMS]));
                /* the last run of the third round is on the context's first stream, which is no longer its stream */
                const int which = (r + round + 1) % 3;
                if (round >= 2) w.how[r].stream = which == 0 ? w.own : which == 1 ? cudaStreamLegacy : w.streams[0];
                OK(work_run(&w, r, w.plans[r % PLANS], round == 1 ? NULL : &w.how[r]));
            }
            /* attend_synchronize() waits for streams one by one, cudaDeviceSynchronize() for all in any
               order. */
            if (round % 2 == 0) CUDA(cudaDeviceSynchronize());
            OK(attend_synchronize(w.context));
            work_expect_idle(&w);
            work_expect_equal(&w, wanted);
        }
        free(wanted);
        work_end(&w);
    }
}

/* What planning and making the context enqueue is done, or waited for, also by a stream that they do not know. */
static void the_first_run_may_be_on_any_stream(void **state)
{
    (void)state;
    for (int c = 0; c < WORK_CASES; c++) {
        work w = work_start(&work_cases[c], false);
        char *wanted = work_expected(&w);
        for (int i = 0; i < PLANS; i++) attend_plan_destroy(w.plans[i]);
        OK(attend_context_destroy(w.context));
        OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &w.context));
        for (int i = 0; i < PLANS; i++) OK(work_plan(&w, false, &w.plans[i]));
        for (int r = 0; r < RUNS; r++) OK(work_run(&w, r, w.plans[r % PLANS], &w.how[r]));
        for (int s = 0; s < STREAMS; s++) CUDA(cudaStreamSynchronize(w.streams[s]));
        work_expect_equal(&w, wanted);
        free(wanted);
        work_end(&w);
    }
}

typedef struct elsewhere {
    work *w;
    int r;
    attend_status status;
} elsewhere;

static void *run_elsewhere(void *job)
{
    elsewhere *e = job;
    e->status = work_run(e->w, e->r, e->w->plans[0], &e->w->how[e->r]);
    return NULL;
}

/* cudaStreamPerThread is one handle for a stream of each thread; CUDA also reuses handles of destroyed
   streams. */
static void streams_may_share_a_handle(void **state)
{
    (void)state;
    for (int c = 0; c < WORK_CASES; c++) {
        work w = work_start(&work_cases[c], false);
        char *wanted = work_expected(&w);
        for (int r = 0; r < RUNS; r++) {
            elsewhere e = {&w, r, ATTEND_OK};
            pthread_t thread;
            w.how[r].stream = cudaStreamPerThread;
            assert_int_equal(pthread_create(&thread, NULL, run_elsewhere, &e), 0);
            assert_int_equal(pthread_join(thread, NULL), 0);
            OK(e.status);
        }
        CUDA(cudaDeviceSynchronize());
        OK(attend_synchronize(w.context));
        work_expect_equal(&w, wanted);
        free(wanted);
        work_end(&w);
    }
}

/* Lists have been copied to the workspace before x is refused. */
static void runs_that_fail_are_waited_for(void **state)
{
    (void)state;
    work_case c = work_cases[LAYER];
    c.lists = true;
    work w = work_start(&c, true);
    float *const on_device = w.in[0];
    w.in[0] = w.host;
    assert_int_equal(work_run(&w, 0, w.plans[0], &w.how[0]), ATTEND_INVALID_ARGUMENT);
    w.in[0] = on_device;
    assert_int_equal(cudaStreamQuery(w.streams[0]), cudaErrorNotReady);
    OK(attend_synchronize(w.context));
    work_expect_idle(&w);
    work_end(&w);
}

static bool reached;
static void CUDART_CB reach(void *unused) { (void)unused, reached = true; }

/* A wait for the second stream alone includes the first stream's work before the run that the second run must
   follow. */
static void runs_that_share_wait_for_what_is_before_the_other(void **state)
{
    (void)state;
    for (int c = SPLIT_KEYS; c <= LAYER; c += LAYER - SPLIT_KEYS) {
        work w = work_start(&work_cases[c], false);
        char *wanted = work_expected(&w);
        reached = false;
        CUDA(cudaLaunchHostFunc(w.streams[0], reach, NULL));
        for (int r = 0; r < 2; r++) OK(work_run(&w, r, w.plans[c == LAYER ? r : 0], &w.how[r]));
        CUDA(cudaStreamSynchronize(w.streams[1]));
        if (!reached) fail_msg("%s: the second run overtook the first", w.c->name);
        for (int r = 2; r < RUNS; r++) OK(work_run(&w, r, w.plans[0], &w.how[r]));
        OK(attend_synchronize(w.context));
        work_expect_equal(&w, wanted);
        free(wanted);
        work_end(&w);
    }
}

static int streams_kept(const attend_context *context)
{
    int count = 0;
    for (const attend_gpu_stream *s = ((const attend_gpu_context *)context->state)->own.next; s; s = s->next) count++;
    return count;
}

static void synchronized_run(work *w, int r, attend_plan *plan, cudaStream_t stream)
{
    OK(work_run(w, r, plan, &(attend_run){.stream = stream}));
    CUDA(cudaStreamSynchronize(stream));
}

/* A server may use a new stream for each request: the context keeps those in flight, and a few more. */
static void streams_whose_work_is_done_are_forgotten(void **state)
{
    (void)state;
    enum { REQUESTS = ATTEND_GPU_STREAMS + 8 };
    work w = work_start(&work_cases[SPLIT_KEYS], false);
    char *wanted = work_expected(&w);
    cudaStream_t requests[REQUESTS];
    for (int i = 0; i < REQUESTS; i++) CUDA(cudaStreamCreateWithFlags(&requests[i], cudaStreamNonBlocking));
    synchronized_run(&w, 0, w.plans[0], w.streams[0]);
    for (int i = 0; i < REQUESTS - 1; i++) synchronized_run(&w, i % RUNS, w.plans[i % PLANS], requests[i]);
    if (streams_kept(w.context) > ATTEND_GPU_STREAMS)
        fail_msg("%d streams are kept behind %d requests", streams_kept(w.context), REQUESTS);
    synchronized_run(&w, 0, w.plans[0], requests[0]);
    work_expect_equal(&w, wanted);
    synchronized_run(&w, 0, w.plans[0], requests[REQUESTS - 2]); /* whose entry is the next to be reused */
    /* The first plan's last stream is done, and its entry is reused for a stream that is held: no run of this
       plan may wait for that. */
    work_hold(requests[REQUESTS - 1]);
    OK(work_run(&w, 1, w.plans[1], &(attend_run){.stream = requests[REQUESTS - 1]}));
    synchronized_run(&w, 2, w.plans[0], w.streams[0]);
    work_release();
    for (int r = 0; r < RUNS; r++)
        if (r != 1) OK(work_run(&w, r, w.plans[0], &w.how[r]));
    OK(attend_synchronize(w.context));
    work_expect_equal(&w, wanted);
    for (int i = 0; i < REQUESTS; i++) CUDA(cudaStreamDestroy(requests[i]));
    free(wanted);
    work_end(&w);
}

/* As in CUDA: enqueued work is still executed, and still waited for. */
static void streams_may_be_destroyed_behind_a_run(void **state)
{
    (void)state;
    for (int callers = 0; callers < 2; callers++) {
        work w = work_start(&work_cases[LAYER], callers);
        char *wanted = work_expected(&w);
        for (int r = 0; r < RUNS; r++) {
            cudaStream_t short_lived;
            CUDA(cudaStreamCreateWithFlags(&short_lived, cudaStreamNonBlocking));
            w.how[r].stream = short_lived;
            OK(work_run(&w, r, w.plans[0], &w.how[r]));
            CUDA(cudaStreamDestroy(short_lived));
        }
        OK(attend_synchronize(w.context));
        work_expect_equal(&w, wanted);
        free(wanted);
        work_end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_that_share_follow_each_other),
        cmocka_unit_test(the_first_run_may_be_on_any_stream),
        cmocka_unit_test(streams_may_share_a_handle),
        cmocka_unit_test(runs_that_fail_are_waited_for),
        cmocka_unit_test(runs_that_share_wait_for_what_is_before_the_other),
        cmocka_unit_test(streams_whose_work_is_done_are_forgotten),
        cmocka_unit_test(streams_may_be_destroyed_behind_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
