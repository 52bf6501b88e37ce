/* Rotary embedding of a caller's own Q and K on the device: one kernel launch if all tensors are on the
   device. Host tensors are copied through memory allocated for the call. */
#include "gpu/gpu.h"
#include "gpu/range.h"

enum { LISTS = 4, TENSORS = 7 };

/* The arguments and their names, for errors and loops over them. */
typedef struct argument_table {
    const char *list_names[LISTS], *tensor_names[TENSORS];
    const int64_t **lists[LISTS];
    attend_tensor *tensors[TENSORS]; /* inputs; q and k first */
} argument_table;

static argument_table table_of(attend_rotary_args *a)
{
    return (argument_table){
        {"seqlens_q", "starts_k", "first_positions", "cu_seqlens_q"},
        {"q", "k", "positions", "q_norm", "k_norm", "q_norm_bias", "k_norm_bias"},
        {&a->seqlens_q, &a->starts_k, &a->first_positions, &a->cu_seqlens_q},
        {&a->q, &a->k, &a->positions, &a->q_norm, &a->k_norm, &a->q_norm_bias, &a->k_norm_bias}};
}

/* The buffers of one call. */
typedef struct rotary_call {
    void *memory;
    attend_tensor staging[TENSORS], out_staging[2];
    int64_t *lists[LISTS];
    bool list_on_host[LISTS]; /* and it is read: an empty batch has no lists */
    bool any_on_host;
} rotary_call;

static int64_t list_length(const attend_problem *p, int list) { return p->batch + (list == LISTS - 1); }

/* Allocates device copies of host tensors and lists, and checks host lists. */
static attend_status reserve(const attend_gpu_context *gpu, const attend_problem *p, attend_rotary_args *args,
                             rotary_call *t)
{
    const argument_table all = table_of(args);
    const attend_tensor *const outputs[] = {&args->q_out, &args->k_out};
    attend_gpu_arena arena = {0};
    attend_rotary_args on_host = {0};
    const argument_table host = table_of(&on_host);
    bool here;
    for (int i = 0; i < TENSORS; i++) {
        ATTEND_TRY(attend_gpu_is_on_host(gpu, all.tensor_names[i], all.tensors[i]->data, &here));
        t->any_on_host |= here;
        if (here)
            attend_gpu_reserve_tensor(&arena, &t->staging[i], all.tensors[i]->dtype, all.tensors[i]->rank,
                                      all.tensors[i]->shape);
    }
    for (int i = 0; i < 2; i++) {
        ATTEND_TRY(attend_gpu_is_on_host(gpu, i ? "k_out" : "q_out", outputs[i]->data, &here));
        t->any_on_host |= here;
        if (here && outputs[i]->data != all.tensors[i]->data)
            attend_gpu_reserve_tensor(&arena, &t->out_staging[i], outputs[i]->dtype, 4, outputs[i]->shape);
    }
    for (int i = 0; i < LISTS; i++) {
        ATTEND_TRY(attend_gpu_is_on_host(gpu, all.list_names[i], *all.lists[i], &here));
        t->any_on_host |= here;
        t->list_on_host[i] = here && list_length(p, i) > 0;
        if (!t->list_on_host[i]) continue;
        *host.lists[i] = *all.lists[i];
        attend_gpu_reserve(&arena, (void **)&t->lists[i], list_length(p, i), sizeof(int64_t));
    }
    ATTEND_TRY(attend_rotary_lists_check(p, &on_host));
    if (gpu->device_tensors_only && t->any_on_host) {
        for (int i = 0; i < TENSORS; i++)
            t->staging[i].data = NULL; /* take_input() then names the tensor in its error */
        return ATTEND_OK;
    }
    return attend_gpu_arena_allocate(&arena, &t->memory);
}

