#include "engine/opcode.h"

#include "engine/lanes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- words ----------------------------------------------------------------------------------------------------------- */

typedef struct word {
    const char *text;
    int value;
} word;

static int find_word(const word *words, const char *text, int missing)
{
    for (; words->text; words++)
        if (!strcmp(words->text, text)) return words->value;
    return missing;
}

static const word type_words[] = {
    {"pred", T_PRED}, {"b8", T_B8}, {"b16", T_B16}, {"b32", T_B32}, {"b64", T_B64}, {"b128", T_B128}, {"u8", T_U8}, {"u16", T_U16},
    {"u32", T_U32}, {"u64", T_U64}, {"s8", T_S8}, {"s16", T_S16}, {"s32", T_S32}, {"s64", T_S64}, {"f16", T_F16}, {"f16x2", T_F16X2},
    {"bf16", T_BF16}, {"bf16x2", T_BF16X2}, {"f32", T_F32}, {"f32x2", T_F32X2}, {"f64", T_F64}, {"tf32", T_TF32}, {"e4m3", T_E4M3},
    {"e5m2", T_E5M2}, {"e4m3x2", T_E4M3X2}, {"e5m2x2", T_E5M2X2}, {"s4", T_S4}, {"u4", T_U4}, {"b1", T_B1}, {"u8x4", T_U8X4},
    {"s8x4", T_S8X4}, {"u16x2", T_U16X2}, {"s16x2", T_S16X2}, {NULL, 0},
};

static const word flag_words[] = {
    {"sat", F_SAT}, {"ftz", F_FTZ}, {"cc", F_CC}, {"hi", F_HI}, {"lo", F_LO}, {"wide", F_WIDE}, {"NaN", F_NAN}, {"xorsign", F_XORSIGN},
    {"abs", F_ABS}, {"relu", F_RELU}, {"satfinite", F_SATFINITE}, {"uni", F_UNI}, {"aligned", F_ALIGNED}, {"approx", F_APPROX},
    {"full", F_FULL}, {"to", F_TO}, {"trans", F_TRANS}, {"row", F_ROW}, {"col", F_COL}, {"sync", F_SYNC}, {"shiftamt", F_SHIFTAMT},
    {"wrap", F_WRAP}, {"clamp", F_CLAMP}, {"l", F_LEFT}, {"r", F_RIGHT}, {"nc", F_NC}, {"noinc", F_NOINC}, {"parity", F_PARITY},
    {"multicast::cluster", F_MULTICAST}, {"read", F_READ}, {"noftz", F_NOFTZ}, {NULL, 0},
};

static const word choice_words[] = {
    {"eq", W_EQ}, {"ne", W_NE}, {"lt", W_LT}, {"le", W_LE}, {"gt", W_GT}, {"ge", W_GE}, {"lo", W_LO}, {"ls", W_LS}, {"hi", W_HI}, {"hs", W_HS},
    {"equ", W_EQU}, {"neu", W_NEU}, {"ltu", W_LTU}, {"leu", W_LEU}, {"gtu", W_GTU}, {"geu", W_GEU}, {"num", W_NUM}, {"nan", W_NAN},
    {"add", W_ADD}, {"min", W_MIN}, {"max", W_MAX}, {"and", W_AND}, {"or", W_OR}, {"xor", W_XOR}, {"inc", W_INC}, {"dec", W_DEC},
    {"exch", W_EXCH}, {"cas", W_CAS}, {"popc", W_POPC}, {"up", W_UP}, {"down", W_DOWN}, {"bfly", W_BFLY}, {"idx", W_IDX}, {"all", W_ALL},
    {"any", W_ANY}, {"ballot", W_BALLOT}, {"uni", W_UNI}, {"f4e", W_F4E}, {"b4e", W_B4E}, {"rc8", W_RC8}, {"ecl", W_ECL}, {"ecr", W_ECR},
    {"rc16", W_RC16}, {"finite", W_FINITE}, {"infinite", W_INFINITE}, {"number", W_NUMBER}, {"notanumber", W_NOTANUMBER},
    {"normal", W_NORMAL}, {"subnormal", W_SUBNORMAL}, {"arrive", W_ARRIVE}, {"red", W_RED}, {"mbarrier::complete_tx::bytes", W_TX},
    {NULL, 0},
};

static const word round_words[] = {
    {"rn", R_RN}, {"rz", R_RZ}, {"rm", R_RM}, {"rp", R_RP}, {"rna", R_RNA}, {"rni", R_RNI}, {"rzi", R_RZI}, {"rmi", R_RMI}, {"rpi", R_RPI},
    {NULL, 0},
};

