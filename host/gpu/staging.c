/* Copies between the host and compact tensors on the device. Page-locked memory is copied as it lies;
   pageable memory passes through pieces of pinned memory, which host threads fill and empty. */
#include "gpu/gpu.h"
#include "gpu/range.h"

#include <string.h>

attend_status attend_gpu_place_of(const attend_gpu_context *gpu, const char *name, const attend_tensor *t,
                                  attend_gpu_place *place)
{
    struct cudaPointerAttributes attributes;
    uintptr_t begin, end;
    bool on_host;
    *place = ATTEND_GPU_ON_DEVICE;
    if (!t->data || attend_tensor_elements(t) == 0) return ATTEND_OK;
    ATTEND_TRY(attend_gpu_is_on_host(gpu, name, t->data, &on_host));
    if (!on_host) return ATTEND_OK;
    *place = ATTEND_GPU_PAGE_LOCKED;
    attend_tensor_extent(t, &begin, &end);
    const void *const ends[] = {t->data, (const void *)(end - 1)};
    for (int i = 0; i < 2; i++) {
        ATTEND_TRY(
            attend_gpu_check(cudaPointerGetAttributes(&attributes, ends[i]), "cudaPointerGetAttributes"));
        if (attributes.type == cudaMemoryTypeUnregistered) *place = ATTEND_GPU_PAGEABLE;
    }
    return ATTEND_OK;
}

/* ---- pageable memory ---- */

/* Some consecutive elements of a compact tensor, and the same of a view on the host. */
typedef struct moving {
    const attend_tensor *compact, *host;
    char *piece; /* element `first` */
    int64_t first, end, share;
    bool to_host;
} moving;

static void move_line(const moving *m, int64_t line, int64_t first, int64_t end)
{
    const attend_tensor *h = m->host;
    const int last = h->rank - 1;
    const int64_t element = (int64_t)attend_dtype_bytes(h->dtype), step = h->stride[last];
    int64_t at = first * step;
    for (int axis = last - 1; axis >= 0; axis--)
        at += line % h->shape[axis] * h->stride[axis], line /= h->shape[axis];
    char *host = (char *)h->data + at * element, *piece = m->piece;
    if (step == 1 || end - first == 1) {
        memcpy(m->to_host ? host : piece, m->to_host ? piece : host, (size_t)((end - first) * element));
        return;
    }
    for (int64_t i = 0; i < end - first; i++) {
        char *const a = host + i * step * element, *const b = piece + i * element;
        memcpy(m->to_host ? a : b, m->to_host ? b : a, (size_t)element);
    }
}

/* What lies between the lines of the compact tensor is left alone. */
static void move_share(void *job, int64_t index, int thread)
{
    const moving *all = job;
    const int last = all->host->rank - 1;
    const int64_t columns = all->host->shape[last], pitch = all->compact->stride[last - 1],
                  element = (int64_t)attend_dtype_bytes(all->host->dtype),
                  first = all->first + index * all->share,
                  end = first + all->share < all->end ? first + all->share : all->end;
    (void)thread;
    for (int64_t at = first; at < end;) {
        const int64_t line = at / pitch, column = at % pitch, line_end = (line + 1) * pitch,
                      stop = line_end < end ? line_end : end, column_end = stop - line * pitch;
        moving m = *all;
        m.piece += (at - all->first) * element;
        if (column < columns) move_line(&m, line, column, column_end < columns ? column_end : columns);
        at = stop;
    }
}

static void move(const attend_gpu_context *gpu, moving *m)
{
    enum { SHARE_BYTES = 1 << 17 };
    const int64_t element = (int64_t)attend_dtype_bytes(m->host->dtype), count = m->end - m->first;
    m->share = SHARE_BYTES / element;
    attend_pool_run(gpu->pool, (count + m->share - 1) / m->share, 0.1 * (double)(count * element), move_share,
                    m);
}

static int64_t compact_elements(const attend_tensor *t)
{
    int64_t lines = 1;
    for (int axis = 0; axis < t->rank - 1; axis++) lines *= t->shape[axis];
    return lines * t->stride[t->rank - 2];
}

