/* Modules: PTX in, functions and variables out; the instances of variables on devices. */
#include "engine/opcode.h"
#include "engine/parse.h"
#include "engine/warp.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

sg_module *sg_module_load(const char *ptx, size_t bytes, char *error, size_t error_bytes)
{
    sg_module *m = calloc(1, sizeof *m);
    if (!m) abort();
    size_t length = strnlen(ptx, bytes);
    m->text = malloc(length + 1);
    if (!m->text) abort();
    memcpy(m->text, ptx, length);
    m->text[length] = 0;
    m->opcodes = opcode_cache_create();
    bool done = ptx_parse(m, error, error_bytes);
    free(m->text);
    m->text = NULL;
    if (done) return m;
    sg_module_unload(m);
    return NULL;
}

int sg_module_target(const sg_module *module) { return module->target; }

const sg_function *sg_module_function(const sg_module *module, const char *name)
{
    for (const sg_function *f = module->functions; f; f = f->next)
        if (!strcmp(f->name, name)) return f;
    return NULL;
}

void sg_module_resources(sg_module *module, const char *function, const sg_resources *resources)
{
    for (sg_function *f = module->functions; f; f = f->next)
        if (!strcmp(f->name, function)) {
            f->resources = *resources;
            f->have_resources = true;
        }
}

static void free_variable(ptx_variable *v)
{
    while (v->fixups) {
        struct ptx_fixup *next = v->fixups->next;
        free(v->fixups->name);
        free(v->fixups);
        v->fixups = next;
    }
    while (v->instances) {
        struct ptx_instance *next = v->instances->next;
        if (v->instances->device || v->managed) sg_memory_free(v->instances->address);
        free(v->instances);
        v->instances = next;
    }
    free(v->name);
    free(v->initial);
    free(v);
}

static void free_call(ptx_call *c)
{
    if (c) free(c->results), free(c->arguments);
    free(c);
}

static void free_function(sg_function *f)
{
    counts_forget(f);
    for (int i = 0; f->code && i < f->length; i++) {
        free((void *)f->code[i].targets);
        free_call(f->code[i].call);
    }
    for (int c = 0; c < f->callee_count; c++) free(f->callees[c].results), free(f->callees[c].arguments), free(f->callees[c].variables);
    free(f->callees), free(f->put_aside);
    free(f->code), free(f->operands), free(f->constants), free(f->relocations), free(f->specials);
    free(f->parameter_offsets), free(f->parameter_bytes), free(f->name), free(f->display);
    free(f);
}

void sg_module_unload(sg_module *module)
{
    while (module->functions) {
        sg_function *next = module->functions->next;
        free_function(module->functions);
        module->functions = next;
    }
    while (module->variables) {
        ptx_variable *next = module->variables->next;
        free_variable(module->variables);
        module->variables = next;
    }
    while (module->device_functions) {
        struct ptx_device_function *next = module->device_functions->next;
        free(module->device_functions->name);
        free(module->device_functions);
        module->device_functions = next;
    }
    free(module->files);
    free(module->locations);
    opcode_cache_free(module->opcodes);
    free(module);
}

/* ---- device functions ------------------------------------------------------------------------------------------------------- */

int ptx_function_find(const sg_module *module, const char *name)
{
    for (const struct ptx_device_function *f = module->device_functions; f; f = f->next)
        if (!strcmp(f->name, name)) return f->number;
    return 0;
}

int ptx_function_number(sg_module *module, const char *name)
{
    int number = ptx_function_find(module, name);
    if (number) return number;
    struct ptx_device_function *made = calloc(1, sizeof *made);
    if (!made) abort();
    *made = (struct ptx_device_function){strdup(name), module->device_functions ? module->device_functions->number + 1 : 1, module->device_functions};
    if (!made->name) abort();
    module->device_functions = made;
    return made->number;
}

/* ---- variables --------------------------------------------------------------------------------------------------------------- */

static ptx_variable *find_variable(sg_module *m, const char *name)
{
    for (ptx_variable *v = m->variables; v; v = v->next)
        if ((v->space == SPACE_GLOBAL || v->space == SPACE_CONST) && !strcmp(v->name, name)) return v;
    return NULL;
}

static struct ptx_instance *find_instance(const ptx_variable *v, const sg_device *device)
{
    for (struct ptx_instance *i = v->instances; i; i = i->next)
        if (v->managed || i->device == device) return i;
    return NULL;
}

static struct ptx_instance *instance(sg_module *m, ptx_variable *v, sg_device *device);

static void initialise(sg_module *m, ptx_variable *v, sg_device *device, uint64_t address)
{
    uint8_t *bytes = sg_memory_write(address, v->bytes, "a module's variable");
    if (!bytes) return;
    if (v->initial)
        memcpy(bytes, v->initial, (size_t)v->bytes);
    else
        memset(bytes, 0, (size_t)v->bytes);
    for (const struct ptx_fixup *f = v->fixups; f; f = f->next) {
        ptx_variable *other = find_variable(m, f->name);
        const struct ptx_instance *i = other ? instance(m, other, device) : NULL;
        uint64_t value = i ? i->address + (uint64_t)f->addend : 0;
        if (!other && ptx_function_find(m, f->name)) value = ptx_function_handle(ptx_function_find(m, f->name));
        if (f->at + 8 <= v->bytes) memcpy(bytes + f->at, &value, 8);
    }
}

/* Under the lock. */
static struct ptx_instance *instance(sg_module *m, ptx_variable *v, sg_device *device)
{
    struct ptx_instance *i = find_instance(v, device);
    if (i) return i;
    i = calloc(1, sizeof *i);
    if (!i) abort();
    *i = (struct ptx_instance){.device = device, .next = v->instances};
    i->address = sg_memory_allocate(device, v->managed ? SG_MEMORY_MANAGED : SG_MEMORY_MODULE, v->bytes ? v->bytes : 1, v->name);
    v->instances = i;
    initialise(m, v, device, i->address);
    return i;
}

bool sg_module_variable(sg_module *module, sg_device *device, const char *name, uint64_t *address, int64_t *bytes)
{
    ptx_variable *v = find_variable(module, name);
    if (!v) return false;
    pthread_mutex_lock(&lock);
    const struct ptx_instance *i = instance(module, v, device);
    pthread_mutex_unlock(&lock);
    *address = i->address;
    *bytes = v->bytes;
    return i->address != 0;
}

/* ---- what is known of a function ----------------------------------------------------------------------------------------------- */

static int places(const sg_function *f)
{
    int64_t words = f->register_bytes / (4 * LANES);
    return (int)(words < 16 ? 16 : words > 255 ? 255 : words);
}

void sg_function_describe(const sg_function *f, sg_function_info *info)
{
    int64_t constants = 0;
    for (const ptx_variable *v = f->module->variables; v; v = v->next)
        if (v->space == SPACE_CONST) constants += v->bytes;
    *info = (sg_function_info){.name = f->name, .parameters = f->parameter_count, .parameter_bytes = f->parameter_bytes,
                               .static_shared_bytes = f->static_shared, .local_bytes = f->have_resources ? f->resources.stack_bytes : f->local_bytes,
                               .constant_bytes = constants, .max_threads = f->max_threads,
                               .registers = f->have_resources ? f->resources.registers : 0, .places = places(f)};
    memcpy(info->required_cluster, f->required_cluster, sizeof info->required_cluster);
}
