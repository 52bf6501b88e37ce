/* Gradients on the device: the stages of a run (cuda/backward_kernels.h), the memory between them, and copies
   of tensors that lie on the host. */
#include "gpu/gpu.h"
#include "gpu/range.h"

#include <string.h>

/* ---- memory, reserved with the plan ---- */

/* Of a plan's two rows, the tiles of queries that need the most room. */
static int64_t bucket_tiles(const attend_gpu_plan *own, const attend_problem *p)
{
    const int64_t least = attend_least(own->backward.row->info.tile_q, own->backward.row_any->info.tile_q);
    return attend_parts_of(p->seqlen_q, least);
}

static void reserve_sums(attend_plan *plan, attend_gpu_arena *arena)
{
    attend_gpu_plan *own = plan->state;
    attend_backward_sums *s = &own->backward.sums;
    const attend_problem *p = &plan->problem;
    const bool by_key = p->bias_axes & ATTEND_PER_KEY, by_query = p->bias_axes & ATTEND_PER_QUERY;
    const int64_t tiles = p->batch * bucket_tiles(own, p);
    int64_t rows = 0, keys = 0, buckets = 0;
    if (!attend_multiply(attend_tensor_batch(p) * p->num_heads, attend_rows_q(p), &rows) ||
        !attend_multiply(attend_tensor_batch(p) * p->num_heads, attend_rows_k(p), &keys) ||
        !attend_multiply(p->num_heads * tiles, p->relative_buckets, &buckets))
        arena->overflow = true;
    const struct {
        float **sums;
        int64_t count;
    } all[] = {{&s->delta, rows},
               {&s->shift, rows},
               {&s->bias, p->bias_axes && !by_key ? rows : 0},
               {&s->slopes, p->alibi ? rows : 0},
               {&s->scales, p->head_scales ? rows : 0},
               {&s->sinks, p->sinks ? rows : 0},
               {&s->key_bias, by_key && !by_query ? keys : 0},
               {&s->buckets, buckets}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        attend_gpu_reserve(arena, (void **)all[i].sums, all[i].count, sizeof(float));
}

static void reserve_copy(attend_gpu_arena *arena, attend_tensor *copy, const attend_expected *e)
{
    attend_gpu_reserve_tensor(arena, copy, e->dtype, e->rank, e->shape);
}

void attend_gpu_reserve_backward(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_backward *b = &own->backward;
    const attend_problem *p = &plan->problem;
    const int64_t batch = attend_tensor_batch(p), q = attend_rows_q(p), k = attend_rows_k(p),
                  heads = p->num_heads, dv = p->head_dim_v;
    const attend_expected inputs[] = {
        {.dtype = p->dtype, .rank = 4, .shape = {batch, q, heads, p->head_dim}},
        {.dtype = p->dtype, .rank = 4, .shape = {batch, k, p->num_kv_heads, p->head_dim}},
        {.dtype = p->dtype, .rank = 4, .shape = {batch, k, p->num_kv_heads, dv}},
        {.dtype = p->dtype, .rank = 4, .shape = {batch, q, heads, dv}},
        {.dtype = ATTEND_F32, .rank = 4, .shape = {batch, q, heads, dv}},
        {.dtype = ATTEND_F32, .rank = 3, .shape = {batch, heads, q}},
        {.dtype = ATTEND_F32, .rank = 3, .shape = {batch, heads, q}},
    };
    attend_tensor *const copies[] = {&b->q, &b->k, &b->v, &b->dout, &b->out, &b->lse, &b->dlse};
    reserve_sums(plan, &arenas->run);
    const bool of_layer = plan->operation == ATTEND_LAYER; /* which takes its own */
    for (size_t i = 0;
         !of_layer && i < sizeof inputs / sizeof *inputs && own->offload.host_tensors & ATTEND_HOST_INPUTS;
         i++)
        reserve_copy(&arenas->staging, copies[i], &inputs[i]);
    for (int i = 0; i < ATTEND_GRADIENTS && own->offload.host_tensors & ATTEND_HOST_OUTPUTS; i++) {
        attend_expected e = attend_gradient_expected(p, (attend_gradient)i);
        e.dtype = ATTEND_F32; /* whichever the caller's is, it finds room */
        if (e.rank && (!of_layer || i >= ATTEND_GRADIENT_BIAS)) reserve_copy(&arenas->staging, &b->of[i], &e);
    }
}

/* ---- a run ---- */

typedef struct backward_run {
    const attend_gpu_context *gpu;
    const attend_backward_row *row;
    attend_backward_stage stage;
    attend_backward_args kernel;
    attend_gradients given, use;
} backward_run;

/* The plan's kernel, or the one for tensors of any alignment: for those, and where features get gradients
   that the first does not make. A strict context refuses the former. */
static attend_status choose_row(const attend_gpu_plan *own, const attend_attention_args *args,
                                const attend_gradients *g, backward_run *r)
{
    const attend_gpu_backward *b = &own->backward;
    const char *odd = attend_gpu_odd_rows(args, &g->dout);
    const bool sums = g->of[ATTEND_GRADIENT_BIAS].data || g->of[ATTEND_GRADIENT_SLOPES].data ||
                      g->of[ATTEND_GRADIENT_RELATIVE_TABLE].data;
    r->kernel.aligned = !odd;
    r->row = odd || (sums && !b->row->sums) ? b->row_any : b->row;
    if (!odd || b->row == b->row_any || !own->gpu->strict) return ATTEND_OK;
    return attend_gpu_refuse_odd(odd, &b->row->info, &b->row_any->info);
}

static attend_status take_inputs(const attend_plan *plan, attend_attention_args *args, backward_run *r)
{
    const attend_gpu_backward *b = &((const attend_gpu_plan *)plan->state)->backward;
    const attend_attention_args given = *args;
    ATTEND_TRY(attend_gpu_take_input(r->gpu, "q", &given.q, &b->q, &args->q));
    ATTEND_TRY(attend_gpu_take_input(r->gpu, "k", &given.k, &b->k, &args->k));
    ATTEND_TRY(attend_gpu_take_input(r->gpu, "v", &given.v, &b->v, &args->v));
    ATTEND_TRY(attend_gpu_take_input(r->gpu, "lse", &given.lse, &b->lse, &args->lse));
    ATTEND_TRY(attend_gpu_take_input(r->gpu, "dout", &r->given.dout, &b->dout, &r->use.dout));
    return attend_gpu_take_input(r->gpu, "dlse", &r->given.dlse, &b->dlse, &r->use.dlse);
}

/* out, where the row takes it and it was not rounded, and gradients. */
static attend_status take_others(const attend_plan *plan, const attend_attention_args *args, backward_run *r)
{
    const attend_gpu_backward *b = &((const attend_gpu_plan *)plan->state)->backward;
    const attend_gradients *given = &r->given;
    attend_tensor out = given->out_f32;
    if (!out.data && plan->problem.dtype == ATTEND_F32) out = args->out;
    if (!r->row->takes_out) out = (attend_tensor){0};
    ATTEND_TRY(attend_gpu_take_input(r->gpu, given->out_f32.data ? "out_f32" : "out", &out, &b->out,
                                     &r->use.out_f32));
    for (int i = 0; i < ATTEND_GRADIENTS; i++) {
        const attend_expected e = attend_gradient_expected(&plan->problem, (attend_gradient)i);
        attend_tensor copy = b->of[i];
        copy.dtype = given->of[i].dtype;
        ATTEND_TRY((given->accumulate ? attend_gpu_take_input : attend_gpu_take_output)(
            r->gpu, e.name, &given->of[i], &copy, &r->use.of[i]));
    }
    return ATTEND_OK;
}

static attend_gradient_view gradient_of(const attend_tensor *t)
{
    const attend_gradient_view view = {attend_view_of(t), t->dtype};
    return view;
}

static void set_args(const attend_plan *plan, const attend_attention_args *args, const attend_terms *terms,
                     backward_run *r)
{
    const attend_gpu_plan *own = plan->state;
    const attend_gradients *g = &r->use;
    const attend_tensor *bias = &g->of[ATTEND_GRADIENT_BIAS], *slopes = &g->of[ATTEND_GRADIENT_SLOPES],
                        *table = &g->of[ATTEND_GRADIENT_RELATIVE_TABLE],
                        *scales = &g->of[ATTEND_GRADIENT_HEAD_SCALES], *sinks = &g->of[ATTEND_GRADIENT_SINKS];
    attend_backward_args *k = &r->kernel;
    k->problem = plan->problem;
    k->q = attend_view_of(&args->q), k->k = attend_view_of(&args->k), k->v = attend_view_of(&args->v);
    k->dout = attend_view_of(&g->dout), k->out = attend_view_of(&g->out_f32);
    k->lse = attend_rows_view_of(&args->lse), k->dlse = attend_rows_view_of(&g->dlse);
    k->lists = attend_lists_of(args->features), k->terms = *terms;
    k->dq = gradient_of(&g->of[ATTEND_GRADIENT_Q]), k->dk = gradient_of(&g->of[ATTEND_GRADIENT_K]);
    k->dv = gradient_of(&g->of[ATTEND_GRADIENT_V]);
    k->bias = (attend_plane){bias->data,
                             attend_tensor_step(bias, 0),
                             attend_tensor_step(bias, 1),
                             attend_tensor_step(bias, 2),
                             attend_tensor_step(bias, 3),
                             ATTEND_F32};
    k->slopes = (attend_plane){.data = slopes->data, .head = attend_tensor_step(slopes, 0)};
    k->scales = (attend_plane){.data = scales->data, .head = attend_tensor_step(scales, 0)};
    k->sinks = (attend_plane){.data = sinks->data, .head = attend_tensor_step(sinks, 0)};
    k->table = (attend_plane){
        .data = table->data, .head = attend_tensor_step(table, 0), .key = attend_tensor_step(table, 1)};
    k->sums = own->backward.sums;
    const bool by_key = plan->problem.bias_axes & ATTEND_PER_KEY,
               by_query = plan->problem.bias_axes & ATTEND_PER_QUERY;
    if (!bias->data || by_key) k->sums.bias = NULL;
    if (!bias->data || !by_key || by_query) k->sums.key_bias = NULL;
    if (!slopes->data) k->sums.slopes = NULL;
    if (!scales->data) k->sums.scales = NULL;
    if (!sinks->data) k->sums.sinks = NULL;
    if (!table->data) k->sums.buckets = NULL;
    k->tiles = attend_parts_of(plan->problem.seqlen_q, r->row->info.tile_q);
    k->accumulate = g->accumulate;
}

static attend_status launch(void *job, int64_t first, int64_t count)
{
    backward_run *r = job;
    r->kernel.first_block = first, r->kernel.block_count = count;
    return attend_gpu_check(r->row->launch(r->stage, &r->kernel, r->gpu->stream), r->row->info.name);
}

/* Products of a stage; 0: nothing of it is wanted. */
static int products_of(const backward_run *r, attend_backward_stage stage)
{
    const attend_problem *p = &r->kernel.problem;
    const attend_backward_args *k = &r->kernel;
    switch (stage) {
    case ATTEND_BACKWARD_QUERIES: return k->out.data ? 3 : 5;
    case ATTEND_BACKWARD_KEYS: return k->dk.view.data || k->dv.view.data || k->sums.key_bias ? 4 : 0;
    default: return k->bias.data && attend_bias_is_whole(p) && attend_bias_is_shared(p) ? 2 : 0;
    }
}

static attend_status run_stages(backward_run *r)
{
    attend_progress_tracker *tracker = r->gpu->tracker;
    int products = 0;
    for (int i = 0; i < ATTEND_BACKWARD_STAGES; i++) products += products_of(r, (attend_backward_stage)i);
    for (int i = 0; i < ATTEND_BACKWARD_STAGES; i++) {
        r->stage = (attend_backward_stage)i;
        const int own = products_of(r, r->stage);
        int64_t blocks;
        if (own == 0) continue;
        r->row->blocks(&r->kernel.problem, r->stage, &blocks);
        attend_progress_stage(tracker, tracker->work.attention * own / products, blocks);
        ATTEND_TRY(attend_gpu_launch_slices(r->gpu, blocks, launch, r));
    }
    return attend_gpu_check(attend_backward_finish(&r->kernel, r->row->info.tile_q, r->gpu->stream),
                            "cudaLaunchKernel of sums of gradients");
}

static attend_status compute(const attend_plan *plan, const attend_attention_args *on_device, backward_run *r)
{
    attend_terms terms;
    ATTEND_TRY(attend_gpu_make_terms(plan, on_device->features, &terms));
    set_args(plan, on_device, &terms, r);
    attend_range_begin(r->row->info.name);
    const attend_status status = run_stages(r);
    attend_range_end();
    return status;
}

attend_status attend_gpu_gradients(const attend_plan *plan, const attend_attention_args *on_device,
                                   const attend_gradients *gradients)
{
    const attend_gpu_plan *own = plan->state;
    backward_run r = {.gpu = own->gpu, .given = *gradients, .use = *gradients};
    ATTEND_TRY(choose_row(own, on_device, gradients, &r));
    if (!r.row->takes_out) r.use.out_f32 = (attend_tensor){0};
    return compute(plan, on_device, &r);
}

static attend_status run_on_device(const attend_plan *plan, const attend_attention_args *args,
                                   backward_run *r)
{
    attend_attention_args use = *args;
    attend_feature_args features = *args->features;
    ATTEND_TRY(take_inputs(plan, &use, r));
    ATTEND_TRY(choose_row(plan->state, &use, &r->use, r));
    ATTEND_TRY(take_others(plan, &use, r));
    ATTEND_TRY(attend_gpu_take_features(plan, &features));
    use.features = &features;
    ATTEND_TRY(compute(plan, &use, r));
    for (int i = 0; i < ATTEND_GRADIENTS; i++)
        ATTEND_TRY(attend_gpu_give_output(r->gpu, &r->given.of[i], &r->use.of[i]));
    return ATTEND_OK;
}

attend_status attend_gpu_attention_backward(attend_plan *plan, const attend_attention_args *args,
                                            const attend_gradients *gradients, const attend_run *brought)
{
    const attend_gpu_context *gpu = ((attend_gpu_plan *)plan->state)->gpu;
    backward_run r = {.given = *gradients, .use = *gradients};
    attend_gpu_run run;
    ATTEND_TRY(attend_gpu_enter(gpu));
    attend_range_begin("attend: gradients");
    attend_status status = attend_gpu_run_begin(plan, brought, false, &run);
    r.gpu = &run.gpu;
    if (!status) status = run_on_device(&run.plan, args, &r);
    status = attend_gpu_run_end(&run, status);
    attend_range_end();
    attend_gpu_leave(gpu);
    return status;
}
