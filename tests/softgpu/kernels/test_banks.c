/* Wavefronts and sectors of access patterns whose cost is known. */
#include "engine/banks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <cmocka.h>

/* Lane l accesses base + (l / group) * outer + (l % group) * inner. */
static const struct {
    const char *name;
    bool global;
    uint32_t mask;
    int bytes, base, group, outer, inner, units, ideal;
} cases[] = {
    {"shared, consecutive words", false, UINT32_MAX, 4, 0, 32, 0, 4, 1, 1},
    {"shared, one word for all", false, UINT32_MAX, 4, 64, 32, 0, 0, 1, 1},
    {"shared, stride 2 words", false, UINT32_MAX, 4, 0, 32, 0, 8, 2, 1},
    {"shared, stride 32 words", false, UINT32_MAX, 4, 0, 32, 0, 128, 32, 1},
    {"shared, stride 33 words", false, UINT32_MAX, 4, 0, 32, 0, 132, 1, 1},
    {"shared, halves of words", false, UINT32_MAX, 2, 0, 32, 0, 2, 1, 1},
    {"shared, consecutive 8 bytes", false, UINT32_MAX, 8, 0, 32, 0, 8, 2, 2},
    {"shared, consecutive 16 bytes", false, UINT32_MAX, 16, 0, 32, 0, 16, 4, 4},
    {"shared, rows of 128 bytes read 16 wide in a column", false, UINT32_MAX, 16, 0, 32, 0, 128, 32, 4},
    {"shared, the same with 16 bytes of padding", false, UINT32_MAX, 16, 0, 32, 0, 144, 4, 4},
    {"shared, 8 bytes, sixteen lanes as the sixteen before", false, UINT32_MAX, 8, 0, 16, 0, 8, 2, 2},
    {"shared, 16 bytes, eight lanes as the eight before", false, UINT32_MAX, 16, 0, 8, 0, 16, 4, 4},
    {"shared, one lane", false, 1u << 7, 4, 0, 32, 0, 4, 1, 1},
    {"global, consecutive words", true, UINT32_MAX, 4, 0, 32, 0, 4, 4, 4},
    {"global, shifted by a word", true, UINT32_MAX, 4, 4, 32, 0, 4, 5, 4},
    {"global, stride 32 bytes", true, UINT32_MAX, 4, 0, 32, 0, 32, 32, 4},
    {"global, consecutive 16 bytes", true, UINT32_MAX, 16, 0, 32, 0, 16, 16, 16},
    {"global, four rows of 64 bytes", true, UINT32_MAX, 8, 0, 8, 1024, 8, 8, 8},
    {"global, one word for all", true, UINT32_MAX, 4, 0, 32, 0, 0, 1, 1},
};

static void patterns_cost_what_they_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t addresses[32];
        for (int l = 0; l < 32; l++)
            addresses[l] = (uint64_t)(cases[i].base + l / cases[i].group * cases[i].outer + l % cases[i].group * cases[i].inner);
        access_cost cost = (cases[i].global ? global_cost : shared_cost)(addresses, cases[i].mask, cases[i].bytes);
        if (cost.units != cases[i].units || cost.ideal != cases[i].ideal)
            fail_msg("%s: %d, ideal %d; expected %d, ideal %d", cases[i].name, cost.units, cost.ideal, cases[i].units, cases[i].ideal);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(patterns_cost_what_they_should)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
