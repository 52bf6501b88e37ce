/* Runs over ranges of a fixture's keys: states, and keys in memory between inaccessible pages. */
#ifndef ATTEND_TEST_SUPPORT_PARTS_H
#define ATTEND_TEST_SUPPORT_PARTS_H

#include "support/fixture.h"

typedef struct test_state {
    attend_state state;
    float *memory; /* NaN where nothing was written */
} test_state;

/* gaps: between rows, heads and queries. */
test_state test_state_make(const attend_problem *problem, bool gaps);
void test_state_free(test_state *state);

/* The args of a run over keys [first, end): a copy of the fixture's, with K and V of these keys alone. Free
   with test_part_free(). */
typedef struct test_part {
    attend_attention_args args;
    void *maps[3];
    size_t bytes[3];
} test_part;
test_part test_part_make(const test_fixture *fixture, int64_t first, int64_t end, const attend_state *from, const attend_state *into);
/* Of the fixture's queries only [first, end): they alone lie in q, and out and lse begin at the first. */
void test_part_take_queries(test_part *part, const test_fixture *fixture, int64_t first, int64_t end);
void test_part_free(test_part *part);

/* Makes, runs and frees a part; fails the test with the library's sentence on an error. */
void test_part_run(attend_plan *plan, attend_context *context, const test_fixture *fixture, int64_t first, int64_t end,
                   const attend_state *from, const attend_state *into);
void test_part_run_block(attend_plan *plan, attend_context *context, const test_fixture *fixture, const int64_t queries[2],
                         const int64_t keys[2], const attend_state *from, const attend_state *into);

#endif
