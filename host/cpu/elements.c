/* Tables and per-row values that tiles of scores need: computed once a run, or once a panel of rows. */
#include "cpu/elements.h"

#include <float.h>
#include <math.h>

attend_ids attend_cpu_key_ids(const attend_head *h, int64_t block)
{
    attend_ids ids = attend_no_ids();
    const attend_plane *segments = &h->terms->segments_k;
    const int64_t end = attend_clamp((block + 1) * ATTEND_CPU_BLOCK, 0, h->sequence.seqlen_k);
    for (int64_t key = block * ATTEND_CPU_BLOCK; key < end; key++)
        attend_ids_add(&ids,
                       attend_segment(segments, &h->sequence, (h->sequence.first_k + key) * segments->key));
    return ids;
}

void attend_cpu_fill_relative(const attend_head *h, float *table)
{
    const attend_problem *p = h->problem;
    const attend_terms *t = h->terms;
    const int64_t limit = p->relative_max_distance,
                  end = attend_cpu_relative_reach(p) + ATTEND_CPU_RELATIVE_PAD;
    for (int64_t distance = -end; distance <= end; distance++) {
        const int32_t bucket = t->relative_buckets[attend_clamp(distance, -limit, limit) + limit];
        table[distance + end] =
            ((const float *)t->relative_table.data)[h->relative + bucket * t->relative_table.key];
    }
}

static void prepare_row(const attend_cpu_elements *e, int64_t row, int64_t i, attend_cpu_element_rows *of)
{
    const int64_t of_head = row % e->group;
    const attend_head *h = &e->heads[of_head];
    const attend_problem *p = h->problem;
    const attend_terms *t = h->terms;
    const int64_t query = attend_clamp(row / e->group, 0, h->sequence.seqlen_q - 1);
    of->head[i] = h;
    of->scale[i] = h->scale, of->slope[i] = h->slope;
    of->position[i] = attend_position(p, &h->sequence, query);
    of->mask[i] = h->mask + query * t->mask.query;
    of->bias[i] = h->bias + query * t->bias.query;
    if (p->relative_buckets > 0)
        of->relative[i] =
            e->relative + of_head * attend_cpu_relative_floats(p) + e->reach + ATTEND_CPU_RELATIVE_PAD;
    if (p->block_q > 0) {
        of->block[i] = query / p->block_q;
        of->block_row[i] = p->block_list > 0 ? h->block_offsets + of->block[i] * t->block_offsets.query
                                             : h->block_mask + of->block[i] * t->block_mask.query;
    }
    if (attend_has_gap(p)) of->gap_end[i] = attend_local_begin(p, &h->sequence, query);
    if (p->segments) {
        of->segment[i] =
            attend_segment(&t->segments_q, &h->sequence, (h->sequence.first_q + query) * t->segments_q.query);
        attend_ids_add(&of->ids, of->segment[i]);
    }
}

/* The smallest caps have no finite inverse, ten times the largest is infinite: both are clamped. */
static void prepare_cap(float cap, attend_cpu_element_rows *of)
{
    const double by = fmax(-FLT_MAX, -2 / (double)cap);
    of->cap_end = fmaxf(-FLT_MAX, -10 * cap);
    of->cap_by[0] = (float)by, of->cap_by[1] = (float)(by - of->cap_by[0]);
}

void attend_cpu_prepare_rows(const attend_cpu_elements *e, int64_t first_row, int64_t rows, int64_t lanes,
                             attend_cpu_element_rows *of)
{
    of->first_row = first_row, of->rows = rows;
    of->ids = attend_no_ids();
    of->gap_least = INT64_MAX, of->gap_most = 0;
    of->one_mask = of->one_bias = true, of->consecutive = e->group == 1;
    prepare_cap(e->heads->problem->softcap, of);
    for (int64_t i = 0; i < attend_cpu_round_up(rows, lanes); i++) {
        prepare_row(e, first_row + (i < rows ? i : rows - 1), i, of);
        of->one_mask = of->one_mask && of->mask[i] == of->mask[0];
        of->one_bias = of->one_bias && of->bias[i] == of->bias[0];
        if (!attend_has_gap(e->heads->problem)) continue;
        if (of->gap_end[i] < of->gap_least) of->gap_least = of->gap_end[i];
        if (of->gap_end[i] > of->gap_most) of->gap_most = of->gap_end[i];
    }
}
