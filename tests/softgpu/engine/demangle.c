#include "engine/demangle.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef char *demangler(const char *name, char *buffer, size_t *bytes, int *status);

/* Cuts every "(anonymous namespace)::" and nvcc's "_GLOBAL__N__…::" out. */
static void drop_anonymous(char *text)
{
    static const char anonymous[] = "(anonymous namespace)::";
    for (char *at; (at = strstr(text, anonymous));) memmove(at, at + sizeof anonymous - 1, strlen(at + sizeof anonymous - 1) + 1);
    for (char *at; (at = strstr(text, "_GLOBAL__N__"));) {
        char *end = strstr(at, "::");
        if (!end) return;
        memmove(at, end + 2, strlen(end + 2) + 1);
    }
}

/* Cuts the parameters, which begin at the last '(' outside of template arguments, and a template's return type. */
static void drop_signature(char *text)
{
    int depth = 0;
    for (char *c = text; *c; c++) {
        depth += *c == '<';
        depth -= *c == '>' && c[-1] != '-';
        if (*c == '(' && depth == 0) *c = 0;
        if (*c == 0) break;
    }
    if (!strncmp(text, "void ", 5)) memmove(text, text + 5, strlen(text + 5) + 1);
}

char *demangled(const char *name)
{
    void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "__cxa_demangle") : NULL;
    demangler *demangle;
    int status = -1;
    memcpy(&demangle, &symbol, sizeof symbol);
    char *text = symbol ? demangle(name, NULL, NULL, &status) : NULL;
    if (status || !text) return strdup(name);
    drop_anonymous(text);
    drop_signature(text);
    return text;
}
