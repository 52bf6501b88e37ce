/* Pages, of which the last may not be touched; where they are is noted before the memory that is given out. */
#include "support/guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct pages {
    char *begin;
    size_t bytes;
} pages;

void *test_guarded(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    pages all = {.bytes = (bytes + sizeof all + page - 1) / page * page + page};
    all.begin = mmap(NULL, all.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(all.begin != MAP_FAILED && !mprotect(all.begin + all.bytes - page, page, PROT_NONE));
    char *memory = all.begin + all.bytes - page - bytes;
    memcpy(memory - sizeof all, &all, sizeof all);
    return memory;
}

void test_guarded_free(void *memory)
{
    pages all;
    if (!memory) return;
    memcpy(&all, (char *)memory - sizeof all, sizeof all);
    munmap(all.begin, all.bytes);
}
