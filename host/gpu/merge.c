/* Merging states on the device. States on the host are copied there and back in memory allocated for the
   call. If there are more states than one launch takes, an intermediate result is allocated too. */
#include "core/arguments.h"
#include "gpu/gpu.h"
#include "gpu/range.h"

#include <stdio.h>

/* The buffers of one call: device copies of host tensors, and the intermediate result. */
typedef struct merging {
    void *memory;
    attend_state states[attend_merge_at_once], total, into;
    attend_tensor out, lse, sinks;
} merging;

void attend_gpu_reserve_state(attend_gpu_arena *arena, const attend_problem *p, attend_state *state)
{
    const int64_t row[] = {p->batch, p->num_heads, p->seqlen_q};
    attend_gpu_reserve_tensor(arena, &state->out, ATTEND_F32, 4,
                              (int64_t[]){p->batch, p->seqlen_q, p->num_heads, p->head_dim_v});
    attend_gpu_reserve_tensor(arena, &state->max, ATTEND_F32, 3, row);
    attend_gpu_reserve_tensor(arena, &state->sum, ATTEND_F32, 3, row);
}

static attend_status on_host(const attend_gpu_context *gpu, const char *name, const attend_tensor *tensor,
                             bool *any)
{
    bool here = false;
    if (tensor->data) ATTEND_TRY(attend_gpu_is_on_host(gpu, name, tensor->data, &here));
    *any |= here;
    return ATTEND_OK;
}

static attend_status state_on_host(const attend_gpu_context *gpu, const attend_state *state, bool *any)
{
    ATTEND_TRY(on_host(gpu, "out of a state", &state->out, any));
    ATTEND_TRY(on_host(gpu, "max of a state", &state->max, any));
    return on_host(gpu, "sum of a state", &state->sum, any);
}

/* Allocates nothing if all tensors are on the device and one launch takes all states. */
static attend_status reserve(const attend_gpu_context *gpu, const attend_problem *p,
                             const attend_merge_args *args, merging *m)
{
    attend_gpu_arena arena = {0};
    bool states = false, results = false;
    for (int64_t n = 0; n < args->count; n++) ATTEND_TRY(state_on_host(gpu, &args->states[n], &states));
    if (args->into) ATTEND_TRY(state_on_host(gpu, args->into, &results));
    ATTEND_TRY(on_host(gpu, "out", &args->out, &results));
    ATTEND_TRY(on_host(gpu, "lse", &args->lse, &results));
    ATTEND_TRY(on_host(gpu, "sinks", &args->sinks, &results));
    if (gpu->device_tensors_only)
        states = results = false; /* take_input() then names the tensor in its error */
    for (int n = 0; states && n < attend_merge_at_once && n < args->count; n++)
        attend_gpu_reserve_state(&arena, p, &m->states[n]);
    if (args->count > attend_merge_at_once) attend_gpu_reserve_state(&arena, p, &m->total);
    if (results && args->into) attend_gpu_reserve_state(&arena, p, &m->into);
    if (results && !args->into) {
        attend_gpu_reserve_tensor(&arena, &m->out, p->dtype, 4,
                                  (int64_t[]){p->batch, p->seqlen_q, p->num_heads, p->head_dim_v});
        attend_gpu_reserve_tensor(&arena, &m->lse, ATTEND_F32, 3,
                                  (int64_t[]){p->batch, p->num_heads, p->seqlen_q});
        attend_gpu_reserve_tensor(&arena, &m->sinks, ATTEND_F32, 1, &p->num_heads);
    }
    return attend_gpu_arena_allocate(&arena, &m->memory);
}

attend_status attend_gpu_take_state(const attend_gpu_context *gpu, const char *name,
                                    const attend_state *given, const attend_state *staging, bool is_output,
                                    attend_state *use)
{
    const attend_tensor *from[] = {&given->out, &given->max, &given->sum},
                        *staged[] = {&staging->out, &staging->max, &staging->sum};
    attend_tensor *to[] = {&use->out, &use->max, &use->sum};
    static const char *const fields[] = {"out", "max", "sum"};
    for (int i = 0; i < 3; i++) {
        char text[48];
        snprintf(text, sizeof text, "%s.%s", name, fields[i]);
        ATTEND_TRY((is_output ? attend_gpu_take_output : attend_gpu_take_input)(gpu, text, from[i], staged[i],
                                                                                to[i]));
    }
    return ATTEND_OK;
}

