/* The run of a plan whose tensors lie on the host: for each step, {its keys are there, the next ones are on
   their way, the kernel goes on from the carried state}. One stream copies in, one copies out, the caller's
   computes; events say what is there, what is done, and which buffer is free again. */
#include "gpu/pipeline.h"
#include "gpu/range.h"

/* ---- events ---- */

attend_status attend_gpu_wait(const attend_gpu_context *on, cudaEvent_t event)
{
    return attend_gpu_check(cudaStreamWaitEvent(on->stream, event, 0), "cudaStreamWaitEvent");
}

attend_status attend_gpu_record(const attend_gpu_context *on, cudaEvent_t event)
{
    return attend_gpu_check(cudaEventRecord(event, on->stream), "cudaEventRecord");
}

/* ---- copies ---- */

static attend_status bring(attend_gpu_pipeline *l, int index, const attend_gpu_step *step)
{
    if (!attend_gpu_streams(l, index)) return ATTEND_OK;
    const attend_tensor to = attend_gpu_buffer_part(l, index, step),
                        from = attend_gpu_given_part(l, index, &step->box);
    return attend_gpu_bring(&l->in, &l->own->offload.pinned, l->sources[index].place, &to, &from);
}

static attend_status bring_queries(attend_gpu_pipeline *l, const attend_gpu_step *step)
{
    const attend_gpu_offload *o = &l->own->offload;
    const int64_t slot = step->block % o->blocks.query_slots;
    ATTEND_TRY(attend_gpu_wait(&l->in, o->queries_free[slot]));
    ATTEND_TRY(bring(l, Q, step));
    for (int i = FROM_OUT; i <= FROM_SUM; i++) ATTEND_TRY(bring(l, i, step));
    return attend_gpu_record(&l->in, o->queries_there[slot]);
}

static attend_status bring_keys(attend_gpu_pipeline *l, const attend_gpu_step *step)
{
    const attend_gpu_offload *o = &l->own->offload;
    const int64_t slot = step->load % o->blocks.key_slots;
    ATTEND_TRY(attend_gpu_wait(&l->in, o->keys_free[slot]));
    ATTEND_TRY(bring(l, K, step));
    ATTEND_TRY(bring(l, V, step));
    return attend_gpu_record(&l->in, o->keys_there[slot]);
}

/* Of each step, even where its keys stay. */
static bool streams_masks(const attend_gpu_pipeline *l)
{
    return attend_gpu_streams(l, MASK) || attend_gpu_streams(l, BIAS);
}

static attend_status bring_masks(attend_gpu_pipeline *l, const attend_gpu_step *step)
{
    const attend_gpu_offload *o = &l->own->offload;
    const int64_t slot = step->index % o->blocks.key_slots;
    if (!streams_masks(l)) return ATTEND_OK;
    ATTEND_TRY(attend_gpu_wait(&l->in, o->masks_free[slot]));
    ATTEND_TRY(bring(l, MASK, step));
    ATTEND_TRY(bring(l, BIAS, step));
    return attend_gpu_record(&l->in, o->masks_there[slot]);
}

/* What a step has beside its queries. */
static attend_status bring_part(attend_gpu_pipeline *l, const attend_gpu_step *step)
{
    if (step->loads) ATTEND_TRY(bring_keys(l, step));
    return bring_masks(l, step);
}

static attend_status give(attend_gpu_pipeline *l, int index, const attend_gpu_step *step)
{
    if (!attend_gpu_streams(l, index)) return ATTEND_OK;
    const attend_tensor to = attend_gpu_given_part(l, index, &step->box),
                        from = attend_gpu_buffer_part(l, index, step);
    return attend_gpu_give(&l->out, &l->own->offload.pinned, l->sources[index].place, &to, &from);
}

static attend_status give_results(attend_gpu_pipeline *l, const attend_gpu_step *step)
{
    const attend_gpu_offload *o = &l->own->offload;
    const int64_t slot = step->block % o->blocks.query_slots;
    ATTEND_TRY(attend_gpu_record(&l->gpu, o->queries_done[slot]));
    ATTEND_TRY(attend_gpu_wait(&l->out, o->queries_done[slot]));
    ATTEND_TRY(give(l, OUT, step));
    ATTEND_TRY(give(l, LSE, step));
    for (int i = INTO_OUT; i <= INTO_SUM; i++) ATTEND_TRY(give(l, i, step));
    return attend_gpu_record(&l->out, o->queries_free[slot]);
}

