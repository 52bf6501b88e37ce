/* What an opcode's text says: its row, and the fields of an instruction that its words set. */
#ifndef SOFTGPU_ENGINE_OPCODE_H
#define SOFTGPU_ENGINE_OPCODE_H

#include "engine/ptx.h"

opcode_cache *opcode_cache_create(void);
void opcode_cache_free(opcode_cache *cache);
/* An instruction without operands; without a row where none fits. It and the text it names live as long as the cache. */
const insn *opcode_find(opcode_cache *cache, const char *text);
/* A mov from a special register that moves reads it anew each time. */
void opcode_read_clock(insn *i, int special);

#endif
