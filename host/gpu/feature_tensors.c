/* Feature tensors and lists of lengths on their way to the device. The plan reserves staging for those on the
   host; axes along which a tensor does not vary take no room. */
#include "gpu/gpu.h"
#include "shared/relative.h"

#include <stdlib.h>

/* The extents that memory holds: 1 along axes without variation. */
static void held_shape(const attend_feature_shape *e, int64_t shape[ATTEND_MAX_RANK])
{
    for (int i = 0; i < e->rank; i++) shape[i] = e->varies[i] ? e->shape[i] : 1;
}

/* A run brings it part by part: pipeline.c. */
static bool is_streamed(const attend_gpu_plan *own, attend_feature_tensor feature)
{
    return (feature == ATTEND_FEATURE_TENSOR_MASK && own->offload.blocks.streams_mask) ||
           (feature == ATTEND_FEATURE_TENSOR_BIAS && own->offload.blocks.streams_bias);
}

void attend_gpu_reserve_features(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_features *features = &own->features;
    const attend_problem *p = &plan->problem;
    for (int i = 0; i < ATTEND_FEATURE_LISTS; i++)
        attend_gpu_reserve(&arenas->run, (void **)&features->lists[i], p->batch + 1, sizeof(int64_t));
    own->list_slots = arenas->run.count, own->list_bytes = arenas->run.bytes;
    attend_gpu_reserve(&arenas->constants, (void **)&features->relative_buckets, attend_relative_distances(p),
                       sizeof(int32_t));
    int64_t id_blocks = 0;
    if (p->segments &&
        !attend_multiply(attend_tensor_batch(p), attend_id_blocks(attend_rows_k(p)), &id_blocks))
        arenas->run.overflow = true;
    attend_gpu_reserve(&arenas->run, (void **)&features->key_ids, id_blocks, sizeof(attend_ids));
    for (int i = 0; i < ATTEND_FEATURE_TENSORS; i++) {
        attend_feature_shape e = attend_feature_expected(p, (attend_feature_tensor)i);
        int64_t shape[ATTEND_MAX_RANK];
        held_shape(&e, shape);
        if (e.rank && own->offload.host_tensors & ATTEND_HOST_INPUTS &&
            !is_streamed(own, (attend_feature_tensor)i))
            attend_gpu_reserve_tensor(&arenas->staging, &features->tensors[i],
                                      attend_feature_dtype((attend_feature_tensor)i), e.rank, shape);
    }
}

attend_status attend_gpu_create_features(attend_plan *plan)
{
    const attend_gpu_plan *own = plan->state;
    int64_t count = attend_relative_distances(&plan->problem);
    if (count == 0) return ATTEND_OK;
    int32_t *buckets = malloc((size_t)count * sizeof *buckets);
    if (!buckets)
        return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for the buckets of %d distances",
                           plan->problem.relative_max_distance);
    attend_relative_fill(&plan->problem, buckets);
    cudaError_t error =
        cudaMemcpyAsync(own->features.relative_buckets, buckets, (size_t)count * sizeof *buckets,
                        cudaMemcpyHostToDevice, own->gpu->stream);
    if (!error) error = cudaStreamSynchronize(own->gpu->stream);
    free(buckets);
    return attend_gpu_check(error, "cudaMemcpyAsync of the relative buckets");
}

static attend_status take_list(const attend_gpu_context *gpu, const attend_feature_list *l, int64_t *staging,
                               int64_t batch)
{
    const int64_t *given = *l->list;
    bool on_host;
    ATTEND_TRY(attend_gpu_is_on_host(gpu, l->name, given, &on_host));
    if (!on_host || batch == 0) return ATTEND_OK;
    ATTEND_TRY(attend_feature_list_check(l, batch));
    *l->list = staging;
    return attend_gpu_check(attend_set_lengths(staging, given, l->total < 0 ? batch : batch + 1, gpu->stream),
                            "cudaLaunchKernel of set_lengths");
}

/* A tensor on the host is copied without its broadcast axes. */
static attend_status take_feature(const attend_plan *plan, attend_feature_tensor feature,
                                  attend_feature_args *features)
{
    attend_tensor *use = attend_feature_tensor_of(features, feature);
    const attend_gpu_plan *own = plan->state;
    attend_feature_shape e = attend_feature_expected(&plan->problem, feature);
    attend_tensor given = *use, copy = own->features.tensors[feature], taken;
    if (!given.data || (own->offload.streaming && is_streamed(own, feature))) return ATTEND_OK;
    held_shape(&e, given.shape);
    copy.dtype = given.dtype; /* the room is enough for its elements */
    ATTEND_TRY(attend_gpu_take_input(own->gpu, attend_feature_tensor_name(feature), &given, &copy, &taken));
    if (taken.data == given.data) return ATTEND_OK;
    *use = taken;
    for (int i = 0; i < e.rank; i++)
        if (!e.varies[i]) use->shape[i] = e.shape[i], use->stride[i] = 0;
    return ATTEND_OK;
}

attend_status attend_gpu_take_features(const attend_plan *plan, attend_feature_args *use)
{
    const attend_gpu_plan *own = plan->state;
    const attend_gpu_context *gpu = own->gpu;
    const attend_problem *p = &plan->problem;
    bool offsets_on_host, indices_on_host;
    for (int i = 0; i < ATTEND_FEATURE_LISTS; i++) {
        const attend_feature_list list = attend_feature_list_of(p, use, i);
        ATTEND_TRY(take_list(gpu, &list, own->features.lists[i], p->batch));
    }
    ATTEND_TRY(attend_gpu_is_on_host(gpu, "block_offsets", use->block_offsets.data, &offsets_on_host));
    ATTEND_TRY(attend_gpu_is_on_host(gpu, "block_indices", use->block_indices.data, &indices_on_host));
    if (offsets_on_host && indices_on_host)
        ATTEND_TRY(attend_block_list_check(p, &use->block_offsets, &use->block_indices));
    for (int i = 0; i < ATTEND_FEATURE_TENSORS; i++)
        ATTEND_TRY(take_feature(plan, (attend_feature_tensor)i, use));
    return ATTEND_OK;
}

attend_status attend_gpu_make_terms(const attend_plan *plan, const attend_feature_args *on_device,
                                    attend_terms *terms)
{
    const attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    *terms = attend_terms_of(on_device);
    terms->relative_buckets = own->features.relative_buckets;
    if (!p->segments) return ATTEND_OK;
    terms->key_ids = own->features.key_ids, terms->key_id_blocks = attend_id_blocks(attend_rows_k(p));
    return attend_gpu_check(attend_note_segments(&terms->segments_k, attend_tensor_batch(p), attend_rows_k(p),
                                                 own->features.key_ids, own->gpu->stream),
                            "cudaLaunchKernel of note_segments");
}
