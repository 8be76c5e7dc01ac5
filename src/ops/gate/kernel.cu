// Products of columns, and their gradient.

// activation(a[:, from_a..]) * b[:, from_b..], rows of a and b strided.
template <int V, typename A, typename B, typename E>
__device__ void gate(E *out, const A *a, const B *b, i64 rows, int width, int stride_a, int from_a,
                     int stride_b, int from_b, int activation) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= rows * width) return;
    i64 row;
    int column;
    place(i, width, row, column);
    Values<V> x = load<V>(a + row * stride_a + from_a + column);
    Values<V> y = load<V>(b + row * stride_b + from_b + column);
    if (activation)
        for (int j = 0; j < V; j++) x.x[j] = activate(x.x[j], activation);
    for (int j = 0; j < V; j++) x.x[j] *= y.x[j];
    store(out + i, x);
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

// Named for the types of a, b and the product.
#define EXPORT(V, A, B, E)                                                                         \
    extern "C" __global__ void gate_##A##_##B##_##E##_##V(                                         \
        E *out, const A *a, const B *b, i64 rows, int width, int stride_a, int from_a,             \
        int stride_b, int from_b, int activation) {                                                \
        gate<V>(out, a, b, rows, width, stride_a, from_a, stride_b, from_b, activation);           \
    }
#define EXPORT_OF(A, B)                                                                            \
    EXPORT(1, A, B, f32) EXPORT(4, A, B, f32) EXPORT(1, A, B, bf16) EXPORT(4, A, B, bf16)
EXPORT_OF(f32, f32)
EXPORT_OF(f32, bf16)
EXPORT_OF(bf16, f32)
EXPORT_OF(bf16, bf16)

#define EXPORT_SLOPES(V)                                                                           \
    extern "C" __global__ void gate_slopes_##V(float *out, const float *grad, Factor a, Factor b,  \
                                               i64 rows, int width, int total) {                   \
        gate_slopes<V>(out, grad, a, b, rows, width, total);                                       \
    }
EXPORT_SLOPES(1)
EXPORT_SLOPES(4)
