// Gradients of functions of rows, and what they need besides: sums in an order that is always the
// same, so that equal inputs give equal bits.

// Sums of the columns of a (rows, width), of `part` rows each: (parts, width). With b, of
// a (b - mean) scale, where mean (may be null: 0) and scale have one value a row. A block has 32
// columns of a part, whose rows its warps take in turn.
extern "C" __global__ void column_sums(float *out, const float *a, const float *b,
                                       const float *mean, const float *scale, i64 rows, int width,
                                       i64 part) {
    enum { WARPS = 8 };
    __shared__ float sums[WARPS][32];
    const int columns = (width + 31) / 32, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int c = blockIdx.x % columns * 32 + lane;
    const i64 index = blockIdx.x / columns;
    const i64 end = min(index * part + part, rows);
    float sum = 0.0f;
    if (c < width) {
#pragma unroll 4
        for (i64 row = index * part + warp; row < end; row += WARPS) {
            float x = a[row * width + c];
            if (b) x *= (b[row * width + c] - (mean ? mean[row] : 0.0f)) * scale[row];
            sum += x;
        }
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp || c >= width) return;
    for (int i = 1; i < WARPS; i++) sum += sums[i][lane];
    out[index * width + c] = sum;
}

// The sum of some values, by one block.
extern "C" __global__ void sum_wide(double *out, const float *x, i64 count) {
    enum { THREADS = 256 };
    __shared__ double sums[THREADS];
    double sum = 0.0;
#pragma unroll 8
    for (i64 i = threadIdx.x; i < count; i += THREADS) sum += x[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) *out = sums[0];
}

// The derivative of prelude's `activate`.
__device__ __forceinline__ float slope(float x, int activation) {
    switch (activation) {
    case 1: {
        float s = sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
        return s * (1.0f + x * (1.0f - s) * 1.5957691216f * (1.0f + 0.134145f * x * x));
    }
    case 2: return 0.5f * (1.0f + erff(x * 0.70710678118f)) + x * 0.39894228f * expf(-0.5f * x * x);
    case 3: {
        float s = sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    default: return 1.0f;
    }
}

// grad f'(x)
template <int V>
__device__ void slopes(float *out, const float *grad, const float *x, i64 count, int activation) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= count) return;
    Values<V> g = load<V>(grad + i), v = load<V>(x + i);
    for (int j = 0; j < V; j++) g.x[j] *= slope(v.x[j], activation);
    store(out + i, g);
}

// One factor of a gate: the columns of the other one, and where its own gradient goes.
struct Factor {
    const float *other;
    int stride, from, to;
};

// The gradient to (rows, total) of a gate of `width`: grad times the other factor in the columns of
// each factor, zeros elsewhere. The second one may be null.
template <int V>
__device__ void gate_slopes(float *out, const float *grad, Factor a, Factor b, i64 rows, int width,
                            int total) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= rows * total) return;
    i64 row;
    int column;
    place(i, total, row, column);
    Values<V> sum = {};
    const Factor both[2] = {a, b};
#pragma unroll
    for (const Factor &f : both) {
        const int c = column - f.to;
        if (!f.other || c < 0 || c >= width) continue;
        Values<V> g = load<V>(grad + row * width + c);
        Values<V> y = load<V>(f.other + row * f.stride + f.from + c);
        for (int j = 0; j < V; j++) sum.x[j] += g.x[j] * y.x[j];
    }
    store(out + i, sum);
}

// The gradient to x of residual + a sigmoid(b), the halves of each row of x.
template <int V>
__device__ void glu_slopes(float *out, const float *grad, const float *x, i64 rows, int width) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= rows * width) return;
    i64 row;
    int column;
    place(i, width, row, column);
    const i64 at = row * 2 * width + column;
    Values<V> a = load<V>(x + at), b = load<V>(x + at + width), g = load<V>(grad + i);
    for (int j = 0; j < V; j++) {
        const float s = sigmoid(b.x[j]);
        b.x[j] = g.x[j] * a.x[j] * s * (1.0f - s);
        a.x[j] = g.x[j] * s;
    }
    store(out + at, a);
    store(out + at + width, b);
}

// One warp a row: to x, with 1 / (sqrt(mean(x^2) + inside) + outside) into scales.
template <int V>
__device__ void rms_norm_slopes(float *out, float *scales, const float *grad, const float *x,
                                const float *weight, i64 rows, int width, float inside,
                                float outside) {
    i64 row = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    int lane = threadIdx.x % 32 * V;
    x += row * width;
    grad += row * width;
    out += row * width;
    float square = 0.0f, dot = 0.0f;
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(x + i), g = load<V>(grad + i), w = load<V>(weight + i);
        for (int j = 0; j < V; j++) {
            square += v.x[j] * v.x[j];
            dot += v.x[j] * g.x[j] * w.x[j];
        }
    }
    float root = sqrtf(warp_sum(square) / width + inside);
    float scale = 1.0f / (root + outside);
    // A row of zeros without eps inside has a kink; its gradient is taken as g scale.
    float tilt = warp_sum(dot) * scale * scale / (width * fmaxf(root, 1.17549435e-38f));
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(x + i), g = load<V>(grad + i), w = load<V>(weight + i);
        for (int j = 0; j < V; j++) v.x[j] = scale * g.x[j] * w.x[j] - tilt * v.x[j];
        store(out + i, v);
    }
    if (lane == 0) scales[row] = scale;
}

