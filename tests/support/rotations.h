/* Rotations for tests: every convention, scaling and way to say positions, made real with NaN wherever nobody may look. */
#ifndef ATTEND_TEST_SUPPORT_ROTATIONS_H
#define ATTEND_TEST_SUPPORT_ROTATIONS_H

#include <attend/attend.h>

/* How a case says where its tokens are. */
typedef enum where { COUNTED, GIVEN, FIRSTS } where;

typedef struct rotary_case {
    const char *name;
    attend_problem problem;
    where where;
    bool lengths, backward, one_tensor, gaps; /* gaps: rows of a wider cache */
} rotary_case;

enum { TEST_ROTATIONS = 23, TEST_ROTATION_BACKWARD = 11, TEST_ROTATION_FAR = 3, TEST_ROTATION_BLOCKS = 12 };
extern const rotary_case test_rotations[TEST_ROTATIONS];

/* A case with its memory: NaN wherever nobody may look. */
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
/* A tensor of `count` heads shaped as the rotation's q and k; filled: with numbers, else with NaN. */
attend_tensor test_rotation_heads(rotated *rotated, int64_t count, bool filled);

/* Whether a row is one of its sequence's, and the position that it has: from the words of rotary.h, not from the library's code. */
bool test_rotation_has(const rotated *rotated, int64_t b, int64_t i);
int64_t test_rotation_position(const rotated *rotated, int64_t b, int64_t i);
/* Element [b, i, h, c]. */
double test_rotation_at(const attend_tensor *tensor, int64_t b, int64_t i, int64_t h, int64_t c);

#endif
