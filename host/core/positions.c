/* Learned positions: the check against their table. */
#include "core/positions.h"
#include "core/status.h"
#include "shared/shape.h"

#include <inttypes.h>

static attend_status check_given(const attend_problem *p, const attend_row_positions *row_positions)
{
    for (int64_t b = 0; b < attend_tensor_batch(p); b++)
        for (int64_t i = 0; i < attend_rows_q(p); i++) {
            if (!attend_is_there(row_positions, b, i)) continue;
            const int64_t position = attend_row_position(row_positions, b, i);
            if (position < 0 || position >= p->max_positions)
                return attend_fail(ATTEND_INVALID_ARGUMENT,
                                   "positions[%" PRId64 ", %" PRId64 "] is %" PRId64
                                   ", but position_table has max_positions (%" PRId64 ") rows",
                                   b, i, position, p->max_positions);
        }
    return ATTEND_OK;
}

attend_status attend_absolute_check(const attend_problem *p, const attend_row_positions *row_positions)
{
    const int64_t *firsts = row_positions->firsts, *starts = row_positions->starts;
    int64_t longest = 0;
    if (p->absolute != ATTEND_ABSOLUTE_LEARNED) return ATTEND_OK;
    if (row_positions->positions) return check_given(p, row_positions);
    for (int64_t b = 0; b < p->batch; b++) {
        const int64_t tokens = attend_length(row_positions->lengths, b, p->seqlen_q);
        if (tokens == 0) continue;
        longest = attend_most(longest, tokens + (firsts ? firsts[b] : 0) - (starts ? starts[b] : 0));
    }
    if (longest <= p->max_positions - p->first_position || longest == 0) return ATTEND_OK;
    return attend_fail(ATTEND_INVALID_ARGUMENT,
                       "a sequence of %" PRId64 " tokens from first_position (%" PRId64
                       ") on goes beyond position_table, which has max_positions (%" PRId64 ") rows",
                       longest, p->first_position, p->max_positions);
}
