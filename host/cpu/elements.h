/* Elementwise features on the CPU: host/shared/score.h, tile by tile. elements.c prepares heads once a run
   and rows once a panel; elements_kernel.c, compiled once per instruction set, computes visibility and scores
   of tiles in vectors. */
#ifndef ATTEND_CPU_ELEMENTS_H
#define ATTEND_CPU_ELEMENTS_H

#include "cpu/task.h"

enum {
    ATTEND_CPU_TILE_ROWS = 48, /* the largest: 3 vectors of 16 */
    /* entries that a vector of distances may read before or behind the table */
    ATTEND_CPU_RELATIVE_PAD = 16
};

/* The query heads of one KV head of one batch entry. */
typedef struct attend_cpu_elements {
    const attend_head *heads;
    int64_t group;
    /* [group][attend_cpu_relative_floats()]: the relative bias of the distances from -reach - PAD on */
    const float *relative;
    int64_t reach;         /* beyond ±reach all distances have one bias */
    const attend_ids *ids; /* summary of each ATTEND_CPU_BLOCK keys */
} attend_cpu_elements;

/* Rows of a KV head, as tiles read them. Entries past the last row repeat it, to fill whole vectors. */
typedef struct attend_cpu_element_rows {
    _Alignas(64) float scale[ATTEND_CPU_TILE_ROWS];
    float slope[ATTEND_CPU_TILE_ROWS];
    int32_t segment[ATTEND_CPU_TILE_ROWS];
    int64_t first_row, rows;
    int64_t position[ATTEND_CPU_TILE_ROWS], gap_end[ATTEND_CPU_TILE_ROWS]; /* in keys */
    int64_t mask[ATTEND_CPU_TILE_ROWS], bias[ATTEND_CPU_TILE_ROWS];        /* offsets of key 0 */
    /* of queries; offset of its row in block_mask or block_offsets */
    int64_t block[ATTEND_CPU_TILE_ROWS], block_row[ATTEND_CPU_TILE_ROWS];
    const float *relative[ATTEND_CPU_TILE_ROWS]; /* of distance 0 */
    const attend_head *head[ATTEND_CPU_TILE_ROWS];
    attend_ids ids;
    int64_t gap_least, gap_most; /* of gap_end */
    bool one_mask, one_bias;     /* all rows have the same mask, bias */
    bool consecutive;            /* positions increase by 1 from row to row */
    /* softcap: the -|score| below which tanh is -1; -2 / cap, and its rounding error */
    float cap_end, cap_by[2];
} attend_cpu_element_rows;

typedef enum attend_cpu_visibility {
    ATTEND_CPU_HIDDEN,
    ATTEND_CPU_PARTLY,
    ATTEND_CPU_VISIBLE
} attend_cpu_visibility;

/* One tile of scores. Row r and key k of the tile lie at scores[r·row_stride + k·key_stride]; one of the
   strides is 1, and lanes run along it. They are row first_row + r of the attend_cpu_element_rows and key
   first_key + k of the sequence. A tile lies within one ATTEND_CPU_BLOCK of keys. */
typedef struct attend_cpu_scores {
    float *scores;
    int64_t row_stride;
    int64_t first_key, keys, key_stride;
} attend_cpu_scores;

typedef struct attend_cpu_scorer {
    /* The visibility of the tile's keys, without regard to the rows' intervals. May remove keys at either end
       that no row sees from the tile; its scores need not be computed yet. */
    attend_cpu_visibility (*visibility_of_tile)(const attend_cpu_elements *elements,
                                                const attend_cpu_element_rows *rows, attend_cpu_scores *tile);
    /* Replaces dot products by scores, -infinity where masked. Returns whether any key is masked. */
    bool (*score)(const attend_cpu_elements *elements, const attend_cpu_element_rows *rows,
                  const attend_cpu_scores *tile, attend_cpu_visibility visibility);
    /* Dot products become the slopes of their soft-capped scores: 1 - tanh². Lanes are keys. */
    void (*softcap_slopes)(const attend_cpu_elements *elements, const attend_cpu_element_rows *rows,
                           const attend_cpu_scores *tile);
} attend_cpu_scorer;

extern const attend_cpu_scorer attend_cpu_scorer_avx512, attend_cpu_scorer_avx2, attend_cpu_scorer_neon,
    attend_cpu_scorer_portable;

/* Prepares rows [first_row, first_row + rows), at most ATTEND_CPU_TILE_ROWS, which tiles read `lanes` at a
   time; at least one must lie within the query length. */
void attend_cpu_prepare_rows(const attend_cpu_elements *elements, int64_t first_row, int64_t rows,
                             int64_t lanes, attend_cpu_element_rows *of);

static inline int64_t attend_cpu_relative_reach(const attend_problem *p)
{
    return attend_clamp(p->relative_max_distance, 0, p->seqlen_q + p->seqlen_k);
}
static inline int64_t attend_cpu_relative_floats(const attend_problem *p)
{
    return p->relative_buckets > 0 ? 2 * (attend_cpu_relative_reach(p) + ATTEND_CPU_RELATIVE_PAD) + 1 : 0;
}
/* Fills the table of one head. */
void attend_cpu_fill_relative(const attend_head *head, float *table);

static inline int64_t attend_cpu_id_blocks(const attend_problem *p)
{
    return p->segments ? attend_cpu_round_up(p->seqlen_k, ATTEND_CPU_BLOCK) / ATTEND_CPU_BLOCK : 0;
}
/* The ids of one block of keys, which must lie within the sequence. */
attend_ids attend_cpu_key_ids(const attend_head *head, int64_t block);

#endif
