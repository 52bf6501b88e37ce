/* What a plan holds so that tensors of its runs may lie on the host: buffers on the device within the budget,
   pinned memory, streams and events. */
#include "gpu/gpu.h"

enum { PIECE_BYTES = 4 << 20, MOST_THREADS = 8 };

static attend_status find_budget(const attend_plan *plan, double *budget)
{
    size_t available, total;
    *budget = (double)plan->options.memory_limit_bytes;
    if (*budget > 0) return ATTEND_OK;
    ATTEND_TRY(attend_gpu_check(cudaMemGetInfo(&available, &total), "cudaMemGetInfo"));
    *budget = (double)(available - available / 16); /* not to the last byte */
    return ATTEND_OK;
}

attend_status attend_gpu_plan_offload(attend_plan *plan)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_offload *o = &own->offload;
    o->host_tensors = plan->options.host_tensors;
    if (o->host_tensors && own->gpu->device_tensors_only)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "host_tensors is %d, but the context was made with device_tensors_only",
                           o->host_tensors);
    return o->host_tensors ? find_budget(plan, &o->budget) : ATTEND_OK;
}

attend_status attend_gpu_check_limit(const attend_plan *plan, size_t least)
{
    const attend_plan_options *options = &plan->options;
    if (options->least_bytes) *options->least_bytes = least;
    if (!options->memory_limit_bytes || least <= options->memory_limit_bytes) return ATTEND_OK;
    return attend_fail(ATTEND_OUT_OF_MEMORY,
                       "memory_limit_bytes is %zu, but the plan needs at least %zu bytes",
                       options->memory_limit_bytes, least);
}

static size_t bytes_of(const attend_gpu_arenas *arenas)
{
    return arenas->constants.bytes + arenas->run.bytes + arenas->staging.bytes;
}

/* Sets the problem whole, as a budget would have it, and returns the least that it needs. */
static size_t reserve_whole(attend_plan *plan, double budget, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_offload *o = &own->offload;
    const attend_kernel_row *const rows[2] = {own->row, own->row_any};
    *arenas = (attend_gpu_arenas){0};
    o->blocks = attend_gpu_whole_blocks(&plan->problem, rows, o->host_tensors & ATTEND_HOST_STATES, budget);
    if (plan->options.backward)
        o->blocks.streams_mask = o->blocks.streams_bias = false; /* it needs them whole */
    attend_gpu_reserve_fixed(plan, arenas);
    return bytes_of(arenas) + attend_gpu_least_bytes(&plan->problem, &o->blocks);
}

/* What can be streamed stays on the device only where the budget is large. */
attend_status attend_gpu_reserve_offload(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_offload *o = &((attend_gpu_plan *)plan->state)->offload;
    const attend_problem *p = &plan->problem;
    const size_t least = reserve_whole(plan, 0, arenas);
    ATTEND_TRY(attend_gpu_check_limit(plan, least));
    const bool resident = (double)reserve_whole(plan, o->budget, arenas) <= o->budget;
    if (!resident) reserve_whole(plan, 0, arenas);
    const attend_gpu_blocks whole = o->blocks;
    if (!attend_gpu_choose_blocks(p, o->budget - (double)bytes_of(arenas), &whole, &o->blocks))
        return attend_fail(ATTEND_OUT_OF_MEMORY,
                           "the device has room for %.0f bytes, but the plan needs at least %zu", o->budget,
                           least);
    for (int i = 0; i < ATTEND_GPU_BUFFERS; i++)
        attend_gpu_reserve(&arenas->staging, &o->buffers[i],
                           attend_gpu_slots(&o->blocks, (attend_gpu_buffer)i),
                           attend_gpu_slot_bytes(p, &o->blocks, (attend_gpu_buffer)i));
    return ATTEND_OK;
}

static attend_status make_event(cudaEvent_t *event)
{
    return attend_gpu_check(cudaEventCreateWithFlags(event, cudaEventDisableTiming),
                            "cudaEventCreateWithFlags");
}

static void free_events(cudaEvent_t *events, int count)
{
    for (int i = 0; i < count; i++)
        if (events[i]) cudaEventDestroy(events[i]);
}

static attend_status make_stream(cudaStream_t *stream)
{
    return attend_gpu_check(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking),
                            "cudaStreamCreateWithFlags");
}

/* No piece is larger than what passes through it, the largest slot. */
static attend_status make_pinned(const attend_plan *plan, attend_gpu_offload *o)
{
    size_t piece = 4096;
    for (int i = 0; i < ATTEND_GPU_PARTIALS; i++) {
        const size_t bytes = attend_gpu_slot_bytes(&plan->problem, &o->blocks, (attend_gpu_buffer)i);
        if (attend_gpu_slots(&o->blocks, (attend_gpu_buffer)i) && bytes > piece) piece = bytes;
    }
    const size_t rows = attend_gpu_rows_piece(&((const attend_gpu_plan *)plan->state)->layer.rows);
    if (rows > piece) piece = rows;
    o->pinned.piece_bytes = piece < PIECE_BYTES ? piece : PIECE_BYTES;
    return attend_gpu_check(cudaHostAlloc((void **)&o->pinned.memory,
                                          ATTEND_GPU_PINNED * o->pinned.piece_bytes, cudaHostAllocDefault),
                            "cudaHostAlloc");
}

