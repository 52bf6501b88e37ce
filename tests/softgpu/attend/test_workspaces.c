/* Runs with workspaces of the caller's: they wait for no other, and may be captured; a workspace that does not do is refused. */
#include "attend/work.h"

static void runs_with_workspaces_of_their_own_may_be_in_flight(void **state)
{
    (void)state;
    for (int c = 0; c < WORK_CASES; c++) {
        if (work_cases[c].on_host) continue;
        work w = work_start(&work_cases[c], true);
        char *wanted = work_expected(&w);
        for (int round = 0; round < 2; round++) {
            for (int r = 0; r < RUNS; r++) OK(work_run(&w, r, w.plans[0], &w.how[r]));
            if (round > 0) CUDA(cudaDeviceSynchronize());
            OK(attend_synchronize(w.context));
            work_expect_idle(&w);
            work_expect_equal(&w, wanted);
        }
        for (int r = 0; r < RUNS; r++) OK(work_run(&w, r, w.plans[0], &w.how[r]));
        attend_plan_destroy(w.plans[0]); /* waits too, although such an attention plan has no memory to free */
        w.plans[0] = NULL;
        work_expect_idle(&w);
        work_expect_equal(&w, wanted);
        free(wanted);
        work_end(&w);
    }
}

/* A run with its own workspace waits for no other; one that shares its workspace does. */
static void a_held_stream_holds_nobody_else(void **state)
{
    (void)state;
    for (int c = SPLIT_KEYS; c <= LAYER; c += LAYER - SPLIT_KEYS) {
        work w = work_start(&work_cases[c], true);
        char *wanted = work_expected(&w);
        work_hold(w.streams[0]);
        for (int r = 0; r < RUNS; r++) OK(work_run(&w, r, w.plans[r % PLANS], &w.how[r]));
        CUDA(cudaStreamSynchronize(w.streams[1]));
        CUDA(cudaStreamSynchronize(w.streams[2]));
        work_release();
        OK(attend_synchronize(w.context));
        work_expect_equal(&w, wanted);
        free(wanted);
        work_end(&w);
    }
}

/* Captured runs wait for nothing outside the graph, which CUDA would refuse; cuBLAS has a workspace, so the
   graph allocates nothing. */
static void runs_are_captured_while_others_are_in_flight(void **state)
{
    (void)state;
    for (int c = 0; c < WORK_CASES; c++) {
        for (int callers = 0; callers < 2; callers++) {
            if (work_cases[c].on_host) continue;
            work w = work_start(&work_cases[c], callers);
            char *wanted = work_expected(&w);
            cudaGraph_t graph;
            cudaGraphExec_t instance;
            cudaGraphNode_t nodes[64];
            size_t count = 64;
            OK(work_run(&w, 0, w.plans[0], &w.how[0]));
            CUDA(cudaStreamBeginCapture(w.streams[1], cudaStreamCaptureModeThreadLocal));
            OK(work_run(&w, 1, w.plans[0], &w.how[1]));
            CUDA(cudaStreamEndCapture(w.streams[1], &graph));
            CUDA(cudaGraphGetNodes(graph, nodes, &count));
            assert_in_range(count, 1, 64);
            for (size_t n = 0; n < count; n++) {
                enum cudaGraphNodeType type;
                CUDA(cudaGraphNodeGetType(nodes[n], &type));
                if (type == cudaGraphNodeTypeMemAlloc)
                    fail_msg("%s: the graph allocates memory", work_cases[c].name);
            }
            OK(attend_synchronize(w.context)); /* the caller must order launches */
            CUDA(cudaGraphInstantiate(&instance, graph, 0));
            CUDA(cudaGraphLaunch(instance, w.streams[1]));
            CUDA(cudaStreamSynchronize(w.streams[1]));
            for (int r = 2; r < RUNS; r++) OK(work_run(&w, r, w.plans[0], &w.how[r]));
            OK(attend_synchronize(w.context));
            work_expect_equal(&w, wanted);
            CUDA(cudaGraphExecDestroy(instance));
            CUDA(cudaGraphDestroy(graph));
            free(wanted);
            work_end(&w);
        }
    }
}

static void workspaces_are_checked(void **state)
{
    (void)state;
    work w = work_start(&work_cases[LAYER], true);
    static _Alignas(256) char here[512];
    char sentence[160];
    const size_t needed = w.how[0].workspace_bytes;
    const attend_run wrong[] = {{.workspace = w.how[0].workspace, .workspace_bytes = needed - 1},
                                {.workspace_bytes = needed},
                                {.workspace = (char *)w.how[0].workspace + 16, .workspace_bytes = needed},
                                {.workspace = here, .workspace_bytes = needed}};
    const char *const sentences[] = {NULL, "workspace is NULL", "workspace is not at a multiple of 256 bytes",
                                     "workspace lies on the host"};
    snprintf(sentence, sizeof sentence,
             "workspace_bytes is %zu, but the plan was made with caller_workspace and a run needs %zu",
             needed - 1, needed);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(work_run(&w, 0, w.plans[0], &wrong[i]), ATTEND_INVALID_ARGUMENT);
        if (!strstr(attend_error_message(), sentences[i] ? sentences[i] : sentence))
            fail_msg("\"%s\"", attend_error_message());
    }
    float *const on_device = w.in[0];
    w.in[0] = w.host;
    assert_int_equal(work_run(&w, 0, w.plans[0], &w.how[0]), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(attend_error_message(),
                        "x lies on the host, but the plan was made with caller_workspace");
    w.in[0] = on_device;
    work_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_with_workspaces_of_their_own_may_be_in_flight),
        cmocka_unit_test(a_held_stream_holds_nobody_else),
        cmocka_unit_test(runs_are_captured_while_others_are_in_flight),
        cmocka_unit_test(workspaces_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
