/* A layer on the device: weights are uploaded with the plan; a run projects Q, K and V into the workspace, in
   the layout that attention kernels read, then does attention and the output projection. */
#include "gpu/gpu.h"
#include "core/cache.h"
#include "gpu/range.h"

#include <stdlib.h>
#include <string.h>

/* ---- planning ---- */

static const attend_tensor *weight_of(const attend_layer_weights *w, int j) { return &(&w->wq)[j]; }
static const attend_tensor *bias_of(const attend_layer_weights *w, int j) { return &(&w->bq)[j]; }

static const char *const weight_names[] = {"wq", "wk", "wv", "wo"}, *const bias_names[] = {"bq", "bk", "bv",
                                                                                           "bo"};

static bool is_row_major(const attend_tensor *w)
{
    return (w->stride[1] == 1 || w->shape[1] == 1) && (w->stride[0] >= w->shape[1] || w->shape[0] == 1);
}

/* *slice becomes [batch, seqlen, heads, dim], the heads from `first` on of *wide, in the same memory. */
static void slice_heads(attend_gpu_arena *arena, attend_tensor *slice, attend_tensor *wide, int64_t first,
                        int64_t heads)
{
    *slice = *wide;
    slice->shape[2] = heads;
    attend_gpu_reserve_within(arena, &slice->data, &wide->data,
                              first * wide->stride[2] * (int64_t)attend_dtype_bytes(wide->dtype));
}

/* Where Q, K and V have the same length and width, they are columns of one matrix, so that one product writes
   them. */
void attend_gpu_reserve_heads(attend_plan *plan, attend_gpu_arena *run, int64_t batch, int64_t rows_q,
                              int64_t rows_k)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    int64_t h = p->num_heads, h_kv = p->num_kv_heads;
    bool kv_together = p->head_dim == p->head_dim_v,
         all_together = kv_together && !attend_problem_is_cross(p);
    attend_tensor *const first[] = {&own->q, all_together ? NULL : &own->k, kv_together ? NULL : &own->v};
    const int64_t heads[] = {all_together ? h + 2 * h_kv : h, kv_together ? 2 * h_kv : h_kv, h_kv};
    const int64_t rows[] = {rows_q, rows_k, rows_k}, dim[] = {p->head_dim, p->head_dim, p->head_dim_v};
    for (int j = 0; j < 3; j++)
        if (first[j])
            attend_gpu_reserve_tensor(run, first[j], p->dtype, 4,
                                      (int64_t[]){batch, rows[j], heads[j], dim[j]});
    if (all_together) slice_heads(run, &own->k, &own->q, h, 2 * h_kv);
    if (kv_together) slice_heads(run, &own->v, &own->k, h_kv, h_kv);
    own->q.shape[2] = h;
    own->k.shape[2] = h_kv;
}

/* Contiguous, for the output projection. */
void attend_gpu_reserve_heads_out(attend_plan *plan, attend_gpu_arena *arena, int64_t batch, int64_t rows_q)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const int64_t row = p->num_heads * p->head_dim_v, strides[] = {rows_q * row, row, p->head_dim_v, 1};
    own->out = attend_tensor_4d(NULL, p->dtype, batch, rows_q, p->num_heads, p->head_dim_v);
    memcpy(own->out.stride, strides, sizeof strides);
    attend_gpu_reserve(arena, &own->out.data, batch * rows_q * row, attend_dtype_bytes(p->dtype));
}

/* Whether projections j and j + 1 read the same input and write neighbouring columns of one matrix: see
   attend_gpu_reserve_heads(). */
static bool is_beside_next(const attend_problem *p, int j)
{
    return j + 1 < ATTEND_GPU_O && p->head_dim == p->head_dim_v &&
           (j != ATTEND_GPU_Q || !attend_problem_is_cross(p));
}

/* Whether the copies of weights j and j + 1 are to be rows of one matrix, so that one product serves both. */
static bool is_copied_together(const attend_plan *plan, const bool *on_host, int j)
{
    const attend_tensor *w = weight_of(&plan->weights, j), *next = weight_of(&plan->weights, j + 1);
    return is_beside_next(&plan->problem, j) && on_host[j] && on_host[j + 1] &&
           is_row_major(w) == is_row_major(next);
}

