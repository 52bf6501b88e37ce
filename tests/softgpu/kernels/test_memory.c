/* The device's memory as the API sees it: bounds, marks of what was written, capacity, freed ranges, leaks. */
#include "engine/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static sg_device *device;

static int begin(void **state)
{
    sg_properties properties;
    (void)state;
    if (!sg_properties_named("a100", &properties)) return 1;
    properties.memory_bytes = 1 << 20;
    device = sg_device_create(0, &properties);
    return !device;
}

static int finish(void **state)
{
    (void)state;
    sg_device_destroy(device);
    return 0;
}

static uint64_t allocate(int64_t bytes) { return sg_memory_allocate(device, SG_MEMORY_DEVICE, bytes, "cudaMalloc"); }

/* How many findings an action adds. */
#define FINDINGS(action)                                                                                               \
    ({                                                                                                                 \
        int64_t before_ = sg_findings();                                                                               \
        (void)(action);                                                                                                \
        sg_findings() - before_;                                                                                       \
    })

static void data_and_marks_travel(void **state)
{
    (void)state;
    char text[] = "forty-two bytes of text, more or less, ok!", back[64];
    uint64_t a = allocate(64), b = allocate(64);
    assert_int_equal(FINDINGS(sg_memory_copy(a, (uint64_t)(uintptr_t)text, 42, "in")), 0);
    assert_int_equal(FINDINGS(sg_memory_copy(b, a, 64, "across")), 0);
    assert_int_equal(FINDINGS(sg_memory_copy((uint64_t)(uintptr_t)back, b, 42, "out")), 0);
    assert_memory_equal(back, text, 42);
    assert_int_equal(FINDINGS(sg_memory_copy((uint64_t)(uintptr_t)back, b, 43, "out of the rest")), 1);
    assert_int_equal(FINDINGS(sg_memory_read(b + 42, 1, "read")), 1);
    assert_int_equal(FINDINGS(sg_memory_fill(b, 0, 64, "fill")), 0);
    assert_int_equal(FINDINGS(sg_memory_read(b, 64, "read")), 0);
    assert_true(sg_memory_free(a));
    assert_true(sg_memory_free(b));
}

static void bounds_are_exact(void **state)
{
    (void)state;
    char text[256];
    uint64_t a = allocate(100);
    assert_non_null(sg_memory_write(a, 100, "all"));
    assert_int_equal(FINDINGS(sg_memory_write(a, 101, "one more")), 1);
    assert_int_equal(FINDINGS(sg_memory_read(a - 1, 1, "before")), 1);
    assert_int_equal(FINDINGS(sg_memory_read(a + 100, 1, "after")), 1);
    sg_address_describe(a + 104, text, sizeof text);
    assert_non_null(strstr(text, "4 bytes after the 100 bytes of cudaMalloc"));
    sg_address_describe(a - 8, text, sizeof text);
    assert_non_null(strstr(text, "8 bytes before the 100 bytes of cudaMalloc"));
    assert_true(sg_memory_free(a));
}

static void freed_memory_is_remembered(void **state)
{
    (void)state;
    sg_allocation found;
    uint64_t a = allocate(100);
    assert_true(sg_memory_find(a + 99, &found));
    assert_int_equal(found.bytes, 100);
    assert_false(sg_memory_find(a + 100, &found));
    assert_false(sg_memory_free(a + 1));
    assert_true(sg_memory_free(a));
    assert_false(sg_memory_free(a));
    assert_false(sg_memory_find(a, &found));
    assert_int_equal(FINDINGS(sg_memory_read(a, 4, "late")), 1);
    for (int i = 0; i < 100; i++) {
        uint64_t next = allocate(100);
        assert_true(next != a);
        assert_true(sg_memory_free(next));
    }
    assert_true(sg_region_at(a)->freed);
}

static void capacity_is_kept(void **state)
{
    (void)state;
    int64_t left, total;
    uint64_t a = allocate(1 << 19);
    sg_memory_usage(device, &left, &total);
    assert_int_equal(left, 1 << 19);
    assert_int_equal(total, 1 << 20);
    assert_int_equal(allocate((1 << 19) + 1), 0);
    assert_int_equal(sg_memory_allocate(device, SG_MEMORY_MANAGED, (1 << 19) + 1, "cudaMallocManaged"), 0);
    assert_int_equal(sg_memory_allocate(device, SG_MEMORY_MODULE, (1 << 19) + 1, "a module variable"), 0);
    assert_true(sg_memory_free(a));
    a = allocate(1 << 20);
    assert_true(a != 0);
    assert_true(sg_memory_free(a));
}

static void host_memory_is_shared(void **state)
{
    (void)state;
    sg_allocation found;
    static char mine[100];
    uint64_t a = sg_memory_allocate(device, SG_MEMORY_HOST, 100, "cudaMallocHost");
    ((char *)(uintptr_t)a)[99] = 5;
    assert_ptr_equal(sg_memory_read(a, 100, "read"), (char *)(uintptr_t)a);
    assert_true(sg_memory_register(device, mine, sizeof mine));
    assert_false(sg_memory_register(device, mine + 50, 10));
    assert_true(sg_memory_find((uint64_t)(uintptr_t)mine + 50, &found));
    assert_int_equal(found.kind, SG_MEMORY_REGISTERED);
    assert_true(sg_memory_free((uint64_t)(uintptr_t)mine));
    assert_false(sg_memory_find((uint64_t)(uintptr_t)mine + 50, &found));
    assert_true(sg_memory_free(a));
}

static void what_stays_is_a_leak(void **state)
{
    (void)state;
    sg_properties properties;
    assert_true(sg_properties_named("h100", &properties));
    sg_device *other = sg_device_create(1, &properties);
    sg_memory_allocate(other, SG_MEMORY_DEVICE, 10, "cudaMalloc");
    sg_memory_allocate(other, SG_MEMORY_MANAGED, 10, "cudaMallocManaged");
    sg_memory_allocate(other, SG_MEMORY_HOST, 10, "cudaMallocHost");
    sg_memory_allocate(other, SG_MEMORY_MODULE, 10, "a module variable");
    assert_int_equal(FINDINGS(sg_device_destroy(other)), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_and_marks_travel), cmocka_unit_test(bounds_are_exact),      cmocka_unit_test(freed_memory_is_remembered),
        cmocka_unit_test(capacity_is_kept),      cmocka_unit_test(host_memory_is_shared), cmocka_unit_test(what_stays_is_a_leak),
    };
    return cmocka_run_group_tests(tests, begin, finish);
}
