// Functions of single rows and single values.

// Rows of `table` (any, width) by index: (count, width).
template <int V>
__device__ void gather(float *out, const float *table, const u32 *indices, i64 count, int width) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= count * width) return;
    i64 row;
    int column;
    place(i, width, row, column);
    store(out + i, load<V>(table + (i64)indices[row] * width + column));
}

// Runs of rows of x (any, width), from the first to before the end, to one row each. As
// ops::Reduction, in its order.
template <int V>
__device__ void pool(float *out, const float *x, const uint2 *runs, i64 count, int width, int how) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= count * width) return;
    i64 run;
    int column;
    place(i, width, run, column);
    const uint2 rows = runs[run];
    x += column;
    Values<V> v = load<V>(x + (i64)(how == 2 ? rows.y - 1 : rows.x) * width);
    if (how != 2) {
#pragma unroll 8
        for (u32 row = rows.x + 1; row < rows.y; row++) {
            Values<V> w = load<V>(x + (i64)row * width);
            for (int j = 0; j < V; j++)
                if (how == 0)
                    v.x[j] += w.x[j];
                else if (v.x[j] == v.x[j] && !(w.x[j] <= v.x[j]))
                    v.x[j] = w.x[j];
        }
    }
    store(out + i, v);
}

// One warp a row. (x - mean) / sqrt(var + eps) * weight + bias
template <int V, typename E>
__device__ void layer_norm(E *out, const float *x, const float *weight, const float *bias, i64 rows,
                           int width, float eps) {
    i64 row = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    int lane = threadIdx.x % 32 * V;
    x += row * width;
    out += row * width;
    float sum = 0.0f;
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(x + i);
        for (int j = 0; j < V; j++) sum += v.x[j];
    }
    float mean = warp_sum(sum) / width;
    sum = 0.0f;
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(x + i);
        for (int j = 0; j < V; j++) sum += (v.x[j] - mean) * (v.x[j] - mean);
    }
    float scale = 1.0f / sqrtf(warp_sum(sum) / width + eps);
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(x + i), w = load<V>(weight + i), b = load<V>(bias + i);
        for (int j = 0; j < V; j++) v.x[j] = (v.x[j] - mean) * scale * w.x[j] + b.x[j];
        store(out + i, v);
    }
}

// One warp a row. x / (sqrt(mean(x^2) + inside) + outside) * weight
template <int V, typename E>
__device__ void rms_norm(E *out, const float *x, const float *weight, i64 rows, int width,
                         float inside, float outside) {
    i64 row = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    int lane = threadIdx.x % 32 * V;
    x += row * width;
    out += row * width;
    float sum = 0.0f;
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(x + i);
        for (int j = 0; j < V; j++) sum += v.x[j] * v.x[j];
    }
    float scale = 1.0f / (sqrtf(warp_sum(sum) / width + inside) + outside);
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(x + i), w = load<V>(weight + i);
        for (int j = 0; j < V; j++) v.x[j] = v.x[j] * scale * w.x[j];
        store(out + i, v);
    }
}

// One warp for each of the `groups` parts of a row: the RMS norm of y silu(gate). `width` is that
// of a part.
template <int V, typename E>
__device__ void gated_rms_norm(E *out, const float *y, const float *gate, const float *weight,
                               i64 parts, int width, int groups, float eps) {
    i64 part = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (part >= parts) return;
    int lane = threadIdx.x % 32 * V;
    y += part * width;
    gate += part * width;
    out += part * width;
    weight += part % groups * width;
    float sum = 0.0f;
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(y + i), z = load<V>(gate + i);
        for (int j = 0; j < V; j++) {
            float x = v.x[j] * silu(z.x[j]);
            sum += x * x;
        }
    }
    float scale = 1.0f / sqrtf(warp_sum(sum) / width + eps);
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(y + i), z = load<V>(gate + i), w = load<V>(weight + i);
        for (int j = 0; j < V; j++) v.x[j] = v.x[j] * silu(z.x[j]) * scale * w.x[j];
        store(out + i, v);
    }
}

// What follows a matrix product: bias, activation, residual; the last two may be null.
template <int V, typename E>
__device__ void epilogue(E *out, const float *x, const float *bias, const float *residual,
                         i64 count, int width, int activation) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= count) return;
    Values<V> v = load<V>(x + i);
    if (bias) {
        i64 row;
        int column;
        place(i, width, row, column);
        Values<V> b = load<V>(bias + column);
        for (int j = 0; j < V; j++) v.x[j] += b.x[j];
    }
    if (activation)
        for (int j = 0; j < V; j++) v.x[j] = activate(v.x[j], activation);
    if (residual) {
        Values<V> r = load<V>(residual + i);
        for (int j = 0; j < V; j++) v.x[j] += r.x[j];
    }
    store(out + i, v);
}