static const word space_words[] = {
    {"global", SPACE_GLOBAL}, {"shared", SPACE_SHARED}, {"shared::cta", SPACE_SHARED}, {"shared::cluster", SPACE_CLUSTER},
    {"local", SPACE_LOCAL}, {"param", SPACE_PARAM}, {"param::entry", SPACE_PARAM}, {"param::func", SPACE_PARAM}, {"const", SPACE_CONST},
    {NULL, 0},
};

static const word order_words[] = {
    {"weak", ORDER_WEAK}, {"volatile", ORDER_VOLATILE}, {"mmio", ORDER_VOLATILE}, {"relaxed", ORDER_RELAXED}, {"acquire", ORDER_ACQUIRE},
    {"release", ORDER_RELEASE}, {"acq_rel", ORDER_ACQ_REL}, {"sc", ORDER_SC}, {NULL, 0},
};

static const word scope_words[] = {
    {"cta", SCOPE_CTA}, {"cluster", SCOPE_CLUSTER}, {"gpu", SCOPE_GPU}, {"sys", SCOPE_SYS}, {"gl", SCOPE_GPU}, {NULL, 0},
};

/* Hints that change speed only. */
static bool is_cache_hint(const char *text)
{
    static const char *const hints[] = {"ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc"};
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (!strcmp(text, hints[i])) return true;
    return !strncmp(text, "L1::", 4) || !strncmp(text, "L2::", 4);
}

int ptx_type_bits(ptx_type type)
{
    static const uint8_t bits[PTX_TYPES] = {
        [T_PRED] = 1, [T_B8] = 8, [T_U8] = 8, [T_S8] = 8, [T_B16] = 16, [T_U16] = 16, [T_S16] = 16, [T_F16] = 16, [T_BF16] = 16,
        [T_E4M3X2] = 16, [T_E5M2X2] = 16, [T_B32] = 32, [T_U32] = 32, [T_S32] = 32, [T_F32] = 32, [T_F16X2] = 32, [T_BF16X2] = 32,
        [T_TF32] = 32, [T_U8X4] = 32, [T_S8X4] = 32, [T_U16X2] = 32, [T_S16X2] = 32, [T_B64] = 64, [T_U64] = 64, [T_S64] = 64, [T_F64] = 64, [T_F32X2] = 64, [T_B128] = 128,
    };
    return bits[type];
}

/* ---- matching a row --------------------------------------------------------------------------------------------------- */

static bool read_shape(insn *i, const char *text)
{
    int *s = i->shape;
    if (sscanf(text, "m%dn%dk%d", &s[0], &s[1], &s[2]) == 3 || sscanf(text, "m%dn%d", &s[0], &s[1]) == 2) return true;
    int count;
    if (sscanf(text, "x%d", &count) != 1) return false;
    i->vector = (uint16_t)count;
    return true;
}

/* One word behind the row's name into its field. False if the row does not know it. */
static bool read_word(const ptx_row *row, insn *i, const char *text, int *spaces)
{
    int value = find_word(type_words, text, T_NONE);
    if (value != T_NONE) {
        if (i->type_count == 4) return false;
        i->type[i->type_count++] = (uint8_t)value;
        return true;
    }
    value = find_word(flag_words, text, 0);
    if ((uint32_t)value & row->flags) return i->flags |= (uint32_t)value, true;
    if (strchr(row->words, 'c') && (value = find_word(choice_words, text, 0))) {
        if (i->op2) return false;
        *(i->op ? &i->op2 : &i->op) = (uint8_t)value;
        return true;
    }
    if (strchr(row->words, 'r') && (value = find_word(round_words, text, 0))) return i->round = (uint8_t)value, true;
    if (strchr(row->words, 's')) {
        value = find_word(space_words, text, -1);
        if (value >= 0) {
            if (*spaces == 2) return false;
            *(*spaces ? &i->space2 : &i->space) = (uint8_t)value;
            ++*spaces;
            return true;
        }
        if (is_cache_hint(text)) return true;
    }
    if (strchr(row->words, 'o')) {
        value = find_word(order_words, text, -1);
        if (value >= 0) return i->order = (uint8_t)value, true;
        value = find_word(scope_words, text, -1);
        if (value >= 0) return i->scope = (uint8_t)value, true;
    }
    if (strchr(row->words, 'v') && text[0] == 'v' && text[1] >= '2' && text[1] <= '8' && !text[2]) return i->vector = (uint16_t)(text[1] - '0'), true;
    if (strchr(row->words, 't') && (!strcmp(text, "tile") || !strcmp(text, "bulk_group"))) return true;
    return strchr(row->words, 'm') && read_shape(i, text);
}

