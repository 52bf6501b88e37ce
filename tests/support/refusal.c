/* See refusal.h. */
#include "support/refusal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

void test_expect_failure(attend_status status, attend_status wanted, const char *sentence)
{
    if (status != wanted || !strstr(attend_error_message(), sentence))
        fail_msg("got %s: \"%s\", expected %s: \"…%s…\"", attend_status_name(status), attend_error_message(),
                 attend_status_name(wanted), sentence);
}
