/* What features bring beside q, k and v, on its way to the device: lists of lengths and the small tensors of
   host/core/arguments.h. Room for host copies is reserved with the plan, as large as the axes along which
   they vary. */
#include "gpu/gpu.h"
#include "shared/relative.h"

#include <stdlib.h>

/* The extents that memory holds: 1 along axes without variation. */
static void held_shape(const attend_feature_shape *e, int64_t shape[ATTEND_MAX_RANK])
{
    for (int i = 0; i < e->rank; i++) shape[i] = e->varies[i] ? e->shape[i] : 1;
}

void attend_gpu_reserve_features(attend_plan *plan, attend_gpu_arenas *arenas)
{
    attend_gpu_plan *own = plan->state;
    attend_gpu_features *features = &own->features;
    const attend_problem *p = &plan->problem;
    int64_t **const lists[] = {&features->seqlens_q, &features->seqlens_k, &features->starts_k,
                               &features->cu_seqlens_q, &features->cu_seqlens_k};
    for (int i = 0; i < 5; i++)
        attend_gpu_reserve(&arenas->run, (void **)lists[i], p->batch + 1, sizeof(int64_t));
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
        if (e.rank)
            attend_gpu_reserve_tensor(&arenas->staging, &features->tensors[i],
                                      i == ATTEND_FEATURE_TENSOR_BLOCK_OFFSETS ? ATTEND_I64 : ATTEND_F32,
                                      e.rank, shape);
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

/* One list of args: where it is named, what it may hold, and the room for a copy of the host's. */
typedef struct list {
    const char *name;
    const int64_t **use;
    int64_t *staging, longest, total; /* total -1: lengths, one a batch entry; else cu_seqlens */
} list;

static attend_status take_list(const attend_gpu_context *gpu, const list *l, int64_t batch)
{
    const int64_t *given = *l->use;
    bool on_host, lengths = l->total < 0;
    ATTEND_TRY(attend_gpu_is_on_host(gpu, l->name, given, &on_host));
    if (!on_host || batch == 0) return ATTEND_OK;
    ATTEND_TRY(lengths ? attend_lengths_check(l->name, given, batch, l->longest)
                       : attend_cu_seqlens_check(l->name, given, batch, l->longest, l->total));
    *l->use = l->staging;
    return attend_gpu_check(attend_set_lengths(l->staging, given, lengths ? batch : batch + 1, gpu->stream),
                            "cudaLaunchKernel of set_lengths");
}

static attend_status take_lists(const attend_plan *plan, attend_attention_args *use)
{
    const attend_gpu_plan *own = plan->state;
    const attend_problem *p = &plan->problem;
    const attend_gpu_features *s = &own->features;
    const list lists[] = {
        {"seqlens_q", &use->seqlens_q, s->seqlens_q, p->seqlen_q, -1},
        {"seqlens_k", &use->seqlens_k, s->seqlens_k, p->seqlen_k, -1},
        {"starts_k", &use->starts_k, s->starts_k, p->seqlen_k, -1},
        {"cu_seqlens_q", &use->cu_seqlens_q, s->cu_seqlens_q, p->seqlen_q, p->total_q},
        {"cu_seqlens_k", &use->cu_seqlens_k, s->cu_seqlens_k, p->seqlen_k, p->total_k},
    };
    for (int i = 0; i < 5; i++) ATTEND_TRY(take_list(own->gpu, &lists[i], p->batch));
    return ATTEND_OK;
}

/* A tensor on the host is copied without its broadcast axes. */
static attend_status take_feature(const attend_plan *plan, attend_feature_tensor feature, attend_tensor *use)
{
    const attend_gpu_plan *own = plan->state;
    attend_feature_shape e = attend_feature_expected(&plan->problem, feature);
    attend_tensor given = *use, copy = own->features.tensors[feature], taken;
    if (!given.data) return ATTEND_OK;
    held_shape(&e, given.shape);
    copy.dtype = given.dtype; /* the room is enough for its elements */
    ATTEND_TRY(attend_gpu_take_input(own->gpu, attend_feature_tensor_name(feature), &given, &copy, &taken));
    if (taken.data == given.data) return ATTEND_OK;
    *use = taken;
    for (int i = 0; i < e.rank; i++)
        if (!e.varies[i]) use->shape[i] = e.shape[i], use->stride[i] = 0;
    return ATTEND_OK;
}

attend_status attend_gpu_take_features(const attend_plan *plan, attend_attention_args *use)
{
    attend_feature_pointers features = attend_features_of_attention(use);
    bool offsets_on_host, indices_on_host;
    ATTEND_TRY(take_lists(plan, use));
    ATTEND_TRY(attend_gpu_is_on_host(((attend_gpu_plan *)plan->state)->gpu, "block_offsets",
                                     use->block_offsets.data, &offsets_on_host));
    ATTEND_TRY(attend_gpu_is_on_host(((attend_gpu_plan *)plan->state)->gpu, "block_indices",
                                     use->block_indices.data, &indices_on_host));
    if (offsets_on_host && indices_on_host)
        ATTEND_TRY(attend_block_list_check(&plan->problem, &use->block_offsets, &use->block_indices));
    for (int i = 0; i < ATTEND_FEATURE_TENSORS; i++)
        ATTEND_TRY(take_feature(plan, (attend_feature_tensor)i, features.tensors[i]));
    return ATTEND_OK;
}

attend_status attend_gpu_make_terms(const attend_plan *plan, const attend_attention_args *on_device,
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
