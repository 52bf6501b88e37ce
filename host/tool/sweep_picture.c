/* The picture of a sweep: a panel for each head dim and mask, a pair of bars for each length. */
#include "tool/picture.h"
#include "tool/sweep.h"
#include "file/fail.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MARGIN = 20, TITLE = 70, PANEL_WIDTH = 460, PANEL_HEIGHT = 210, AXIS = 60, PLOT_HEIGHT = 140 };
static const uint32_t INK = 0x202020, FAINT = 0xd8d8d8, ATTEND_COLOUR = 0x1f5fa8, NAIVE_COLOUR = 0xe08a2c;

/* A step of 1, 2 or 5 times a power of ten that makes at most four of `top`. */
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

static void draw_panel(picture *p, int left, int upper, int64_t dim, int causal, const sweep_speed *speeds,
                       double top, double unit)
{
    char text[64];
    int floor_y = upper + 24 + PLOT_HEIGHT, slot = (PANEL_WIDTH - AXIS - 20) / SWEEP_LENGTHS;
    snprintf(text, sizeof text, "head_dim %" PRId64 ", %s", dim, causal ? "causal" : "full");
    picture_text(p, left + AXIS, upper, 2, INK, text);
    double step = grid_step(top);
    for (double value = 0; value <= top; value += step) {
        int y = floor_y - (int)(value / top * PLOT_HEIGHT + 0.5);
        picture_box(p, left + AXIS, y, PANEL_WIDTH - AXIS - 20, 1, value > 0 ? FAINT : INK);
        snprintf(text, sizeof text, "%g", value * unit);
        text_right(p, left + AXIS - 6, y - 3, text);
    }
    for (int i = 0; i < SWEEP_LENGTHS; i++) {
        int x = left + AXIS + slot * i + 8, width = (slot - 16) / 2;
        draw_bar(p, x, floor_y, speeds[i].attend, top, width, ATTEND_COLOUR);
        draw_bar(p, x + width + 1, floor_y, speeds[i].naive, top, width, NAIVE_COLOUR);
        snprintf(text, sizeof text, sweep_lengths[i] < 1024 ? "%" PRId64 : "%" PRId64 "k",
                 sweep_lengths[i] < 1024 ? sweep_lengths[i] : sweep_lengths[i] / 1024);
        picture_text(p, x + width - GLYPH_WIDTH * (int)strlen(text) / 2, floor_y + 6, 1, INK, text);
    }
}

static void draw(picture *p, const sweep_speeds *speeds, const char *title)
{
    double top = 0;
    for (int i = 0; i < SWEEP_DIMS * 2 * SWEEP_LENGTHS; i++) {
        const sweep_speed *s = &speeds->at[0][0][0] + i;
        top = fmax(top, fmax(s->attend, s->naive));
    }
    if (!(top > 0)) top = 1;
    bool small = top < 1;
    picture_text(p, MARGIN, 16, 2, INK, title);
    picture_text(p, MARGIN, 44, 1, INK, small ? "GFLOP/s over seqlen;" : "TFLOP/s over seqlen;");
    picture_box(p, MARGIN + 140, 43, 10, 10, ATTEND_COLOUR);
    picture_text(p, MARGIN + 156, 44, 1, INK, "attend");
    picture_box(p, MARGIN + 210, 43, 10, 10, NAIVE_COLOUR);
    picture_text(p, MARGIN + 226, 44, 1, INK, "naive: three steps, scores in memory");
    for (int d = 0; d < SWEEP_DIMS; d++)
        for (int causal = 0; causal < 2; causal++)
            draw_panel(p, MARGIN + causal * PANEL_WIDTH, TITLE + d * PANEL_HEIGHT, sweep_dims[d], causal,
                       speeds->at[d][causal], top, small ? 1000 : 1);
}

attend_status sweep_draw(const sweep_speeds *speeds, const char *title, attend_output *output)
{
    picture picture;
    ATTEND_TRY(picture_begin(&picture, 2 * MARGIN + 2 * PANEL_WIDTH, TITLE + SWEEP_DIMS * PANEL_HEIGHT));
    draw(&picture, speeds, title);
    attend_status status = picture_write(&picture, output);
    picture_end(&picture);
    return status;
}
