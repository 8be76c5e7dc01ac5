/* What each kernel of a CUDA program takes, by CUPTI, which slows it by a few percent at most.
 *
 *     CUDA=/usr/local/cuda; gcc -O1 -shared -fPIC -I$CUDA/include -I$CUDA/extras/CUPTI/include \
 *         docs/benchmarks/kernels.c -o kernels.so -L$CUDA/extras/CUPTI/lib64 -lcupti
 *     CUDA_INJECTION64_PATH=$PWD/kernels.so KERNELS_TO=kernels.txt crocuta embed ... --device cuda
 *
 * At the end of the program kernels, copies and settings of memory are listed by the time they took,
 * to the file that KERNELS_TO names, or to stderr.
 */
#include <cupti.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A record that CUPTI has made larger since begins as this one does. */
#ifndef KERNEL
#define KERNEL CUpti_ActivityKernel9
#endif

enum { NAMES = 512, LETTERS = 96, SHOWN = 24 };

static struct kind {
    char name[LETTERS];
    unsigned long long time, count;
} kinds[NAMES];
static int used;

static void add(const char *name, unsigned long long time)
{
    int i = 0;
    while (i < used && strncmp(kinds[i].name, name, LETTERS - 1))
        i++;
    if (i == NAMES)
        return;
    if (i == used)
        strncpy(kinds[used++].name, name, LETTERS - 1);
    kinds[i].time += time;
    kinds[i].count++;
}

static const char *copy_name(const CUpti_ActivityMemcpy5 *copy)
{
    switch (copy->copyKind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
        return "(copy to the device)";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
        return "(copy to the host)";
    default:
        return "(copy on the device)";
    }
}

static void CUPTIAPI give(uint8_t **buffer, size_t *size, size_t *most)
{
    *size = 8 << 20;
    *most = 0;
    if (posix_memalign((void **)buffer, 8, *size))
        abort();
}

static void CUPTIAPI take(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid)
{
    CUpti_Activity *record = NULL;
    (void)context, (void)stream, (void)size;
    while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
        if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            const KERNEL *kernel = (const KERNEL *)record;
            add(kernel->name, kernel->end - kernel->start);
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            const CUpti_ActivityMemcpy5 *copy = (const CUpti_ActivityMemcpy5 *)record;
            add(copy_name(copy), copy->end - copy->start);
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
            const CUpti_ActivityMemset4 *set = (const CUpti_ActivityMemset4 *)record;
            add("(set)", set->end - set->start);
        }
    }
    free(buffer);
}

static int slower(const void *a, const void *b)
{
    const struct kind *x = a, *y = b;
    return (x->time < y->time) - (x->time > y->time);
}

static void list(void)
{
    const char *path = getenv("KERNELS_TO");
    FILE *file = path ? fopen(path, "w") : stderr;
    unsigned long long all = 0;
    cuptiActivityFlushAll(1);
    if (!file)
        return;
    qsort(kinds, used, sizeof *kinds, slower);
    for (int i = 0; i < used; i++)
        all += kinds[i].time;
    fprintf(file, "kernels and copies: %.3f s\n", all / 1e9);
    for (int i = 0; i < used && i < SHOWN; i++)
        fprintf(file, "%5.1f %% %9.2f ms %7llu times %9.1f us  %.70s\n", 100.0 * kinds[i].time / all,
                kinds[i].time / 1e6, kinds[i].count, kinds[i].time / 1e3 / kinds[i].count,
                kinds[i].name);
    if (path)
        fclose(file);
}

int InitializeInjection(void)
{
    cuptiActivityRegisterCallbacks(give, take);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET);
    atexit(list);
    return 1;
}
