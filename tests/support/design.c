/* Greedy: factor by factor, each level is the one that covers the most new pairs of its row. */
#include "support/design.h"

#include <string.h>

static bool may_be(const test_design *d, const int *row) { return !d->allows || d->allows(d->context, row); }

static void clear(const test_design *d, int *row)
{
    for (int f = 0; f < d->factors; f++) row[f] = -1;
}

void test_design_begin(test_design *d)
{
    memset(d->met, 0, sizeof d->met);
    d->missing = 0;
    for (int f = 0; f < d->factors; f++)
        for (int g = f + 1; g < d->factors; g++)
            for (int l = 0; l < d->levels[f]; l++)
                for (int m = 0; m < d->levels[g]; m++) {
                    int row[DESIGN_FACTORS];
                    clear(d, row);
                    row[f] = l, row[g] = m;
                    if (may_be(d, row))
                        d->missing++;
                    else
                        d->met[f][l][g][m] = d->met[g][m][f][l] = true;
                }
}

void test_design_start(const test_design *d, int *row)
{
    clear(d, row);
    for (int f = 0; f < d->factors; f++)
        for (int g = f + 1; g < d->factors; g++)
            for (int l = 0; l < d->levels[f]; l++)
                for (int m = 0; m < d->levels[g]; m++)
                    if (!d->met[f][l][g][m]) {
                        row[f] = l, row[g] = m;
                        return;
                    }
}

int test_design_gain(const test_design *d, const int *row, int f, int l)
{
    int sum = 0;
    for (int g = 0; g < d->factors; g++)
        if (g != f && row[g] >= 0) sum += !d->met[f][l][g][row[g]];
    return sum;
}

void test_design_fill(const test_design *d, int first, unsigned variation, int *row)
{
    const unsigned count = (unsigned)(d->factors - first), step = count % 5 ? 5 : 7;
    for (unsigned i = 0; i < count; i++) {
        const int f = first + (int)((i * step + variation) % count);
        int best = -1, chosen = -1;
        if (row[f] >= 0) continue;
        for (int n = 0; n < d->levels[f]; n++) {
            row[f] = (int)((unsigned)n + variation * 7u) % d->levels[f];
            const int gain = test_design_gain(d, row, f, row[f]);
            if (gain > best && may_be(d, row)) best = gain, chosen = row[f];
        }
        row[f] = chosen;
    }
}

void test_design_take(test_design *d, const int *row)
{
    for (int f = 0; f < d->factors; f++)
        for (int g = f + 1; g < d->factors; g++) {
            d->missing -= !d->met[f][row[f]][g][row[g]];
            d->met[f][row[f]][g][row[g]] = d->met[g][row[g]][f][row[f]] = true;
        }
}
