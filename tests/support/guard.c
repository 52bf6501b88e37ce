/* Pages, of which the last or the second may not be touched; where they are is noted before the memory that is given out, or in the first. */
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

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* Pages that have room for so much and what is noted, and `more` of them; the one that begins at `closed`, from the end where it is below 0,
   may not be touched. */
static pages pages_for(size_t bytes, size_t more, ptrdiff_t closed)
{
    const size_t page = page_bytes();
    pages all = {.bytes = (bytes + sizeof all + page - 1) / page * page + more * page};
    all.begin = mmap(NULL, all.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(all.begin != MAP_FAILED && !mprotect(closed < 0 ? all.begin + all.bytes + closed : all.begin + closed, page, PROT_NONE));
    return all;
}

void *test_guarded(size_t bytes)
{
    const size_t page = page_bytes();
    const pages all = pages_for(bytes, 1, -(ptrdiff_t)page);
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

void *test_guarded_begin(size_t bytes)
{
    const size_t page = page_bytes();
    const pages all = pages_for(bytes, 2, (ptrdiff_t)page);
    memcpy(all.begin, &all, sizeof all);
    return all.begin + 2 * page;
}

void test_guarded_begin_free(void *memory)
{
    pages all;
    if (!memory) return;
    memcpy(&all, (char *)memory - 2 * page_bytes(), sizeof all);
    munmap(all.begin, all.bytes);
}