/* Whether the types found are what "u32|s32.f32" asks for. */
static bool types_match(const char *pattern, const insn *i)
{
    int at = 0;
    if (!strcmp(pattern, "*")) return true;
    while (*pattern) {
        size_t length = strcspn(pattern, ".");
        bool found = false;
        if (at == i->type_count) return false;
        for (size_t from = 0; from < length;) {
            char one[16];
            size_t end = from + strcspn(pattern + from, "|.");
            if (end > length) end = length;
            snprintf(one, sizeof one, "%.*s", (int)(end - from), pattern + from);
            found |= find_word(type_words, one, T_NONE) == i->type[at];
            from = end + 1;
        }
        if (!found) return false;
        at++;
        pattern += length + (pattern[length] == '.');
    }
    return at == i->type_count;
}

static bool row_matches(const ptx_row *row, const char *text, insn *i)
{
    size_t name = strlen(row->name);
    int spaces = 0;
    if (strncmp(text, row->name, name) || (text[name] && text[name] != '.')) return false;
    *i = (insn){.row = row, .exec = row->exec, .vector = 1, .target = -1, .round = R_NONE};
    for (const char *at = text + name; *at;) {
        char one[64];
        size_t length = strcspn(at + 1, ".");
        if (length >= sizeof one) return false;
        memcpy(one, at + 1, length);
        one[length] = 0;
        if (!read_word(row, i, one, &spaces)) return false;
        at += 1 + length;
    }
    return types_match(row->types, i);
}

/* ---- the cache ---------------------------------------------------------------------------------------------------------- */

enum { BUCKETS = 1024 };

struct opcode_cache {
    struct entry {
        char *text;
        insn insn;
        struct entry *next;
    } *buckets[BUCKETS];
};

static const ptx_row *const tables[] = {ptx_move_rows,   ptx_float_rows,  ptx_integer_rows, ptx_logic_rows,  ptx_compare_rows,
                                        ptx_bits_rows,   ptx_approx_rows, ptx_half_rows,    ptx_convert_rows, ptx_double_rows,
                                        ptx_memory_rows, ptx_atomic_rows, ptx_async_rows,   ptx_warp_rows,   ptx_matrix_rows,
                                        ptx_barrier_rows, ptx_control_rows, ptx_mbarrier_rows,
                                        ptx_bulk_rows,   ptx_tensor_rows, ptx_wmma_rows,    ptx_wgmma_rows,  ptx_cluster_rows};

const ptx_row *ptx_table(int index) { return index < (int)(sizeof tables / sizeof *tables) ? tables[index] : NULL; }

static bool is_one_of(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (!strcmp(name, *names)) return true;
    return false;
}

static void unknown(warp *w, const insn *i, uint32_t mask)
{
    warp_finding(w, i, __builtin_ctz(mask), "unknown instruction", "line %d of the PTX; a row in engine/ops_*.c would teach it", i->ptx_line);
    launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
    w->yields = true;
}

static void look_up(const char *text, insn *i)
{
    static const char *const ending[] = {"ret", "exit", "trap", "bra", "brx.idx", NULL};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const ptx_row *row = tables[t]; row->name; row++)
            if (row_matches(row, text, i)) {
                i->ends = is_one_of(row->name, ending);
                i->copies = !strcmp(row->name, "mov");
                i->chooses = !strcmp(row->name, "selp");
                return;
            }
    *i = (insn){.exec = unknown, .vector = 1, .target = -1};
}

opcode_cache *opcode_cache_create(void)
{
    opcode_cache *cache = calloc(1, sizeof *cache);
    if (!cache) abort();
    return cache;
}

void opcode_cache_free(opcode_cache *cache)
{
    if (!cache) return;
    for (int b = 0; b < BUCKETS; b++)
        for (struct entry *e = cache->buckets[b]; e;) {
            struct entry *next = e->next;
            free(e->text);
            free(e);
            e = next;
        }
    free(cache);
}

const insn *opcode_find(opcode_cache *cache, const char *text)
{
    uint32_t hash = 2166136261u;
    for (const char *c = text; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619u;
    struct entry **bucket = &cache->buckets[hash % BUCKETS];
    for (struct entry *e = *bucket; e; e = e->next)
        if (!strcmp(e->text, text)) return &e->insn;
    struct entry *made = calloc(1, sizeof *made);
    if (!made) abort();
    made->text = strdup(text);
    if (!made->text) abort();
    look_up(text, &made->insn);
    made->insn.text = made->text;
    made->next = *bucket;
    *bucket = made;
    return &made->insn;
}

/* ---- clocks ---------------------------------------------------------------------------------------------------------------- */

/* Steps of the warp: it only has to grow. */
static void read_clock(warp *w, const insn *i, uint32_t mask)
{
    uint64_t now = (uint64_t)w->steps;
    if (i->d[0].bits == 64)
        SET_LANES(lanes64(w, &i->d[0]), now);
    else
        SET_LANES(lanes32(w, &i->d[0]), (uint32_t)now);
}

void opcode_read_clock(insn *i, int special)
{
    if (i->copies && special >= 0 && ptx_special_moves(special)) i->exec = read_clock;
}
