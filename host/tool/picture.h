/* A small picture: boxes and text, written as PNG. */
#ifndef ATTEND_TOOL_PICTURE_H
#define ATTEND_TOOL_PICTURE_H

#include <attend/attend.h>

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
/* Writes a file that appears whole or not at all. */
attend_status picture_save(const picture *picture, const char *path);
void picture_end(picture *picture);

#endif
