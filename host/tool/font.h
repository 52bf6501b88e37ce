/* A bitmap font for labels in pictures. */
#ifndef ATTEND_TOOL_FONT_H
#define ATTEND_TOOL_FONT_H

enum { FONT_COLUMNS = 5, FONT_ROWS = 7 };

/* FONT_ROWS rows of FONT_COLUMNS pixels, the leftmost pixel in bit 4; the glyph of '?' for other than
   printable ASCII. */
const unsigned char *font_glyph(char character);

#endif