attend_status attend_gpu_give_state(const attend_gpu_context *gpu, const attend_state *given,
                                    const attend_state *used)
{
    ATTEND_TRY(attend_gpu_give_output(gpu, &given->out, &used->out));
    ATTEND_TRY(attend_gpu_give_output(gpu, &given->max, &used->max));
    return attend_gpu_give_output(gpu, &given->sum, &used->sum);
}

attend_state_view attend_gpu_state_view(const attend_state *state)
{
    return (attend_state_view){attend_view_of(&state->out), attend_rows_view_of(&state->max),
                               attend_rows_view_of(&state->sum)};
}

static attend_status launch(const attend_gpu_context *gpu, const attend_problem *p, const attend_merging *m)
{
    return attend_gpu_check(attend_merge_states(m, p->dtype, gpu->stream),
                            "cudaLaunchKernel of merge_states");
}

static attend_status run(const attend_gpu_context *gpu, const attend_problem *p,
                         const attend_merge_args *args, merging *m)
{
    attend_merging merging = {p->batch, p->seqlen_q, p->num_heads, p->head_dim_v, .count = 0};
    attend_state state, into = {0};
    attend_tensor out = {0}, lse = {0}, sinks = {0};
    int64_t rows;
    if (!attend_multiply(p->batch, p->seqlen_q, &rows) || !attend_multiply(rows, p->num_heads, &rows) ||
        rows > INT32_MAX)
        return attend_fail(ATTEND_UNSUPPORTED,
                           "batch·seqlen_q·num_heads is more than the %d rows that one merge takes",
                           INT32_MAX);
    ATTEND_TRY(reserve(gpu, p, args, m));
    for (int64_t n = 0; n < args->count; n++) {
        if (merging.count == attend_merge_at_once) {
            merging.into = attend_gpu_state_view(&m->total);
            ATTEND_TRY(launch(gpu, p, &merging));
            merging.states[0] = merging.into, merging.count = 1;
            merging.into = (attend_state_view){{0}, {0}, {0}};
        }
        char name[32];
        snprintf(name, sizeof name, "states[%lld]", (long long)n);
        ATTEND_TRY(
            attend_gpu_take_state(gpu, name, &args->states[n], &m->states[merging.count], false, &state));
        merging.states[merging.count++] = attend_gpu_state_view(&state);
    }
    if (args->into) {
        ATTEND_TRY(attend_gpu_take_state(gpu, "into", args->into, &m->into, true, &into));
        merging.into = attend_gpu_state_view(&into);
    } else {
        ATTEND_TRY(attend_gpu_take_output(gpu, "out", &args->out, &m->out, &out));
        if (args->lse.data) ATTEND_TRY(attend_gpu_take_output(gpu, "lse", &args->lse, &m->lse, &lse));
        if (args->sinks.data)
            ATTEND_TRY(attend_gpu_take_input(gpu, "sinks", &args->sinks, &m->sinks, &sinks));
        merging.out = attend_view_of(&out);
        merging.lse = attend_rows_view_of(&lse);
        merging.sinks = sinks.data, merging.sinks_head = sinks.stride[0];
    }
    attend_range_begin("attend: merge states");
    attend_status status = launch(gpu, p, &merging);
    attend_range_end();
    ATTEND_TRY(status);
    if (args->into) return attend_gpu_give_state(gpu, args->into, &into);
    ATTEND_TRY(attend_gpu_give_output(gpu, &args->out, &out));
    return attend_gpu_give_output(gpu, &args->lse, &lse);
}

attend_status attend_gpu_merge(attend_context *context, const attend_problem *p,
                               const attend_merge_args *args, const attend_run *brought)
{
    attend_gpu_context gpu = *(attend_gpu_context *)context->state;
    attend_gpu_use *const shares_nothing[2] = {NULL, NULL};
    attend_gpu_stream *on = NULL;
    merging m = {0};
    if (brought->stream) gpu.stream = brought->stream;
    ATTEND_TRY(attend_gpu_enter(&gpu));
    attend_status status = attend_gpu_begin_work(context->state, gpu.stream, shares_nothing, &on);
    if (!status) status = run(&gpu, p, args, &m);
    status = attend_gpu_end_work(on, status);
    if (m.memory) {
        const cudaError_t waited = cudaStreamSynchronize(gpu.stream);
        if (!status) status = attend_gpu_check(waited, "cudaStreamSynchronize");
        cudaFree(m.memory);
    }
    attend_gpu_leave(&gpu);
    return status;
}
