/* Counting by small sets: at most 128 words or sectors an access. */
#include "engine/banks.h"

enum { BANKS = 32, WORD = 4, SECTOR = 32, MOST = 160 };

/* The number of different values; the array is reordered. */
static int distinct(uint64_t *values, int count)
{
    int kept = 0;
    for (int i = 0; i < count; i++) {
        int seen = 0;
        while (seen < kept && values[seen] != values[i]) seen++;
        if (seen == kept) values[kept++] = values[i];
    }
    return kept;
}

/* Conflicts among lanes that go together: the most different words in any bank. */
static int wavefronts(const uint64_t *addresses, uint32_t mask, int bytes, int *words)
{
    uint64_t list[MOST];
    int count = 0, in_bank[BANKS] = {0}, most = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint64_t from = addresses[__builtin_ctz(rest)];
        for (uint64_t word = from / WORD; word * WORD < from + (uint64_t)bytes; word++) list[count++] = word;
    }
    *words = count = distinct(list, count);
    for (int i = 0; i < count; i++) {
        int bank = (int)(list[i] % BANKS);
        if (++in_bank[bank] > most) most = in_bank[bank];
    }
    return most;
}

access_cost shared_cost(const uint64_t *addresses, uint32_t mask, int bytes)
{
    int lanes = bytes > 8 ? 8 : bytes > 4 ? 16 : 32;
    access_cost cost = {0, 0};
    for (int first = 0; first < 32; first += lanes) {
        int words;
        uint32_t part = lanes == 32 ? mask : mask & (((1u << lanes) - 1) << first);
        if (!part) continue;
        cost.units += wavefronts(addresses, part, bytes, &words);
        cost.ideal += (words + BANKS - 1) / BANKS;
    }
    return cost;
}

access_cost global_cost(const uint64_t *addresses, uint32_t mask, int bytes)
{
    uint64_t list[MOST], starts[32];
    int count = 0, lanes = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint64_t from = addresses[__builtin_ctz(rest)];
        starts[lanes++] = from;
        for (uint64_t sector = from / SECTOR; sector * SECTOR < from + (uint64_t)bytes; sector++) list[count++] = sector;
    }
    return (access_cost){distinct(list, count), (distinct(starts, lanes) * bytes + SECTOR - 1) / SECTOR};
}
