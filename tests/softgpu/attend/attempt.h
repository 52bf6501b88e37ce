/* Runs in which a call of CUDA fails: which failures are accepted, and that a call that failed is repeated. */
#ifndef SOFTGPU_ATTEND_ATTEMPT_H
#define SOFTGPU_ATTEND_ATTEMPT_H

#include <attend/attend.h>

#include <stdbool.h>

enum { ATTEMPT_WRONG = 1 }; /* exit code */

/* Of this process. */
typedef struct attempt_fault {
    bool none;            /* no call may fail */
    bool lost;            /* the device may be lost: then no call works again */
    attend_status status; /* of the one call that fails otherwise; 0: any */
    int failures;         /* met so far */
} attempt_fault;

extern attempt_fault attempt;

/* Ends the process with ATTEMPT_WRONG. */
void attempt_give_up(const char *what);

/* False: it failed as it may. */
bool attempt_accept(attend_status status, const char *what);

/* Makes a call, and repeats it if it failed. False: the device is lost. */
#define ATTEMPT(call) (attempt_accept(call, #call) || (!attempt.lost && attempt_accept(call, "again: " #call)))

#endif
