/* Shared by the comparisons of attention and of layers. */
#ifndef ATTEND_CORE_COMPARE_H
#define ATTEND_CORE_COMPARE_H

#include <attend/compare.h>
#include "reference/reference.h"

/* Sums of squares over a group of elements, for rule 2. */
typedef struct attend_group {
    double error, baseline, expected; /* z - o, baseline - o, o */
    /* what baseline - o is expected to be: each of its roundings by itself */
    double spread;
    double magnitude; /* Σ_j p_ij |v_jc| */
    int64_t elements;
    double allowed, allowed_squared; /* Σ over rows of what is expected of the row, and of its square */
} attend_group;

/* Rows of a tile, over which rule 2 is taken besides heads and tensors. */
enum { ATTEND_TILE_ROWS = 64 };

/* spread: a square; where the baseline's roundings are not known one by one, that of baseline - expected. */
void attend_group_element(attend_group *group, double error, double baseline, double spread, double expected,
                          double magnitude);
/* A row, of elements alone, joins a group; and a group another. dtype: the problem's, stored: the
   tensor's. */
void attend_group_add_row(attend_group *to, attend_group *row, attend_dtype dtype, attend_dtype stored);
void attend_group_add(attend_group *to, const attend_group *from);

/* Rule 2: rms(error) over what it may be: what the dtype forces, and one fp32 rounding at the size of what is
   summed, without which values that cancel exactly in fp64 would allow nothing. docs/numerics.md derives the
   room for chance. */
double attend_quality_ratio(const attend_group *group, attend_dtype dtype, attend_dtype stored);

/* A row's share of the room for chance, and a hash of what it shares its roundings by. */
typedef struct attend_row_room {
    uint64_t shares;
    double allowed;
} attend_row_room;
/* Row i of a head as a hash; sequences: cu_seqlens of packed ones, which share with none of another, or
   NULL. */
uint64_t attend_row_hash(const attend_tensor *tensor, int64_t b, int64_t i, int64_t h,
                         const int64_t *sequences, int64_t count);
/* Rows that share their roundings are one draw: the squares of all. Sorts the rows. */
double attend_squares_of_draws(attend_row_room *rows, int64_t count);

/* Keeps the largest ratio and its element; the first among equals; NaN counts as infinity. */
void attend_note_worst(double ratio, attend_element element, double *worst_ratio, attend_element *worst);

/* A comparison at work. */
typedef struct attend_judge {
    int threads;
    attend_progress_tracker tracker;
} attend_judge;

attend_status attend_judge_make(const attend_compare_options *options, size_t options_bytes,
                                attend_judge *judge);

attend_status attend_compare_resolved(const attend_problem *problem, const attend_attention_args *args,
                                      const attend_key_part *all, attend_judge *judge,
                                      attend_comparison *result);

#endif
