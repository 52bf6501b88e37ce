/* Results over ranges of keys, merged by their LSE; and their conversion from and to states, which hold
   undivided sums relative to a maximum. */
#include "reference/reference.h"

#include <math.h>

static const double ln2 = 0x1.62e42fefa39efp-1;

void attend_reference_join(attend_reference_sums *sums, int64_t columns, const double *out, double lse)
{
    const double top = fmax(sums->lse, lse), a = exp(sums->lse - top), b = exp(lse - top);
    if (lse == -INFINITY) return;
    if (sums->lse == -INFINITY) {
        for (int64_t c = 0; c < columns; c++) sums->out[c] = out[c];
        sums->lse = lse;
        return;
    }
    for (int64_t c = 0; c < columns; c++) sums->out[c] = (sums->out[c] * a + out[c] * b) / (a + b);
    sums->lse = top + log(a + b);
}

void attend_reference_sink(attend_reference_sums *sums, int64_t columns, double sink)
{
    const double top = fmax(sums->lse, sink), a = exp(sums->lse - top), b = exp(sink - top);
    if (sink == -INFINITY) return;
    for (int64_t c = 0; c < columns; c++) sums->out[c] *= a / (a + b);
    sums->lse = top + log(a + b);
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
    const double max = (float)(sums->lse / ln2),
                 sum = sums->lse == -INFINITY ? 0 : exp2(sums->lse / ln2 - max);
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
    attend_reference_join(sums, columns, scratch, max * ln2 + log(sum));
}
