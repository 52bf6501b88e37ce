/* Scores one by one, where a problem asks for more than scale·q·k or hides keys within a row's interval. */
#include "elements.h"

void attend_cpu_elements_apply(const void *state, const attend_cpu_scores *t)
{
    const attend_cpu_elements *e = state;
    for (int64_t r = 0; r < t->rows; r++) {
        const attend_head *h = &e->heads[(t->first_row + r) % e->group];
        int64_t row = (t->first_row + r) / e->group, begin = 0, end = 0;
        if (row < h->sequence.seqlen_q) {
            begin = attend_clamp(attend_visible_begin(h->problem, &h->sequence, row) - t->first_key, 0, t->keys);
            end = attend_clamp(attend_visible_end(h->problem, &h->sequence, row) - t->first_key, 0, t->keys);
        }
        float *scores = t->scores + r * t->row_stride;
        for (int64_t k = begin; k < end; k++) {
            float *s = scores + k * t->key_stride;
            *s = attend_element_score(h, row, t->first_key + k, *s) * ATTEND_CPU_LOG2E;
        }
    }
}

bool attend_cpu_elements_hidden(const void *state, const attend_cpu_scores *t)
{
    const attend_cpu_elements *e = state;
    const attend_sequence *s = &e->heads[0].sequence;
    int64_t first = t->first_row / e->group, end = (t->first_row + t->rows - 1) / e->group + 1;
    if (end > s->seqlen_q) end = s->seqlen_q;
    for (int64_t h = 0; h < e->group && first < end; h++)
        if (!attend_tile_hidden(&e->heads[h], first, end - first, t->first_key, t->keys)) return false;
    return true;
}
