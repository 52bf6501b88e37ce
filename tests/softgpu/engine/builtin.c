/* The functions that every device brings along: vprintf, __assertfail, malloc, free. */
#include "engine/decode.h"
#include "engine/finding.h"
#include "engine/lanes.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MOST = 4096, ARGUMENTS_MOST = 32 };

typedef struct reader {
    warp *w;
    const insn *i;
    int lane;
    bool failed;
} reader;

/* Memory of a kernel, by generic address and with all checks. */
static uint64_t read_at(reader *r, uint64_t address, int bytes)
{
    uint64_t addresses[LANES], value = 0;
    char *hosts[LANES];
    addresses[r->lane] = address;
    warp_access access = {.insn = r->i, .space = SPACE_GENERIC, .lanes = 1u << r->lane, .addresses = addresses, .bytes = bytes, .kind = ACCESS_READ};
    warp_access_hosts(r->w, &access, hosts);
    if (hosts[r->lane]) memcpy(&value, hosts[r->lane], (size_t)bytes);
    r->failed |= !hosts[r->lane];
    return value;
}

static void read_text(reader *r, uint64_t address, char text[TEXT_MOST])
{
    int at = 0;
    while (!r->failed && at < TEXT_MOST - 1 && (text[at] = (char)read_at(r, address + (uint64_t)at, 1))) at++;
    text[at] = 0;
}

static char *frame(const reader *r, const struct ptx_slot *slot)
{
    const warp *w = r->w;
    return (char *)w->local + (size_t)r->lane * (size_t)w->block->launch->function->local_bytes + w->frame[r->lane] + slot->offset;
}

static uint64_t argument(const reader *r, int index)
{
    const ptx_call *c = r->i->call;
    uint64_t value = 0;
    if (index < c->argument_count) memcpy(&value, frame(r, &c->arguments[index]), (size_t)(c->arguments[index].bytes < 8 ? c->arguments[index].bytes : 8));
    return value;
}

static void set_result(const reader *r, uint64_t value)
{
    const ptx_call *c = r->i->call;
    if (!c->result_count) return;
    char *at = frame(r, &c->results[0]);
    size_t bytes = (size_t)(c->results[0].bytes < 8 ? c->results[0].bytes : 8);
    memcpy(at, &value, bytes);
    if (r->w->local_written) memset(r->w->local_written + (at - (char *)r->w->local), 1, bytes);
}

/* ---- printf ------------------------------------------------------------------------------------------------------------------------ */

typedef struct output {
    char *text;
    size_t length, capacity;
} output;

static void put(output *o, const char *text, size_t bytes)
{
    if (o->length + bytes >= o->capacity) {
        o->capacity = 2 * (o->length + bytes) + 256;
        o->text = realloc(o->text, o->capacity);
        if (!o->text) abort();
    }
    memcpy(o->text + o->length, text, bytes);
    o->length += bytes;
}

/* One conversion, whose text is `spec`; arguments lie one behind the other, each aligned to its size. */
static void put_conversion(reader *r, output *o, const char *spec, char type, int longs, uint64_t *at)
{
    char text[TEXT_MOST + 256], string[TEXT_MOST];
    int bytes = longs || strchr("spaAeEfFgG", type) ? 8 : 4, used = 0;
    *at = (*at + (uint64_t)bytes - 1) / (uint64_t)bytes * (uint64_t)bytes;
    uint64_t value = read_at(r, *at, bytes);
    double real;
    memcpy(&real, &value, sizeof real);
    *at += (uint64_t)bytes;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (type == 's') {
        read_text(r, value, string);
        used = snprintf(text, sizeof text, spec, string);
    } else if (type == 'p') {
        used = snprintf(text, sizeof text, spec, (void *)(uintptr_t)value);
    } else if (bytes == 8 && strchr("aAeEfFgG", type)) {
        used = snprintf(text, sizeof text, spec, real);
    } else if (bytes == 8) {
        used = snprintf(text, sizeof text, spec, (long long)value);
    } else {
        used = snprintf(text, sizeof text, spec, (int)value);
    }
#pragma GCC diagnostic pop
    if (used > 0) put(o, text, (size_t)used < sizeof text ? (size_t)used : sizeof text - 1);
}

