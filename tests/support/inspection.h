/* Everything that attend/inspect.h offers, asked of one problem at once, and held against the reference within its bounds. */
#ifndef ATTEND_TEST_SUPPORT_INSPECTION_H
#define ATTEND_TEST_SUPPORT_INSPECTION_H

#include "support/fixture.h"
#include "core/inspect.h"

enum { TEST_WINDOWS = 5, TEST_TOP = 6, TEST_OUTPUTS = 7 };

typedef struct test_inspection {
    attend_inspection want;                  /* filled by the device under test */
    attend_key_window windows[TEST_WINDOWS]; /* the key itself, its neighbours, one side, all, the first keys */
    int64_t *queries;                        /* all rows of q, the last one first and once more at the end */
} test_inspection;

/* Outputs for a resolved problem, all bytes 0xff. The map is of the queries and keys from an eighth on, unless they are too few.
 */
void test_inspection_make(test_inspection *inspection, const attend_problem *problem);
void test_inspection_free(test_inspection *inspection);

/* Fails the test where a number is further off than docs/inspect.md allows, or a key is listed that should not be. args:
   resolved, on the host. Returns the worst ratio to a bound. */
double test_inspection_check(const test_inspection *inspection, const attend_problem *problem, const attend_attention_args *args,
                             const char *text);

#endif
