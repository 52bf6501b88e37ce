/* planted CASE bug|twin: runs one case; planted: prints their names. */
#include "kernels/planted.h"

#include <cstring>

int main(int count, char **arguments)
{
    const planted_case *const files[] = {planted_memory, planted_races, planted_barriers, planted_copies, planted_host, planted_hopper};
    for (const planted_case *file : files)
        for (; file->name; file++) {
            if (count < 3) {
                std::puts(file->name);
            } else if (!std::strcmp(arguments[1], file->name)) {
                file->run(!std::strcmp(arguments[2], "bug"));
                return 0;
            }
        }
    return count < 3 ? 0 : 2;
}
