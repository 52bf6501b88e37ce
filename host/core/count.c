/* Counts visible pairs by host/shared/visibility.h, row by row and tile by tile; of many rows a regular
   sample. */
#include "core/count.h"
#include "shared/score.h"

#include <string.h>

enum { MOST_STEPS = 1 << 22 };

/* The number of hidden keys between the prefix and the row's interval. */
static int64_t gap_of(const attend_problem *p, const attend_sequence *s, int64_t row, int64_t end)
{
    if (!attend_has_gap(p)) return 0;
    int64_t begin = attend_clamp(s->start + p->prefix, 0, end), local = attend_local_begin(p, s, row);
    return (local < end ? local : end) > begin ? (local < end ? local : end) - begin : 0;
}

static double pairs_of(const attend_problem *p, const attend_sequence *s, int64_t row)
{
    int64_t begin = attend_visible_begin(p, s, row), end = attend_visible_end(p, s, row);
    return begin < end ? (double)(end - begin - gap_of(p, s, row, end)) : 0;
}

/* The number of keys in tiles that queries [first, last] compute. Tiles within the gap of all these queries
   are skipped. */
static double keys_of(const attend_problem *p, const attend_sequence *s, int64_t first, int64_t last,
                      int64_t tile)
{
    int64_t begin = attend_visible_begin(p, s, first), end = attend_visible_end(p, s, last);
    if (begin >= end) return 0;
    int64_t tiles = (end + tile - 1) / tile - begin / tile, gap = gap_of(p, s, first, end);
    if (gap > 0) {
        int64_t low = (s->start + p->prefix + tile - 1) / tile, high = (s->start + p->prefix + gap) / tile;
        if (high > low) tiles -= high - low;
    }
    return (double)tiles * (double)tile;
}

/* Counts at most `budget` rows and tiles, at regular distances, and scales the counts. */
static void add_sequence(const attend_problem *p, const attend_sequence *s, const attend_tiling *t,
                         int64_t budget, attend_count *count)
{
    double pairs = 0, computed = 0;
    int64_t sampled = 0, step = p->seqlen_q / budget + 1;
    for (int64_t row = step / 2; row < s->seqlen_q; row += step, sampled++) pairs += pairs_of(p, s, row);
    if (sampled) pairs *= (double)s->seqlen_q / (double)sampled;
    int64_t rows = s->seqlen_q * t->group, tiles = t->rows ? (rows + t->rows - 1) / t->rows : 0;
    const int64_t tile_step = tiles / budget + 1;
    sampled = 0;
    for (int64_t i = tile_step / 2; i < tiles; i += tile_step, sampled++) {
        int64_t first = i * t->rows, last = first + t->rows < rows ? first + t->rows - 1 : rows - 1;
        computed += keys_of(p, s, first / t->group, last / t->group, t->keys) * (double)t->rows;
    }
    if (sampled) computed *= (double)tiles / (double)sampled;
    count->pairs += pairs * (double)p->num_heads;
    count->pairs_computed += (t->rows ? computed / (double)t->group : pairs) * (double)p->num_heads;
}

/* The budget of one sequence. */
static int64_t budget_of(int64_t sequences) { return (MOST_STEPS - 1) / sequences + 1; }

/* Adds `sequences` sequences of the same lengths. */
static void add_alike(const attend_problem *p, const attend_sequence *s, int64_t sequences,
                      const attend_tiling *t, int64_t budget, attend_count *count)
{
    attend_count one = {0, 0};
    if (sequences == 0) return;
    add_sequence(p, s, t, budget, &one);
    count->pairs += one.pairs * (double)sequences,
        count->pairs_computed += one.pairs_computed * (double)sequences;
}

/* Packed sequences without given lengths: the totals are divided evenly, and the remainder goes to the first
   sequences. */
static void add_even_shares(const attend_problem *p, const attend_tiling *t, attend_count *count)
{
    const int64_t more_q = p->total_q % p->batch, more_k = p->total_k % p->batch;
    const int64_t ends[] = {more_q < more_k ? more_q : more_k, more_q < more_k ? more_k : more_q, p->batch};
    for (int64_t i = 0, first = 0; i < 3; first = ends[i++]) {
        attend_sequence s = {0};
        s.seqlen_q = attend_clamp(p->total_q / p->batch + (first < more_q), 0, p->seqlen_q);
        s.seqlen_k = attend_clamp(p->total_k / p->batch + (first < more_k), 0, p->seqlen_k);
        add_alike(p, &s, ends[i] - first, t, budget_of(p->batch < 3 ? p->batch : 3), count);
    }
}

attend_count attend_count_pairs(const attend_problem *p, const attend_lists *lists,
                                const attend_tiling *tiling)
{
    attend_count count = {0, 0};
    if (p->batch == 0) return count;
    if (p->packed && !(lists->cu_seqlens_q && lists->cu_seqlens_k)) {
        add_even_shares(p, tiling, &count);
    } else if (!p->packed && !lists->seqlens_q && !lists->seqlens_k && !lists->starts_k) {
        const attend_sequence s = attend_sequence_of(p, lists, 0);
        add_alike(p, &s, p->batch, tiling, budget_of(1), &count);
    } else {
        for (int64_t b = 0; b < p->batch; b++) {
            const attend_sequence s = attend_sequence_of(p, lists, b);
            add_sequence(p, &s, tiling, budget_of(p->batch), &count);
        }
    }
    return count;
}

void attend_count_projections(const attend_problem *p, int64_t sizes[4][3])
{
    const int64_t rows_q = attend_tensor_batch(p) * attend_rows_q(p),
                  rows_k = attend_tensor_batch(p) * attend_rows_projected(p);
    const int64_t source = attend_problem_is_cross(p) ? p->context_hidden_size : p->hidden_size;
    const int64_t all[4][3] = {{rows_q, p->hidden_size, p->num_heads * p->head_dim},
                               {rows_k, source, p->num_kv_heads * p->head_dim},
                               {rows_k, source, p->num_kv_heads * p->head_dim_v},
                               {rows_q, p->num_heads * p->head_dim_v, p->output_size}};
    memcpy(sizes, all, sizeof all);
}

attend_work attend_count_work(const attend_problem *p, bool is_layer)
{
    attend_work work = {.attention =
                            2 * (double)(p->head_dim + p->head_dim_v) *
                            attend_count_pairs(p, &(attend_lists){0}, &(attend_tiling){0, 0, 1}).pairs};
    int64_t sizes[4][3];
    if (!is_layer) return work;
    attend_count_projections(p, sizes);
    for (int i = 0; i < 4; i++)
        work.projections[i] = 2 * (double)sizes[i][0] * (double)sizes[i][1] * (double)sizes[i][2];
    return work;
}
