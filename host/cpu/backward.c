/* Gradients on the CPU: what tasks share, and in which order they start. Tasks of a run are dealt out one
   after the other, KV head by KV head and block by block of keys; each waits only for ones before it, so that
   some thread always goes on. Who computes a block, and when, changes no bit. */
#include "cpu/backward.h"
#include "core/arguments.h"
#include "cpu/cpu.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

void attend_cpu_backward_wait(const attend_cpu_passed *before, int64_t tiles)
{
    enum { LOOKS = 256 }; /* before the processor goes to others */
    for (int looks = 0; before && atomic_load_explicit(before, memory_order_acquire) < tiles; looks++) {
        if (looks >= LOOKS) {
            sched_yield();
            continue;
        }
#if defined __x86_64__
        __builtin_ia32_pause();
#elif defined __aarch64__
        __asm__ volatile("yield");
#endif
    }
}

/* ---- memory, reserved with the plan ---- */

/* Tiles of one KV head of all batch entries side by side: those of an entry begin where this says. */
static int64_t tiles_before(const attend_problem *p, int64_t entry, int64_t first_q)
{
    const int64_t group = p->num_heads / p->num_kv_heads;
    return p->packed ? group * first_q / ATTEND_CPU_BACKWARD_ROWS + entry
                     : entry * attend_cpu_backward_tiles(group * p->seqlen_q);
}

static int64_t blocks_of(const attend_problem *p) { return attend_cpu_backward_blocks(p->seqlen_k); }
static int64_t heads_of(const attend_problem *p) { return p->batch * p->num_kv_heads; }
static int64_t group_of(const attend_problem *p) { return p->num_heads / p->num_kv_heads; }

bool attend_cpu_backward_reserve(attend_cpu_plan *cpu, size_t *bytes)
{
    const attend_problem *p = cpu->problem;
    const attend_cpu_backward_kernel *kernel = cpu->context->kernel->backward;
    const int64_t tiles = p->num_kv_heads * tiles_before(p, p->batch, p->total_q),
                  blocks = heads_of(p) * blocks_of(p), scratch = kernel->scratch_floats(p);
    attend_cpu_backward_memory *m = &cpu->backward;
    m->scratch_floats = scratch;
    m->tiles = attend_cpu_allocate(tiles, (size_t)kernel->tile_floats(p) * sizeof(float), bytes);
    m->scratch = attend_cpu_allocate(cpu->context->threads, (size_t)scratch * sizeof(float), bytes);
    m->passed = attend_cpu_allocate(blocks, sizeof *m->passed, bytes);
    m->sums = attend_cpu_allocate(blocks * group_of(p), (size_t)attend_cpu_backward_sums(p) * sizeof(double),
                                  bytes);
    m->head_sums = attend_cpu_allocate(p->batch * p->num_heads, 2 * sizeof(double), bytes);
    return m->tiles && m->scratch && m->passed && m->sums && m->head_sums;
}

void attend_cpu_backward_free(attend_cpu_plan *cpu)
{
    attend_cpu_backward_memory *m = &cpu->backward;
    free(m->tiles), free(m->scratch), free(m->passed), free(m->sums), free(m->head_sums);
}

/* ---- tasks ---- */

typedef struct backward_run {
    attend_cpu_plan *plan;
    const attend_attention_args *args;
    const attend_gradients *gradients;
    attend_key_part all;
    bool takes_out, shares_bias,
        begins_bias; /* Σ dout·out is taken; several heads or entries add to one bias */
} backward_run;

static attend_cpu_rows rows_of(const attend_tensor *t, int64_t b, int64_t first, int64_t head, bool has_group)
{
    if (!t->data) return (attend_cpu_rows){0};
    const int64_t at = b * t->stride[0] + first * t->stride[1] + head * t->stride[2];
    return (attend_cpu_rows){(char *)t->data + at * (int64_t)attend_dtype_bytes(t->dtype), t->stride[1],
                             has_group ? t->stride[2] : 0};
}

static float *of_head(const attend_tensor *t, const attend_sequence *s, int64_t head)
{
    return t->data
               ? (float *)t->data + s->batch * t->stride[0] + head * t->stride[1] + s->first_q * t->stride[2]
               : NULL;
}

