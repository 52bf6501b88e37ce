/* All outputs of attend/inspect.h for one problem, in one request, checked against the reference within their
   bounds. */
#ifndef ATTEND_TEST_SUPPORT_INSPECTION_H
#define ATTEND_TEST_SUPPORT_INSPECTION_H

#include "support/fixture.h"
#include "core/inspect.h"

enum { TEST_WINDOWS = 5, TEST_TOP = 6, TEST_OUTPUTS = 7 };

typedef struct test_inspection {
    attend_inspection want;                  /* filled by the device under test */
    attend_key_window windows[TEST_WINDOWS]; /* the query's own key, its neighbours, all before it, all, the first keys */
    int64_t *queries;                        /* all rows of q, the last one first and once more at the end */
} test_inspection;

/* Outputs for a resolved problem, all bytes 0xff. The map covers queries and keys from one eighth of each on,
   or is absent where there are none. */
void test_inspection_make(test_inspection *inspection, const attend_problem *problem);
void test_inspection_free(test_inspection *inspection);

/* Fails the test if a value's error exceeds the bound of docs/inspect.md, or a wrong key is listed. args:
   resolved, on the host. Returns the largest ratio of an error to its bound. */
double test_inspection_check(const test_inspection *inspection, const attend_problem *problem, const attend_attention_args *args,
                             const char *text);

#endif
