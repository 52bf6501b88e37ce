/* The command under test: ATTEND_COMMAND of the environment, or this build's. */
#include "support/command.h"
#include "support/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

static test_process run(const char *format, va_list arguments)
{
    char words[16384], line[20480];
    size_t size;
    const char *command = getenv("ATTEND_COMMAND");
    vsnprintf(words, sizeof words, format, arguments);
    snprintf(line, sizeof line, "cd %s && %s >.out 2>.err </dev/null %s", test_folder(), command ? command : ATTEND_COMMAND,
             words);
    int status = system(line);
    test_process process = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)};
    process.out = test_read_file(test_path(".out"), &size);
    process.err = test_read_file(test_path(".err"), &size);
    remove(test_path(".out")), remove(test_path(".err"));
    return process;
}

test_process test_attend(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    test_process process = run(format, arguments);
    va_end(arguments);
    return process;
}

void test_process_free(test_process *process)
{
    free(process->out);
    free(process->err);
}

void test_expect(int code, const char *sentence, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    test_process p = run(format, arguments);
    va_end(arguments);
    if (p.code != code || (*sentence ? !strstr(p.err, sentence) : *p.err != 0))
        fail_msg("attend %s: exit %d, stderr \"%s\"; expected %d and \"%s\"", format, p.code, p.err, code, sentence);
    test_process_free(&p);
}

cJSON *test_json(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    test_process p = run(format, arguments);
    va_end(arguments);
    cJSON *json = cJSON_ParseWithOpts(p.out, NULL, true);
    if (p.code != code || !cJSON_IsObject(json))
        fail_msg("attend %s: exit %d, stdout \"%s\", stderr \"%s\"; expected %d and a JSON object", format, p.code, p.out, p.err,
                 code);
    test_process_free(&p);
    return json;
}

static const cJSON *member(const cJSON *json, const char *path)
{
    char copy[256];
    char *save = NULL;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *word = strtok_r(copy, "/", &save); word && json; word = strtok_r(NULL, "/", &save))
        json = cJSON_IsArray(json) ? cJSON_GetArrayItem(json, atoi(word)) : cJSON_GetObjectItemCaseSensitive(json, word);
    return json;
}

double test_json_number(const cJSON *json, const char *path)
{
    const cJSON *item = member(json, path);
    if (!cJSON_IsNumber(item)) fail_msg("the JSON has no number %s", path);
    return item->valuedouble;
}

const char *test_json_text(const cJSON *json, const char *path)
{
    const cJSON *item = member(json, path);
    if (!cJSON_IsString(item)) fail_msg("the JSON has no text %s", path);
    return item->valuestring;
}
