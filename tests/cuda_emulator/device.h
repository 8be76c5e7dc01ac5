// CUDA C++ as plain C++: what the kernels use, for one thread after the other on the CPU.
//
// A block's threads are fibers. Each runs until it waits for the others (a barrier or a shuffle)
// or ends; a round over all of them is then the barrier. Blocks run one after the other, so that
// shared memory can be static.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define EMULATED
#define DYNAMIC_SHARED(name) unsigned char *const name = dynamic_shared

struct Index { unsigned x, y, z; };
// Of the thread that runs, and what it gives to a shuffle; set by the emulator.
extern "C" Index threadIdx, blockIdx, blockDim, gridDim;
extern "C" float shuffled[1024];
extern "C" unsigned char dynamic_shared[];
extern "C" void wait_for_all();

struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class A, class B> std::common_type_t<A, B> min(A a, B b) {
    using C = std::common_type_t<A, B>;
    return (C)a < (C)b ? (C)a : (C)b;
}
template <class A, class B> std::common_type_t<A, B> max(A a, B b) {
    using C = std::common_type_t<A, B>;
    return (C)a < (C)b ? (C)b : (C)a;
}

inline void __syncthreads() { wait_for_all(); }
inline float __shfl_xor_sync(unsigned, float x, int mask) {
    shuffled[threadIdx.x] = x;
    wait_for_all();
    float y = shuffled[threadIdx.x ^ mask];
    wait_for_all();
    return y;
}
inline double __shfl_xor_sync(unsigned all, double x, int mask) {
    float halves[2];
    memcpy(halves, &x, sizeof x);
    for (float &half : halves) half = __shfl_xor_sync(all, half, mask);
    memcpy(&x, halves, sizeof x);
    return x;
}

inline void sincospif(float x, float *sine, float *cosine) {
    *sine = (float)sin(M_PI * x);
    *cosine = (float)cos(M_PI * x);
}
inline unsigned __brev(unsigned x) {
    unsigned y = 0;
    for (int bit = 0; bit < 32; bit++) y |= (x >> bit & 1) << (31 - bit);
    return y;
}
inline float __fdividef(float x, float y) { return x / y; }
inline float __int_as_float(int bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline unsigned short bf16_bits(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// The instructions that kernels write as assembly.
inline void asm_cvt_rn_bf16_f32(unsigned short &to, float x) { to = bf16_bits(x); }
inline void asm_cvt_rn_bf16x2_f32(unsigned &to, float high, float low) {
    to = (unsigned)bf16_bits(high) << 16 | bf16_bits(low);
}
inline void asm_cvt_rn_f16_f32(unsigned short &to, float x) {
    _Float16 half = (_Float16)x;
    memcpy(&to, &half, 2);
}
inline void asm_ex2_approx_ftz_f32(float &to, float x) { to = exp2f(x); }

// A kernel with the arguments at these addresses.
template <class... A, size_t... I>
void call(void (*kernel)(A...), void **at, std::index_sequence<I...>) {
    kernel(*(std::remove_cv_t<A> *)at[I]...);
}
template <class... A> void call(void (*kernel)(A...), void **at) {
    call(kernel, at, std::index_sequence_for<A...>());
}
