/* Finds the known name that is most similar to an unknown one. */
#ifndef ATTEND_TOOL_SUGGEST_H
#define ATTEND_TOOL_SUGGEST_H

/* The most similar name so far. */
typedef struct suggestion {
    const char *written, *nearest; /* nearest NULL: none is similar */
    int distance;
} suggestion;

/* Considers one name. It is similar if at most a third of its letters differ, or if `written` is its
   beginning. */
void suggest(suggestion *suggestion, const char *name);

#endif
