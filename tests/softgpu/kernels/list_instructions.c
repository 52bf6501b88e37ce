/* Writes the table of instructions that the engine knows, as Markdown; with a file's name compares it with that, for a test. */
#include "engine/ptx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_types(FILE *to, const char *types)
{
    if (!*types) fprintf(to, "no type");
    if (!strcmp(types, "*")) fprintf(to, "as the instruction's shape says");
    for (; strcmp(types, "*") && *types; types++) *types == '|' ? fputs("\\|", to) : fputc(*types, to);
}

/* Rows of one name that follow each other are one line. */
static void print_table(FILE *to)
{
    int rows = 0, names = 0;
    fputs("# Instructions\n\nWritten by `list_instructions.c` from the tables in `engine/ops_*.c`; what they lack is an error when a kernel\n"
          "reaches it, with its line.\n\n| instruction | types, `\\|` for one of |\n|---|---|\n", to);
    for (int t = 0; ptx_table(t); t++)
        for (const ptx_row *r = ptx_table(t); r->name; rows++) {
            fprintf(to, "| `%s` | ", r->name);
            print_types(to, r->types);
            for (names++, r++; r->name && !strcmp(r[-1].name, r->name); r++, rows++) fputs("; ", to), print_types(to, r->types);
            fputs(" |\n", to);
        }
    fprintf(to, "\n%d rows of %d instructions.\n", rows, names);
}

int main(int count, char **arguments)
{
    char *text = NULL, line[4096];
    size_t size = 0, at = 0;
    FILE *to = open_memstream(&text, &size), *other = count > 1 ? fopen(arguments[1], "r") : NULL;
    if (!to) return 2;
    print_table(to);
    fclose(to);
    if (count == 1) fputs(text, stdout);
    bool same = count == 1 || other;
    while (other && fgets(line, sizeof line, other)) {
        same = same && !strncmp(text + at, line, strlen(line));
        at += same ? strlen(line) : 0;
    }
    if (count > 1 && (!same || at != size)) {
        fprintf(stderr, "%s is not up to date: write it anew with %s >FILE\n", arguments[1], arguments[0]);
        return 1;
    }
    if (other) fclose(other);
    free(text);
    return 0;
}