/* What all tasks of KV head `index`, batch entry by batch entry, have. */
static attend_cpu_backward_task task_of(const backward_run *r, int64_t index)
{
    const attend_cpu_plan *plan = r->plan;
    const attend_problem *p = plan->problem;
    const attend_attention_args *a = r->args;
    const attend_gradients *g = r->gradients;
    const int64_t b = index / p->num_kv_heads, kv_head = index % p->num_kv_heads, group = group_of(p),
                  head = kv_head * group;
    const attend_head *heads = plan->per_head + b * p->num_heads + head;
    const attend_sequence s = heads->sequence;
    const attend_tensor *out = g->out_f32.data ? &g->out_f32 : &a->out;
    attend_cpu_backward_task t = {
        .head = {.problem = p,
                 .blocking = plan->blocking,
                 .elements = attend_is_elementwise(p) ? &plan->elements[index] : NULL,
                 .group = group,
                 .heads = heads,
                 .sequence = s,
                 .part = &r->all,
                 .rows = group * s.seqlen_q,
                 .q = rows_of(&a->q, s.batch, s.first_q, head, true),
                 .lse = of_head(&a->lse, &s, head),
                 .lse_stride = a->lse.stride[2],
                 .lse_head_stride = a->lse.stride[1]},
        .gradients = g,
        .k = rows_of(&a->k, s.batch, s.first_k, kv_head, false),
        .v = rows_of(&a->v, s.batch, s.first_k, kv_head, false),
        .dout = rows_of(&g->dout, s.batch, s.first_q, head, true),
        .dq = rows_of(&g->of[ATTEND_GRADIENT_Q], s.batch, s.first_q, head, true),
        .dk = rows_of(&g->of[ATTEND_GRADIENT_K], s.batch, s.first_k, kv_head, false),
        .dv = rows_of(&g->of[ATTEND_GRADIENT_V], s.batch, s.first_k, kv_head, false),
        .dlse = of_head(&g->dlse, &s, head),
        .dlse_stride = g->dlse.stride[2],
        .dlse_head_stride = g->dlse.stride[1],
        .begins_bias = r->begins_bias,
        .batch = b,
        .tiles = plan->backward.tiles +
                 (kv_head * tiles_before(p, p->batch, p->total_q) + tiles_before(p, b, s.first_q)) *
                     plan->context->kernel->backward->tile_floats(p),
        .tracker = plan->context->tracker,
    };
    if (r->takes_out) t.out = rows_of(out, s.batch, s.first_q, head, true);
    return t;
}

/* Of block `unit`, head by head. */
static attend_cpu_backward_task block_task(const backward_run *r, int64_t unit, int thread)
{
    const attend_cpu_plan *plan = r->plan;
    const attend_problem *p = plan->problem;
    const int64_t blocks = blocks_of(p), block = unit % blocks;
    attend_cpu_backward_task t = task_of(r, unit / blocks);
    t.first_key = block * ATTEND_CPU_BACKWARD_KEYS;
    t.passed = &plan->backward.passed[unit];
    t.before = block > 0 ? t.passed - 1 : NULL;
    if (r->shares_bias) {
        /* the head before at the same keys; where keys add to one element together, at its last ones */
        const bool by_key = p->bias_axes & ATTEND_PER_KEY;
        const int64_t back = by_key ? blocks : block == 0 ? 1 : 0;
        t.before_shared = back > 0 && unit >= blocks ? t.passed - back : NULL;
        t.ends_in_order = true;
    }
    t.sums = plan->backward.sums + unit * group_of(p) * attend_cpu_backward_sums(p);
    t.scratch = plan->backward.scratch + thread * plan->backward.scratch_floats;
    return t;
}

static int64_t tiles_a_head(const attend_problem *p)
{
    return attend_cpu_backward_tiles(group_of(p) * p->seqlen_q);
}

static attend_cpu_backward_task tile_task(const backward_run *r, int64_t unit)
{
    const int64_t tiles = tiles_a_head(r->plan->problem);
    attend_cpu_backward_task t = task_of(r, unit / tiles);
    t.tile = unit % tiles;
    return t;
}

static void sum_delta_of_block(void *job, int64_t unit, int thread)
{
    const backward_run *r = job;
    const attend_cpu_backward_task t = block_task(r, unit, thread);
    r->plan->context->kernel->backward->sum_delta(&t);
    attend_progress_count(t.tracker, 1, thread == 0);
}

static void normalise_tile(void *job, int64_t unit, int thread)
{
    const backward_run *r = job;
    const attend_cpu_backward_task t = tile_task(r, unit);
    (void)thread;
    r->plan->context->kernel->backward->normalise(&t);
}

static void run_block(void *job, int64_t unit, int thread)
{
    const backward_run *r = job;
    const attend_cpu_backward_task t = block_task(r, unit, thread);
    r->plan->context->kernel->backward->run(&t);
    attend_progress_count(t.tracker, 1, thread == 0);
}

static void pack_tile(void *job, int64_t unit, int thread)
{
    const backward_run *r = job;
    const attend_cpu_backward_task t = tile_task(r, unit);
    (void)thread;
    if (t.tile < attend_cpu_backward_tiles(t.head.rows)) r->plan->context->kernel->backward->pack(&t);
}

