// The gated linear unit with a residual, and its gradient.

// residual + a sigmoid(b), the halves of each row of x.
template <int V, typename E>
__device__ void glu(float *out, const E *x, const float *residual, i64 rows, int width) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= rows * width) return;
    i64 row;
    int column;
    place(i, width, row, column);
    const E *at = x + row * 2 * width + column;
    Values<V> a = load<V>(at), b = load<V>(at + width), r = load<V>(residual + i);
    for (int j = 0; j < V; j++) a.x[j] = r.x[j] + a.x[j] * sigmoid(b.x[j]);
    store(out + i, a);
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

// Named for the type of x.
#define EXPORT(V, E)                                                                               \
    extern "C" __global__ void glu_##E##_##V(float *out, const E *x, const float *residual,        \
                                             i64 rows, int width) {                                \
        glu<V>(out, x, residual, rows, width);                                                     \
    }
EXPORT(1, f32)
EXPORT(4, f32)
EXPORT(1, bf16)
EXPORT(4, bf16)

#define EXPORT_SLOPES(V)                                                                           \
    extern "C" __global__ void glu_slopes_##V(float *out, const float *grad, const float *x,       \
                                              i64 rows, int width) {                               \
        glu_slopes<V>(out, grad, x, rows, width);                                                  \
    }
EXPORT_SLOPES(1)
EXPORT_SLOPES(4)