/* ---- launches ---- */

/* The caller's, or that between two parts. */
static attend_tensor state_tensor(const attend_gpu_pipeline *l, int index, bool callers,
                                  const attend_gpu_step *step)
{
    return callers ? attend_gpu_device_part(l, index, step) : attend_gpu_buffer_part(l, index, step);
}

static attend_state state_of(const attend_gpu_pipeline *l, int first, bool callers,
                             const attend_gpu_step *step)
{
    return (attend_state){state_tensor(l, first, callers, step), state_tensor(l, first + 1, callers, step),
                          state_tensor(l, first + 2, callers, step)};
}

static attend_status launch(attend_gpu_pipeline *l, const attend_gpu_step *step)
{
    const attend_gpu_offload *o = &l->own->offload;
    attend_attention_args use = l->use;
    attend_terms terms = l->terms;
    attend_state from = {0}, into = {0};
    if (step->begins)
        ATTEND_TRY(attend_gpu_wait(&l->gpu, o->queries_there[step->block % o->blocks.query_slots]));
    if (step->loads) ATTEND_TRY(attend_gpu_wait(&l->gpu, o->keys_there[step->load % o->blocks.key_slots]));
    if (streams_masks(l))
        ATTEND_TRY(attend_gpu_wait(&l->gpu, o->masks_there[step->index % o->blocks.key_slots]));
    use.q = attend_gpu_device_part(l, Q, step), use.k = attend_gpu_device_part(l, K, step),
    use.v = attend_gpu_device_part(l, V, step);
    use.out = use.lse = (attend_tensor){0};
    if (attend_gpu_streams(l, MASK)) terms.mask = attend_gpu_plane_of_part(l, MASK, step);
    if (attend_gpu_streams(l, BIAS)) terms.bias = attend_gpu_plane_of_part(l, BIAS, step);
    if (!step->begins || l->part->from.out.data) from = state_of(l, FROM_OUT, step->begins, step);
    if (!step->ends || l->part->into.out.data) {
        into = state_of(l, INTO_OUT, step->ends, step);
    } else {
        use.out = attend_gpu_device_part(l, OUT, step);
        if (l->sources[LSE].given->data) use.lse = attend_gpu_device_part(l, LSE, step);
    }
    ATTEND_TRY(attend_gpu_launch_box(l->plan, &step->box, &l->part->keys, &use, &from, &into, &terms));
    if (streams_masks(l))
        ATTEND_TRY(attend_gpu_record(&l->gpu, o->masks_free[step->index % o->blocks.key_slots]));
    return attend_gpu_record(&l->gpu, o->keys_free[step->load % o->blocks.key_slots]);
}

/* ---- the loop ---- */

/* What comes next is on its way while the launch computes. Where progress is reported the launch is waited
   for, so that what comes next is asked for before. */
static attend_status run_step(attend_gpu_pipeline *l, const attend_gpu_step *step,
                              const attend_gpu_step *next)
{
    const bool reports = l->gpu.tracker->progress, early = l->own->offload.blocks.query_slots > 1;
    const bool begins = next && next->begins;
    if (reports && next) ATTEND_TRY(bring_part(l, next));
    ATTEND_TRY(launch(l, step));
    if (!reports && next) ATTEND_TRY(bring_part(l, next));
    if (early && begins) ATTEND_TRY(bring_queries(l, next));
    if (step->ends) ATTEND_TRY(give_results(l, step));
    return !early && begins ? bring_queries(l, next) : ATTEND_OK;
}