/* A copy keeps the weight's orientation; its lines are padded to multiples of 16 bytes. */
static void reserve_weights(attend_plan *plan, const bool *on_host, attend_gpu_arena *constants)
{
    attend_gpu_layer *layer = &((attend_gpu_plan *)plan->state)->layer;
    const size_t element = attend_dtype_bytes(plan->problem.dtype);
    int64_t most = 1;
    for (int j = 0, end; j < 4; j = end) {
        const attend_tensor *first = weight_of(&plan->weights, j);
        const bool by_rows = is_row_major(first);
        int64_t rows = first->shape[0];
        for (end = j + 1; end < 4 && is_copied_together(plan, on_host, end - 1); end++)
            rows += weight_of(&plan->weights, end)->shape[0];
        const int64_t line = attend_gpu_whole_rows(by_rows ? first->shape[1] : rows, element);
        int64_t elements = 0;
        if (!attend_multiply(by_rows ? rows : first->shape[1], line, &elements)) constants->overflow = true;
        for (int i = j; i < end; i++) {
            layer->weights[i] = *weight_of(&plan->weights, i);
            layer->weights[i].stride[0] = by_rows ? line : 1;
            layer->weights[i].stride[1] = by_rows ? 1 : line;
            layer->follows[i] = i > j;
        }
        if (on_host[j]) attend_gpu_reserve(constants, &layer->weights[j].data, elements, element);
    }
    for (int j = 0; j < 4; j++) {
        const attend_tensor *b = bias_of(&plan->weights, j);
        layer->biases[j] = *b;
        layer->biases[j].stride[0] = 1;
        if (b->data && on_host[4 + j])
            attend_gpu_reserve(constants, &layer->biases[j].data, b->shape[0], attend_dtype_bytes(b->dtype));
        if (layer->weights[j].shape[0] > most) most = layer->weights[j].shape[0];
    }
    attend_gpu_reserve(constants, &layer->zeros, most, sizeof(float));
}

static attend_status find_weights(const attend_plan *plan, bool *on_host)
{
    const attend_gpu_plan *own = plan->state;
    for (int j = 0; j < 4; j++) {
        ATTEND_TRY(attend_gpu_is_on_host(own->gpu, weight_names[j], weight_of(&plan->weights, j)->data,
                                         &on_host[j]));
        ATTEND_TRY(attend_gpu_is_on_host(own->gpu, bias_names[j], bias_of(&plan->weights, j)->data,
                                         &on_host[4 + j]));
    }
    return ATTEND_OK;
}

/* Of what may lie on the host. */
static void reserve_staging(attend_plan *plan, attend_gpu_arena *staging)
{
    attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p);
    own->layer.x = own->layer.context = own->layer.out = own->lse = (attend_tensor){0};
    if (own->offload.host_tensors & ATTEND_HOST_INPUTS) {
        attend_gpu_reserve_tensor(staging, &own->layer.x, p->dtype, 3,
                                  (int64_t[]){batch, rows_q, p->hidden_size});
        if (attend_problem_is_cross(p))
            attend_gpu_reserve_tensor(staging, &own->layer.context, p->dtype, 3,
                                      (int64_t[]){batch, attend_rows_k(p), p->context_hidden_size});
    }
    if (own->offload.host_tensors & ATTEND_HOST_OUTPUTS) {
        attend_gpu_reserve_tensor(staging, &own->layer.out, p->dtype, 3,
                                  (int64_t[]){batch, rows_q, p->output_size});
        attend_gpu_reserve_tensor(staging, &own->lse, ATTEND_F32, 3,
                                  (int64_t[]){batch, p->num_heads, rows_q});
    }
}

attend_status attend_gpu_reserve_constants(attend_plan *plan, attend_gpu_arenas *arenas)
{
    bool on_host[8];
    ATTEND_TRY(find_weights(plan, on_host));
    ATTEND_TRY(attend_gpu_reserve_rope(plan, arenas));
    ATTEND_TRY(attend_gpu_reserve_positions(plan, &arenas->constants));
    reserve_weights(plan, on_host, &arenas->constants);
    return ATTEND_OK;
}

