/* The memory of a plan: every buffer that a run needs is sized first, then all are one allocation. */
#include "gpu/gpu.h"

enum { ALIGNMENT = 256, ROW_ALIGNMENT = 16 };

void attend_gpu_reserve(attend_gpu_arena *arena, void **slot, int64_t elements, size_t bytes)
{
    int64_t size, end;
    bool fits = attend_multiply(elements, (int64_t)bytes, &size) && size <= INT64_MAX - ALIGNMENT;
    size = fits ? (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : 0;
    if (__builtin_add_overflow((int64_t)arena->bytes, size, &end) || !fits ||
        arena->count == ATTEND_GPU_SLOTS) {
        arena->overflow = true;
        return;
    }
    arena->slots[arena->count] = slot;
    arena->offsets[arena->count++] = arena->bytes;
    arena->bytes = (size_t)end;
}

int64_t attend_gpu_whole_rows(int64_t elements, size_t bytes)
{
    const int64_t vector = ROW_ALIGNMENT / (int64_t)bytes;
    return (elements + vector - 1) / vector * vector;
}

void attend_gpu_reserve_tensor(attend_gpu_arena *arena, attend_tensor *tensor, attend_dtype dtype, int rank,
                               const int64_t *shape)
{
    const size_t element = attend_dtype_bytes(dtype);
    int64_t elements = 1;
    *tensor = (attend_tensor){.dtype = dtype, .rank = rank};
    for (int axis = rank - 1; axis >= 0; axis--) {
        tensor->shape[axis] = shape[axis];
        tensor->stride[axis] = elements;
        int64_t extent = axis == rank - 1 ? attend_gpu_whole_rows(shape[axis], element) : shape[axis];
        if (!attend_multiply(elements, extent, &elements)) arena->overflow = true, elements = 0;
    }
    attend_gpu_reserve(arena, &tensor->data, elements, element);
}

void attend_gpu_reserve_within(attend_gpu_arena *arena, void **slot, void *const *other, int64_t bytes)
{
    int i = 0;
    while (i < arena->count && arena->slots[i] != other) i++;
    if (arena->count == ATTEND_GPU_SLOTS || i == arena->count) {
        arena->overflow = true;
        return;
    }
    arena->slots[arena->count] = slot;
    arena->offsets[arena->count++] = arena->offsets[i] + (size_t)bytes;
}

attend_status attend_gpu_arena_check(const attend_gpu_arena *arena)
{
    return arena->overflow
               ? attend_fail(ATTEND_OUT_OF_MEMORY, "the plan needs more bytes than 63 bits can count")
               : ATTEND_OK;
}

void attend_gpu_arena_rebase(const attend_gpu_arena *arena, void *memory, const void *owner, void *copy)
{
    for (int i = 0; i < arena->count; i++)
        *(void **)((char *)copy + ((const char *)arena->slots[i] - (const char *)owner)) =
            (char *)memory + arena->offsets[i];
}

attend_status attend_gpu_arena_allocate(attend_gpu_arena *arena, void **memory)
{
    *memory = NULL;
    ATTEND_TRY(attend_gpu_arena_check(arena));
    if (arena->bytes == 0) return ATTEND_OK;
    attend_status status =
        attend_gpu_check(cudaMalloc(memory, arena->bytes), "cudaMalloc of a plan's memory");
    if (status) {
        *memory = NULL;
        return status == ATTEND_OUT_OF_MEMORY
                   ? attend_fail(status, "the device has no room for the plan's %zu bytes", arena->bytes)
                   : status;
    }
    for (int i = 0; i < arena->count; i++) *arena->slots[i] = (char *)*memory + arena->offsets[i];
    return ATTEND_OK;
}
