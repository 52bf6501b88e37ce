/* mma.sync, and the instructions that bring its fragments from and to shared memory. */
#include "numbers/mma.h"
#include "engine/finding.h"
#include "engine/lanes.h"

#include <stdio.h>
#include <string.h>

/* .aligned: all lanes of the warp or nobody. */
static bool whole_warp(warp *w, const insn *i, uint32_t mask)
{
    if (mask == UINT32_MAX) return true;
    warp_finding(w, i, __builtin_ctz(mask), "barrier", "only lanes %08x run it; it takes the whole warp", mask);
    launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
    return false;
}

/* ---- ldmatrix, stmatrix, movmatrix -------------------------------------------------------------------------------------------- */

/* Rows of 16 bytes: lanes 8m to 8m + 7 hold the addresses of matrix m. */
static bool row_hosts(warp *w, const insn *i, access_kind kind, char *hosts[LANES])
{
    uint64_t addresses[LANES];
    uint32_t lanes = i->vector == 4 ? UINT32_MAX : (1u << 8 * i->vector) - 1;
    warp_addresses(w, i, 0, i->offset[0], addresses);
    warp_access access = {.insn = i, .space = i->space, .lanes = lanes, .addresses = addresses, .bytes = 16, .kind = kind};
    warp_access_hosts(w, &access, hosts);
    for (int l = 0; l < 8 * i->vector; l++)
        if (!hosts[l]) return false;
    return true;
}

/* Where the two halves of lane l's register lie in an 8x8 matrix. */
static char *half_at(char *const rows[8], int l, int half, bool transposed)
{
    int minor = l % 4 * 2 + half;
    return transposed ? rows[minor] + 2 * (l / 4) : rows[l / 4] + 2 * minor;
}

static void load_matrix(warp *w, const insn *i, uint32_t mask)
{
    char *hosts[LANES];
    if (!whole_warp(w, i, mask) || !row_hosts(w, i, ACCESS_READ, hosts)) return;
    for (int m = 0; m < i->vector; m++) {
        uint16_t halves[LANES][2];
        for (int l = 0; l < LANES; l++)
            for (int h = 0; h < 2; h++) memcpy(&halves[l][h], half_at(hosts + 8 * m, l, h, i->flags & F_TRANS), 2);
        memcpy(lanes32(w, &i->d[m]), halves, sizeof halves);
    }
}

static void store_matrix(warp *w, const insn *i, uint32_t mask)
{
    char *hosts[LANES];
    if (!whole_warp(w, i, mask) || !row_hosts(w, i, ACCESS_WRITE, hosts)) return;
    for (int m = 0; m < i->vector; m++) {
        uint16_t halves[LANES][2];
        memcpy(halves, lanes32(w, &i->s[1 + m]), sizeof halves);
        for (int l = 0; l < LANES; l++)
            for (int h = 0; h < 2; h++) memcpy(half_at(hosts + 8 * m, l, h, i->flags & F_TRANS), &halves[l][h], 2);
    }
}

static void transpose_matrix(warp *w, const insn *i, uint32_t mask)
{
    uint16_t from[LANES][2], to[LANES][2];
    if (!whole_warp(w, i, mask)) return;
    memcpy(from, lanes32(w, &i->s[0]), sizeof from);
    for (int l = 0; l < LANES; l++)
        for (int h = 0; h < 2; h++) {
            int row = l / 4, column = l % 4 * 2 + h; /* of the result */
            to[l][h] = from[column * 4 + row / 2][row % 2];
        }
    memcpy(lanes32(w, &i->d[0]), to, sizeof to);
}

static bool check_matrices(insn *i, char *error, size_t bytes)
{
    int registers = i->d_count ? i->d_count : i->s_count - 1;
    bool known = i->shape[0] == 8 && i->shape[1] == 8 && (i->vector == 1 || i->vector == 2 || i->vector == 4);
    if (known && registers == i->vector) return true;
    snprintf(error, bytes, "known are .m8n8 with .x1, .x2 and .x4 and as many registers");
    return false;
}

/* ---- mma --------------------------------------------------------------------------------------------------------------------------- */

static const sg_type kinds[PTX_TYPES] = {
    [T_F16] = SG_TYPE_F16, [T_BF16] = SG_TYPE_BF16, [T_TF32] = SG_TYPE_TF32, [T_F32] = SG_TYPE_F32, [T_F64] = SG_TYPE_F64,
    [T_E4M3] = SG_TYPE_E4M3, [T_E5M2] = SG_TYPE_E5M2, [T_S8] = SG_TYPE_S8, [T_U8] = SG_TYPE_U8, [T_S4] = SG_TYPE_S4, [T_U4] = SG_TYPE_U4,
    [T_B1] = SG_TYPE_B1, [T_S32] = SG_TYPE_S32,
};

static void multiply(warp *w, const insn *i, uint32_t mask)
{
    static const sg_round rounds[] = {[R_NONE] = SG_RN, [R_RN] = SG_RN, [R_RZ] = SG_RZ, [R_RM] = SG_RM, [R_RP] = SG_RP};
    const sg_mma *mma = i->data;
    void *d[16];
    const void *s[48];
    if (!whole_warp(w, i, mask)) return;
    for (int r = 0; r < i->d_count; r++) d[r] = lanes_of(w, &i->d[r]);
    for (int r = 0; r < i->s_count; r++) s[r] = lanes_of(w, &i->s[r]);
    mma->run(mma, d, s, s + mma->a_registers, s + mma->a_registers + mma->b_registers,
             (sg_mma_mode){.rounds = sg_settings.mma_rounds, .satfinite = i->flags & F_SATFINITE, .and_popc = i->op == W_AND,
                           .round = i->round <= R_RP ? rounds[i->round] : SG_RN});
}

static bool find_mma(insn *i, char *error, size_t bytes)
{
    const sg_mma *mma = NULL;
    if (i->type_count == 4 && i->type[0] == i->type[3])
        mma = sg_mma_find(i->shape[0], i->shape[1], i->shape[2], kinds[i->type[0]], kinds[i->type[1]], kinds[i->type[2]]);
    if (!mma || i->d_count != mma->c_registers || i->s_count != mma->a_registers + mma->b_registers + mma->c_registers || i->d_count > 16 ||
        i->s_count > 48) {
        snprintf(error, bytes, "a shape, types or registers that mma does not have");
        return false;
    }
    i->data = mma;
    i->tensor_flops = (int64_t)2 * mma->m * mma->n * mma->k;
    return true;
}

#define MMA_FLAGS (F_ALIGNED | F_ROW | F_COL | F_SATFINITE)

const ptx_row ptx_matrix_rows[] = {
    {"mma.sync", "f64.f64.f64.f64", MMA_FLAGS, "mr", "d s s s", PIPE_TENSOR, 0, multiply, find_mma},
    {"mma.sync", "*", MMA_FLAGS, "mc", "d=32 s=32 s=32 s=32", PIPE_TENSOR, 0, multiply, find_mma},
    {"ldmatrix.sync", "b16", F_ALIGNED | F_TRANS, "ms", "d=32 a", PIPE_SHARED, 0, load_matrix, check_matrices},
    {"stmatrix.sync", "b16", F_ALIGNED | F_TRANS, "ms", "a s=32", PIPE_SHARED, 0, store_matrix, check_matrices},
    {"movmatrix.sync", "b16", F_ALIGNED | F_TRANS, "m", "d=32 s=32", PIPE_SHUFFLE, 0, transpose_matrix, NULL},
    {0},
};
