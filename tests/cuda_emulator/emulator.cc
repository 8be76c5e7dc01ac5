// Stands in for libcuda, libnvrtc, libcublas, libcublasLt and libcufft on a machine without a GPU, so that the
// tests of the CUDA ops run there: kernels are compiled by g++ and run on the CPU.
//
// Memory is filled with NaN when it is allocated, and ends at a page that nobody may touch: what
// reads before writing or beyond the end shows. Nothing here says anything about speed, about
// races between threads, or about what the real compilers and libraries do.
//
// There are two devices, which share one memory; but a copy, a launch or a library that is not of
// the device that the thread has chosen fails.
//
// Only the functions that crocuta calls are here. Build and use: see README.md beside this.
#include "device.h"
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <map>
#include <mutex>
#include <regex>
#include <sstream>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

// ---- threads of a block ----

extern "C" {
Index threadIdx, blockIdx, blockDim, gridDim;
float shuffled[1024];
alignas(1024) unsigned char dynamic_shared[227 << 10];
void switch_stack(void **save, void *load);
}
asm(R"(
.globl switch_stack
switch_stack:
    push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
    ret
)");

using Kernel = void (*)(void **);
static const size_t STACK = 64 << 10;
static struct {
    Kernel kernel;
    void **arguments;
    void *scheduler;
    void *stacks[1024];
    bool done[1024];
    char *memory;
} block;

API void wait_for_all() { switch_stack(&block.stacks[threadIdx.x], block.scheduler); }

static void thread() {
    block.kernel(block.arguments);
    block.done[threadIdx.x] = true;
    wait_for_all();
}