static attend_status reserve_whole(attend_plan *plan, attend_gpu_arenas *arenas)
{
    const attend_problem *p = &plan->problem;
    const int64_t batch = attend_tensor_batch(p), rows_q = attend_rows_q(p);
    *arenas = (attend_gpu_arenas){0};
    attend_gpu_reserve_fixed(plan, arenas);
    ATTEND_TRY(attend_gpu_reserve_constants(plan, arenas));
    attend_gpu_reserve_heads(plan, &arenas->run, batch, rows_q, attend_rows_projected(p));
    attend_gpu_reserve_heads_out(plan, &arenas->run, batch, rows_q);
    attend_gpu_reserve_x(plan, &arenas->run, batch, rows_q);
    if (!attend_problem_is_cross(p))
        attend_gpu_reserve(&arenas->run, (void **)&((attend_gpu_plan *)plan->state)->layer.cached, p->batch,
                           sizeof(int64_t));
    reserve_staging(plan, &arenas->staging);
    if (plan->options.backward) attend_gpu_reserve_layer_backward(plan, arenas);
    return ATTEND_OK;
}

/* Gradients need the layer whole. */
static attend_status check_whole(const attend_plan *plan, size_t whole)
{
    const double budget = ((const attend_gpu_plan *)plan->state)->offload.budget;
    ATTEND_TRY(attend_gpu_check_limit(plan, whole));
    if ((double)whole <= budget) return ATTEND_OK;
    return attend_fail(ATTEND_OUT_OF_MEMORY,
                       "the device has room for %.0f bytes, but the plan needs at least %zu", budget, whole);
}

attend_status attend_gpu_layer_reserve(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    if (own->gpu->no_blas[0])
        return attend_fail(ATTEND_UNSUPPORTED, "a layer on CUDA needs cuBLAS, attention alone does not: %s",
                           own->gpu->no_blas);
    ATTEND_TRY(reserve_whole(plan, arenas));
    if (!own->offload.host_tensors) return ATTEND_OK;
    const bool counts = !arenas->constants.overflow && !arenas->run.overflow && !arenas->staging.overflow;
    const size_t whole = arenas->constants.bytes + arenas->run.bytes + arenas->staging.bytes;
    if (plan->options.backward) return check_whole(plan, counts ? whole : SIZE_MAX);
    ATTEND_TRY(attend_gpu_reserve_rows(plan, counts ? whole : SIZE_MAX, arenas));
    return own->layer.rows.count ? ATTEND_OK : reserve_whole(plan, arenas);
}

/* ---- after allocation: pointers and uploads ---- */

attend_tensor attend_gpu_long_lines(const attend_tensor *t)
{
    return t->rank != 2 || is_row_major(t) ? *t : attend_tensor_transposed(t);
}

static void place_after(const attend_tensor *before, attend_tensor *w)
{
    w->data =
        (char *)before->data + (size_t)(before->shape[0] * before->stride[0]) * attend_dtype_bytes(w->dtype);
}

static attend_status upload(const attend_gpu_context *gpu, attend_tensor *copy, const attend_tensor *given)
{
    if (copy->data == given->data) {
        *copy = *given;
        return ATTEND_OK;
    }
    const attend_tensor to = attend_gpu_long_lines(copy), from = attend_gpu_long_lines(given);
    return attend_gpu_copy(gpu, &to, &from, cudaMemcpyHostToDevice);
}

static attend_gpu_projection describe(const attend_tensor *w, void *bias, int64_t heads)
{
    bool by_rows = is_row_major(w);
    int64_t ld = w->stride[by_rows ? 0 : 1], width = w->shape[by_rows ? 1 : 0], dim = w->shape[0] / heads;
    return (attend_gpu_projection){
        .operation = by_rows ? CUBLAS_OP_T : CUBLAS_OP_N,
        .ld = ld > width ? ld : width,
        .weight = w->data,
        .bias = bias,
        .heads = heads,
        .dim = dim,
        .in = w->shape[1],
        .step = dim * w->stride[0],
    };
}

static bool is_aligned(const attend_gpu_projection *p, attend_dtype dtype)
{
    const int64_t element = (int64_t)attend_dtype_bytes(dtype);
    return (uintptr_t)p->weight % 16 == 0 && p->ld * element % 16 == 0 &&
           (p->heads == 1 || p->step * element % 16 == 0);
}

/* Projections j and j + 1 are one product if their weights are rows of one matrix (the caller's or the copy)
   and their outputs columns of one matrix. */
static bool go_together(const attend_plan *plan, int j)
{
    const attend_gpu_plan *own = plan->state;
    const attend_gpu_projection *a = &own->layer.projections[j], *b = a + 1;
    const char *next =
        (const char *)a->weight + (size_t)(a->heads * a->step) * attend_dtype_bytes(plan->problem.dtype);
    return is_beside_next(&plan->problem, j) && a->operation == b->operation && a->ld == b->ld &&
           a->dim == b->dim && next == (const char *)b->weight;
}