static void finish_tile(void *job, int64_t unit, int thread)
{
    const backward_run *r = job;
    const attend_cpu_backward_task t = tile_task(r, unit);
    (void)thread;
    r->plan->context->kernel->backward->finish(&t);
}

/* Of one KV head, what is summed over its rows: of sinks p·(dlse - Δ), of scales q·Σ dT k. */
static void sum_rows(void *job, int64_t index, int thread)
{
    const backward_run *r = job;
    const attend_problem *p = r->plan->problem;
    const attend_cpu_backward_task t = task_of(r, index);
    const attend_cpu_backward_kernel *kernel = r->plan->context->kernel->backward;
    const bool sinks = r->gradients->of[ATTEND_GRADIENT_SINKS].data,
               scales = r->gradients->of[ATTEND_GRADIENT_HEAD_SCALES].data;
    const int64_t dq_step = attend_cpu_round_up(p->head_dim, r->plan->context->kernel->lanes);
    (void)thread;
    double *sums = r->plan->backward.head_sums + index * t.head.group * 2;
    memset(sums, 0, (size_t)(2 * t.head.group) * sizeof *sums);
    for (int64_t row = 0; row < t.head.rows; row++) {
        const int64_t i = row % ATTEND_CPU_BACKWARD_ROWS, query = row / t.head.group, h = row % t.head.group;
        const attend_cpu_backward_tile tile =
            kernel->tile_of(p, t.tiles + row / ATTEND_CPU_BACKWARD_ROWS * kernel->tile_floats(p));
        if (sinks) {
            const double lse = t.head.lse[query * t.head.lse_stride + h * t.head.lse_head_stride];
            const double weight = exp(attend_head_sink(t.head.heads->terms, t.head.heads[h].head) - lse);
            sums[2 * h] -= weight / (weight > 0 ? tile.sum[i] : 1) * tile.delta[i];
        }
        for (int64_t c = 0; scales && c < p->head_dim; c++) {
            float q;
            attend_cpu_load_row(&q, t.head.q.data, query * t.head.q.stride + h * t.head.q.head_stride + c, 1,
                                p->dtype);
            const float dq = tile.dq[i * dq_step + c];
            if (dq != 0)
                sums[2 * h + 1] +=
                    (double)p->softmax_scale * q * dq; /* a query that sees nothing may be NaN */
        }
    }
}

/* ---- what features bring ---- */

static void add_to(const attend_tensor *t, int64_t a, int64_t b, double sum)
{
    ((float *)t->data)[a * t->stride[0] + (t->rank > 1 ? b * t->stride[1] : 0)] += (float)sum;
}

/* Sums of blocks, in their order, and of heads. */
static void leave_sums(const backward_run *r)
{
    const attend_problem *p = r->plan->problem;
    const attend_tensor *of = r->gradients->of, *bias = &of[ATTEND_GRADIENT_BIAS];
    const int64_t group = group_of(p), width = attend_cpu_backward_sums(p);
    const bool one_bias = bias->data && !(p->bias_axes & (ATTEND_PER_QUERY | ATTEND_PER_KEY));
    for (int64_t h = 0; h < p->num_heads; h++) {
        const int64_t kv_head = h / group, g = h % group;
        double sinks = 0, scales = 0, slopes = 0;
        for (int64_t b = 0; b < p->batch; b++) {
            const double *rows = r->plan->backward.head_sums + 2 * (b * p->num_heads + h);
            double all = 0;
            sinks += rows[0], scales += rows[1];
            for (int64_t n = 0; n < blocks_of(p); n++) {
                const double *sums =
                    r->plan->backward.sums +
                    (((b * p->num_kv_heads + kv_head) * blocks_of(p) + n) * group + g) * width;
                all += sums[0], slopes += sums[1];
            }
            if (one_bias)
                ((float *)bias->data)[b * attend_tensor_step(bias, 0) + h * attend_tensor_step(bias, 1)] +=
                    (float)all;
        }
        if (of[ATTEND_GRADIENT_SINKS].data) add_to(&of[ATTEND_GRADIENT_SINKS], h, 0, sinks);
        if (of[ATTEND_GRADIENT_HEAD_SCALES].data) add_to(&of[ATTEND_GRADIENT_HEAD_SCALES], h, 0, scales);
        if (of[ATTEND_GRADIENT_SLOPES].data) add_to(&of[ATTEND_GRADIENT_SLOPES], h, 0, slopes);
        for (int64_t i = 0; i < p->relative_buckets && of[ATTEND_GRADIENT_RELATIVE_TABLE].data; i++) {
            double all = 0;
            for (int64_t b = 0; b < p->batch; b++)
                for (int64_t n = 0; n < blocks_of(p); n++)
                    all +=
                        r->plan->backward
                            .sums[(((b * p->num_kv_heads + kv_head) * blocks_of(p) + n) * group + g) * width +
                                  2 + i];
            add_to(&of[ATTEND_GRADIENT_RELATIVE_TABLE], h, i, all);
        }
    }
}

