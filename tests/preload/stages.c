/* Preloaded into the command: each stage of its progress becomes a line of the file ATTEND_TEST_STAGES. It is the only text that the command
 * prints into as many bytes; LLVM's OpenMP has more. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STAGE = 512 };

static void note(const char *text)
{
    const char *path = getenv("ATTEND_TEST_STAGES");
    char line[STAGE + 1];
    const int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (file < 0) return;
    const size_t length = strlen(text);
    memcpy(line, text, length), line[length] = '\n';
    if (write(file, line, length + 1) < 0) _exit(1);
    close(file);
}

static bool is_command(const void *caller)
{
    Dl_info in;
    const char *slash = dladdr(caller, &in) ? strrchr(in.dli_fname, '/') : NULL;
    return slash && !strcmp(slash, "/attend");
}

static int print(const void *caller, char *text, size_t bytes, const char *format, va_list arguments)
{
    static int (*real)(char *, size_t, const char *, va_list);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "vsnprintf");
    const int length = real(text, bytes, format, arguments);
    if (bytes == STAGE && is_command(caller)) note(text);
    return length;
}

int vsnprintf(char *text, size_t bytes, const char *format, va_list arguments)
{
    return print(__builtin_return_address(0), text, bytes, format, arguments);
}

/* As a compiler calls it that checks sizes. */
int __vsnprintf_chk(char *text, size_t bytes, int flag, size_t room, const char *format, va_list arguments);
int __vsnprintf_chk(char *text, size_t bytes, int flag, size_t room, const char *format, va_list arguments)
{
    (void)flag, (void)room;
    return print(__builtin_return_address(0), text, bytes, format, arguments);
}
