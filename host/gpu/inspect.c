/* Inspection on the device: copies host inputs there, launches, copies results back and waits. */
#include "gpu/gpu.h"
#include "inspect_kernels.h"
#include "gpu/range.h"

enum { OUTPUTS = 7 };

/* The buffers of one inspection: device copies of host outputs, and partial sums of blocks. */
typedef struct inspect_call {
    attend_inspect_args kernel;
    attend_tensor staging[OUTPUTS], q, k, lse;
    cudaStream_t stream;
    int64_t *queries;
    void *memory, *workspace;
} inspect_call;

static attend_tensor *output(attend_inspection *w, int index)
{
    attend_tensor *const all[OUTPUTS] = {&w->top_keys, &w->top_weights, &w->entropy, &w->mass,
                                         &w->distance, &w->weights,     &w->map};
    return all[index];
}

static const char *const names[OUTPUTS] = {"top_keys", "top_weights", "entropy", "mass",
                                           "distance", "weights",     "map"};

/* Every block writes partial sums of its own, and every tile of the map has one for each block that touches
   it. */
static attend_status reserve_input(const attend_gpu_context *gpu, attend_gpu_arena *arena, const char *name,
                                   const attend_tensor *given, attend_tensor *staging)
{
    bool on_host;
    ATTEND_TRY(attend_gpu_is_on_host(gpu, name, given->data, &on_host));
    if (on_host) attend_gpu_reserve_tensor(arena, staging, given->dtype, given->rank, given->shape);
    return ATTEND_OK;
}

static attend_status allocate(const attend_gpu_context *gpu, const attend_plan *plan,
                              const attend_attention_args *args, attend_inspection *want, inspect_call *l)
{
    attend_gpu_arena arena = {0};
    const attend_problem *p = &plan->problem;
    attend_inspect_args *k = &l->kernel;
    int64_t heads = p->batch * p->num_heads, slots = 0, sums = 0;
    bool on_host, fits;
    for (int i = 0; i < OUTPUTS; i++) {
        const attend_tensor *t = output(want, i);
        ATTEND_TRY(attend_gpu_is_on_host(gpu, names[i], t->data, &on_host));
        if (on_host && !gpu->device_tensors_only)
            attend_gpu_reserve_tensor(&arena, &l->staging[i], t->dtype, t->rank, t->shape);
    }
    if (((const attend_gpu_plan *)plan->state)->offload.host_tensors & ATTEND_HOST_INPUTS) {
        ATTEND_TRY(reserve_input(gpu, &arena, "q", &args->q, &l->q));
        ATTEND_TRY(reserve_input(gpu, &arena, "k", &args->k, &l->k));
        ATTEND_TRY(reserve_input(gpu, &arena, "lse", &args->lse, &l->lse));
    }
    k->blocks = (p->seqlen_q + attend_inspect_rows - 1) / attend_inspect_rows;
    fits = attend_multiply(heads, 2 * k->blocks, &sums);
    if (want->map.data) {
        k->map_first = want->first_query / attend_inspect_rows;
        k->map_slots = (want->first_query + want->map_queries - 1) / attend_inspect_rows - k->map_first +
                       want->map.shape[2];
        fits = fits && attend_multiply(heads, k->map_slots, &slots) &&
               attend_multiply(slots, want->map.shape[3], &slots);
    }
    if (!fits)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "the inspection needs more bytes than 63 bits can count");
    attend_gpu_reserve(&arena, (void **)&k->slots, slots, sizeof(float));
    attend_gpu_reserve(&arena, (void **)&k->sums, sums, sizeof(double));
    attend_gpu_reserve(&arena, (void **)&l->queries, want->num_queries, sizeof(int64_t));
    ATTEND_TRY(attend_gpu_arena_allocate(&arena, &l->memory));
    if (slots > 0)
        ATTEND_TRY(attend_gpu_check(cudaMemsetAsync(k->slots, 0, (size_t)slots * sizeof(float), gpu->stream),
                                    "cudaMemsetAsync"));
    /* Blocks past a sequence's end write nothing, so the sums start as zeros. */
    if (sums > 0)
        ATTEND_TRY(attend_gpu_check(cudaMemsetAsync(k->sums, 0, (size_t)sums * sizeof(double), gpu->stream),
                                    "cudaMemsetAsync"));
    return want->weights.data ? attend_gpu_check(attend_set_lengths(l->queries, want->queries,
                                                                    want->num_queries, gpu->stream),
                                                 "cudaLaunchKernel of set_lengths")
                              : ATTEND_OK;
}

