/* Loading cuBLAS: where it is searched, the error for a library that lacks a function, and what works without
   it. The loader's calls are wrapped (see CMakeLists.txt), so that a case chooses which libraries exist and
   which functions they have. */
#include "gpu/blas.h"
#include "subject.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define TEXT(x)               #x
#define NAME(field, function) TEXT(function), /* cublas_v2.h has macros for some names */

static struct {
    bool by_name, beside; /* the library is found */
    const char *lacks;    /* a function that the library lacks */
    char asked[4096];     /* the last path */
} world;

void *__wrap_dlopen(const char *path, int flags);
void *__wrap_dlsym(void *library, const char *name);
void *__real_dlopen(const char *path, int flags);
void *__real_dlsym(void *library, const char *name);

void *__wrap_dlopen(const char *path, int flags)
{
    if (!path || !strstr(path, "libcublas.so.")) return __real_dlopen(path, flags);
    snprintf(world.asked, sizeof world.asked, "%s", path);
    return (strchr(path, '/') ? world.beside : world.by_name) ? &world : NULL;
}

void *__wrap_dlsym(void *library, const char *name)
{
    if (library != &world) return __real_dlsym(library, name);
    return world.lacks && !strcmp(name, world.lacks) ? NULL : &world;
}

static void it_is_found_by_name_or_beside_the_runtime(void **state)
{
    (void)state;
    char why[256] = "", name[sizeof world.asked];
    attend_blas blas;
    Dl_info runtime;
    int count;
    (void)cudaGetDeviceCount(&count); /* loads libcudart */
    void *function = dlsym(RTLD_DEFAULT, "cudaGetDeviceCount");
    assert_true(function && dladdr(function, &runtime));
    const ptrdiff_t folder = strrchr(runtime.dli_fname, '/') - runtime.dli_fname;
    world.by_name = true, world.beside = false;
    assert_true(attend_blas_load(&blas, why, sizeof why));
    assert_null(strchr(world.asked, '/'));
    strcpy(name, world.asked);
    world.by_name = false, world.beside = true;
    assert_true(attend_blas_load(&blas, why, sizeof why));
    assert_memory_equal(world.asked, runtime.dli_fname, (size_t)folder + 1); /* with the slash */
    assert_string_equal(world.asked + folder + 1, name);
    world.beside = false;
    assert_false(attend_blas_load(&blas, why, sizeof why));
    assert_non_null(strstr(why, "cuBLAS cannot be loaded"));
}

static void every_function_must_be_there(void **state)
{
    (void)state;
    static const char *const names[] = {ATTEND_BLAS_CALLS(NAME)};
    world.by_name = true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char why[256] = "", wanted[128];
        attend_blas blas;
        snprintf(wanted, sizeof wanted, "libcublas.so.%d has no %s", CUBLAS_VER_MAJOR, names[i]);
        world.lacks = names[i];
        if (attend_blas_load(&blas, why, sizeof why)) fail_msg("loaded without %s", names[i]);
        assert_string_equal(why, wanted);
    }
    world.lacks = NULL;
}

/* Attention is correct, and a layer is refused with a sentence; ATTEND_AUTO gives a device that does both. */
static void attention_needs_none(void **state)
{
    (void)state;
    attend_context *context;
    attend_plan *plan;
    subject attention, layer;
    world.by_name = world.beside = false;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context), ATTEND_OK);
    subject_make(&attention, SUBJECT_ATTENTION), subject_make(&layer, SUBJECT_LAYER);
    assert_int_equal(subject_plan(&attention, context, &plan), ATTEND_OK);
    assert_int_equal(subject_run(&attention, plan, false), ATTEND_OK);
    assert_int_equal(attend_synchronize(context), ATTEND_OK);
    assert_true(subject_is_right(&attention));
    attend_plan_destroy(plan);
    assert_int_equal(subject_plan(&layer, context, &plan), ATTEND_UNSUPPORTED);
    assert_non_null(strstr(attend_error_message(), "needs cuBLAS, attention alone does not: cuBLAS cannot be loaded"));
    attend_context_destroy(context);
    subject_free(&attention), subject_free(&layer);
    assert_int_equal(attend_context_create(NULL, &context), ATTEND_OK);
    assert_int_equal(attend_context_device(context), ATTEND_CPU);
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_is_found_by_name_or_beside_the_runtime),
                                       cmocka_unit_test(every_function_must_be_there),
                                       cmocka_unit_test(attention_needs_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
