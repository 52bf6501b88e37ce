/* A resolved problem: every default filled in and every field checked. Backends, kernels and the reference
   read only resolved problems, so they need no test for 0. */
#ifndef ATTEND_CORE_PROBLEM_H
#define ATTEND_CORE_PROBLEM_H

#include "shared/shape.h"

#include <attend/attend.h>

typedef enum attend_operation {
    ATTEND_ATTENTION,
    ATTEND_LAYER,
    ATTEND_ROTATION,
    ATTEND_APPEND
} attend_operation;

/* Reads a caller's struct of `bytes` bytes (older callers: shorter), fills the defaults and checks every
   field. */
attend_status attend_problem_resolve(const attend_problem *problem, size_t bytes, attend_operation operation,
                                     attend_problem *resolved);

/* Whether K and V come from a context tensor. */
static inline bool attend_problem_is_cross(const attend_problem *problem)
{
    return problem->context_hidden_size != 0;
}

#endif
