/* A document that is generated from the code, and compared to the file in docs/. */
#ifndef ATTEND_TEST_DOCUMENT_H
#define ATTEND_TEST_DOCUMENT_H

typedef struct test_document {
    char *text; /* NULL: empty */
} test_document;

/* Appends text, formatted as by printf. */
void test_print(test_document *document, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Fails the test if docs/NAME differs from the document, and frees it. With ATTEND_WRITE_DOCS in the
   environment the file is written first; `program` is the test's name, for the error message. */
void test_document_expect(test_document *document, const char *name, const char *program);

#endif
