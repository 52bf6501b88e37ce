/* Keeps findings apart by kind and place, prints each the first time, counts the rest. */
#include "engine/finding.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sg_options sg_settings = {.checks = true, .seed = 1};

typedef struct finding {
    char *key, *text;
    int64_t times;
} finding;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static finding *findings;
static int64_t count;

void sg_configure(const sg_options *options) { sg_settings = *options; }

/* Under the lock. True the first time. */
static bool record(const char *key, const char *text)
{
    for (int64_t i = 0; i < count; i++)
        if (!strcmp(findings[i].key, key)) {
            findings[i].times++;
            return false;
        }
    finding *grown = realloc(findings, (size_t)(count + 1) * sizeof *findings);
    if (!grown) return true;
    findings = grown;
    findings[count] = (finding){strdup(key), strdup(text), 1};
    if (!findings[count].key || !findings[count].text) return true;
    count++;
    return true;
}

/* Findings of one key are one. */
static void tell(const char *kind, const char *place, const char *same, const char *text)
{
    char key[FINDING_BYTES], line[FINDING_BYTES + PLACE_BYTES + 64];
    snprintf(line, sizeof line, "%s: %s%s%s", kind, place ? place : "", place ? ": " : "", text);
    snprintf(key, sizeof key, "%s: %s", kind, same);
    pthread_mutex_lock(&lock);
    bool first = record(key, line);
    pthread_mutex_unlock(&lock);
    if (first) fprintf(stderr, "softgpu: %s\n", line);
}

void sg_finding_at(const char *kind, const char *place, const char *format, ...)
{
    char text[FINDING_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tell(kind, place, place, text);
}

void sg_finding(const char *kind, const char *format, ...)
{
    char text[FINDING_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tell(kind, NULL, text, text);
}

void sg_finding_of(const char *kind, const char *same, const char *format, ...)
{
    char text[FINDING_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tell(kind, NULL, same, text);
}

int64_t sg_findings(void)
{
    pthread_mutex_lock(&lock);
    int64_t now = count;
    pthread_mutex_unlock(&lock);
    return now;
}

const char *sg_finding_text(int64_t number, int64_t *times)
{
    pthread_mutex_lock(&lock);
    const char *text = number < count ? findings[number].text : NULL;
    *times = text ? findings[number].times : 0;
    pthread_mutex_unlock(&lock);
    return text;
}
