/* A failure has a sentence and the status of its fault, and only a lost device has a second one. */
#include "attend/attempt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

attempt_fault attempt;

void attempt_give_up(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, attend_error_message());
    exit(ATTEMPT_WRONG);
}

bool attempt_accept(attend_status status, const char *what)
{
    if (status == ATTEND_OK) return true;
    if (attempt.none || !strstr(attend_error_message(), " ")) attempt_give_up(what);
    if (attempt.lost && status != ATTEND_DEVICE_ERROR && status != ATTEND_NO_DEVICE) attempt_give_up(what);
    if (!attempt.lost && attempt.status && status != attempt.status) attempt_give_up(what);
    if (attempt.failures++ && !attempt.lost) attempt_give_up(what);
    return false;
}