/* From pinned memory to the plan's buffers. */
static attend_status time_copies(const attend_gpu_plan *own, cudaStream_t stream, cudaEvent_t ends[2],
                                 double *bytes_per_second)
{
    enum { COPIES = 16 };
    const attend_gpu_pinned *pinned = &own->offload.pinned;
    float milliseconds = 0;
    for (int i = 0; i < 2; i++) ATTEND_TRY(attend_gpu_check(cudaEventCreate(&ends[i]), "cudaEventCreate"));
    for (int i = -1; i < COPIES; i++) {
        if (i == 0) ATTEND_TRY(attend_gpu_check(cudaEventRecord(ends[0], stream), "cudaEventRecord"));
        ATTEND_TRY(attend_gpu_check(cudaMemcpyAsync(own->staging, pinned->memory, pinned->piece_bytes,
                                                    cudaMemcpyHostToDevice, stream),
                                    "cudaMemcpyAsync"));
    }
    ATTEND_TRY(attend_gpu_check(cudaEventRecord(ends[1], stream), "cudaEventRecord"));
    ATTEND_TRY(attend_gpu_check(cudaEventSynchronize(ends[1]), "cudaEventSynchronize"));
    ATTEND_TRY(
        attend_gpu_check(cudaEventElapsedTime(&milliseconds, ends[0], ends[1]), "cudaEventElapsedTime"));
    if (milliseconds > 0)
        *bytes_per_second = 1e3 * COPIES * (double)pinned->piece_bytes / (double)milliseconds;
    return ATTEND_OK;
}

attend_status attend_gpu_measure_link(attend_gpu_plan *own)
{
    enum { LEAST_PIECE = 1 << 20 };
    attend_gpu_context *gpu = own->gpu;
    attend_gpu_use *const last[2] = {&own->last, NULL};
    attend_gpu_stream *on = NULL;
    cudaEvent_t ends[2] = {NULL, NULL};
    if (gpu->link_bytes_per_second > 0 || own->offload.pinned.piece_bytes < LEAST_PIECE) return ATTEND_OK;
    ATTEND_TRY(attend_gpu_enter(gpu));
    attend_status status = attend_gpu_begin_work(gpu, gpu->stream, last, &on);
    if (on) status = time_copies(own, gpu->stream, ends, &gpu->link_bytes_per_second); /* no capture */
    status = attend_gpu_end_work(on, status);
    free_events(ends, 2);
    attend_gpu_leave(gpu);
    return status;
}

attend_status attend_gpu_create_offload(attend_plan *plan)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_offload *o = &own->offload;
    attend_gpu_context *gpu = own->gpu;
    const int processors = attend_processors();
    if (!gpu->pool)
        ATTEND_TRY(attend_pool_create(processors < MOST_THREADS ? processors : MOST_THREADS, &gpu->pool));
    ATTEND_TRY(make_pinned(plan, o));
    plan->memory.host_bytes += ATTEND_GPU_PINNED * o->pinned.piece_bytes;
    ATTEND_TRY(make_stream(&o->in));
    ATTEND_TRY(make_stream(&o->out));
    ATTEND_TRY(make_event(&o->begun));
    for (int i = 0; i < ATTEND_GPU_PINNED; i++) ATTEND_TRY(make_event(&o->pinned.copied[i]));
    for (int i = 0; i < ATTEND_GPU_QUERY_SLOTS; i++) {
        ATTEND_TRY(make_event(&o->queries_there[i]));
        ATTEND_TRY(make_event(&o->queries_done[i]));
        ATTEND_TRY(make_event(&o->queries_free[i]));
    }
    for (int i = 0; i < ATTEND_GPU_KEY_SLOTS; i++) {
        ATTEND_TRY(make_event(&o->keys_there[i]));
        ATTEND_TRY(make_event(&o->keys_free[i]));
        if (o->blocks.streams_mask || o->blocks.streams_bias) {
            ATTEND_TRY(make_event(&o->masks_there[i]));
            ATTEND_TRY(make_event(&o->masks_free[i]));
        }
    }
    return ATTEND_OK;
}

void attend_gpu_free_offload(attend_gpu_offload *o)
{
    free_events(&o->begun, 1);
    free_events(o->pinned.copied, ATTEND_GPU_PINNED);
    free_events(o->queries_there, ATTEND_GPU_QUERY_SLOTS);
    free_events(o->queries_done, ATTEND_GPU_QUERY_SLOTS);
    free_events(o->queries_free, ATTEND_GPU_QUERY_SLOTS);
    free_events(o->keys_there, ATTEND_GPU_KEY_SLOTS);
    free_events(o->keys_free, ATTEND_GPU_KEY_SLOTS);
    free_events(o->masks_there, ATTEND_GPU_KEY_SLOTS);
    free_events(o->masks_free, ATTEND_GPU_KEY_SLOTS);
    if (o->in) cudaStreamDestroy(o->in);
    if (o->out) cudaStreamDestroy(o->out);
    if (o->pinned.memory) cudaFreeHost(o->pinned.memory);
}