/* %[flags][width][.precision][size]type, as CUDA's printf knows it. Behind a specification it does not know the text goes on as it is. */
static int format(reader *r, const char *text, uint64_t arguments, output *o)
{
    int count = 0;
    while (*text && !r->failed) {
        size_t plain = strcspn(text, "%");
        put(o, text, plain);
        text += plain;
        if (!*text) break;
        const char *end = text + 1 + strspn(text + 1, "-+ #0123456789.");
        int longs = 0;
        const char *size = end;
        for (; *end == 'l' || *end == 'h'; end++) longs += *end == 'l';
        char spec[64];
        size_t head = (size_t)(size - text);
        if (text[1] == '%') {
            put(o, "%", 1);
            text += 2;
        } else if (*end && strchr("cdiouxXpeEfFgGaAs", *end) && head < sizeof spec - 4 && count < ARGUMENTS_MOST) {
            bool is_integer = strchr("diouxX", *end);
            snprintf(spec, sizeof spec, "%.*s%s%c", (int)head, text, is_integer && longs ? "ll" : "", *end);
            put_conversion(r, o, spec, *end, is_integer ? longs : 0, &arguments);
            count++;
            text = end + 1;
        } else {
            put(o, text, 1);
            text++;
        }
    }
    return count;
}

/* The host's stdout, a line of a thread at a time; kernels run when the program synchronises, which is when devices print. */
static void print(warp *w, const insn *i, uint32_t mask)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        reader r = {.w = w, .i = i, .lane = __builtin_ctz(rest)};
        output o = {0};
        char text[TEXT_MOST];
        read_text(&r, argument(&r, 0), text);
        int count = format(&r, text, argument(&r, 1), &o);
        pthread_mutex_lock(&lock);
        fwrite(o.text, 1, o.length, stdout);
        fflush(stdout);
        pthread_mutex_unlock(&lock);
        free(o.text);
        set_result(&r, (uint64_t)count);
    }
}

/* ---- assert, malloc, free ------------------------------------------------------------------------------------------------------------ */

static void assertion_failed(warp *w, const insn *i, uint32_t mask)
{
    reader r = {.w = w, .i = i, .lane = __builtin_ctz(mask)};
    char expression[TEXT_MOST], file[TEXT_MOST], function[TEXT_MOST];
    read_text(&r, argument(&r, 0), expression);
    read_text(&r, argument(&r, 1), file);
    read_text(&r, argument(&r, 3), function);
    warp_finding(w, i, r.lane, "assertion", "%.200s:%u: %.200s: assertion `%.400s` failed", file, (unsigned)argument(&r, 2), function, expression);
    launch_fail(w->block->launch, SG_ASSERT);
    w->yields = true;
}

static void allocate(warp *w, const insn *i, uint32_t mask)
{
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        reader r = {.w = w, .i = i, .lane = __builtin_ctz(rest)};
        int64_t bytes = (int64_t)argument(&r, 0);
        set_result(&r, bytes > 0 ? sg_memory_allocate(w->block->launch->device, SG_MEMORY_DEVICE, bytes, "malloc in a kernel") : 0);
    }
}

static void release(warp *w, const insn *i, uint32_t mask)
{
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        reader r = {.w = w, .i = i, .lane = __builtin_ctz(rest)};
        uint64_t address = argument(&r, 0);
        char where[256];
        if (!address || sg_memory_free(address)) continue;
        sg_address_describe(address, where, sizeof where);
        warp_finding(w, i, r.lane, "use after free", "free of 0x%llx, which is not the start of a live allocation: %s", (unsigned long long)address, where);
        launch_fail(w->block->launch, SG_ILLEGAL_ADDRESS);
    }
}

ptx_exec *ptx_builtin(const char *name)
{
    static const struct {
        const char *name;
        ptx_exec *exec;
    } all[] = {{"vprintf", print}, {"__assertfail", assertion_failed}, {"malloc", allocate}, {"free", release}};
    for (size_t b = 0; b < sizeof all / sizeof *all; b++)
        if (!strcmp(all[b].name, name)) return all[b].exec;
    return NULL;
}
