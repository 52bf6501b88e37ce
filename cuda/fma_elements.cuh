// Elementwise masks and score terms (host/shared/score.h) of a tile of S in shared memory, by its threads.
#pragma once

#include "fma_tile.cuh"
#include "kernels.h"

namespace attend
{

// Turns a thread's cells from q·k to scores, -infinity where a key is hidden: `fma_rows` rows of the tile
// down, `columns` of them fma_across apart. Rows are queries and columns keys or, where `by_keys`, the other
// way round; row0 and key0 are those of the first cell. slopes, where a softcap bends scores: of each cell,
// the derivative of the score by scale·q·k. Rows from end_row on see nothing, nor is a key seen that lacks
// its page; pages NULL: keys are in one piece. Not inlined, so that it takes no registers from problems
// without such features.
template <int columns, int pitch, bool by_keys>
__device__ __noinline__ void score_elements(const attend_head &head, float *cells, float *slopes,
                                            int64_t row0, int64_t key0, int64_t end_row,
                                            const attend_key_layout *pages)
{
    const attend_problem &problem = *head.problem;
    const attend_sequence &sequence = head.sequence;
    const bool scored = attend_adds_terms(&problem);
#pragma unroll 1
    for (int n = 0; n < fma_rows * columns; n++) {
        const int down = n / columns, along = n % columns * fma_across, cell = down * pitch + along;
        const int64_t row = row0 + (by_keys ? along : down), key = key0 + (by_keys ? down : along);
        const float dot = cells[cell];
        const bool inside = row < end_row && key >= attend_visible_begin(&problem, &sequence, row) &&
                            key < attend_visible_end(&problem, &sequence, row);
        if (!inside || !attend_element_visible(&head, row, key) ||
            (pages && !has_page(*pages, sequence, key)))
            cells[cell] = -INFINITY;
        else if (scored)
            cells[cell] = attend_visible_score(&head, row, key, dot);
        if (slopes && problem.softcap > 0) slopes[cell] = attend_softcap_slope(&problem, dot * head.scale);
    }
}

} // namespace attend
