/* A document that is written from the code, and held to it. */
#ifndef ATTEND_TEST_DOCUMENT_H
#define ATTEND_TEST_DOCUMENT_H

typedef struct test_document {
    char *text; /* NULL: empty */
} test_document;

/* Appends; `format` as printf's. */
void test_print(test_document *document, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Fails the test where docs/NAME is not the document, and frees it. With ATTEND_WRITE_DOCS in the environment
   the file is written first; `program` is the test's name, for the sentence that says so. */
void test_document_expect(test_document *document, const char *name, const char *program);

#endif