static attend_status run_steps(attend_gpu_pipeline *l, attend_gpu_steps ahead)
{
    if (!attend_gpu_next_step(&ahead)) return ATTEND_OK;
    ATTEND_TRY(bring_queries(l, &ahead.at));
    ATTEND_TRY(bring_part(l, &ahead.at));
    for (bool more = true; more;) {
        const attend_gpu_step step = ahead.at;
        more = attend_gpu_next_step(&ahead);
        attend_range_begin("attend: part");
        const attend_status status = run_step(l, &step, more ? &ahead.at : NULL);
        attend_range_end();
        ATTEND_TRY(status);
    }
    return ATTEND_OK;
}

/* All work of the run, whichever stream it is on, is before what is enqueued on the run's stream next. */
static attend_status join(attend_gpu_pipeline *l)
{
    const attend_gpu_offload *o = &l->own->offload;
    for (int64_t i = 0; i < o->blocks.query_slots; i++)
        ATTEND_TRY(attend_gpu_wait(&l->gpu, o->queries_free[i]));
    return ATTEND_OK;
}

void attend_gpu_stop(const attend_gpu_context *in, const attend_gpu_context *gpu,
                     const attend_gpu_context *out)
{
    cudaStreamSynchronize(in->stream);
    cudaStreamSynchronize(gpu->stream);
    cudaStreamSynchronize(out->stream);
    cudaGetLastError(); /* the first failure is reported */
}

/* Of one of the run's boxes. */
static attend_gpu_steps steps_of(const attend_gpu_pipeline *l, const attend_kernel_box *box)
{
    attend_gpu_steps steps = l->steps;
    steps.whole = *box;
    return steps;
}

static void begin_progress(attend_gpu_pipeline *l, const attend_kernel_box *boxes, int count)
{
    attend_kernel_grid grid;
    int64_t blocks = 0;
    if (!l->gpu.tracker->progress) return;
    for (int i = 0; i < count; i++) {
        attend_gpu_steps ahead = steps_of(l, &boxes[i]);
        while (attend_gpu_next_step(&ahead)) {
            l->own->row->grid(&l->plan->problem, &ahead.at.box, &grid);
            blocks += grid.blocks;
        }
    }
    attend_progress_stage(l->gpu.tracker, l->gpu.tracker->work.attention, blocks);
}

attend_status attend_gpu_offload_run(const attend_plan *plan, const attend_attention_args *args,
                                     const attend_key_part *part, const attend_feature_args *on_device,
                                     const attend_kernel_box *boxes, int count)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_offload *o = &own->offload;
    const int64_t dims = plan->problem.head_dim_v;
    const attend_tensor shape[] = {{.dtype = ATTEND_F32, .rank = 4, .shape = {0, 0, 0, dims}},
                                   {.dtype = ATTEND_F32, .rank = 3},
                                   {.dtype = ATTEND_F32, .rank = 3}};
    attend_gpu_pipeline l = {.plan = plan,
                             .own = own,
                             .part = part,
                             .gpu = *own->gpu,
                             .in = *own->gpu,
                             .out = *own->gpu,
                             .features = *args->features,
                             .use = *args};
    l.use.features = &l.features;
    l.in.stream = o->in, l.out.stream = o->out;
    ATTEND_TRY(attend_gpu_find_sources(&l, args, shape));
    o->streaming = true; /* in the run's own view of the plan */
    if (o->blocks.partials_of_box) own->partials = o->buffers[ATTEND_GPU_PARTIALS];
    if (on_device)
        l.features = *on_device;
    else
        ATTEND_TRY(attend_gpu_take_features(plan, &l.features));
    ATTEND_TRY(attend_gpu_find_steps(&l, args));
    ATTEND_TRY(attend_gpu_make_terms(plan, &l.features, &l.terms));
    const attend_kernel_box whole = l.steps.whole;
    if (!boxes) boxes = &whole, count = 1;
    begin_progress(&l, boxes, count);
    attend_range_begin("attend: stream");
    attend_status status = attend_gpu_record(&l.gpu, o->begun); /* out waits for launches anyway */
    if (!status) status = attend_gpu_wait(&l.in, o->begun);
    for (int i = 0; i < count && !status; i++) status = run_steps(&l, steps_of(&l, &boxes[i]));
    if (!status) status = join(&l);
    if (status) attend_gpu_stop(&l.in, &l.gpu, &l.out);
    attend_range_end();
    return status;
}
