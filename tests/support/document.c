/* A document that is generated from the code, and compared to the file in docs/. */
#include "support/document.h"
#include "support/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

void test_print(test_document *d, const char *format, ...)
{
    va_list list;
    char *more, *all;
    va_start(list, format);
    assert_true(vasprintf(&more, format, list) >= 0);
    va_end(list);
    const size_t length = d->text ? strlen(d->text) : 0;
    all = realloc(d->text, length + strlen(more) + 1);
    assert_non_null(all);
    strcpy(all + length, more);
    free(more);
    d->text = all;
}

void test_document_expect(test_document *d, const char *name, const char *program)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", TEST_DOCS, name);
    if (getenv("ATTEND_WRITE_DOCS")) test_write_file(path, d->text, strlen(d->text));
    size_t size;
    char *found = test_read_file(path, &size);
    if (strcmp(found, d->text))
        fail_msg("docs/%s is not what the code says; write it anew: ATTEND_WRITE_DOCS=1 "
                 "build/release/tests/%s",
                 name, program);
    free(found), free(d->text);
    d->text = NULL;
}
