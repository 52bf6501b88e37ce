/* Reads tokens, the labels of attend inspect, from a text file with one token per line. */
#include "tool/inspect.h"
#include "file/fail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads the whole file into the pool and appends a NUL. */
static attend_status read_text(const char *path, pool *pool, char **text)
{
    size_t size = 0, room = 1 << 16;
    FILE *file = fopen(path, "re");
    if (!file) return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s: %s", path, strerror(errno));
    char *memory = malloc(room);
    while (memory) {
        size += fread(memory + size, 1, room - size - 1, file);
        if (size < room - 1) break;
        char *more = realloc(memory, room *= 2);
        if (!more) free(memory);
        memory = more;
    }
    bool good = !ferror(file);
    fclose(file);
    if (!memory) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s: no memory for its text", path);
    memory[size] = 0;
    ATTEND_TRY(pool_keep(pool, memory));
    if (!good || strlen(memory) != size)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s is not a text file with one token per line",
                                path);
    *text = memory;
    return ATTEND_OK;
}

attend_status tokens_load(const char *path, int64_t count, inspection *s)
{
    char *text = NULL;
    ATTEND_TRY(read_text(path, &s->job.pool, &text));
    int64_t lines = 0;
    for (char *at = text; *at; at++) lines += *at == '\n' || !at[1];
    if (lines != count)
        return attend_file_fail(ATTEND_INVALID_ARGUMENT,
                                "%s has %" PRId64 " lines, but there are %" PRId64 " keys", path, lines,
                                count);
    s->tokens = malloc((size_t)(count + 1) * sizeof *s->tokens);
    if (!s->tokens) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for %" PRId64 " tokens", count);
    ATTEND_TRY(pool_keep(&s->job.pool, s->tokens));
    for (int64_t i = 0; i < count; i++) {
        size_t length = strcspn(text, "\n");
        s->tokens[i] = text;
        text += length + (text[length] != 0);
        s->tokens[i][length] = 0;
        for (char *c = s->tokens[i]; *c; c++)
            if ((unsigned char)*c < ' ') *c = ' ';
    }
    s->token_count = count;
    return ATTEND_OK;
}

const char *token_text(const inspection *s, int64_t place)
{
    static char numbers[8][24];
    static int turn;
    if (place >= 0 && s->entry.first_k + place < s->token_count) return s->tokens[s->entry.first_k + place];
    char *number = numbers[turn++ % 8];
    snprintf(number, sizeof numbers[0], "%" PRId64, place);
    return number;
}
