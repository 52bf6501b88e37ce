/* The letters of pictures. */
#ifndef ATTEND_TOOL_FONT_H
#define ATTEND_TOOL_FONT_H

enum { FONT_COLUMNS = 5, FONT_ROWS = 7 };

/* FONT_ROWS rows of FONT_COLUMNS pixels, the leftmost is bit 4; '?' for what is not printable ASCII. */
const unsigned char *font_glyph(char character);

#endif