static void run_block() {
    if (!block.memory)
        block.memory = (char *)mmap(nullptr, 1024 * STACK, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned left = blockDim.x;
    for (unsigned i = 0; i < blockDim.x; i++) {
        void **top = (void **)(block.memory + (i + 1) * STACK);
        // A return address of its own keeps the stack aligned as after a call.
        *--top = nullptr;
        *--top = (void *)thread;
        for (int saved = 0; saved < 6; saved++) *--top = nullptr;
        block.stacks[i] = top;
        block.done[i] = false;
    }
    while (left)
        for (unsigned i = 0; i < blockDim.x; i++) {
            if (block.done[i]) continue;
            threadIdx = {i, 0, 0};
            switch_stack(&block.scheduler, block.stacks[i]);
            if (block.done[i]) left--;
        }
}

// ---- libcuda ----

static std::mutex device;
// Contexts and streams are the number of their device, from 1.
static const int DEVICES = 2;
static thread_local uintptr_t current;
struct Allocation { void *base; size_t length; uintptr_t of; };
static std::map<uintptr_t, Allocation> allocations;
static const size_t TOTAL = size_t(8) << 30;
static size_t used, most;

API int cuInit(unsigned) { return 0; }
API int cuDeviceGetCount(int *n) { return *n = DEVICES, 0; }
API int cuDeviceGet(int *d, int number) { return *d = number, number < DEVICES ? 0 : 101; }
API int cuDeviceGetName(char *name, int size, int) {
    return snprintf(name, size, "emulated GPU"), 0;
}
API int cuDeviceGetAttribute(int *value, int attribute, int) {
    // Compute capability 9.0; memory pools; one of everything else.
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1;
    return 0;
}
API int cuDevicePrimaryCtxRetain(void **context, int number) {
    return *context = (void *)(uintptr_t)(number + 1), 0;
}
API int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
API int cuCtxSetCurrent(void *context) { return current = (uintptr_t)context, 0; }
API int cuCtxGetCurrent(void **context) { return *context = (void *)current, 0; }
API int cuCtxSynchronize() { return 0; }
API int cuStreamCreate(void **stream, unsigned) { return *stream = (void *)current, current ? 0 : 201; }
API int cuStreamDestroy_v2(void *) { return 0; }
API int cuStreamSynchronize(void *) { return 0; }
API int cuStreamWaitEvent(void *, void *, unsigned) { return 0; }
API int cuEventCreate(void **event, unsigned) { return *event = (void *)1, 0; }
API int cuEventRecord(void *, void *) { return 0; }
API int cuEventQuery(void *) { return 0; }
API int cuEventSynchronize(void *) { return 0; }
API int cuEventDestroy_v2(void *) { return 0; }
API int cuDeviceGetDefaultMemPool(void **pool, int) { return *pool = (void *)1, 0; }
API int cuMemPoolSetAttribute(void *, int, void *) { return 0; }
API int cuMemPoolGetAttribute(void *, int attribute, uint64_t *value) {
    // Memory in use: now, and at most so far.
    return *value = attribute == 7 ? used : most, 0;
}
API int cuMemPoolTrimTo(void *, size_t) { return 0; }
API int cuMemGetInfo_v2(size_t *free, size_t *total) {
    return *free = TOTAL - used, *total = TOTAL, 0;
}
API int cuGetErrorName(int, const char **name) { return *name = "emulated error", 0; }
API int cuGetErrorString(int, const char **name) { return *name = "emulated error", 0; }

API int cuMemHostAlloc(void **at, size_t size, unsigned) {
    return *at = malloc(size), *at ? 0 : 2;
}
API int cuMemFreeHost(void *at) { return free(at), 0; }
API int cuMemAllocAsync(uintptr_t *at, size_t size, void *stream) {
    std::lock_guard<std::mutex> lock(device);
    if (size == 0 || (uintptr_t)stream != current) return 1;
    if (used + size > TOTAL) return 2;
    const size_t page = 4096, aligned = (size + 15) / 16 * 16;
    const size_t length = (aligned + page - 1) / page * page + page;
    char *base = (char *)mmap(nullptr, length, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return 2;
    mprotect(base + length - page, page, PROT_NONE);
    *at = (uintptr_t)(base + length - page - aligned);
    memset((void *)*at, 0xff, size);
    allocations[*at] = {base, length, current};
    used += length;
    most = used > most ? used : most;
    return 0;
}
API int cuMemFreeAsync(uintptr_t at, void *) {
    std::lock_guard<std::mutex> lock(device);
    auto found = allocations.find(at);
    if (found == allocations.end()) return 1;
    munmap(found->second.base, found->second.length);
    used -= found->second.length;
    allocations.erase(found);
    return 0;
}
// Whether memory is of the device of a stream, and that device is chosen.
static bool is_of(uintptr_t at, void *stream) {
    std::lock_guard<std::mutex> lock(device);
    auto next = allocations.upper_bound(at);
    return next != allocations.begin() && std::prev(next)->second.of == (uintptr_t)stream &&
           (uintptr_t)stream == current;
}
API int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t n, void *stream) {
    return is_of(to, stream) ? memcpy((void *)to, from, n), 0 : 1;
}
API int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t n, void *stream) {
    return is_of(from, stream) ? memcpy(to, (void *)from, n), 0 : 1;
}
API int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t n, void *stream) {
    return is_of(to, stream) && is_of(from, stream) ? memcpy((void *)to, (void *)from, n), 0 : 1;
}
API int cuMemsetD8Async(uintptr_t at, unsigned char value, size_t n, void *stream) {
    return is_of(at, stream) ? memset((void *)at, value, n), 0 : 1;
}

// A module's code is the path of a shared library behind four bytes of an ELF file.
API int cuModuleLoadData(void **module, const void *code) {
    *module = dlopen((const char *)code + 4, RTLD_NOW | RTLD_LOCAL);
    if (!*module) fprintf(stderr, "emulator: %s\n", dlerror());
    return *module ? 0 : 200;
}
API int cuModuleUnload(void *) { return 0; }
API int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = dlsym(module, (std::string("call_") + name).c_str());
    return *function ? 0 : 500;
}
API int cuFuncSetAttribute(void *, int, int) { return 0; }
API int cuLaunchKernel(void *function, unsigned gx, unsigned, unsigned, unsigned bx, unsigned,
                       unsigned, unsigned shared, void *stream, void **arguments, void **) {
    std::lock_guard<std::mutex> lock(device);
    if (bx > 1024 || shared > sizeof dynamic_shared || !gx || !bx) return 1;
    if ((uintptr_t)stream != current) return 1;
    // What a kernel reads before it writes shows, also beyond what it asked for.
    memset(dynamic_shared, 0xff, sizeof dynamic_shared);
    block.kernel = (Kernel)function;
    block.arguments = arguments;
    blockDim = {bx, 1, 1};
    gridDim = {gx, 1, 1};
    for (unsigned i = 0; i < gx; i++) {
        blockIdx = {i, 0, 0};
        run_block();
    }
    return 0;
}

