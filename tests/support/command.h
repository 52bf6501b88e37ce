/* Runs the built command, as a script would. */
#ifndef ATTEND_TEST_SUPPORT_COMMAND_H
#define ATTEND_TEST_SUPPORT_COMMAND_H

#include <cjson/cJSON.h>

typedef struct test_process {
    int code; /* exit status; 128 + signal if one ended it */
    char *out, *err;
} test_process;

/* `attend` with arguments made from the format, through the shell, in the test's folder. */
test_process test_attend(const char *format, ...) __attribute__((format(printf, 1, 2)));
void test_process_free(test_process *process);

/* Fails the test unless the exit status is `code` and stderr contains `sentence`; "" requires an empty
   stderr. */
void test_expect(int code, const char *sentence, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Fails the test unless the exit status is `code` and stdout is one JSON object; cJSON_Delete() it. */
cJSON *test_json(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A member by a path of names and indices, "tensors/0/worst/actual"; fails the test if it is missing. */
double test_json_number(const cJSON *json, const char *path);
const char *test_json_text(const cJSON *json, const char *path);

#endif
