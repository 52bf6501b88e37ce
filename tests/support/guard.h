/* Memory that ends or begins where reading faults: a byte too many ends the test, also without a sanitizer. */
#ifndef ATTEND_TEST_SUPPORT_GUARD_H
#define ATTEND_TEST_SUPPORT_GUARD_H

#include <stddef.h>

/* Aligned like its size; the test ends if there is none. Freed by test_guarded_free(), which takes NULL. */
void *test_guarded(size_t bytes);
void test_guarded_free(void *memory);

/* Memory that begins behind a page where reading faults, as one before the first does. */
void *test_guarded_begin(size_t bytes);
void test_guarded_begin_free(void *memory);

#endif