// ---- libnvrtc ----

struct Program { std::string source, log, library; };

API int nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0, 0; }
API int nvrtcGetNumSupportedArchs(int *n) { return *n = 2, 0; }
API int nvrtcGetSupportedArchs(int *archs) { return archs[0] = 80, archs[1] = 90, 0; }
API int nvrtcCreateProgram(Program **program, const char *source, const char *, int,
                           const char **, const char **) {
    return *program = new Program{source, "", ""}, 0;
}
API int nvrtcDestroyProgram(Program **program) { return delete *program, 0; }

static std::string read(const std::string &path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

API int nvrtcCompileProgram(Program *program, int count, const char **options) {
    static int number;
    std::lock_guard<std::mutex> lock(device);
    const char *folder = getenv("CUDA_EMULATOR");
    if (!folder) return program->log = "CUDA_EMULATOR does not name the emulator's folder", 6;
    const std::string base = std::string(folder) + "/build/" + std::to_string(getpid()) + "_" +
                             std::to_string(number++);
    std::string defines;
    for (int i = 0; i < count; i++) {
        const std::string option = options[i], define = "--define-macro=";
        if (option.rfind(define, 0) == 0) defines += " -D" + option.substr(define.size());
    }
    const std::regex assembly(R"re(asm\("([a-z0-9.]+) [^"]*" : "=\w"\((.*?)\) : (.*)\);)re");
    std::string source;
    std::stringstream lines(program->source);
    for (std::string line; std::getline(lines, line); source += line + "\n") {
        std::smatch m;
        if (!std::regex_search(line, m, assembly)) continue;
        std::string name = m[1], inputs = std::regex_replace(m[3].str(), std::regex("\"f\""), "");
        for (char &c : name) c = c == '.' ? '_' : c;
        line = m.prefix().str() + "asm_" + name + "(" + m[2].str() + ", " + inputs + ");";
    }
    std::ofstream(base + ".cc") << "#include <utility>\n#include \"" << folder
                                << "/device.h\"\n" << source;
    const auto run = [&](const std::string &arguments) {
        // Shared memory is static: never that of another module.
        const std::string command = "g++ -std=c++17 -O1 -w -fPIC -fno-gnu-unique" + defines + " " + arguments +
                                    " 2> " + base + ".log";
        return system(command.c_str());
    };
    int failed = run("-E " + base + ".cc -o " + base + ".ii");
    std::ofstream calls(base + ".cc", std::ios::app);
    const std::string expanded = failed ? "" : read(base + ".ii");
    const std::regex kernel(R"(extern "C"\s+void\s+(\w+)\s*\()");
    for (std::sregex_iterator i(expanded.begin(), expanded.end(), kernel), end; i != end; ++i) {
        const std::string name = (*i)[1];
        if (name == "wait_for_all") continue;
        calls << "extern \"C\" void call_" << name << "(void **at) { call(" << name << ", at); }\n";
    }
    calls.close();
    failed = failed || run("-shared " + base + ".cc -o " + base + ".so -L" + folder + " -l:libcuda.so.1");
    program->log = read(base + ".log");
    program->library = base + ".so";
    return failed ? 6 : 0;
}
API int nvrtcGetProgramLogSize(Program *p, size_t *n) { return *n = p->log.size() + 1, 0; }
API int nvrtcGetProgramLog(Program *p, char *log) { return strcpy(log, p->log.c_str()), 0; }
API int nvrtcGetCUBINSize(Program *p, size_t *n) { return *n = p->library.size() + 5, 0; }
API int nvrtcGetCUBIN(Program *p, char *code) {
    return memcpy(code, "\x7f" "ELF", 4), strcpy(code + 4, p->library.c_str()), 0;
}

// ---- libcublas ----

API int cublasCreate_v2(void **handle) { return *handle = (void *)current, current ? 0 : 1; }
API int cublasDestroy_v2(void *) { return 0; }
API int cublasSetStream_v2(void *, void *) { return 0; }

static float get(const void *at, int type, int64_t i) {
    return type == 0 ? ((const float *)at)[i]
                     : __uint_as_float((unsigned)((const uint16_t *)at)[i] << 16);
}

API int cublasGemmStridedBatchedEx(void *handle, int ta, int tb, int m, int n, int k, const float *alpha,
                                   const void *a, int at, int lda, long long sa, const void *b,
                                   int bt, int ldb, long long sb, const float *beta, void *c,
                                   int ct, int ldc, long long sc, int batch, int, int) {
    if ((uintptr_t)handle != current) return 1;
    if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m || at != bt) return 7;
    for (int64_t s = 0; s < batch; s++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) {
                float sum = 0.0f;
                for (int64_t l = 0; l < k; l++)
                    sum += get(a, at, s * sa + (ta ? i * lda + l : l * lda + i)) *
                           get(b, bt, s * sb + (tb ? l * ldb + j : j * ldb + l));
                sum *= *alpha;
                const int64_t to = s * sc + j * ldc + i;
                if (*beta != 0.0f) sum += *beta * get(c, ct, to);
                if (ct == 0) ((float *)c)[to] = sum;
                else ((uint16_t *)c)[to] = bf16_bits(sum);
            }
    return 0;
}