// One warp a row: to x, with the rows' means and 1 / sqrt(var + eps).
template <int V>
__device__ void layer_norm_slopes(float *out, float *means, float *scales, const float *grad,
                                  const float *x, const float *weight, i64 rows, int width,
                                  float eps) {
    i64 row = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    int lane = threadIdx.x % 32 * V;
    x += row * width;
    grad += row * width;
    out += row * width;
    float sum = 0.0f;
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(x + i);
        for (int j = 0; j < V; j++) sum += v.x[j];
    }
    float mean = warp_sum(sum) / width;
    float square = 0.0f, level = 0.0f, dot = 0.0f;
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(x + i), g = load<V>(grad + i), w = load<V>(weight + i);
        for (int j = 0; j < V; j++) {
            float x = v.x[j] - mean, y = g.x[j] * w.x[j];
            square += x * x;
            level += y;
            dot += x * y;
        }
    }
    float scale = 1.0f / sqrtf(warp_sum(square) / width + eps);
    level = warp_sum(level) / width;
    float tilt = warp_sum(dot) * scale * scale / width;
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(x + i), g = load<V>(grad + i), w = load<V>(weight + i);
        for (int j = 0; j < V; j++)
            v.x[j] = scale * (g.x[j] * w.x[j] - level - (v.x[j] - mean) * tilt);
        store(out + i, v);
    }
    if (lane == 0) {
        means[row] = mean;
        scales[row] = scale;
    }
}

__device__ __forceinline__ float warp_max(float x) {
    for (int half = 16; half > 0; half /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, half));
    return x;
}

// One warp a row: weight * -ln softmax(logits)[target] into losses, and its gradient, if wanted.
// A row of weight 0 has neither.
extern "C" __global__ void cross_entropy(float *losses, float *out, const float *logits,
                                         const u32 *targets, const float *weights, i64 rows,
                                         int width) {
    const i64 row = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    const int lane = threadIdx.x % 32;
    const float weight = weights[row];
    const int target = targets[row];
    logits += row * width;
    if (out) out += row * width;
    if (weight == 0.0f) {
        for (int i = lane; out && i < width; i += 32) out[i] = 0.0f;
        if (lane == 0) losses[row] = 0.0f;
        return;
    }
    float largest = __uint_as_float(0xff800000u); // -inf
    for (int i = lane; i < width; i += 32) largest = fmaxf(largest, logits[i]);
    largest = warp_max(largest);
    float sum = 0.0f;
    for (int i = lane; i < width; i += 32) sum += expf(logits[i] - largest);
    sum = warp_sum(sum);
    for (int i = lane; out && i < width; i += 32)
        out[i] = weight * (expf(logits[i] - largest) / sum - (i == target ? 1.0f : 0.0f));
    if (lane == 0) losses[row] = weight * (logf(sum) - (logits[target] - largest));
}

// Rows (count, width) that are 1 at an index each, 0 elsewhere.
extern "C" __global__ void one_hot(float *out, const u32 *indices, i64 count, int width) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count * width) return;
    i64 row;
    int column;
    place(i, width, row, column);
    out[i] = indices[row] == column ? 1.0f : 0.0f;
}

// `width` columns of the rows of x from one place to those of out from another one.
template <int V>
__device__ void copy_columns(float *out, const float *x, i64 rows, i64 width, i64 out_stride,
                             i64 out_from, i64 x_stride, i64 x_from) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= rows * width) return;
    const bool wide = (i | width) >> 32;
    const i64 row = wide ? i / width : (u32)i / (u32)width;
    const i64 column = i - row * width;
    store(out + row * out_stride + out_from + column, load<V>(x + row * x_stride + x_from + column));
}

// factor x + shift
extern "C" __global__ void affine(float *out, const float *x, float factor, float shift, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = fmaf(factor, x[i], shift);
}

#define EXPORT(V)                                                                                  \
    extern "C" __global__ void slopes_##V(float *out, const float *grad, const float *x,           \
                                          i64 count, int activation) {                             \
        slopes<V>(out, grad, x, count, activation);                                                \
    }                                                                                              \
    extern "C" __global__ void gate_slopes_##V(float *out, const float *grad, Factor a, Factor b,  \
                                               i64 rows, int width, int total) {                   \
        gate_slopes<V>(out, grad, a, b, rows, width, total);                                       \
    }                                                                                              \
    extern "C" __global__ void glu_slopes_##V(float *out, const float *grad, const float *x,       \
                                              i64 rows, int width) {                               \
        glu_slopes<V>(out, grad, x, rows, width);                                                  \
    }                                                                                              \
    extern "C" __global__ void rms_norm_slopes_##V(float *out, float *scales, const float *grad,   \
                                                   const float *x, const float *weight, i64 rows,  \
                                                   int width, float inside, float outside) {       \
        rms_norm_slopes<V>(out, scales, grad, x, weight, rows, width, inside, outside);            \
    }                                                                                              \
    extern "C" __global__ void layer_norm_slopes_##V(                                              \
        float *out, float *means, float *scales, const float *grad, const float *x,                \
        const float *weight, i64 rows, int width, float eps) {                                     \
        layer_norm_slopes<V>(out, means, scales, grad, x, weight, rows, width, eps);               \
    }                                                                                              \
    extern "C" __global__ void copy_columns_##V(float *out, const float *x, i64 rows, i64 width,   \
                                                i64 out_stride, i64 out_from, i64 x_stride,        \
                                                i64 x_from) {                                      \
        copy_columns<V>(out, x, rows, width, out_stride, out_from, x_stride, x_from);              \
    }
EXPORT(1)
EXPORT(4)
