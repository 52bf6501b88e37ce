/* What a caller brought to a streamed run: where each tensor lies, and the part of it that a step is about.
   */
#include "gpu/pipeline.h"

#include <string.h>

/* ---- tensors of a step ---- */

/* Where a attend_gpu_source's elements of the box begin, and how many there are, by its axes. */
static void extents(const attend_gpu_pipeline *l, int index, const attend_kernel_box *box,
                    int64_t first[ATTEND_MAX_RANK], int64_t count[ATTEND_MAX_RANK])
{
    const attend_problem *p = &l->plan->problem;
    const attend_tensor *t = l->sources[index].given;
    const int64_t group = p->num_heads / p->num_kv_heads;
    int64_t query = box->first_query - l->part->first_query, queries = box->end_query - box->first_query,
            key = box->first_key - l->part->first, keys = box->end_key - box->first_key,
            batch = box->first_batch, batches = box->batch;
    if (p->packed) query = key = batch = 0, batches = 1, queries = p->total_q, keys = p->total_k;
    const int64_t head = box->first_kv_head * group, heads = box->kv_heads * group;
    switch (index) {
    case K:
    case V:
        if (l->part->keys.table) {
            first[2] = box->first_kv_head;
            memcpy(count, (int64_t[]){t->shape[0], t->shape[1], box->kv_heads, t->shape[3]},
                   4 * sizeof *count);
            break;
        }
        memcpy(first, (int64_t[]){batch, key, box->first_kv_head, 0}, 4 * sizeof *first);
        memcpy(count, (int64_t[]){batches, keys, box->kv_heads, t->shape[3]}, 4 * sizeof *count);
        break;
    case MASK:
    case BIAS:
        memcpy(first, (int64_t[]){batch, head, box->first_query, box->first_key}, 4 * sizeof *first);
        memcpy(count, (int64_t[]){batches, heads, queries, keys}, 4 * sizeof *count);
        for (int axis = 0; axis < 2; axis++)
            if (t->stride[axis] == 0) first[axis] = 0, count[axis] = 1;
        break;
    case Q:
    case OUT:
    case FROM_OUT:
    case INTO_OUT:
        memcpy(first, (int64_t[]){batch, query, head, 0}, 4 * sizeof *first);
        memcpy(count, (int64_t[]){batches, queries, heads, t->shape[3]}, 4 * sizeof *count);
        break;
    default:
        memcpy(first, (int64_t[]){batch, head, query}, 3 * sizeof *first);
        memcpy(count, (int64_t[]){batches, heads, queries}, 3 * sizeof *count);
        break;
    }
}

/* The box's part of what the caller brought. */
attend_tensor attend_gpu_given_part(const attend_gpu_pipeline *l, int index, const attend_kernel_box *box)
{
    int64_t first[ATTEND_MAX_RANK] = {0}, count[ATTEND_MAX_RANK] = {0}, offset = 0;
    attend_tensor t = *l->sources[index].given;
    if (!t.data) return t;
    extents(l, index, box, first, count);
    for (int axis = 0; axis < t.rank; axis++)
        t.shape[axis] = count[axis], offset += first[axis] * t.stride[axis];
    t.data = (char *)t.data + offset * (int64_t)attend_dtype_bytes(t.dtype);
    return t;
}

/* The same in a buffer: without gaps, but that rows of queries and keys are aligned. */
attend_tensor attend_gpu_buffer_part(const attend_gpu_pipeline *l, int index, const attend_gpu_step *step)
{
    const attend_problem *p = &l->plan->problem;
    const attend_gpu_offload *o = &l->own->offload;
    const attend_gpu_buffer buffer = l->sources[index].buffer;
    const int64_t slots = attend_gpu_slots(&o->blocks, buffer), turn = buffer >= ATTEND_GPU_MASK ? step->index
                                                                       : buffer >= ATTEND_GPU_KEYS
                                                                           ? step->load
                                                                           : step->block;
    int64_t first[ATTEND_MAX_RANK] = {0}, count[ATTEND_MAX_RANK] = {0}, stride = 1;
    attend_tensor t = *l->sources[index].given;
    extents(l, index, &step->box, first, count);
    for (int axis = t.rank - 1; axis >= 0; axis--) {
        t.shape[axis] = count[axis], t.stride[axis] = stride;
        const bool pitched = axis == t.rank - 1 && (buffer == ATTEND_GPU_QUERIES ||
                                                    buffer == ATTEND_GPU_KEYS || buffer == ATTEND_GPU_VALUES);
        stride *= pitched ? attend_gpu_pitch(p, buffer) : count[axis];
    }
    t.data =
        (char *)o->buffers[buffer] + (size_t)(turn % slots) * attend_gpu_slot_bytes(p, &o->blocks, buffer);
    return t;
}

bool attend_gpu_streams(const attend_gpu_pipeline *l, int index)
{
    return l->sources[index].place != ATTEND_GPU_ON_DEVICE;
}