// ---- libcublasLt ----

struct Layout { int type; uint64_t rows, columns; int64_t stride; };
struct Operation { int turn_a = 0, turn_b = 0, epilogue = 1; const void *bias = nullptr; };

API int cublasLtCreate(void **handle) { return *handle = (void *)current, current ? 0 : 1; }
API int cublasLtDestroy(void *) { return 0; }
API int cublasLtMatmulDescCreate(Operation **operation, int, int) {
    return *operation = new Operation, 0;
}
API int cublasLtMatmulDescDestroy(Operation *operation) { return delete operation, 0; }
API int cublasLtMatmulDescSetAttribute(Operation *o, int attribute, const void *value, size_t n) {
    void *to = attribute == 3   ? (void *)&o->turn_a
               : attribute == 4 ? (void *)&o->turn_b
               : attribute == 7 ? (void *)&o->epilogue
               : attribute == 8 ? (void *)&o->bias
                                : nullptr;
    return to ? memcpy(to, value, n), 0 : 7;
}
API int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns,
                                   int64_t stride) {
    return *layout = new Layout{type, rows, columns, stride}, 0;
}
API int cublasLtMatrixLayoutDestroy(Layout *layout) { return delete layout, 0; }
API int cublasLtMatmulPreferenceCreate(void **preference) { return *preference = (void *)1, 0; }
API int cublasLtMatmulPreferenceDestroy(void *) { return 0; }
API int cublasLtMatmulPreferenceSetAttribute(void *, int, const void *, size_t) { return 0; }
API int cublasLtMatmulAlgoGetHeuristic(void *, void *, void *, void *, void *, void *, void *, int,
                                       void *result, int *count) {
    memset(result, 0, 96);
    return *count = 1, 0;
}
API int cublasLtMatmul(void *handle, const Operation *o, const float *alpha, const void *a,
                       const Layout *la, const void *b, const Layout *lb, const float *beta,
                       const void *c, const Layout *lc, void *d, const Layout *ld, const void *,
                       void *, size_t, void *) {
    const int64_t inner = o->turn_a ? la->rows : la->columns;
    if ((uintptr_t)handle != current) return 1;
    if (lc->type != ld->type || lb->type != la->type) return 7;
    const bool biased = o->epilogue & 4, gelu = o->epilogue & 32;
    for (int64_t j = 0; j < (int64_t)ld->columns; j++)
        for (int64_t i = 0; i < (int64_t)ld->rows; i++) {
            float sum = 0.0f;
            for (int64_t l = 0; l < inner; l++)
                sum += get(a, la->type, o->turn_a ? i * la->stride + l : l * la->stride + i) *
                       get(b, lb->type, o->turn_b ? l * lb->stride + j : j * lb->stride + l);
            sum *= *alpha;
            const int64_t to = j * ld->stride + i;
            if (*beta != 0.0f) sum += *beta * get(c, lc->type, to);
            if (biased) sum += get(o->bias, ld->type, i);
            if (gelu)
                sum *= 0.5f * (1.0f + tanhf(0.7978845608f * (sum + 0.044715f * sum * sum * sum)));
            if (ld->type == 0) ((float *)d)[to] = sum;
            else ((uint16_t *)d)[to] = bf16_bits(sum);
        }
    return 0;
}