static attend_status wait_for_piece(const attend_gpu_pinned *pinned, int piece)
{
    return attend_gpu_check(cudaEventSynchronize(pinned->copied[piece]), "cudaEventSynchronize");
}

static attend_status bring_pageable(const attend_gpu_context *gpu, attend_gpu_pinned *pinned,
                                    const attend_tensor *to, const attend_tensor *from)
{
    const int64_t element = (int64_t)attend_dtype_bytes(to->dtype), all = compact_elements(to),
                  step = (int64_t)pinned->piece_bytes / element;
    for (int64_t first = 0; first < all; first += step) {
        const int n = pinned->next;
        moving m = {to,
                    from,
                    pinned->memory + (size_t)n * pinned->piece_bytes,
                    first,
                    first + step < all ? first + step : all,
                    0,
                    false};
        pinned->next = (n + 1) % ATTEND_GPU_PINNED;
        ATTEND_TRY(wait_for_piece(pinned, n));
        move(gpu, &m);
        ATTEND_TRY(attend_gpu_check(cudaMemcpyAsync((char *)to->data + first * element, m.piece,
                                                    (size_t)((m.end - first) * element),
                                                    cudaMemcpyHostToDevice, gpu->stream),
                                    "cudaMemcpyAsync"));
        ATTEND_TRY(attend_gpu_check(cudaEventRecord(pinned->copied[n], gpu->stream), "cudaEventRecord"));
    }
    return ATTEND_OK;
}

/* While one piece is emptied the next is on its way. Returns when the last is there. */
static attend_status give_pageable(const attend_gpu_context *gpu, attend_gpu_pinned *pinned,
                                   const attend_tensor *to, const attend_tensor *from)
{
    const int64_t element = (int64_t)attend_dtype_bytes(to->dtype), all = compact_elements(from),
                  step = (int64_t)pinned->piece_bytes / element;
    moving before = {0};
    int filled = 0;
    for (int64_t first = 0; first < all || before.piece; first += step) {
        const int n = pinned->next;
        moving m = {from,
                    to,
                    pinned->memory + (size_t)n * pinned->piece_bytes,
                    first,
                    first + step < all ? first + step : all,
                    0,
                    true};
        if (first < all) {
            pinned->next = (n + 1) % ATTEND_GPU_PINNED;
            ATTEND_TRY(wait_for_piece(pinned, n));
            ATTEND_TRY(attend_gpu_check(cudaMemcpyAsync(m.piece, (const char *)from->data + first * element,
                                                        (size_t)((m.end - first) * element),
                                                        cudaMemcpyDeviceToHost, gpu->stream),
                                        "cudaMemcpyAsync"));
            ATTEND_TRY(attend_gpu_check(cudaEventRecord(pinned->copied[n], gpu->stream), "cudaEventRecord"));
        } else {
            m.piece = NULL;
        }
        if (before.piece) {
            ATTEND_TRY(wait_for_piece(pinned, filled));
            move(gpu, &before);
        }
        before = m, filled = n;
    }
    return ATTEND_OK;
}

/* ---- either ---- */

attend_status attend_gpu_bring(const attend_gpu_context *gpu, attend_gpu_pinned *pinned,
                               attend_gpu_place place, const attend_tensor *to, const attend_tensor *from)
{
    if (attend_tensor_elements(to) == 0) return ATTEND_OK;
    if (place != ATTEND_GPU_PAGEABLE) return attend_gpu_copy(gpu, to, from, cudaMemcpyHostToDevice);
    attend_range_begin("attend: copy in, through pinned memory");
    const attend_status status = bring_pageable(gpu, pinned, to, from);
    attend_range_end();
    return status;
}

attend_status attend_gpu_give(const attend_gpu_context *gpu, attend_gpu_pinned *pinned,
                              attend_gpu_place place, const attend_tensor *to, const attend_tensor *from)
{
    if (attend_tensor_elements(to) == 0) return ATTEND_OK;
    if (place != ATTEND_GPU_PAGEABLE) return attend_gpu_copy(gpu, to, from, cudaMemcpyDeviceToHost);
    attend_range_begin("attend: copy out, through pinned memory");
    const attend_status status = give_pageable(gpu, pinned, to, from);
    attend_range_end();
    return status;
}