/* What the kernel works on. */
attend_tensor attend_gpu_device_part(const attend_gpu_pipeline *l, int index, const attend_gpu_step *step)
{
    return attend_gpu_streams(l, index) ? attend_gpu_buffer_part(l, index, step)
                                        : attend_gpu_given_part(l, index, &step->box);
}

attend_plane attend_gpu_plane_of_part(const attend_gpu_pipeline *l, int index, const attend_gpu_step *step)
{
    const attend_kernel_box *box = &step->box;
    const attend_tensor *given = l->sources[index].given, t = attend_gpu_buffer_part(l, index, step);
    const int64_t batch = given->stride[0] ? t.stride[0] : 0, head = given->stride[1] ? t.stride[1] : 0,
                  group = l->plan->problem.num_heads / l->plan->problem.num_kv_heads,
                  before = box->first_batch * batch + box->first_kv_head * group * head +
                           box->first_query * t.stride[2] + box->first_key * t.stride[3];
    const uintptr_t first = (uintptr_t)t.data - (uintptr_t)before * attend_dtype_bytes(t.dtype);
    return (attend_plane){(const void *)first, batch, head, t.stride[2], t.stride[3], t.dtype};
}

/* ---- what the caller brought ---- */

static attend_status check_place(const attend_gpu_pipeline *l, const attend_gpu_source *s,
                                 attend_host_tensors needed)
{
    if (s->place == ATTEND_GPU_ON_DEVICE || l->own->offload.host_tensors & needed) return ATTEND_OK;
    return attend_gpu_refuse_host(&l->gpu, s->name, needed);
}

attend_status attend_gpu_find_sources(attend_gpu_pipeline *l, const attend_attention_args *args,
                                      const attend_tensor no_state[3])
{
    const attend_gpu_offload *o = &l->own->offload;
    const attend_key_part *part = l->part;
    const attend_gpu_source all[SOURCES] = {
        [Q] = {"q", &args->q, ATTEND_GPU_QUERIES, 0},
        [K] = {"k", &args->k, ATTEND_GPU_KEYS, 0},
        [V] = {"v", &args->v, ATTEND_GPU_VALUES, 0},
        [MASK] = {"mask", &args->features->mask, ATTEND_GPU_MASK, 0},
        [BIAS] = {"bias", &args->features->bias, ATTEND_GPU_BIAS, 0},
        [OUT] = {"out", &args->out, ATTEND_GPU_QUERIES, 0},
        [LSE] = {"lse", &args->lse, ATTEND_GPU_LSE, 0},
        [FROM_OUT] = {"from.out", &part->from.out, ATTEND_GPU_STATE_OUT, 0},
        [FROM_MAX] = {"from.max", &part->from.max, ATTEND_GPU_STATE_MAX, 0},
        [FROM_SUM] = {"from.sum", &part->from.sum, ATTEND_GPU_STATE_SUM, 0},
        [INTO_OUT] = {"into.out", &part->into.out, ATTEND_GPU_STATE_OUT, 0},
        [INTO_MAX] = {"into.max", &part->into.max, ATTEND_GPU_STATE_MAX, 0},
        [INTO_SUM] = {"into.sum", &part->into.sum, ATTEND_GPU_STATE_SUM, 0},
    };
    memcpy(l->sources, all, sizeof all);
    for (int i = 0; i < SOURCES; i++) {
        attend_gpu_source *s = &l->sources[i];
        const bool resident =
            (i == MASK && !o->blocks.streams_mask) || (i == BIAS && !o->blocks.streams_bias);
        if (!resident) ATTEND_TRY(attend_gpu_place_of(&l->gpu, s->name, s->given, &s->place));
        ATTEND_TRY(check_place(l, s,
                               i <= BIAS  ? ATTEND_HOST_INPUTS
                               : i <= LSE ? ATTEND_HOST_OUTPUTS
                                          : ATTEND_HOST_STATES));
        if (i >= FROM_OUT && !s->given->data) s->given = &no_state[(i - FROM_OUT) % 3];
    }
    return ATTEND_OK;
}

/* Lists that the host can read tell which keys a block sees. */
attend_status attend_gpu_find_steps(attend_gpu_pipeline *l, const attend_attention_args *args)
{
    const int64_t *const lists[] = {args->features->seqlens_q, args->features->seqlens_k,
                                    args->features->starts_k};
    bool readable = true, on_host;
    for (int i = 0; i < 3; i++) {
        if (!lists[i]) continue;
        ATTEND_TRY(attend_gpu_is_on_host(&l->gpu, "a list", lists[i], &on_host));
        readable = readable && on_host;
    }
    l->lists = attend_lists_of(args->features);
    l->steps = (attend_gpu_steps){.problem = &l->plan->problem,
                                  .blocks = &l->own->offload.blocks,
                                  .lists = readable ? &l->lists : NULL,
                                  .whole = attend_gpu_box_of(&l->plan->problem, l->part)};
    return ATTEND_OK;
}