static void group(attend_plan *plan)
{
    attend_gpu_layer *layer = &((attend_gpu_plan *)plan->state)->layer;
    for (int j = ATTEND_GPU_V; j >= ATTEND_GPU_Q; j--)
        layer->group_end[j] = j < ATTEND_GPU_V && go_together(plan, j) ? layer->group_end[j + 1] : j + 1;
    for (int j = 0; j < ATTEND_GPU_O; j = layer->group_end[j]) {
        bool biased = false;
        for (int i = j; i < layer->group_end[j]; i++) biased |= layer->projections[i].bias != NULL;
        for (int i = j; i < layer->group_end[j] && biased; i++)
            if (!layer->projections[i].bias) layer->projections[i].bias = layer->zeros;
    }
}

static attend_status upload_weights(const attend_plan *plan)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_layer *layer = &own->layer;
    for (int j = 0; j < 4; j++) {
        ATTEND_TRY(upload(own->gpu, &layer->weights[j], weight_of(&plan->weights, j)));
        if (layer->biases[j].data)
            ATTEND_TRY(upload(own->gpu, &layer->biases[j], bias_of(&plan->weights, j)));
    }
    ATTEND_TRY(attend_gpu_upload_norms(plan));
    return attend_gpu_upload_table(plan);
}

attend_status attend_gpu_layer_create(attend_plan *plan)
{
    attend_gpu_plan *own = plan->state;
    const attend_gpu_context *gpu = own->gpu;
    const attend_problem *p = &plan->problem;
    attend_gpu_layer *layer = &own->layer;
    const int64_t heads[] = {p->num_heads, p->num_kv_heads, p->num_kv_heads, 1};
    int64_t zeros = 1;
    layer->aligned = true;
    for (int j = 0; j < 4; j++)
        if (layer->follows[j]) place_after(&layer->weights[j - 1], &layer->weights[j]);
    ATTEND_TRY(upload_weights(plan));
    for (int j = 0; j < 4; j++) {
        layer->projections[j] = describe(&layer->weights[j], layer->biases[j].data, heads[j]);
        layer->aligned &= is_aligned(&layer->projections[j], p->dtype);
        if (layer->weights[j].shape[0] > zeros) zeros = layer->weights[j].shape[0];
    }
    ATTEND_TRY(attend_gpu_check(cudaMemsetAsync(layer->zeros, 0, (size_t)zeros * sizeof(float), gpu->stream),
                                "cudaMemsetAsync"));
    group(plan);
    own->rope = attend_rope_of(p);
    ATTEND_TRY(attend_gpu_create_positions(plan));
    /* The caller may free or overwrite host weights once it has the plan. */
    return attend_gpu_check(cudaStreamSynchronize(gpu->stream), "cudaStreamSynchronize");
}

static attend_status reload(attend_plan *plan, const attend_run *brought)
{
    attend_gpu_context *gpu = ((attend_gpu_plan *)plan->state)->gpu;
    attend_gpu_use *const last[2] = {&((attend_gpu_plan *)plan->state)->last, NULL};
    attend_gpu_stream *on;
    attend_gpu_run run = {.gpu = *gpu, .own = *(attend_gpu_plan *)plan->state, .plan = *plan};
    run.own.gpu = &run.gpu, run.plan.state = &run.own;
    if (brought->stream) run.gpu.stream = brought->stream;
    ATTEND_TRY(attend_gpu_begin_work(gpu, run.gpu.stream, last, &on));
    if (!on)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "weights are taken anew on a stream that is captured: a graph would take those of "
                           "today each time");
    attend_status status = upload_weights(&run.plan);
    if (!status) /* the caller may change host weights again */
        status = attend_gpu_check(cudaStreamSynchronize(run.gpu.stream), "cudaStreamSynchronize");
    return attend_gpu_end_work(on, status);
}

attend_status attend_gpu_layer_reload(attend_plan *plan, const attend_run *run)
{
    const attend_gpu_context *gpu = ((attend_gpu_plan *)plan->state)->gpu;
    ATTEND_TRY(attend_gpu_enter(gpu));
    attend_range_begin("attend: weights");
    const attend_status status = reload(plan, run);
    attend_range_end();
    attend_gpu_leave(gpu);
    return status;
}

