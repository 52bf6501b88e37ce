/* By a model, a run with all tensors on the host is nearly as fast as one with them on the device, at the goal's shape and budget: the plan's own steps
   in the pipeline's order, on one stream that copies in, one that computes and one that copies out. Nothing is run. */
#include "gpu/gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { TOKENS = 1 << 20, HEADS = 32, KV_HEADS = 8, DIM = 128, GROUP = HEADS / KV_HEADS };

/* Bytes a second. PCIe 5: 54 of 63 GB/s each way. NVLink-C2C: 375 in and 297 out, of 450. */
static const struct machine {
    const char *name;
    double in, out, memory;
} machines[] = {
    {"H100, PCIe 5", 54e9, 54e9, 3.35e12},
    {"H200, PCIe 5", 54e9, 54e9, 4.8e12},
    {"GH200 with H100, NVLink-C2C", 375e9, 297e9, 4.0e12},
    {"GH200 with H200, NVLink-C2C", 375e9, 297e9, 4.8e12},
};
enum { MACHINES = sizeof machines / sizeof *machines };

static const double flops_per_second = 650e12, launch_seconds = 3e-6;

/* Pairs of queries [q, q_end) and keys [k, k_end) that causality leaves: of each query the keys up to its own. */
static double pairs_of(const attend_kernel_box *b)
{
    const double first = (double)b->first_key, keys = (double)(b->end_key - b->first_key);
    double low = (double)b->first_query - first + 1, high = (double)b->end_query - first; /* keys of the first and the last query */
    if (high <= 0) return 0;
    double all = 0;
    if (low < 1) low = 1;
    if (high > keys) {
        const double from = low > keys ? low : keys + 1; /* see all keys of the part */
        all += (high - from + 1) * keys;
        high = from - 1;
    }
    return high >= low ? all + (high - low + 1) * (low + high) / 2 : all;
}

static double larger(double a, double b) { return a > b ? a : b; }

/* Seconds of the run; hidden: the states of some blocks of a launch move while others multiply. What each wait of pipeline.c waits for is here the time when that is there. */
static double run_seconds(const attend_plan *plan, const struct machine *m, bool hidden, double *flops)
{
    const attend_gpu_blocks *blocks = &((const attend_gpu_plan *)plan->state)->offload.blocks;
    const attend_lists longest = {0};
    attend_gpu_steps steps = {.problem = &plan->problem, .blocks = blocks, .lists = &longest, .whole = attend_whole_box(&plan->problem)};
    double in = 0, gpu = 0, out = 0, keys_free[2] = {0}, keys_there[2] = {0}, queries_free[2] = {0}, queries_there[2] = {0};
    const bool early = blocks->query_slots > 1;
    attend_gpu_step step = {0}, next;
    *flops = 0;
    for (bool more = attend_gpu_next_step(&steps), first = true; first || step.box.kv_heads; first = false) {
        next = more ? steps.at : (attend_gpu_step){0};
        const attend_kernel_box *box = &step.box;
        const double rows = (double)box->kv_heads * GROUP * (double)(box->end_query - box->first_query);
        if (!first) {
            const double work = 4.0 * DIM * GROUP * (double)box->kv_heads * pairs_of(box),
                         state = rows * (DIM + 2) * 4 * (!step.begins + !step.ends);
            if (step.begins) gpu = larger(gpu, queries_there[step.block % blocks->query_slots]);
            if (step.loads) gpu = larger(gpu, keys_there[step.load % blocks->key_slots]);
            const double multiply = work / flops_per_second, move = state / m->memory;
            gpu += launch_seconds + (hidden ? larger(multiply, move) : multiply + move);
            keys_free[step.load % blocks->key_slots] = gpu, *flops += work;
        }
        const bool begins = next.box.kv_heads && next.begins;
        const double next_rows = (double)next.box.kv_heads * GROUP * (double)(next.box.end_query - next.box.first_query),
                     keys = (double)next.box.kv_heads * (double)(next.box.end_key - next.box.first_key);
        if (next.box.kv_heads && next.loads) {
            in = larger(in, keys_free[next.load % blocks->key_slots]) + keys * 2 * DIM * 2 / m->in;
            keys_there[next.load % blocks->key_slots] = in;
        }
        for (int turn = 0; turn < 2; turn++) {
            if (begins && turn == !early) {
                in = larger(in, queries_free[next.block % blocks->query_slots]) + next_rows * DIM * 2 / m->in;
                queries_there[next.block % blocks->query_slots] = in;
            }
            if (turn == 0 && !first && step.ends) {
                out = larger(out, gpu) + rows * DIM * 2 / m->out;
                queries_free[step.block % blocks->query_slots] = out;
            }
        }
        step = next;
        if (more) more = attend_gpu_next_step(&steps);
    }
    return larger(gpu, out);
}

static void the_link_is_hidden(void **state)
{
    static const size_t limits[] = {64, 256, 1024};
    (void)state;
    attend_context *context;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) fail_msg("%s", attend_error_message());
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const attend_problem problem = {.batch = 1, .seqlen_q = TOKENS, .seqlen_k = TOKENS, .num_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim = DIM,
                                        .dtype = ATTEND_BF16, .causal = ATTEND_CAUSAL_TOP_LEFT};
        const attend_plan_options options = {.memory_limit_bytes = limits[i] << 20, .host_tensors = ATTEND_HOST_ALL};
        attend_plan *plan;
        if (attend_attention_plan_with(context, &problem, &options, &plan)) fail_msg("%s", attend_error_message());
        for (int m = 0; m < MACHINES; m++) {
            double flops;
            const double seconds = run_seconds(plan, &machines[m], true, &flops), bare = run_seconds(plan, &machines[m], false, &flops),
                         resident = flops / flops_per_second, share = resident / seconds;
            print_message("%-28s %5zu MiB  resident %.2f s; %.2f s, %.1f %%; with no state hidden %.2f s, %.1f %%\n", machines[m].name, limits[i],
                          resident, seconds, 100 * share, bare, 100 * resident / bare);
            assert_true(flops / (2.0 * DIM * HEADS * TOKENS) / (TOKENS + 1.0) > 0.999 && flops / (2.0 * DIM * HEADS * TOKENS) / (TOKENS + 1.0) < 1.001);
            if (limits[i] >= 256 && share < 0.95) fail_msg("the link is not hidden");
        }
        attend_plan_destroy(plan);
    }
    assert_int_equal(attend_context_destroy(context), ATTEND_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_link_is_hidden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
