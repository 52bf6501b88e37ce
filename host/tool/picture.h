/* A small picture: boxes and text, written as PNG. */
#ifndef ATTEND_TOOL_PICTURE_H
#define ATTEND_TOOL_PICTURE_H

#include "file/output.h"

enum { GLYPH_WIDTH = 6, GLYPH_HEIGHT = 8 }; /* at scale 1, with the space between glyphs */

typedef struct picture {
    int width, height;
    unsigned char *pixels; /* RGB, row by row */
} picture;

/* A white picture. */
attend_status picture_begin(picture *picture, int width, int height);
/* colour: 0xRRGGBB. Clipped to the picture. */
void picture_box(picture *picture, int x, int y, int width, int height, uint32_t colour);
/* Draws ASCII; other UTF-8 characters become '?'. x, y: the upper left corner. */
void picture_text(picture *picture, int x, int y, int scale, uint32_t colour, const char *text);
/* Draws text upwards. x, y: the lower left corner, where the text begins. */
void picture_text_up(picture *picture, int x, int y, int scale, uint32_t colour, const char *text);
/* In pixels, at scale 1. */
int picture_text_width(const char *text);
/* Writes a PNG file. The caller still has to commit it. */
attend_status picture_write(const picture *picture, attend_output *output);
void picture_end(picture *picture);

#endif
