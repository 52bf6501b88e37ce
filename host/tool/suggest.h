/* What somebody meant who wrote a name that is not known. */
#ifndef ATTEND_TOOL_SUGGEST_H
#define ATTEND_TOOL_SUGGEST_H

/* Keeps the nearest of the names that it is shown. */
typedef struct suggestion {
    const char *written, *nearest; /* nearest NULL: none is near */
    int distance;
} suggestion;

/* Looks at one name: a slip of one letter in three may lie between, or the rest of the name be missing. */
void suggest(suggestion *suggestion, const char *name);

#endif
