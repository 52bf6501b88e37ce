/* Bars side by side over an axis with a few labels. */
#ifndef ATTEND_TOOL_BARS_H
#define ATTEND_TOOL_BARS_H

#include "tool/picture.h"

enum { BARS_WIDTH = 460, BARS_HEIGHT = 210, BARS_MOST_SERIES = 6 }; /* gpu_report draws six */

typedef struct bars {
    const char *title;
    const char *const *labels; /* [count] */
    int count, series;
    const double *values[BARS_MOST_SERIES]; /* [count] each; not above top */
    uint32_t colours[BARS_MOST_SERIES];
    double top;  /* where the axis ends, above 0 */
    double unit; /* what is written beside it for 1 */
    double line; /* drawn across; 0: none */
} bars;

/* x, y: the upper left corner. */
void bars_draw(picture *picture, int x, int y, const bars *bars);

#endif
