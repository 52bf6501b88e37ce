/* The picture of a sweep: one panel per head dim and mask, one bar per length and series. */
#include "tool/picture.h"
#include "tool/sweep.h"
#include "file/fail.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const int64_t sweep_dims[SWEEP_DIMS] = {64, 128, 256};
const int64_t sweep_lengths[SWEEP_LENGTHS] = {512, 1024, 2048, 4096, 8192, 16384};

enum { MARGIN = 20, TITLE = 70, PANEL_WIDTH = 460, PANEL_HEIGHT = 210, AXIS = 60, PLOT_HEIGHT = 140 };
static const uint32_t INK = 0x202020, FAINT = 0xd8d8d8;

/* The smallest step, 1, 2 or 5 times a power of ten, that divides `top` into at most four. */
static double grid_step(double top)
{
    double step = pow(10, floor(log10(top / 4)));
    while (top / step > 4) step *= top / (step * 2) <= 4 ? 2 : top / (step * 5) <= 4 ? 5 : 10;
    return step;
}

static void text_right(picture *p, int x, int y, const char *text)
{
    picture_text(p, x - GLYPH_WIDTH * (int)strlen(text), y, 1, INK, text);
}

static void draw_bar(picture *p, int x, int floor_y, double speed, double top, int width, uint32_t colour)
{
    int height = (int)(speed / top * PLOT_HEIGHT + 0.5);
    picture_box(p, x, floor_y - height, width, height, colour);
}

static void draw_panel(picture *p, int left, int upper, int dim, int causal, const sweep_series *series,
                       int count, double top, double unit)
{
    char text[64];
    int floor_y = upper + 24 + PLOT_HEIGHT, slot = (PANEL_WIDTH - AXIS - 20) / SWEEP_LENGTHS;
    snprintf(text, sizeof text, "head_dim %" PRId64 ", %s", sweep_dims[dim], causal ? "causal" : "full");
    picture_text(p, left + AXIS, upper, 2, INK, text);
    double step = grid_step(top);
    for (double value = 0; value <= top; value += step) {
        int y = floor_y - (int)(value / top * PLOT_HEIGHT + 0.5);
        picture_box(p, left + AXIS, y, PANEL_WIDTH - AXIS - 20, 1, value > 0 ? FAINT : INK);
        snprintf(text, sizeof text, "%g", value * unit);
        text_right(p, left + AXIS - 6, y - 3, text);
    }
    for (int i = 0; i < SWEEP_LENGTHS; i++) {
        int x = left + AXIS + slot * i + 8, width = (slot - 14) / count;
        for (int j = 0; j < count; j++)
            draw_bar(p, x + j * width, floor_y, series[j].tflops[dim][causal][i], top, width - 1,
                     series[j].colour);
        snprintf(text, sizeof text, sweep_lengths[i] < 1024 ? "%" PRId64 : "%" PRId64 "k",
                 sweep_lengths[i] < 1024 ? sweep_lengths[i] : sweep_lengths[i] / 1024);
        picture_text(p, x + (slot - 14 - GLYPH_WIDTH * (int)strlen(text)) / 2, floor_y + 6, 1, INK, text);
    }
}

static void draw(picture *p, const sweep_series *series, int count, const char *title)
{
    double top = 0;
    for (int i = 0; i < count * SWEEP_DIMS * 2 * SWEEP_LENGTHS; i++) {
        const int each = SWEEP_DIMS * 2 * SWEEP_LENGTHS;
        top = fmax(top, (&series[i / each].tflops[0][0][0])[i % each]);
    }
    if (!(top > 0)) top = 1;
    bool small = top < 1;
    picture_text(p, MARGIN, 16, 2, INK, title);
    picture_text(p, MARGIN, 44, 1, INK, small ? "GFLOP/s over seqlen;" : "TFLOP/s over seqlen;");
    for (int i = 0, x = MARGIN + 140; i < count; i++) {
        picture_box(p, x, 43, 10, 10, series[i].colour);
        picture_text(p, x + 16, 44, 1, INK, series[i].name);
        x += 16 + picture_text_width(series[i].name) + 18;
    }
    for (int d = 0; d < SWEEP_DIMS; d++)
        for (int causal = 0; causal < 2; causal++)
            draw_panel(p, MARGIN + causal * PANEL_WIDTH, TITLE + d * PANEL_HEIGHT, d, causal, series, count,
                       top, small ? 1000 : 1);
}

attend_status sweep_draw(const sweep_series *series, int count, const char *title, attend_output *output)
{
    picture picture;
    ATTEND_TRY(picture_begin(&picture, 2 * MARGIN + 2 * PANEL_WIDTH, TITLE + SWEEP_DIMS * PANEL_HEIGHT));
    draw(&picture, series, count, title);
    attend_status status = picture_write(&picture, output);
    picture_end(&picture);
    return status;
}
