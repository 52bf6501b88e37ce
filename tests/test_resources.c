/* What the build knows of its kernels: ptxas's report of each CUDA row for each architecture, and no register that had to be
   spilled by the kernels of the tensor cores. */
#include <attend/attend.h>

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void every_cuda_row_is_reported(void **state)
{
    (void)state;
    attend_kernel_info row;
    for (size_t i = 0; attend_kernel(i, &row); i++) {
        attend_kernel_resources r;
        size_t builds = 0;
        for (; attend_kernel_resources_of(i, builds, &r); builds++) {
            if (r.architecture < row.architecture_min || r.registers < 16 || r.registers > 255 || r.blocks < 1 ||
                r.warps != r.blocks * ((row.threads + 31) / 32) || r.shared_bytes < row.shared_bytes)
                fail_msg("%s, sm_%d: %d registers, %d blocks, %d warps", row.name, r.architecture, r.registers, r.blocks,
                         r.warps);
            if (strstr(row.name, "mma") && r.spill_bytes != 0)
                fail_msg("%s, sm_%d spills %d bytes", row.name, r.architecture, (int)r.spill_bytes);
        }
        if ((row.device == ATTEND_CUDA) != (builds > 0)) fail_msg("%s has %zu reports", row.name, builds);
    }
    attend_kernel_resources r;
    assert_false(attend_kernel_resources_of(1000000, 0, &r));
    assert_false(attend_kernel_resources_sized(0, 0, &r, sizeof r + 1));
    assert_false(attend_kernel_resources_sized(0, 0, NULL, sizeof r));
}

/* Each row belongs to a family, and there is none of nothing. */
static void device_code_has_a_weight(void **state)
{
    (void)state;
    attend_kernel_info row;
    const char *family;
    int64_t bytes;
    for (size_t i = 0; attend_kernel(i, &row); i++) {
        bool found = row.device != ATTEND_CUDA;
        for (size_t f = 0; attend_device_code(f, &family, &bytes) && !found; f++)
            found = !strncmp(row.name, family, strlen(family)) && bytes > 1000;
        if (!found) fail_msg("%s has no code", row.name);
    }
    assert_false(attend_device_code(1000000, &family, &bytes));
    assert_false(attend_device_code(0, NULL, &bytes));
    assert_false(attend_device_code(0, &family, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_cuda_row_is_reported), cmocka_unit_test(device_code_has_a_weight)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
