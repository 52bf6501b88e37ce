/* Layers on activations that lie any way they may: with gaps between rows and between entries, over each
   other, broadcast; value dims beyond head_dim; each plan run again and again with another's work between.
   Tensors on the host; tests/softgpu/ runs the same on the device. */
#include "support/fixture.h"
#include "support/layer_layouts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void any_layout_gives_the_layer(void **state)
{
    (void)state;
    attend_context *context = test_context();
    test_layer_layouts(context, (test_location){NULL, NULL});
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_layout_gives_the_layer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
