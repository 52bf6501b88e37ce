/* Where wgmma's matrices lie, and their product. A matrix is 8 rows by 16 bytes, again and again: "k-major" where the 16 bytes go along k,
   "mn-major" where they go along the rows of a or the columns of b. Swizzles fold address bits 7 to 9 onto bits 4 to 6. */
#include "engine/wgmma.h"

#include "numbers/mma.h"
#include "engine/finding.h"
#include "engine/lanes.h"

#include <string.h>

/* ---- descriptors ---------------------------------------------------------------------------------------------------------------- */

typedef struct layout {
    uint32_t start, leading, stride; /* bytes */
    uint32_t span, base;             /* of the swizzle, in bytes; 16: none. base: the rows by which its pattern is shifted */
    bool transposed;                 /* mn-major */
    int element_bytes;
} layout;

static layout read_descriptor(uint64_t d, bool transposed, int element_bytes)
{
    static const uint8_t spans[] = {16, 128, 64, 32};
    return (layout){.start = (uint32_t)(d & 0x3fff) << 4, .leading = (uint32_t)(d >> 16 & 0x3fff) << 4, .stride = (uint32_t)(d >> 32 & 0x3fff) << 4,
                    .base = d >> 49 & 7, .span = spans[d >> 62], .transposed = transposed, .element_bytes = element_bytes};
}

/* The shared offset of element k of row (or column) mn. */
static uint32_t offset_of(const layout *l, uint32_t mn, uint32_t k)
{
    uint32_t major = (l->transposed ? mn : k) * (uint32_t)l->element_bytes, minor = l->transposed ? k : mn, at;
    if (l->span > 16)
        at = minor % 8 * l->span + minor / 8 * l->stride + (l->transposed ? major % l->span + major / l->span * l->leading : major);
    else if (l->transposed)
        at = minor % 8 * 16 + minor / 8 * l->leading + major % 16 + major / 16 * l->stride;
    else
        at = minor % 8 * 16 + minor / 8 * l->stride + major % 16 + major / 16 * l->leading;
    at += l->start;
    return at ^ (((at >> 7) - l->base) & (l->span / 16 - 1)) << 4;
}

/* ---- operands --------------------------------------------------------------------------------------------------------------------- */

bool wgmma_a_in_registers(const insn *i) { return i->s[i->d_count].bits == 32; }

static int element_bytes(ptx_type t) { return t == T_F16 || t == T_BF16 ? 2 : t == T_TF32 ? 4 : 1; }

static layout a_layout(const wgmma *m) { return read_descriptor(m->a, m->insn->imm[2], element_bytes(m->insn->type[1])); }
static layout b_layout(const wgmma *m)
{
    bool transposed = wgmma_a_in_registers(m->insn) ? m->insn->imm[2] : m->insn->imm[3];
    return read_descriptor(m->b, transposed, element_bytes(m->insn->type[2]));
}

/* The pieces of rows [first, first + rows) through the checks: 16 bytes each, 8 behind each other a core matrix, which is read at once. */
static bool read_pieces(warp *w, const wgmma *m, const layout *l, int first, int rows, bool again)
{
    const insn *i = m->insn;
    uint64_t addresses[LANES];
    char *hosts[LANES];
    int per_piece = 16 / l->element_bytes, k = WGMMA_K_BYTES / l->element_bytes, count = 0;
    int mn_step = l->transposed ? per_piece : 1, k_step = l->transposed ? 1 : per_piece;
    int mn_pieces = rows / mn_step, k_pieces = k / k_step, pieces = mn_pieces * k_pieces;
    for (int p = 0; p < pieces; p++) {
        int mn = l->transposed ? p / k_pieces : p / (8 * k_pieces) * 8 + p % 8, at = l->transposed ? p % k_pieces : p / 8 % k_pieces;
        addresses[count++] = offset_of(l, (uint32_t)(first + mn * mn_step), (uint32_t)(at * k_step)) & ~15u;
        if (count < LANES && p + 1 < pieces) continue;
        uint32_t lanes = count == LANES ? UINT32_MAX : (1u << count) - 1;
        warp_access access = {.insn = i, .space = SPACE_SHARED, .lanes = lanes, .addresses = addresses, .bytes = 16, .kind = ACCESS_READ,
                              .async = !again, .product = m->serial};
        warp_access_hosts(w, &access, hosts);
        for (int n = 0; n < count; n++)
            if (!hosts[n]) return false;
        count = 0;
    }
    return true;
}

bool wgmma_read(warp *w, const wgmma *m, bool again)
{
    layout a = a_layout(m), b = b_layout(m);
    counts *counted = w->block->counts;
    if (again) w->block->counts = NULL;
    bool good = wgmma_a_in_registers(m->insn) || read_pieces(w, m, &a, w->number % 4 * WGMMA_ROWS, WGMMA_ROWS, again);
    if (w->number % 4) w->block->counts = NULL; /* b is read once for the four warps */
    good = good && read_pieces(w, m, &b, 0, m->insn->shape[1], again);
    w->block->counts = counted;
    return good;
}

static float fp8_values[2][256];

__attribute__((constructor)) static void fill_fp8_values(void)
{
    for (uint32_t bits = 0; bits < 256; bits++) {
        fp8_values[0][bits] = (float)sg_decode(&sg_e4m3, bits);
        fp8_values[1][bits] = (float)sg_decode(&sg_e5m2, bits);
    }
}

