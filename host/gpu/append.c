/* Appending to a cache on the device: one kernel launch if all else is on the device too. What lies on the
   host is copied through memory allocated for the call, which then waits. */
#include "gpu/gpu.h"
#include "gpu/range.h"

/* Everything that the kernel reads. */
enum { K, V, POSITIONS, K_NORM, K_NORM_BIAS, TABLE, SEQLENS_Q, CU_SEQLENS_Q, SEQLENS, INPUTS };

static const char *const names[INPUTS] = {"k",
                                          "v",
                                          "positions",
                                          "k_norm",
                                          "k_norm_bias",
                                          "cache.block_table",
                                          "seqlens_q",
                                          "cu_seqlens_q",
                                          "cache.seqlens"};

typedef struct append_call {
    attend_tensor given[INPUTS], staging[INPUTS], use[INPUTS];
    bool on_host[INPUTS];
    void *memory;
} append_call;

static attend_tensor list(const int64_t *data, int64_t count)
{
    return attend_tensor_1d((void *)(uintptr_t)data, ATTEND_I64, data ? count : 0);
}

static void find_inputs(append_call *c, const attend_problem *p, const attend_appending *a)
{
    const attend_row_positions *rows = &a->rows;
    const attend_key_layout *slots = &a->append.slots;
    const int64_t pages = slots->table ? a->append.capacity / slots->page_size : 0;
    const attend_tensor all[INPUTS] = {
        [K] = a->k.from,
        [V] = a->append.v,
        [POSITIONS] = {.data = (void *)(uintptr_t)rows->positions,
                       .dtype = ATTEND_I32,
                       .rank = 2,
                       .shape = {a->k.from.shape[0], a->k.from.shape[1]},
                       .stride = {rows->positions_batch, rows->positions_row}},
        [K_NORM] = a->k.weight,
        [K_NORM_BIAS] = a->k.bias,
        [TABLE] = {.data = (void *)(uintptr_t)slots->table,
                   .dtype = ATTEND_I32,
                   .rank = 2,
                   .shape = {p->batch, pages},
                   .stride = {slots->table_batch, slots->table_page}},
        [SEQLENS_Q] = list(rows->lengths, p->batch),
        [CU_SEQLENS_Q] = list(rows->cu_seqlens, p->batch + 1),
        [SEQLENS] = list(a->append.seqlens, p->batch),
    };
    for (int i = 0; i < INPUTS; i++) c->given[i] = c->use[i] = all[i];
}

static void use_inputs(const append_call *c, attend_appending *a)
{
    const attend_tensor *use = c->use;
    a->k.from = use[K], a->append.v = use[V], a->k.weight = use[K_NORM], a->k.bias = use[K_NORM_BIAS];
    a->rows.positions = use[POSITIONS].data, a->rows.positions_batch = use[POSITIONS].stride[0],
    a->rows.positions_row = use[POSITIONS].stride[1];
    a->append.slots.table = use[TABLE].data, a->append.slots.table_batch = use[TABLE].stride[0],
    a->append.slots.table_page = use[TABLE].stride[1];
    a->rows.lengths = use[SEQLENS_Q].data, a->rows.cu_seqlens = use[CU_SEQLENS_Q].data;
    a->rows.firsts = a->append.seqlens = use[SEQLENS].data;
}

/* That every key has a slot only lists and a table that are all on the host can tell. */
static attend_status check(const append_call *c, const attend_problem *p, const attend_appending *a)
{
    bool readable = true;
    for (int i = TABLE; i < INPUTS; i++) readable = readable && (!c->given[i].data || c->on_host[i]);
    if (readable) return attend_appending_check(p, a);
    if (c->on_host[SEQLENS_Q])
        ATTEND_TRY(attend_lengths_check("seqlens_q", a->rows.lengths, p->batch, p->seqlen_q));
    return c->on_host[CU_SEQLENS_Q] ? attend_cu_seqlens_check("cu_seqlens_q", a->rows.cu_seqlens, p->batch,
                                                              p->seqlen_q, p->total_q)
                                    : ATTEND_OK;
}

static attend_status take_inputs(const attend_gpu_context *gpu, const attend_problem *p,
                                 const attend_appending *a, append_call *c)
{
    attend_gpu_arena arena = {0};
    find_inputs(c, p, a);
    for (int i = 0; i < INPUTS; i++) {
        const attend_tensor *t = &c->given[i];
        ATTEND_TRY(attend_gpu_is_on_host(gpu, names[i], t->data, &c->on_host[i]));
        c->on_host[i] = c->on_host[i] && attend_tensor_elements(t) > 0;
        if (!c->on_host[i]) continue;
        if (gpu->no_staging) return attend_gpu_refuse_host(gpu, names[i], ATTEND_HOST_INPUTS);
        attend_gpu_reserve_tensor(&arena, &c->staging[i], t->dtype, t->rank, t->shape);
    }
    ATTEND_TRY(check(c, p, a));
    ATTEND_TRY(attend_gpu_arena_allocate(&arena, &c->memory));
    for (int i = 0; i < INPUTS; i++) {
        if (!c->on_host[i]) continue;
        c->use[i] = c->staging[i];
        ATTEND_TRY(attend_gpu_copy(gpu, &c->use[i], &c->given[i], cudaMemcpyHostToDevice));
    }
    return ATTEND_OK;
}

attend_status attend_gpu_append_heads(const attend_gpu_context *gpu, const attend_rope *rope,
                                      const attend_appending *a)
{
    attend_range_begin("attend: append");
    const attend_status status =
        attend_gpu_check(attend_rope_heads(rope, &a->rows, &a->k, 1, &a->append, gpu->stream),
                         "cudaLaunchKernel of rope_heads");
    attend_range_end();
    return status;
}

static attend_status run(const attend_gpu_context *gpu, const attend_problem *p, const attend_appending *a,
                         append_call *c)
{
    attend_appending use = *a;
    const attend_rope rope = attend_rope_of(p);
    ATTEND_TRY(attend_gpu_check_pool(gpu, "cache.k", &a->k.to));
    ATTEND_TRY(attend_gpu_check_pool(gpu, "cache.v", &a->append.cache_v));
    ATTEND_TRY(take_inputs(gpu, p, a, c));
    use_inputs(c, &use);
    return attend_gpu_append_heads(gpu, &rope, &use);
}

attend_status attend_gpu_append(attend_context *context, const attend_problem *p, const attend_appending *a,
                                const attend_run *brought)
{
    attend_gpu_context *own = context->state, gpu = *own;
    attend_gpu_use *const shares_nothing[2] = {NULL, NULL};
    attend_gpu_stream *on;
    append_call c = {0};
    if (brought->stream) gpu.stream = brought->stream;
    ATTEND_TRY(attend_gpu_enter(own));
    attend_status status = attend_gpu_begin_work(own, gpu.stream, shares_nothing, &on);
    if (!status) status = run(&gpu, p, a, &c);
    status = attend_gpu_end_work(on, status);
    if (c.memory) {
        const cudaError_t waited = cudaStreamSynchronize(gpu.stream);
        cudaFree(c.memory);
        if (!status) status = attend_gpu_check(waited, "cudaStreamSynchronize");
    }
    attend_gpu_leave(own);
    return status;
}