// ---- libcufft ----

using Complex = std::complex<double>;
struct Fft { long long size, from, to, batch; int kind; uintptr_t of; };
static std::vector<Fft> plans;

// Mixed radix, recursively; `step` is the stride of the input.
static std::vector<Complex> dft(const Complex *x, long long n, long long step, double sign) {
    std::vector<Complex> out(n);
    long long radix = 2;
    while (n % radix && radix < n) radix++;
    if (n == 1) return out[0] = x[0], out;
    std::vector<std::vector<Complex>> parts;
    for (long long r = 0; r < radix; r++)
        parts.push_back(dft(x + r * step, n / radix, step * radix, sign));
    for (long long i = 0; i < n; i++) {
        Complex sum = 0;
        for (long long r = 0; r < radix; r++)
            sum += parts[r][i % (n / radix)] * std::polar(1.0, sign * 2 * M_PI * double(r * i % n) / n);
        out[i] = sum;
    }
    return out;
}

API int cufftCreate(int *plan) {
    std::lock_guard<std::mutex> lock(device);
    return plans.push_back({}), *plan = plans.size() - 1, 0;
}
API int cufftDestroy(int) { return 0; }
API int cufftSetStream(int, void *) { return 0; }
API int cufftSetAutoAllocation(int, int) { return 0; }
API int cufftSetWorkArea(int, void *) { return 0; }
API int cufftMakePlanMany64(int plan, int, long long *n, long long *, long long, long long from,
                            long long *, long long, long long to, int kind, long long batch,
                            size_t *work) {
    std::lock_guard<std::mutex> lock(device);
    plans[plan] = {*n, from, to, batch, kind, current};
    return *work = 16, 0;
}
static int transform(int handle, float *in, float *out, bool forward) {
    std::lock_guard<std::mutex> lock(device);
    const Fft plan = plans[handle];
    if (plan.of != current) return 1;
    const long long n = plan.size, bins = n / 2 + 1;
    for (long long b = 0; b < plan.batch; b++) {
        std::vector<Complex> x(n);
        if (forward) {
            const float *from = in + b * plan.from;
            for (long long i = 0; i < n; i++) x[i] = from[i];
            x = dft(x.data(), n, 1, -1);
            float *to = out + 2 * b * plan.to;
            for (long long i = 0; i < bins; i++) to[2 * i] = x[i].real(), to[2 * i + 1] = x[i].imag();
        } else {
            const float *from = in + 2 * b * plan.from;
            for (long long i = 0; i < bins; i++) x[i] = {from[2 * i], i % (n / 2) ? from[2 * i + 1] : 0.0};
            for (long long i = bins; i < n; i++) x[i] = std::conj(x[n - i]);
            x = dft(x.data(), n, 1, 1);
            float *to = out + b * plan.to;
            for (long long i = 0; i < n; i++) to[i] = x[i].real();
        }
    }
    return 0;
}
API int cufftExecC2C(int handle, float *in, float *out, int sign) {
    std::lock_guard<std::mutex> lock(device);
    const Fft plan = plans[handle];
    if (plan.of != current) return 1;
    for (long long b = 0; b < plan.batch; b++) {
        const float *from = in + 2 * b * plan.from;
        float *to = out + 2 * b * plan.to;
        std::vector<Complex> x(plan.size);
        for (long long i = 0; i < plan.size; i++) x[i] = {from[2 * i], from[2 * i + 1]};
        x = dft(x.data(), plan.size, 1, sign);
        for (long long i = 0; i < plan.size; i++) to[2 * i] = x[i].real(), to[2 * i + 1] = x[i].imag();
    }
    return 0;
}
API int cufftExecR2C(int plan, float *in, float *out) { return transform(plan, in, out, true); }
API int cufftExecC2R(int plan, float *in, float *out) { return transform(plan, in, out, false); }
