/* Rotary calls for tests: every convention, scaling and source of positions. Memory that may not be read
   holds NaN. */
#ifndef ATTEND_TEST_SUPPORT_ROTATIONS_H
#define ATTEND_TEST_SUPPORT_ROTATIONS_H

#include <attend/attend.h>

/* The source of a case's positions. */
typedef enum where { COUNTED, GIVEN, FIRSTS } where;

typedef struct rotary_case {
    const char *name;
    attend_problem problem;
    where where;
    bool lengths, backward, one_tensor, gaps; /* gaps: between rows, as in a wider cache */
} rotary_case;

enum { TEST_ROTATIONS = 24, TEST_ROTATION_BACKWARD = 11, TEST_ROTATION_FAR = 3, TEST_ROTATION_BLOCKS = 12 };
extern const rotary_case test_rotations[TEST_ROTATIONS];

/* A case with its memory; padding holds NaN. */
typedef struct rotated {
    const rotary_case *c;
    attend_problem p; /* resolved */
    attend_rotary_args args;
    int64_t firsts[4], lengths[4], starts[4], cu[5];
    void *blocks[TEST_ROTATION_BLOCKS];
    size_t bytes[TEST_ROTATION_BLOCKS];
    int count;
    uint64_t seed;
} rotated;

void test_rotation_make(rotated *rotated, const rotary_case *c);
void test_rotation_free(rotated *rotated);
/* A tensor of `count` heads, shaped like q and k; filled: with random numbers, otherwise with NaN. */
attend_tensor test_rotation_heads(rotated *rotated, int64_t count, bool filled);

/* Whether a row lies within its sequence's length, and its position: implemented from the documentation in
   rotary.h, not with the library's code. */
bool test_rotation_has(const rotated *rotated, int64_t b, int64_t i);
int64_t test_rotation_position(const rotated *rotated, int64_t b, int64_t i);
/* Element [b, i, h, c] */
double test_rotation_at(const attend_tensor *tensor, int64_t b, int64_t i, int64_t h, int64_t c);

#endif