/* Small integers are exact in fp32. */
static float widened(ptx_type type, const void *at)
{
    uint32_t word = 0;
    memcpy(&word, at, (size_t)element_bytes(type));
    switch (type) {
    case T_F16: return sg_f16_to_float((uint16_t)word);
    case T_BF16: return sg_bf16_to_float((uint16_t)word);
    case T_TF32: return sg_tf32_to_float(word);
    case T_E4M3: return fp8_values[0][word];
    case T_E5M2: return fp8_values[1][word];
    case T_S8: return (int8_t)word;
    default: return (float)word;
    }
}

static void fill_a(const warp *w, const wgmma *m, int k, float *a)
{
    ptx_type type = m->insn->type[1];
    int size = element_bytes(type), per_word = 4 / size, width = 4 * per_word;
    layout l = a_layout(m);
    for (int row = 0; row < WGMMA_ROWS; row++)
        for (int at = 0; at < k; at++) {
            const char *from = (const char *)w->block->shared;
            if (wgmma_a_in_registers(m->insn)) {
                const uint32_t *word = &m->fragment[row / 8 + at / width * 2][row % 8 * 4 + at % width / per_word];
                from = (const char *)word + at % per_word * size;
            } else {
                from += offset_of(&l, (uint32_t)(w->number % 4 * WGMMA_ROWS + row), (uint32_t)at);
            }
            a[row * k + at] = widened(type, from);
        }
}

static void fill_b(const warp *w, const wgmma *m, int k, float *b)
{
    layout l = b_layout(m);
    int n = m->insn->shape[1];
    for (int at = 0; at < k; at++)
        for (int column = 0; column < n; column++)
            b[at * n + column] = widened(m->insn->type[2], (const char *)w->block->shared + offset_of(&l, (uint32_t)column, (uint32_t)at));
}

static void scale(float *values, int count, int64_t by)
{
    for (int i = 0; by < 0 && i < count; i++) values[i] = -values[i];
}

/* ---- the product ------------------------------------------------------------------------------------------------------------------- */

/* Where a lane's half or word of register r lies in the 16 rows. */
static int place_of(int n, int r, int lane, int half, bool halves)
{
    int row = lane / 4 + 8 * (halves ? r % 2 : r / 2 % 2), column = (halves ? r / 2 : r / 4) * 8 + lane % 4 * 2 + (halves ? half : r % 2);
    return row * n + column;
}

static void run_float(warp *w, const wgmma *m, const float *a, const float *b, int k)
{
    static const sg_type kinds[PTX_TYPES] = {[T_F16] = SG_TYPE_F16, [T_BF16] = SG_TYPE_BF16, [T_TF32] = SG_TYPE_TF32, [T_E4M3] = SG_TYPE_E4M3,
                                             [T_E5M2] = SG_TYPE_E5M2};
    const insn *i = m->insn;
    int n = i->shape[1];
    bool halves = i->type[0] == T_F16;
    float sum[WGMMA_ROWS * WGMMA_N_MOST] = {0};
    for (int r = 0; m->accumulates && r < i->d_count; r++) {
        const uint32_t *d = lanes32(w, &i->d[r]);
        for (int l = 0; l < LANES; l++)
            for (int h = 0; h < 1 + halves; h++)
                sum[place_of(n, r, l, h, halves)] = halves ? sg_f16_to_float((uint16_t)(d[l] >> 16 * h)) : sg_bits_float(d[l]);
    }
    sg_mma_tile(kinds[i->type[1]], WGMMA_ROWS, n, k, a, b, sum, halves, (sg_mma_mode){.rounds = sg_settings.mma_rounds});
    for (int r = 0; r < i->d_count; r++) {
        uint32_t *d = lanes32(w, &i->d[r]);
        for (int l = 0; l < LANES; l++) {
            const float *at = &sum[place_of(n, r, l, 0, halves)];
            d[l] = halves ? sg_f16_from_float(at[0]) | (uint32_t)sg_f16_from_float(at[1]) << 16 : sg_float_bits(at[0]);
        }
    }
}

static void run_integer(warp *w, const wgmma *m, const float *a, const float *b, int k)
{
    const insn *i = m->insn;
    int n = i->shape[1];
    for (int r = 0; r < i->d_count; r++) {
        int32_t *d = lanes_of(w, &i->d[r]);
        for (int l = 0; l < LANES; l++) {
            int place = place_of(n, r, l, 0, false);
            int64_t sum = m->accumulates ? d[l] : 0;
            for (int at = 0; at < k; at++) sum += (int64_t)a[place / n * k + at] * (int64_t)b[at * n + place % n];
            if (i->flags & F_SATFINITE) sum = sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum;
            d[l] = (int32_t)(uint32_t)(uint64_t)sum;
        }
    }
}

void wgmma_run(warp *w, const wgmma *m)
{
    float a[WGMMA_ROWS * WGMMA_K_MOST], b[WGMMA_K_MOST * WGMMA_N_MOST];
    const insn *i = m->insn;
    int k = i->shape[2];
    fill_a(w, m, k, a);
    fill_b(w, m, k, b);
    scale(a, WGMMA_ROWS * k, i->imm[0]);
    scale(b, k * i->shape[1], i->imm[1]);
    if (i->type[0] == T_S32)
        run_integer(w, m, a, b, k);
    else
        run_float(w, m, a, b, k);
}
