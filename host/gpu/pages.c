/* Keys in pages: the pools are on the device, and the table may be on the host. */
#include "gpu/gpu.h"
#include "core/cache.h"

attend_status attend_gpu_check_pool(const attend_gpu_context *gpu, const char *name,
                                    const attend_tensor *pool)
{
    bool on_host;
    ATTEND_TRY(attend_gpu_is_on_host(gpu, name, pool->data, &on_host));
    if (!on_host || attend_tensor_elements(pool) == 0) return ATTEND_OK;
    return attend_fail(ATTEND_INVALID_ARGUMENT, "%s lies on the host, but CUDA takes it on the device alone",
                       name);
}

/* Copies the table's columns that keys of the part have. */
static attend_status copy_table(const attend_plan *plan, attend_gpu_pages *pages)
{
    const attend_gpu_plan *own = plan->state;
    attend_key_layout *keys = &pages->part.keys;
    const attend_tensor given = {
        .data = (void *)(uintptr_t)keys->table,
        .dtype = ATTEND_I32,
        .rank = 2,
        .shape = {plan->problem.batch, attend_parts_of(pages->part.end, keys->page_size)},
        .stride = {keys->table_batch, keys->table_page}};
    attend_tensor copy;
    attend_gpu_arena arena = {0};
    attend_gpu_reserve_tensor(&arena, &copy, ATTEND_I32, 2, given.shape);
    ATTEND_TRY(attend_gpu_arena_allocate(&arena, &pages->memory));
    keys->table = copy.data, keys->table_batch = copy.stride[0], keys->table_page = copy.stride[1];
    return attend_gpu_copy(own->gpu, &copy, &given, cudaMemcpyHostToDevice);
}

attend_status attend_gpu_take_pages(const attend_plan *plan, const attend_attention_args *args,
                                    const attend_key_part *part, attend_gpu_pages *pages)
{
    const attend_gpu_plan *own = plan->state;
    const int64_t *const lengths = args->features->seqlens_k;
    bool on_host, lengths_on_host = true;
    *pages = (attend_gpu_pages){.part = *part};
    if (!part->keys.table) return ATTEND_OK;
    ATTEND_TRY(attend_gpu_check_pool(own->gpu, "cache.k", &args->k));
    ATTEND_TRY(attend_gpu_check_pool(own->gpu, "cache.v", &args->v));
    ATTEND_TRY(attend_gpu_is_on_host(own->gpu, "cache.block_table", part->keys.table, &on_host));
    if (!on_host) return ATTEND_OK;
    if (own->gpu->no_staging)
        return attend_gpu_refuse_host(own->gpu, "cache.block_table", ATTEND_HOST_INPUTS);
    if (lengths) ATTEND_TRY(attend_gpu_is_on_host(own->gpu, "seqlens_k", lengths, &lengths_on_host));
    if (lengths_on_host) ATTEND_TRY(attend_key_layout_check(&plan->problem, lengths, part));
    return copy_table(plan, pages);
}

attend_status attend_gpu_release_pages(const attend_plan *plan, const attend_gpu_pages *pages,
                                       attend_status status)
{
    const attend_gpu_plan *own = plan->state;
    if (!pages->memory) return status;
    const cudaError_t waited = cudaStreamSynchronize(own->gpu->stream);
    cudaFree(pages->memory);
    return status ? status : attend_gpu_check(waited, "cudaStreamSynchronize");
}