/* ---- running ---- */

/* An input may have a stride of 0. */
attend_status attend_gpu_take_rows(const attend_gpu_context *gpu, const char *name,
                                   const attend_tensor *given, const attend_tensor *staging,
                                   attend_tensor *use)
{
    ATTEND_TRY(attend_gpu_take_input(gpu, name, given, staging, use));
    if (use->stride[1] >= use->shape[2] || use->shape[1] <= 1) return ATTEND_OK;
    if (!staging->data)
        return attend_fail(
            ATTEND_UNSUPPORTED,
            "%s has overlapping rows, which must be copied to staging, but the plan's host_tensors does not "
            "have ATTEND_HOST_INPUTS",
            name);
    *use = *staging;
    return attend_gpu_copy(gpu, staging, given, cudaMemcpyDefault);
}

static attend_status give_intermediates(const attend_gpu_plan *own, const attend_layer_args *args)
{
    ATTEND_TRY(attend_gpu_give_output(own->gpu, &args->q, &own->q));
    ATTEND_TRY(attend_gpu_give_output(own->gpu, &args->k, &own->k));
    ATTEND_TRY(attend_gpu_give_output(own->gpu, &args->v, &own->v));
    return attend_gpu_give_output(own->gpu, &args->heads, &own->out);
}

/* A layer's cache, as kernels read it: all of it on the device. */
typedef struct layer_cache {
    attend_cache cache;
    attend_gpu_pages pages;
} layer_cache;

/* That new keys have slots, and that seqlens_k counts them, only lists and a table that are all on the host
   can tell. */
static attend_status check_lists(const attend_plan *plan, const attend_layer_args *args, bool seqlens_on_host)
{
    const attend_gpu_plan *own = plan->state;
    const struct {
        const char *name;
        const void *data;
    } lists[] = {{"seqlens_q", args->features->seqlens_q},
                 {"seqlens_k", args->features->seqlens_k},
                 {"cache.block_table", args->cache->block_table.data}};
    bool readable = !args->cache->seqlens || seqlens_on_host, on_host;
    for (int i = 0; i < 3; i++) {
        ATTEND_TRY(attend_gpu_is_on_host(own->gpu, lists[i].name, lists[i].data, &on_host));
        readable = readable && (!lists[i].data || on_host);
    }
    if (!readable) return ATTEND_OK;
    const attend_problem *p = &plan->problem;
    const attend_appending a = attend_layer_appending(p, &plan->weights, args, &args->k, &args->v);
    ATTEND_TRY(attend_lengths_check("seqlens_k", args->features->seqlens_k, p->batch, p->seqlen_k));
    return attend_layer_appending_check(p, &a, args->features->seqlens_k);
}

/* Takes the cache of args, sets the keys of *attention to it, and checks that a kernel can read it. */
static attend_status take_cache(const attend_plan *plan, const attend_layer_args *args,
                                attend_attention_args *attention, layer_cache *c)
{
    const attend_gpu_plan *own = plan->state;
    const attend_gpu_context *gpu = own->gpu;
    const attend_problem *p = &plan->problem;
    attend_key_part all = attend_all_keys(p);
    bool on_host;
    c->cache = *args->cache;
    ATTEND_TRY(attend_gpu_check_pool(gpu, "cache.k", &c->cache.k));
    ATTEND_TRY(attend_gpu_check_pool(gpu, "cache.v", &c->cache.v));
    ATTEND_TRY(attend_gpu_is_on_host(gpu, "cache.seqlens", c->cache.seqlens, &on_host));
    ATTEND_TRY(check_lists(plan, args, on_host));
    attend_layer_keys_locate(args->cache, attention, &all);
    ATTEND_TRY(attend_gpu_check_row(plan, attention));
    if (on_host && p->batch > 0) {
        ATTEND_TRY(
            attend_gpu_check(attend_set_lengths(own->layer.cached, c->cache.seqlens, p->batch, gpu->stream),
                             "cudaLaunchKernel of set_lengths"));
        c->cache.seqlens = own->layer.cached;
    }
    ATTEND_TRY(attend_gpu_take_pages(plan, attention, &all, &c->pages));
    const attend_key_layout *keys = &c->pages.part.keys;
    if (c->pages.memory) /* the columns that seqlen_k keys have */
        c->cache.block_table.shape[1] = attend_parts_of(p->seqlen_k, keys->page_size);
    c->cache.block_table.data = (void *)(uintptr_t)keys->table;
    c->cache.block_table.stride[0] = keys->table_batch, c->cache.block_table.stride[1] = keys->table_page;
    return ATTEND_OK;
}

