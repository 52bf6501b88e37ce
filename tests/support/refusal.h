/* Checks of failing calls. */
#ifndef ATTEND_TEST_SUPPORT_REFUSAL_H
#define ATTEND_TEST_SUPPORT_REFUSAL_H

#include <attend/attend.h>

/* Fails the test unless the status is `wanted` and the library's sentence contains `sentence`. */
void test_expect_failure(attend_status status, attend_status wanted, const char *sentence);

#endif
