/* Greedy covering designs: rows with one level of each factor, such that every pair of levels of two factors
   occurs in some row. */
#ifndef ATTEND_TEST_SUPPORT_DESIGN_H
#define ATTEND_TEST_SUPPORT_DESIGN_H

#include <stdbool.h>

enum { DESIGN_FACTORS = 32, DESIGN_LEVELS = 16 };

typedef struct test_design {
    int factors, levels[DESIGN_FACTORS];
    bool (*allows)(const void *context, const int *row); /* whether a row's levels may be combined, -1 being not chosen yet; NULL: all may */
    const void *context;
    int missing;                    /* pairs that no row covers yet */
    bool met[DESIGN_FACTORS][DESIGN_LEVELS][DESIGN_FACTORS][DESIGN_LEVELS]; /* covered, or not allowed */
} test_design;

/* Called once factors, levels and allows are set. Whether levels are allowed must follow from their pairs. */
void test_design_begin(test_design *design);
/* A row with the first missing pair, otherwise empty. */
void test_design_start(const test_design *design, int *row);
/* The number of new pairs that a level of a factor covers in a row. */
int test_design_gain(const test_design *design, const int *row, int factor, int level);
/* Chooses the levels of factors from `first` on that are not chosen yet; `variation` varies which are tried
   first. */
void test_design_fill(const test_design *design, int first, unsigned variation, int *row);
void test_design_take(test_design *design, const int *row);

#endif
