// What all kernels share. Compiled in front of each of them; no headers, so that NVRTC suffices.

typedef float f32;
typedef unsigned short bf16;
typedef unsigned int u32;
typedef long long i64;

__device__ __forceinline__ void store(float *at, float x) { *at = x; }

// Rounded to nearest, ties to even.
__device__ __forceinline__ void store(bf16 *at, float x) {
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(*at) : "f"(x));
}

__device__ __forceinline__ float load(const float *at) { return *at; }
__device__ __forceinline__ float load(const bf16 *at) { return __uint_as_float((u32)*at << 16); }

// V consecutive values in one access; `at` is aligned to them.
template <int V> struct Values { float x[V]; };

__device__ __forceinline__ Values<1> load_values(const float *at, Values<1>) { return {{*at}}; }
__device__ __forceinline__ Values<4> load_values(const float *at, Values<4>) {
    float4 v = *(const float4 *)at;
    return {{v.x, v.y, v.z, v.w}};
}
__device__ __forceinline__ Values<1> load_values(const bf16 *at, Values<1>) { return {{load(at)}}; }
__device__ __forceinline__ Values<4> load_values(const bf16 *at, Values<4>) {
    const uint2 v = *(const uint2 *)at;
    return {{__uint_as_float(v.x << 16), __uint_as_float(v.x & 0xffff0000u),
             __uint_as_float(v.y << 16), __uint_as_float(v.y & 0xffff0000u)}};
}
template <int V, typename E> __device__ __forceinline__ Values<V> load(const E *at) {
    return load_values(at, Values<V>());
}

template <typename E> __device__ __forceinline__ void store(E *at, Values<1> v) { store(at, v.x[0]); }
__device__ __forceinline__ void store(float *at, Values<4> v) {
    *(float4 *)at = make_float4(v.x[0], v.x[1], v.x[2], v.x[3]);
}
__device__ __forceinline__ void store(bf16 *at, Values<4> v) {
    uint2 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed.x) : "f"(v.x[1]), "f"(v.x[0]));
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed.y) : "f"(v.x[3]), "f"(v.x[2]));
    *(uint2 *)at = packed;
}

// 1 / (1 + exp(-x)); the quick division is exact to 2 units in the last place.
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + expf(-x)); }
__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0f + expf(-x)); }
__device__ __forceinline__ float silu_slope(float x) {
    const float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) as x sigmoid(2 ...)
__device__ __forceinline__ float gelu_tanh(float x) {
    return x * sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
}
__device__ __forceinline__ float gelu_erf(float x) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118f));
}

// ln(1 + exp(x))
__device__ __forceinline__ float softplus(float x) {
    return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
}

// 2^x by the hardware, good to 2 units in the last place.
__device__ __forceinline__ float exp2_quick(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 2^x for x <= 0. A slow decay is applied 10^6 times and must not drift, as it would by the
// hardware's error: close to 1, Taylor's series, whose error is 4e-8 at -1/8.
__device__ __forceinline__ float exp2_decay(float x) {
    const float far = exp2_quick(x);
    float p = 9.618129e-3f;
    p = fmaf(p, x, 5.550411e-2f);
    p = fmaf(p, x, 2.402265e-1f);
    p = fmaf(p, x, 6.931472e-1f);
    p = fmaf(p, x, 1.0f);
    return x > -0.125f ? p : far;
}

// As ops::Activation, in its order.
__device__ __forceinline__ float activate(float x, int activation) {
    switch (activation) {
    case 1: return gelu_tanh(x);
    case 2: return gelu_erf(x);
    case 3: return silu(x);
    default: return x;
    }
}

// Shared memory of the size that the launch names. The emulator, which compiles no assembly, has
// its own.
#ifndef EMULATED
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#endif

template <class F> __device__ __forceinline__ F warp_sum(F x) {
    for (int half = 16; half > 0; half /= 2) x += __shfl_xor_sync(0xffffffffu, x, half);
    return x;
}
__device__ __forceinline__ float warp_max(float x) {
    for (int half = 16; half > 0; half /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, half));
    return x;
}

// Row and column of a value. Division of 64-bit numbers is slow, and rarely needed.
__device__ __forceinline__ void place(i64 i, int width, i64 &row, int &column) {
    if (i >> 32) {
        row = i / width;
        column = i % width;
    } else {
        row = (u32)i / (u32)width;
        column = (u32)i % (u32)width;
    }
}

// A run of rows within one segment.
struct Tile { u32 row, len, segment, index; };
// As crate::sequence::Segment; its tiles are consecutive. The sequence's rows of this step begin
// with row `origin`: `before` of them come before a branch, none before a segment.
struct Segment { u32 row, len, lane, flags, first_tile, tiles, origin, before; };
enum { STARTS = 1, ENDS = 2 };
