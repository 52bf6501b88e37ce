/* A resolved request of an inspection, and the rules of attend/inspect.h that the reference, the CPU and the
   CUDA kernel share (plain C, also compiled by nvcc). */
#ifndef ATTEND_CORE_INSPECT_H
#define ATTEND_CORE_INSPECT_H

#include "shared/visibility.h"

#include <attend/inspect.h>

typedef struct attend_inspect_request {
    /* tensors with explicit strides; the map's extents filled in; lists are the caller's, on the host */
    attend_inspection want;
    int64_t top; /* keys to list for a query; 0: none */
    attend_key_window
        windows[ATTEND_MAX_KEY_WINDOWS]; /* limits clipped, so that adding a position does not overflow */
} attend_inspect_request;

/* The keys of a window for one query of a sequence: [*begin, *end), within the sequence. */
ATTEND_SHARED void attend_window_keys(const attend_problem *p, const attend_sequence *s,
                                      const attend_key_window *window, int64_t row, int64_t *begin,
                                      int64_t *end)
{
    const int64_t from = window->absolute ? s->start : attend_position(p, s, row);
    *begin = attend_clamp(from + window->first, 0, s->seqlen_k);
    *end = attend_clamp(from + window->last + 1, *begin, s->seqlen_k);
}

/* The tile of position `at` of `count`, and where a tile begins; attend_inspection.map defines both. */
ATTEND_SHARED int64_t attend_map_tile(int64_t at, int64_t count, int64_t tiles)
{
    return ((at + 1) * tiles - 1) / count;
}
ATTEND_SHARED int64_t attend_map_begin(int64_t tile, int64_t count, int64_t tiles)
{
    return tile * count / tiles;
}

#endif
