/* Text on a terminal, UTF-8, every character a column wide. */
#ifndef ATTEND_TOOL_TEXT_H
#define ATTEND_TOOL_TEXT_H

int text_columns(const char *text);

/* Cuts it to at most so many columns, at least 0, the last of them "…" where something went: never within a
 * character. Its memory must have room for 3 bytes more than before. */
void text_cut(char *text, int columns);

/* Replaces control characters, with which names in files could drive a terminal, by '?'. */
void text_make_printable(char *text);

#endif
