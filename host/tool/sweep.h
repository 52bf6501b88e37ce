/* The points of a sweep, and their picture. */
#ifndef ATTEND_TOOL_SWEEP_H
#define ATTEND_TOOL_SWEEP_H

#include "file/output.h"

enum { SWEEP_DIMS = 3, SWEEP_LENGTHS = 6 };
extern const int64_t sweep_dims[SWEEP_DIMS], sweep_lengths[SWEEP_LENGTHS];

/* Bars of one colour. */
typedef struct sweep_series {
    const char *name;
    uint32_t colour;
    double tflops[SWEEP_DIMS][2][SWEEP_LENGTHS]; /* [head_dim][causal][seqlen]; 0: not run */
} sweep_series;

enum { SWEEP_ATTEND_COLOUR = 0x1f5fa8, SWEEP_NAIVE_COLOUR = 0xe08a2c };

/* Writes a PNG file with a title and six panels of bars. */
attend_status sweep_draw(const sweep_series *series, int count, const char *title, attend_output *output);

#endif