/* Inputs as the kernel reads them. */
static attend_status take_inputs(const attend_gpu_context *gpu, const attend_problem *p,
                                 attend_rotary_args *use, rotary_call *t)
{
    const argument_table all = table_of(use);
    for (int i = 0; i < TENSORS; i++) {
        const attend_tensor given = *all.tensors[i];
        if (given.data)
            ATTEND_TRY(
                attend_gpu_take_input(gpu, all.tensor_names[i], &given, &t->staging[i], all.tensors[i]));
    }
    for (int i = 0; i < LISTS; i++) {
        if (!t->list_on_host[i]) continue;
        if (gpu->device_tensors_only)
            return attend_fail(ATTEND_INVALID_ARGUMENT,
                               "%s lies on the host, but the context was made with device_tensors_only",
                               all.list_names[i]);
        const int64_t *given = *all.lists[i];
        *all.lists[i] = t->lists[i];
        ATTEND_TRY(attend_gpu_check(attend_set_lengths(t->lists[i], given, list_length(p, i), gpu->stream),
                                    "cudaLaunchKernel of set_lengths"));
    }
    return ATTEND_OK;
}

/* The tensor to write: the caller's, or staging, filled with the caller's rows first, as rows past a
   sequence's length must keep their values. */
static attend_status take_output(const attend_gpu_context *gpu, const attend_rotary_args *args,
                                 const char *name, const attend_tensor *in, const attend_tensor *taken_in,
                                 const attend_tensor *out, const attend_tensor *staging, attend_tensor *use)
{
    if (out->data == in->data) {
        *use = *taken_in;
        return ATTEND_OK;
    }
    ATTEND_TRY(attend_gpu_take_output(gpu, name, out, staging, use));
    return use->data != out->data && args->seqlens_q ? attend_gpu_copy(gpu, use, out, cudaMemcpyHostToDevice)
                                                     : ATTEND_OK;
}

static attend_status run(const attend_gpu_context *gpu, const attend_problem *p,
                         const attend_rotary_args *args, rotary_call *t)
{
    attend_rotary_args use = *args;
    const attend_rope rope = attend_rotary_rope(p, args);
    attend_rope_tensor tensors[2];
    ATTEND_TRY(reserve(gpu, p, &use, t));
    ATTEND_TRY(take_inputs(gpu, p, &use, t));
    ATTEND_TRY(
        take_output(gpu, args, "q_out", &args->q, &use.q, &args->q_out, &t->out_staging[0], &use.q_out));
    ATTEND_TRY(
        take_output(gpu, args, "k_out", &args->k, &use.k, &args->k_out, &t->out_staging[1], &use.k_out));
    const attend_row_positions row_positions = attend_rotary_row_positions(p, &use);
    const int count = attend_rotary_tensors(&use, tensors);
    attend_range_begin("attend: rotate Q and K");
    attend_status status =
        attend_gpu_check(attend_rope_heads(&rope, &row_positions, tensors, count, NULL, gpu->stream),
                         "cudaLaunchKernel of rope_heads");
    attend_range_end();
    ATTEND_TRY(status);
    ATTEND_TRY(attend_gpu_give_output(gpu, &args->q_out, &use.q_out));
    return attend_gpu_give_output(gpu, &args->k_out, &use.k_out);
}

attend_status attend_gpu_rotary(attend_context *context, const attend_problem *p,
                                const attend_rotary_args *args)
{
    attend_gpu_context *gpu = context->state;
    attend_gpu_use *const shares_nothing[2] = {NULL, NULL};
    attend_gpu_stream *on;
    rotary_call t = {0};
    ATTEND_TRY(attend_gpu_enter(gpu));
    attend_status status = attend_gpu_begin_work(gpu, gpu->stream, shares_nothing, &on);
    if (!status) status = run(gpu, p, args, &t);
    status = attend_gpu_end_work(on, status);
    if (t.any_on_host) {
        const cudaError_t waited = cudaStreamSynchronize(gpu->stream);
        if (!status) status = attend_gpu_check(waited, "cudaStreamSynchronize");
    }
    if (t.memory) cudaFree(t.memory);
    attend_gpu_leave(gpu);
    return status;
}
