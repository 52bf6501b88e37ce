/* Draws bars, with lines of a grid at round numbers. */
#include "tool/bars.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { AXIS = 60, PLOT_HEIGHT = 140 };
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
    picture_text(p, x - picture_text_width(text), y, 1, INK, text);
}

static int height_of(const bars *b, double value) { return (int)(value / b->top * PLOT_HEIGHT + 0.5); }

void bars_draw(picture *p, int left, int upper, const bars *b)
{
    char text[64];
    const int floor_y = upper + 24 + PLOT_HEIGHT, across = BARS_WIDTH - AXIS - 20, slot = across / b->count;
    picture_text(p, left + AXIS, upper, 2, INK, b->title);
    double step = grid_step(b->top);
    for (double value = 0; value <= b->top; value += step) {
        int y = floor_y - height_of(b, value);
        picture_box(p, left + AXIS, y, across, 1, value > 0 ? FAINT : INK);
        snprintf(text, sizeof text, "%g", value * b->unit);
        text_right(p, left + AXIS - 6, y - 3, text);
    }
    for (int i = 0; i < b->count; i++) {
        int x = left + AXIS + slot * i + 8, width = (slot - 14) / b->series;
        for (int j = 0; j < b->series; j++) {
            const int height = height_of(b, b->values[j][i]);
            picture_box(p, x + j * width, floor_y - height, width - 1, height, b->colours[j]);
        }
        picture_text(p, x + (slot - 14 - picture_text_width(b->labels[i])) / 2, floor_y + 6, 1, INK,
                     b->labels[i]);
    }
    if (b->line > 0) picture_box(p, left + AXIS, floor_y - height_of(b, b->line), across, 1, INK);
}
