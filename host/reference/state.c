/* Results over ranges of keys, and how they are merged; and their conversion from and to states, which hold
   undivided sums relative to a maximum. */
#include "reference/reference.h"
#include "shared/running_max.h"

#include <math.h>

static const double ln2 = 0x1.62e42fefa39efp-1;

double attend_reference_carried(double max)
{
    return fabs(max) < ATTEND_HUGE_SCORE ? max : attend_score_of_max(attend_max_of_huge((float)max));
}

void attend_reference_join(attend_reference_sums *sums, int64_t columns, const attend_reference_sums *more)
{
    const double top = fmax(sums->max, more->max);
    if (more->max == -INFINITY) return;
    if (sums->max == -INFINITY) {
        for (int64_t c = 0; c < columns; c++) sums->out[c] = more->out[c];
        sums->max = more->max, sums->log_sum = more->log_sum;
        return;
    }
    const double a = exp(sums->max - top + sums->log_sum), b = exp(more->max - top + more->log_sum);
    for (int64_t c = 0; c < columns; c++) sums->out[c] = (sums->out[c] * a + more->out[c] * b) / (a + b);
    sums->max = top, sums->log_sum = log(a + b);
}

void attend_reference_sink(attend_reference_sums *sums, int64_t columns, double sink)
{
    const double top = fmax(sums->max, sink), a = exp(sums->max - top + sums->log_sum), b = exp(sink - top);
    if (sink == -INFINITY) return;
    for (int64_t c = 0; c < columns; c++) sums->out[c] *= a / (a + b);
    sums->max = top, sums->log_sum = log(a + b);
}

typedef struct offsets {
    int64_t out, max, sum;
} offsets;

static offsets offsets_of(const attend_state *s, int64_t batch, int64_t query, int64_t head)
{
    const attend_tensor *o = &s->out, *m = &s->max, *l = &s->sum;
    return (offsets){batch * o->stride[0] + query * o->stride[1] + head * o->stride[2],
                     batch * m->stride[0] + head * m->stride[1] + query * m->stride[2],
                     batch * l->stride[0] + head * l->stride[1] + query * l->stride[2]};
}

void attend_reference_leave(const attend_reference_sums *sums, int64_t columns, const attend_state *state,
                            int64_t batch, int64_t query, int64_t head)
{
    const offsets at = offsets_of(state, batch, query, head);
    /* below huge scores the sum makes up for the rounding of max */
    const bool huge = fabs(sums->max) >= ATTEND_HUGE_SCORE;
    const float max =
        huge ? attend_max_of_huge((float)sums->max) : (float)((sums->max + sums->log_sum) / ln2);
    const double rest = huge ? sums->log_sum / ln2 : (sums->max + sums->log_sum) / ln2 - max,
                 sum = sums->max == -INFINITY ? 0 : exp2(rest);
    attend_store(&state->max, at.max, max);
    attend_store(&state->sum, at.sum, sum);
    for (int64_t c = 0; c < columns; c++) attend_store(&state->out, at.out + c, sums->out[c] * sum);
}

void attend_reference_take_up(attend_reference_sums *sums, int64_t columns, const attend_state *state,
                              int64_t batch, int64_t query, int64_t head, double *scratch)
{
    const offsets at = offsets_of(state, batch, query, head);
    const double sum = attend_load(&state->sum, at.sum), max = attend_load(&state->max, at.max);
    if (sum == 0) return;
    for (int64_t c = 0; c < columns; c++) scratch[c] = attend_load(&state->out, at.out + c) / sum;
    attend_reference_join(sums, columns,
                          &(attend_reference_sums){scratch, attend_score_of_max((float)max), log(sum)});
}