static void clear(const attend_tensor *t)
{
    const int64_t elements = attend_tensor_elements(t);
    const attend_tensor dense = attend_tensor_row_major(*t);
    if (memcmp(dense.stride, t->stride, sizeof dense.stride) == 0) {
        memset(t->data, 0, (size_t)elements * sizeof(float));
        return;
    }
    for (int64_t n = 0; n < elements; n++) {
        int64_t at = 0;
        for (int i = 0; i < t->rank; i++) at += n / dense.stride[i] % t->shape[i] * t->stride[i];
        ((float *)t->data)[at] = 0;
    }
}

static bool any_lse_is_far(const attend_tensor *lse)
{
    const float *from = lse->data;
    for (int64_t b = 0; b < lse->shape[0]; b++)
        for (int64_t h = 0; h < lse->shape[1]; h++)
            for (int64_t i = 0; i < lse->shape[2]; i++)
                if (attend_cpu_lse_is_far(from[b * lse->stride[0] + h * lse->stride[1] + i * lse->stride[2]]))
                    return true;
    return false;
}

attend_status attend_cpu_backward(attend_plan *plan, const attend_attention_args *args,
                                  const attend_gradients *gradients, const attend_run *run)
{
    attend_cpu_plan *cpu = plan->state;
    const attend_problem *p = cpu->problem;
    attend_pool *pool = cpu->context->pool;
    attend_progress_tracker *tracker = cpu->context->tracker;
    const attend_tensor *of = gradients->of;
    (void)run;
    ATTEND_TRY(attend_lists_check(p, args->features));
    backward_run r = {.plan = cpu, .args = args, .gradients = gradients, .all = attend_all_keys(p)};
    r.takes_out = gradients->out_f32.data || (args->out.data && p->dtype == ATTEND_F32);
    r.shares_bias = of[ATTEND_GRADIENT_BIAS].data && (p->bias_axes & (ATTEND_PER_QUERY | ATTEND_PER_KEY)) &&
                    (~p->bias_axes & (ATTEND_PER_BATCH | ATTEND_PER_HEAD));
    /* Tiles reach every element where nothing is shared and every sequence has its full length. */
    r.begins_bias =
        of[ATTEND_GRADIENT_BIAS].data && !gradients->accumulate && !r.shares_bias &&
        (p->bias_axes & (ATTEND_PER_QUERY | ATTEND_PER_KEY)) == (ATTEND_PER_QUERY | ATTEND_PER_KEY) &&
        !p->packed && !args->features->seqlens_q && !args->features->seqlens_k;
    attend_cpu_prepare_heads(cpu, args);
    const int64_t units = heads_of(p) * blocks_of(p), tiles = heads_of(p) * tiles_a_head(p);
    const double rows = (double)(heads_of(p) * group_of(p) * p->seqlen_q),
                 dims = (double)(p->head_dim + p->head_dim_v),
                 products = rows * (double)p->seqlen_k * dims / 16; /* nanoseconds of two of them */
    for (int g = ATTEND_GRADIENT_BIAS; g < ATTEND_GRADIENTS; g++)
        if (of[g].data && !gradients->accumulate && !(g == ATTEND_GRADIENT_BIAS && r.begins_bias))
            clear(&of[g]);
    attend_pool_run(pool, tiles, rows * dims, pack_tile, &r);
    const bool sums = !r.takes_out || any_lse_is_far(&args->lse);
    attend_progress_stage(tracker, tracker->work.attention, sums ? 2 * units : units);
    if (sums) {
        memset(cpu->backward.passed, 0, (size_t)units * sizeof *cpu->backward.passed);
        attend_pool_run(pool, units, products, sum_delta_of_block, &r);
        attend_pool_run(pool, tiles, rows, normalise_tile, &r);
    }
    memset(cpu->backward.passed, 0, (size_t)units * sizeof *cpu->backward.passed);
    attend_pool_run(pool, units, 2.5 * products, run_block, &r);
    ATTEND_TRY(attend_progress_status(tracker));
    if (of[ATTEND_GRADIENT_Q].data) attend_pool_run(pool, tiles, rows * dims, finish_tile, &r);
    attend_pool_run(pool, heads_of(p), rows * dims, sum_rows, &r);
    leave_sums(&r);
    return ATTEND_OK;
}
