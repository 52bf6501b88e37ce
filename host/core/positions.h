/* Learned positions. */
#ifndef ATTEND_CORE_POSITIONS_H
#define ATTEND_CORE_POSITIONS_H

#include "shared/positions.h"

/* An error if a learned position lies outside the table: positions given on the host, or counted ones. */
attend_status attend_absolute_check(const attend_problem *problem, const attend_row_positions *row_positions);

#endif
