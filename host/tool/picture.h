/* A small picture: boxes and text, written as PNG. */
#ifndef ATTEND_TOOL_PICTURE_H
#define ATTEND_TOOL_PICTURE_H

#include "file/output.h"

#include <stdint.h>

enum { GLYPH_WIDTH = 6, GLYPH_HEIGHT = 8 }; /* at scale 1, with the gaps */

typedef struct picture {
    int width, height;
    unsigned char *pixels; /* RGB by rows */
} picture;

/* White. ATTEND_OUT_OF_MEMORY where memory lacks. */
attend_status picture_begin(picture *picture, int width, int height);
/* colour: 0xRRGGBB. What lies outside is cut off. */
void picture_box(picture *picture, int x, int y, int width, int height, uint32_t colour);
/* Capital letters, digits and a few signs; others leave a gap. x, y: the upper left corner. */
void picture_text(picture *picture, int x, int y, int scale, uint32_t colour, const char *text);
/* Writes the whole file. */
attend_status picture_write(const picture *picture, attend_output *output);
void picture_end(picture *picture);

#endif
