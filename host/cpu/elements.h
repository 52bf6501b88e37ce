/* What features make of scores on the CPU: host/shared/score.h, tile by tile. elements.c looks at heads once
   a run and at rows once a panel; elements_kernel.c, compiled once per instruction set, looks at tiles and
   scores them in vectors. */
#ifndef ATTEND_CPU_ELEMENTS_H
#define ATTEND_CPU_ELEMENTS_H

#include "cpu/kernel.h"

enum {
    ATTEND_CPU_TILE_ROWS = 48, /* at most: 3 vectors of 16 */
    /* a vector of distances may begin so far before the table's end, or end so far after it */
    ATTEND_CPU_RELATIVE_PAD = 16
};

/* The query heads of one KV head of one batch entry. */
typedef struct attend_cpu_elements {
    const attend_head *heads;
    int64_t group;
    /* [group][attend_cpu_relative_floats()]: the relative bias of distances from -reach - PAD on */
    const float *relative;
    int64_t reach;         /* beyond it on either side, all distances have one bias */
    const attend_ids *ids; /* of each ATTEND_CPU_BLOCK keys */
} attend_cpu_elements;

/* Some rows of a KV head, as tiles read them. Entries past the last row repeat it, up to whole vectors. */
typedef struct attend_cpu_element_rows {
    _Alignas(64) float scale[ATTEND_CPU_TILE_ROWS];
    float slope[ATTEND_CPU_TILE_ROWS];
    int32_t segment[ATTEND_CPU_TILE_ROWS];
    int64_t first_row, rows;
    int64_t position[ATTEND_CPU_TILE_ROWS], gap_end[ATTEND_CPU_TILE_ROWS]; /* among the keys */
    int64_t mask[ATTEND_CPU_TILE_ROWS], bias[ATTEND_CPU_TILE_ROWS];        /* offsets of key 0 */
    /* of queries; where its visible blocks are told */
    int64_t block[ATTEND_CPU_TILE_ROWS], block_row[ATTEND_CPU_TILE_ROWS];
    const float *relative[ATTEND_CPU_TILE_ROWS]; /* of distance 0 */
    const attend_head *head[ATTEND_CPU_TILE_ROWS];
    attend_ids ids;
    int64_t gap_least, gap_most; /* of gap_end */
    bool one_mask, one_bias;     /* all rows have the same */
    bool consecutive;            /* positions grow by 1 from row to row */
    /* softcap: -|score| from where on tanh is 1; minus twice the inverse cap, and what that rounds */
    float cap_end, cap_by[2];
} attend_cpu_element_rows;

typedef enum attend_cpu_visibility {
    ATTEND_CPU_HIDDEN,
    ATTEND_CPU_PARTLY,
    ATTEND_CPU_VISIBLE
} attend_cpu_visibility;

/* One tile of scores. Row r and key k of the tile lie at scores[r·row_stride + k·key_stride], one stride
   being 1: along it are the lanes. They are row first_row + r of the attend_cpu_element_rows and key
   first_key + k of the sequence; a tile lies within one ATTEND_CPU_BLOCK of keys. */
typedef struct attend_cpu_scores {
    float *scores;
    int64_t row_stride;
    int64_t first_key, keys, key_stride;
} attend_cpu_scores;

typedef struct attend_cpu_scorer {
    /* How much the rows see of the tile's keys, their intervals apart. Keys at either end that nobody sees
       may be taken off the tile, whose scores need not be there yet. */
    attend_cpu_visibility (*visibility_of_tile)(const attend_cpu_elements *elements,
                                                const attend_cpu_element_rows *rows, attend_cpu_scores *tile);
    /* Dot products become scores, -infinity where hidden. Returns whether any is hidden. */
    bool (*score)(const attend_cpu_elements *elements, const attend_cpu_element_rows *rows,
                  const attend_cpu_scores *tile, attend_cpu_visibility visibility);
} attend_cpu_scorer;

extern const attend_cpu_scorer attend_cpu_scorer_avx512, attend_cpu_scorer_avx2, attend_cpu_scorer_neon,
    attend_cpu_scorer_portable;

/* Rows [first_row, first_row + rows), at most ATTEND_CPU_TILE_ROWS, of which `lanes` or more at a time are
   read; at least one of them is within the sequence. */
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
/* The table of one head. */
void attend_cpu_fill_relative(const attend_head *head, float *table);

static inline int64_t attend_cpu_id_blocks(const attend_problem *p)
{
    return p->segments ? attend_cpu_round_up(p->seqlen_k, ATTEND_CPU_BLOCK) / ATTEND_CPU_BLOCK : 0;
}
/* The ids of one block of keys; only where the sequence has it. */
attend_ids attend_cpu_key_ids(const attend_head *head, int64_t block);

#endif