static attend_status launch(void *job, int64_t first, int64_t count)
{
    inspect_call *l = job;
    l->kernel.first_block = first;
    return attend_gpu_check(attend_inspect_blocks(&l->kernel, count, l->stream),
                            "cudaLaunchKernel of inspect_rows");
}

static attend_status inspect_on_device(const attend_plan *plan, const attend_attention_args *args,
                                       const attend_key_layout *keys, const attend_inspect_request *request,
                                       inspect_call *l)
{
    const attend_gpu_plan *own = plan->state;
    const attend_gpu_context *gpu = own->gpu;
    attend_inspection given = request->want;
    attend_attention_args use = *args;
    attend_feature_args features = *args->features;
    attend_inspect_args *k = &l->kernel;
    k->request = *request;
    ATTEND_TRY(allocate(gpu, plan, args, &given, l));
    ATTEND_TRY(attend_gpu_take_features(plan, &features));
    ATTEND_TRY(attend_gpu_take_input(gpu, "q", &args->q, &l->q, &use.q));
    ATTEND_TRY(attend_gpu_take_input(gpu, "k", &args->k, &l->k, &use.k));
    ATTEND_TRY(attend_gpu_take_input(gpu, "lse", &args->lse, &l->lse, &use.lse));
    for (int i = 0; i < OUTPUTS; i++)
        ATTEND_TRY(attend_gpu_take_output(gpu, names[i], output(&given, i), &l->staging[i],
                                          output(&k->request.want, i)));
    k->problem = plan->problem;
    k->q = attend_view_of(&use.q), k->k = attend_view_of(&use.k), k->keys = *keys;
    k->lse = attend_rows_view_of(&use.lse);
    k->lists = attend_lists_of(&features), k->terms = attend_terms_of(&features);
    k->terms.relative_buckets = own->features.relative_buckets;
    k->request.want.queries = l->queries;
    l->stream = gpu->stream;
    attend_progress_stage(gpu->tracker, gpu->tracker->work.attention,
                          k->problem.batch * k->problem.num_heads * k->blocks);
    ATTEND_TRY(attend_gpu_launch_slices(gpu, k->problem.batch * k->problem.num_heads * k->blocks, launch, l));
    ATTEND_TRY(attend_gpu_check(attend_inspect_finish(k, gpu->stream), "cudaLaunchKernel of inspect_finish"));
    for (int i = 0; i < OUTPUTS; i++)
        ATTEND_TRY(attend_gpu_give_output(gpu, output(&given, i), output(&k->request.want, i)));
    return ATTEND_OK;
}

/* The plan's lists and staging are used as in a run. With caller_workspace the plan has no room for lists, so
   the inspection allocates it. */
static attend_status inspect_in_workspace(attend_plan *plan, const attend_attention_args *args,
                                          const attend_key_part *part, const attend_inspect_request *request,
                                          inspect_call *l)
{
    const attend_gpu_plan *own = plan->state;
    const attend_run brought = {.workspace = l->workspace};
    attend_gpu_run run;
    /* With caller_workspace the plan does not know on which stream the inspected run was, so all are waited
       for. */
    if (plan->options.caller_workspace) ATTEND_TRY(attend_gpu_wait_for_all(own->gpu));
    attend_status status = attend_gpu_run_begin(plan, &brought, true, &run);
    attend_gpu_pages pages = {0};
    if (!status) status = attend_gpu_take_pages(&run.plan, args, part, &pages);
    if (!status) status = inspect_on_device(&run.plan, args, &pages.part.keys, request, l);
    status = attend_gpu_release_pages(&run.plan, &pages, status);
    status = attend_gpu_run_end(&run, status);
    const cudaError_t waited = cudaStreamSynchronize(own->gpu->stream);
    return status ? status : attend_gpu_check(waited, "cudaStreamSynchronize");
}

attend_status attend_gpu_inspect(attend_plan *plan, const attend_attention_args *args,
                                 const attend_key_part *part, const attend_inspect_request *request)
{
    const attend_gpu_plan *own = plan->state;
    inspect_call l = {0};
    ATTEND_TRY(attend_gpu_enter(own->gpu));
    attend_range_begin("attend: inspect");
    attend_status status = ATTEND_OK;
    if (plan->options.caller_workspace)
        status = attend_gpu_check(cudaMalloc(&l.workspace, own->list_bytes),
                                  "cudaMalloc of an inspection's lists");
    if (!status) status = inspect_in_workspace(plan, args, part, request, &l);
    if (l.memory) cudaFree(l.memory);
    if (l.workspace) cudaFree(l.workspace);
    attend_range_end();
    attend_gpu_leave(own->gpu);
    return status;
}
