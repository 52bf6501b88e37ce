/* The points of a sweep, and their picture. */
#ifndef ATTEND_TOOL_SWEEP_H
#define ATTEND_TOOL_SWEEP_H

#include "file/output.h"

enum { SWEEP_DIMS = 3, SWEEP_LENGTHS = 6 };
extern const int64_t sweep_dims[SWEEP_DIMS], sweep_lengths[SWEEP_LENGTHS];

/* TFLOP/s; 0 where a point was not run. */
typedef struct sweep_speed {
    double attend, naive;
} sweep_speed;

typedef struct sweep_speeds {
    sweep_speed at[SWEEP_DIMS][2][SWEEP_LENGTHS]; /* [head_dim][causal][seqlen] */
} sweep_speeds;

/* Draws six panels of bars under a title into a PNG file. */
attend_status sweep_draw(const sweep_speeds *speeds, const char *title, attend_output *output);

#endif
