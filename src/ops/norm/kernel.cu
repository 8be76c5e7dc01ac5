// Norms of rows, one warp a row, and their gradients.

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
template <int V, typename G, typename E>
__device__ void gated_rms_norm(E *out, const float *y, const G *gate, const float *weight, i64 parts,
                               int width, int groups, float eps) {
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

// One warp for each of the `groups` parts of a row: to y and the gate, and what each row gives to the
// weight.
template <int V>
__device__ void gated_rms_norm_slopes(float *to_y, float *to_gate, float *terms, const float *grad,
                                      const float *y, const float *gate, const float *weight,
                                      i64 parts, int width, int groups, float eps) {
    i64 part = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (part >= parts) return;
    int lane = threadIdx.x % 32 * V;
    i64 from = part * width;
    weight += part % groups * width;
    float square = 0.0f, dot = 0.0f;
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(y + from + i), z = load<V>(gate + from + i);
        Values<V> g = load<V>(grad + from + i), w = load<V>(weight + i);
        for (int j = 0; j < V; j++) {
            float x = v.x[j] * silu(z.x[j]);
            square += x * x;
            dot += x * g.x[j] * w.x[j];
        }
    }
    float root = sqrtf(warp_sum(square) / width + eps);
    float scale = 1.0f / root;
    float tilt = warp_sum(dot) * scale * scale / (width * fmaxf(root, 1.17549435e-38f));
    for (int i = lane; i < width; i += 32 * V) {
        Values<V> v = load<V>(y + from + i), z = load<V>(gate + from + i);
        Values<V> g = load<V>(grad + from + i), w = load<V>(weight + i);
        for (int j = 0; j < V; j++) {
            float open = silu(z.x[j]), x = v.x[j] * open;
            float slope = scale * g.x[j] * w.x[j] - tilt * x;
            w.x[j] = g.x[j] * x * scale;
            g.x[j] = slope * v.x[j] * silu_slope(z.x[j]);
            v.x[j] = slope * open;
        }
        store(to_y + from + i, v);
        store(to_gate + from + i, g);
        store(terms + from + i, w);
    }
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

#define EXPORT(V, E, S)                                                                            \
    extern "C" __global__ void layer_norm_##E##_##V(S *out, const float *x, const float *weight,   \
                                                    const float *bias, i64 rows, int width,        \
                                                    float eps) {                                   \
        layer_norm<V>(out, x, weight, bias, rows, width, eps);                                     \
    }                                                                                              \
    extern "C" __global__ void rms_norm_##E##_##V(S *out, const float *x, const float *weight,     \
                                                  i64 rows, int width, float inside,               \
                                                  float outside) {                                 \
        rms_norm<V>(out, x, weight, rows, width, inside, outside);                                 \
    }
EXPORT(1, f32, float)
EXPORT(4, f32, float)
EXPORT(1, bf16, bf16)
EXPORT(4, bf16, bf16)

// Named for the types of the gate and of what is written.
#define EXPORT_GATED(V, G, E)                                                                      \
    extern "C" __global__ void gated_rms_norm_##G##_##E##_##V(                                     \
        E *out, const float *y, const G *gate, const float *weight, i64 parts, int width,          \
        int groups, float eps) {                                                                   \
        gated_rms_norm<V>(out, y, gate, weight, parts, width, groups, eps);                        \
    }
#define EXPORT_GATES(G)                                                                            \
    EXPORT_GATED(1, G, f32) EXPORT_GATED(4, G, f32) EXPORT_GATED(1, G, bf16)                       \
    EXPORT_GATED(4, G, bf16)
EXPORT_GATES(f32)
EXPORT_GATES(bf16)

#define EXPORT_SLOPES(V)                                                                           \
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
    extern "C" __global__ void gated_rms_norm_slopes_##V(                                          \
        float *to_y, float *to_gate, float *terms, const float *grad, const float *y,              \
        const float *gate, const float *weight, i64 parts, int width, int groups, float eps) {     \
        gated_rms_norm_slopes<V>(to_y, to_gate, terms, grad, y, gate, weight, parts, width,        \
                                 groups, eps);                                                     \
    }
EXPORT_SLOPES(1)
EXPORT_SLOPES(4)
