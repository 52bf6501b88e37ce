/* The picture of a sweep: one panel per head dim and mask, one bar per length and series. */
#include "tool/bars.h"
#include "tool/sweep.h"
#include "file/fail.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

const int64_t sweep_dims[SWEEP_DIMS] = {64, 128, 256};
const int64_t sweep_lengths[SWEEP_LENGTHS] = {512, 1024, 2048, 4096, 8192, 16384};

enum { MARGIN = 20, TITLE = 70 };
static const uint32_t INK = 0x202020;

static void draw_panel(picture *p, int left, int upper, int dim, int causal, const sweep_series *series,
                       int count, double top, double unit)
{
    static const char *const labels[SWEEP_LENGTHS] = {"512", "1k", "2k", "4k", "8k", "16k"};
    char title[64];
    bars bars = {
        .title = title, .labels = labels, .count = SWEEP_LENGTHS, .series = count, .top = top, .unit = unit};
    snprintf(title, sizeof title, "head_dim %" PRId64 ", %s", sweep_dims[dim], causal ? "causal" : "full");
    for (int j = 0; j < count; j++)
        bars.values[j] = series[j].tflops[dim][causal], bars.colours[j] = series[j].colour;
    bars_draw(p, left, upper, &bars);
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
            draw_panel(p, MARGIN + causal * BARS_WIDTH, TITLE + d * BARS_HEIGHT, d, causal, series, count,
                       top, small ? 1000 : 1);
}

attend_status sweep_draw(const sweep_series *series, int count, const char *title, attend_output *output)
{
    picture picture;
    ATTEND_TRY(picture_begin(&picture, 2 * MARGIN + 2 * BARS_WIDTH, TITLE + SWEEP_DIMS * BARS_HEIGHT));
    draw(&picture, series, count, title);
    attend_status status = picture_write(&picture, output);
    picture_end(&picture);
    return status;
}
