/* UTF-8 text on a terminal; every character is taken as one column wide. */
#ifndef ATTEND_TOOL_TEXT_H
#define ATTEND_TOOL_TEXT_H

int text_columns(const char *text);

/* Cuts the text to at most `columns` columns. A cut text ends in "…". The buffer must have room for 3 more
   bytes than the text. */
void text_cut(char *text, int columns);

/* Replaces control characters by '?': names in files could otherwise contain terminal escape sequences. */
void text_make_printable(char *text);

#endif