// a[:, from_a..] * b[:, from_b..], rows of a and b strided.
template <int V, typename E>
__device__ void gate(E *out, const float *a, const float *b, i64 rows, int width, int stride_a,
                     int from_a, int stride_b, int from_b) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= rows * width) return;
    i64 row;
    int column;
    place(i, width, row, column);
    Values<V> x = load<V>(a + row * stride_a + from_a + column);
    Values<V> y = load<V>(b + row * stride_b + from_b + column);
    for (int j = 0; j < V; j++) x.x[j] *= y.x[j];
    store(out + i, x);
}

// residual + a sigmoid(b), the halves of each row of x.
template <int V, typename E>
__device__ void glu(E *out, const float *x, const float *residual, i64 rows, int width) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= rows * width) return;
    i64 row;
    int column;
    place(i, width, row, column);
    const float *at = x + row * 2 * width + column;
    Values<V> a = load<V>(at), b = load<V>(at + width), r = load<V>(residual + i);
    for (int j = 0; j < V; j++) a.x[j] = r.x[j] + a.x[j] * sigmoid(b.x[j]);
    store(out + i, a);
}

#define BOTH(V, E, S)                                                                              \
    extern "C" __global__ void layer_norm_##E##_##V(S *out, const float *x, const float *weight,   \
                                                    const float *bias, i64 rows, int width,        \
                                                    float eps) {                                   \
        layer_norm<V>(out, x, weight, bias, rows, width, eps);                                     \
    }                                                                                              \
    extern "C" __global__ void rms_norm_##E##_##V(S *out, const float *x, const float *weight,     \
                                                  i64 rows, int width, float inside,               \
                                                  float outside) {                                 \
        rms_norm<V>(out, x, weight, rows, width, inside, outside);                                 \
    }                                                                                              \
    extern "C" __global__ void gated_rms_norm_##E##_##V(S *out, const float *y, const float *gate, \
                                                        const float *weight, i64 parts, int width, \
                                                        int groups, float eps) {                   \
        gated_rms_norm<V>(out, y, gate, weight, parts, width, groups, eps);                        \
    }                                                                                              \
    extern "C" __global__ void epilogue_##E##_##V(S *out, const float *x, const float *bias,       \
                                                  const float *residual, i64 count, int width,     \
                                                  int activation) {                                \
        epilogue<V>(out, x, bias, residual, count, width, activation);                             \
    }                                                                                              \
    extern "C" __global__ void gate_##E##_##V(S *out, const float *a, const float *b, i64 rows,    \
                                              int width, int stride_a, int from_a, int stride_b,   \
                                              int from_b) {                                        \
        gate<V>(out, a, b, rows, width, stride_a, from_a, stride_b, from_b);                       \
    }                                                                                              \
    extern "C" __global__ void glu_##E##_##V(S *out, const float *x, const float *residual,        \
                                             i64 rows, int width) {                                \
        glu<V>(out, x, residual, rows, width);                                                     \
    }
BOTH(1, f32, float)
BOTH(4, f32, float)
BOTH(1, bf16, bf16)
BOTH(4, bf16, bf16)

extern "C" __global__ void gather_1(float *out, const float *table, const u32 *indices, i64 count,
                                    int width) {
    gather<1>(out, table, indices, count, width);
}
extern "C" __global__ void gather_4(float *out, const float *table, const u32 *indices, i64 count,
                                    int width) {
    gather<4>(out, table, indices, count, width);
}

extern "C" __global__ void pool_1(float *out, const float *x, const uint2 *runs, i64 count,
                                  int width, int how) {
    pool<1>(out, x, runs, count, width, how);
}
extern "C" __global__ void pool_4(float *out, const float *x, const uint2 *runs, i64 count,
                                  int width, int how) {
    pool<4>(out, x, runs, count, width, how);
}

extern "C" __global__ void to_f32(float *out, const bf16 *x, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = load(x + i);
}

// IEEE half precision, for what leaves the device.
extern "C" __global__ void to_f16(unsigned short *out, const float *x, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out[i]) : "f"(x[i]));
}
