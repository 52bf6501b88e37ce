/* Tables and JSON on stdout. */
#include "tool/report.h"
#include "tool/text.h"
#include "file/fail.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Set when an allocation fails: cJSON omits the item without an error. */
static bool lacked;

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    lacked |= !memory;
    return memory;
}

static void add_cell(report *r, grid *grid, const char *format, va_list arguments)
{
    char *text = NULL;
    char **cells = realloc(grid->cells, (size_t)(grid->count + 1) * sizeof *cells);
    if (cells) grid->cells = cells;
    if (!cells || vasprintf(&text, format, arguments) < 0) {
        r->broken = true;
        return;
    }
    text_make_printable(text);
    grid->cells[grid->count++] = text;
}

static void add_label(report *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add_cell(r, &r->facts, format, arguments);
    va_end(arguments);
}

void report_begin(report *r, const options *options)
{
    cJSON_InitHooks(&(cJSON_Hooks){allocate, free});
    memset(r, 0, sizeof *r);
    lacked = false;
    r->json = options->json, r->quiet = options->quiet;
    r->facts.columns = 2, r->facts.alignment = "ll";
    r->object = cJSON_CreateObject();
    cJSON_AddStringToObject(r->object, "command", options->name);
}

void report_text(report *r, const char *key, const char *label, const char *value, const char *format, ...)
{
    va_list arguments;
    cJSON_AddStringToObject(r->object, key, value);
    if (!label) return;
    va_start(arguments, format);
    add_label(r, "%s", label);
    add_cell(r, &r->facts, format, arguments);
    va_end(arguments);
}

void report_fact(report *r, const char *label, const char *text)
{
    add_label(r, "%s", label);
    add_label(r, "%s", text);
}

void report_json_number(cJSON *object, const char *key, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(object, key, value);
    else
        cJSON_AddStringToObject(object, key, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
}

void report_number(report *r, const char *key, const char *label, double value, const char *format, ...)
{
    va_list arguments;
    report_json_number(r->object, key, value);
    if (!label) return;
    va_start(arguments, format);
    add_label(r, "%s", label);
    add_cell(r, &r->facts, format, arguments);
    va_end(arguments);
}

void report_table(report *r, const char *alignment)
{
    r->table.columns = (int)strlen(alignment);
    r->table.alignment = alignment;
}

void report_cell(report *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add_cell(r, &r->table, format, arguments);
    va_end(arguments);
}

void report_warning(report *r, const char *format, ...)
{
    char *text;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0) text = NULL;
    va_end(arguments);
    r->broken |= !text;
    if (!text) return;
    text_make_printable(text);
    cJSON *warnings = cJSON_GetObjectItemCaseSensitive(r->object, "warnings");
    if (!warnings) warnings = cJSON_AddArrayToObject(r->object, "warnings");
    cJSON_AddItemToArray(warnings, cJSON_CreateString(text));
    free(text);
}

static void print_grid(const grid *grid)
{
    int widths[16] = {0};
    for (int i = 0; i < grid->count; i++) {
        int width = text_columns(grid->cells[i]);
        if (width > widths[i % grid->columns]) widths[i % grid->columns] = width;
    }
    for (int i = 0; i < grid->count; i++) {
        int column = i % grid->columns, gap = widths[column] - text_columns(grid->cells[i]);
        bool last = column == grid->columns - 1;
        if (grid->alignment[column] == 'r')
            printf("%*s%s", gap, "", grid->cells[i]);
        else
            printf("%s%*s", grid->cells[i], last ? 0 : gap, "");
        fputs(last ? "\n" : "  ", stdout);
    }
}

attend_status report_print(report *r)
{
    const cJSON *warning;
    cJSON_ArrayForEach(warning, cJSON_GetObjectItemCaseSensitive(r->object, "warnings"))
        fprintf(stderr, "attend: warning: %s\n", cJSON_GetStringValue(warning));
    char *text = r->json ? cJSON_Print(r->object) : NULL;
    if (r->broken || lacked) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for the report");
    if (r->json) {
        puts(text);
    } else if (!r->quiet) {
        print_grid(&r->facts);
        if (r->facts.count && r->table.count) putchar('\n');
        print_grid(&r->table);
        if (r->explanation) printf("\n%s", r->explanation);
    }
    cJSON_free(text);
    if (fflush(stdout) || ferror(stdout))
        return attend_file_fail(ATTEND_IO_ERROR, "stdout: %s", strerror(errno));
    return ATTEND_OK;
}

static void free_grid(grid *grid)
{
    for (int i = 0; i < grid->count; i++) free(grid->cells[i]);
    free(grid->cells);
}

void report_end(report *r)
{
    free_grid(&r->facts);
    free_grid(&r->table);
    free(r->explanation);
    cJSON_Delete(r->object);
    memset(r, 0, sizeof *r);
}
