/* A small picture: boxes and text, written as PNG. */
#ifndef ATTEND_TOOL_PICTURE_H
#define ATTEND_TOOL_PICTURE_H

#include "file/output.h"

enum { GLYPH_WIDTH = 6, GLYPH_HEIGHT = 8 }; /* at scale 1, with the gaps */

typedef struct picture {
    int width, height;
    unsigned char *pixels; /* RGB by rows */
} picture;

/* White. ATTEND_OUT_OF_MEMORY where memory lacks. */
attend_status picture_begin(picture *picture, int width, int height);
/* colour: 0xRRGGBB. What lies outside is cut off. */
void picture_box(picture *picture, int x, int y, int width, int height, uint32_t colour);
/* ASCII; other characters of UTF-8 become '?'. x, y: the upper left corner. */
void picture_text(picture *picture, int x, int y, int scale, uint32_t colour, const char *text);
/* The same from the bottom up. x, y: the lower left corner, where it begins. */
void picture_text_up(picture *picture, int x, int y, int scale, uint32_t colour, const char *text);
/* At scale 1, in pixels. */
int picture_text_width(const char *text);
/* Writes a PNG file, which is finished then, but not yet committed. */
attend_status picture_write(const picture *picture, attend_output *output);
void picture_end(picture *picture);

#endif
