/* printf from kernels. main() reads back what was printed and compares it. */
#include "programs/program.h"

#include <cstring>
#include <unistd.h>

__global__ void print_all()
{
    long long large = -123456789012345;
    if (threadIdx.x == 0) printf("%d|%5.2f|%s|%lld|%x|%c|100%%|%e\n", -7, 1.5, "text", large, 255u, 'z', 12345.678);
    if (threadIdx.x < 3) printf("thread %u of block %u\n", threadIdx.x, blockIdx.x);
}

int main()
{
    char line[128];
    FILE *file = std::tmpfile();
    int before = dup(1), seen = 0;
    EXPECT(file && dup2(fileno(file), 1) == 1);
    print_all<<<2, 32>>>();
    CHECK(cudaDeviceSynchronize());
    std::fflush(stdout);
    dup2(before, 1);
    std::rewind(file);
    while (std::fgets(line, sizeof line, file)) {
        seen += !std::strcmp(line, "-7| 1.50|text|-123456789012345|ff|z|100%|1.234568e+04\n");
        for (unsigned b = 0; b < 2; b++)
            for (unsigned t = 0; t < 3; t++) {
                char expected[64];
                std::snprintf(expected, sizeof expected, "thread %u of block %u\n", t, b);
                if (!std::strcmp(line, expected)) seen += 100;
            }
    }
    EXPECT(seen == 602);
    std::fclose(file);
}
