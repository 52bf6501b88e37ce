/* Greedy covering designs: rows that give each factor one of its levels, so that every pair of levels of two factors is in some row. */
#ifndef ATTEND_TEST_SUPPORT_DESIGN_H
#define ATTEND_TEST_SUPPORT_DESIGN_H

#include <stdbool.h>

enum { DESIGN_FACTORS = 32, DESIGN_LEVELS = 16 };

typedef struct test_design {
    int factors, levels[DESIGN_FACTORS];
    bool (*allows)(const void *context, const int *row); /* whether levels may meet, of a row in which -1 is not chosen yet; NULL: all may */
    const void *context;
    int missing;                    /* pairs that no row has yet */
    bool met[DESIGN_FACTORS][DESIGN_LEVELS][DESIGN_FACTORS][DESIGN_LEVELS]; /* or may not meet */
} test_design;

/* Once factors, levels and allows are set. Which levels may meet must be a matter of pairs. */
void test_design_begin(test_design *design);
/* An empty row, but for the first pair that is missing. */
void test_design_start(const test_design *design, int *row);
/* Pairs that level `level` of a factor would newly bring to a row. */
int test_design_gain(const test_design *design, const int *row, int factor, int level);
/* Chooses what is not chosen yet of the factors from `first` on; `turn` varies what is tried first. */
void test_design_fill(const test_design *design, int first, unsigned turn, int *row);
void test_design_take(test_design *design, const int *row);

#endif