/* Q is rotated in place, and K too, or both K and V go to the cache (NULL: none). */
static attend_status rotate(const attend_plan *plan, const attend_row_positions *row_positions,
                            const attend_feature_args *on_device, const attend_cache *cache)
{
    const attend_gpu_plan *own = plan->state;
    ATTEND_TRY(attend_gpu_rope(plan, row_positions, &own->q, cache ? NULL : &own->k));
    if (!cache) return ATTEND_OK;
    const attend_appending a = attend_appending_of(&plan->problem, cache,
                                                   &(attend_cache_append_args){.k = own->k,
                                                                               .v = own->v,
                                                                               .features = on_device,
                                                                               .k_norm = own->norms[1],
                                                                               .k_norm_bias = own->norms[3]});
    return attend_gpu_append_heads(own->gpu, &own->rope, &a);
}

static attend_status run_whole(const attend_plan *plan, const attend_layer_args *args,
                               attend_attention_args *attention, layer_cache *taken)
{
    const attend_gpu_plan *own = plan->state;
    const attend_gpu_layer *layer = &own->layer;
    const attend_gpu_context *gpu = own->gpu;
    const attend_problem *p = &plan->problem;
    const double *work = gpu->tracker->work.projections;
    const attend_tensor *const heads[] = {&own->q, &own->k, &own->v};
    const attend_cache *cache = args->cache ? &taken->cache : NULL;
    attend_tensor x, context, out;
    attend_feature_args features = *args->features;
    if (cache) ATTEND_TRY(take_cache(plan, args, attention, taken));
    ATTEND_TRY(attend_gpu_take_features(plan, &features));
    attention->features = &features;
    ATTEND_TRY(attend_gpu_take_output(gpu, "out", &args->out, &layer->out, &out));
    ATTEND_TRY(attend_gpu_take_output(gpu, "lse", &args->lse, &own->lse, &attention->lse));
    ATTEND_TRY(p->absolute ? attend_gpu_take_input(gpu, "x", &args->x, &layer->x, &x)
                           : attend_gpu_take_rows(gpu, "x", &args->x, &layer->x, &x));
    const attend_row_positions row_positions = attend_row_positions_of(p, &features, cache);
    ATTEND_TRY(attend_gpu_check_positions(plan, args));
    ATTEND_TRY(attend_gpu_add_positions(plan, &row_positions, &x));
    context = x;
    if (attend_problem_is_cross(p))
        ATTEND_TRY(attend_gpu_take_rows(gpu, "context", &args->context, &layer->context, &context));
    attend_progress_stage(gpu->tracker, work[ATTEND_GPU_Q] + work[ATTEND_GPU_K] + work[ATTEND_GPU_V],
                          ATTEND_GPU_O);
    ATTEND_TRY(attend_gpu_project_heads(plan, &x, &context, heads));
    ATTEND_TRY(rotate(plan, &row_positions, &features, cache));
    ATTEND_TRY(attend_gpu_attention(plan, attention, &taken->pages.part));
    attend_progress_stage(gpu->tracker, work[ATTEND_GPU_O], 1);
    ATTEND_TRY(attend_gpu_project_output(plan, &own->out, &out));
    ATTEND_TRY(attend_gpu_give_output(gpu, &args->out, &out));
    ATTEND_TRY(attend_gpu_give_output(gpu, &args->lse, &attention->lse));
    return give_intermediates(own, args);
}

attend_status attend_gpu_layer_forward(attend_plan *plan, const attend_layer_args *args)
{
    const attend_gpu_plan *own = plan->state;
    attend_attention_args attention = {
        .q = own->q, .k = own->k, .v = own->v, .out = own->out, .features = args->features};
    layer_cache taken = {.pages = {.part = attend_all_keys(&plan->problem)}};
    if (own->layer.rows.count && args->cache)
        return attend_fail(ATTEND_UNSUPPORTED,
                           "cache is given, but the device's memory lets this plan run in blocks of rows "
                           "alone, which does not go with caches");
    if (own->layer.rows.count) return attend_gpu_layer_run_rows(plan, args);
    const attend_status status = run_whole(plan, args, &attention, &taken);
    return attend_gpu_release_pages(plan, &taken.pages, status);
}
