/* ptxas's figures for each kernel, from the cubin's ELF sections: .nv.info for registers and stack, the size of
   .nv.shared.<kernel> for shared memory. */
#include "runtime/fatbinary.h"
#include <elf.h>
#include <string.h>

enum {
    SECTION_NV_INFO = 0x70000000,
    FORMAT_SIZED = 4,          /* attributes of this format carry a payload, the others two bytes */
    ATTRIBUTE_FRAME_SIZE = 0x11,
    ATTRIBUTE_REGISTERS = 0x2f,
    RESERVED_SHARED = 1024     /* from sm_90 on .nv.shared includes what the system keeps of each block */
};

typedef struct elf {
    const char *base;
    size_t bytes;
    const Elf64_Shdr *sections;
    int count;
    const char *names;
    const Elf64_Sym *symbols;
    size_t symbol_count;
    const char *symbol_names;
} elf;

static const char *inside(const elf *e, uint64_t offset, uint64_t bytes) {
    return offset <= e->bytes && bytes <= e->bytes - offset ? e->base + offset : NULL;
}

static bool open_elf(const char *cubin, size_t bytes, elf *e) {
    *e = (elf){.base = cubin, .bytes = bytes};
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)inside(e, 0, sizeof *header);
    if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return false;
    e->count = header->e_shnum;
    e->sections = (const Elf64_Shdr *)inside(e, header->e_shoff, (uint64_t)e->count * sizeof *e->sections);
    if (!e->sections || header->e_shstrndx >= e->count) return false;
    e->names = inside(e, e->sections[header->e_shstrndx].sh_offset, e->sections[header->e_shstrndx].sh_size);
    for (int i = 0; i < e->count; i++) {
        const Elf64_Shdr *s = &e->sections[i];
        if (s->sh_type != SHT_SYMTAB || s->sh_link >= (uint32_t)e->count) continue;
        e->symbols = (const Elf64_Sym *)inside(e, s->sh_offset, s->sh_size);
        e->symbol_count = s->sh_size / sizeof *e->symbols;
        e->symbol_names = inside(e, e->sections[s->sh_link].sh_offset, e->sections[s->sh_link].sh_size);
    }
    return e->names && e->symbols && e->symbol_names;
}

/* The value that .nv.info gives for a symbol; -1 if none. */
static int64_t attribute(const elf *e, int wanted, uint32_t symbol) {
    for (int i = 0; i < e->count; i++) {
        const Elf64_Shdr *s = &e->sections[i];
        const unsigned char *at = (const unsigned char *)inside(e, s->sh_offset, s->sh_size);
        if (s->sh_type != SECTION_NV_INFO || !at || strcmp(e->names + s->sh_name, ".nv.info") != 0) continue;
        for (const unsigned char *end = at + s->sh_size; at + 4 <= end;) {
            uint16_t size;
            uint32_t payload[2];
            memcpy(&size, at + 2, sizeof size);
            if (at[0] == FORMAT_SIZED && at[1] == wanted && size == sizeof payload) {
                memcpy(payload, at + 4, sizeof payload);
                if (payload[0] == symbol) return payload[1];
            }
            at += 4 + (at[0] == FORMAT_SIZED ? size : 0);
        }
    }
    return -1;
}

static int64_t shared_bytes(const elf *e, const char *kernel, int capability) {
    static const char prefix[] = ".nv.shared.";
    for (int i = 0; i < e->count; i++) {
        const char *name = e->names + e->sections[i].sh_name;
        if (strncmp(name, prefix, sizeof prefix - 1) != 0 || strcmp(name + sizeof prefix - 1, kernel) != 0) continue;
        int64_t bytes = (int64_t)e->sections[i].sh_size - (capability >= 90 ? RESERVED_SHARED : 0);
        return bytes > 0 ? bytes : 0;
    }
    return 0;
}

void cubin_visit(const char *cubin, size_t bytes, int capability, void (*visit)(const cubin_kernel *kernel, void *context), void *context) {
    elf e;
    if (!open_elf(cubin, bytes, &e)) return;
    for (size_t i = 0; i < e.symbol_count; i++) {
        if (ELF64_ST_TYPE(e.symbols[i].st_info) != STT_FUNC) continue;
        int64_t registers = attribute(&e, ATTRIBUTE_REGISTERS, (uint32_t)i);
        if (registers < 0) continue;
        int64_t stack = attribute(&e, ATTRIBUTE_FRAME_SIZE, (uint32_t)i);
        const char *name = e.symbol_names + e.symbols[i].st_name;
        cubin_kernel kernel = {name, (int)registers, shared_bytes(&e, name, capability), stack > 0 ? stack : 0};
        visit(&kernel, context);
    }
}
