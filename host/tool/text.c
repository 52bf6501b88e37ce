/* Counts and cuts UTF-8 text. */
#include "tool/text.h"

#include <stdbool.h>
#include <string.h>

static bool begins_character(char c) { return ((unsigned char)c & 0xc0) != 0x80; }

int text_columns(const char *text)
{
    int columns = 0;
    for (; *text; text++) columns += begins_character(*text);
    return columns;
}

void text_cut(char *text, int columns)
{
    if (text_columns(text) <= columns) return;
    for (int kept = 0; *text && !(begins_character(*text) && ++kept >= columns);) text++;
    strcpy(text, columns > 0 ? "…" : "");
}

void text_make_printable(char *text)
{
    for (; *text; text++) {
        bool c1 = *text == '\xc2' && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] < 0xa0;
        if ((unsigned char)*text < ' ' || *text == 0x7f || c1) *text = '?';
        if (c1) text[1] = '?';
    }
}
