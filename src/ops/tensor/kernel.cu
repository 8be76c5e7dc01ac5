// Values one by one, and columns from one place to another.

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

// Of each `len` entries of `inner` values the last one first.
extern "C" __global__ void flip(float *out, const float *x, int len, int inner, i64 count) {
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const i64 entry = i >> 32 ? i / inner : (u32)i / (u32)inner;
    const int at = (int)(entry >> 32 ? entry % len : (u32)entry % (u32)len);
    out[i] = x[i + (len - 1 - 2 * (i64)at) * inner];
}

// factor x + shift
extern "C" __global__ void affine(float *out, const float *x, float factor, float shift, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = fmaf(factor, x[i], shift);
}

extern "C" __global__ void to_f32(float *out, const bf16 *x, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = load(x + i);
}

#define EXPORT(V, E, S)                                                                            \
    extern "C" __global__ void epilogue_##E##_##V(S *out, const float *x, const float *bias,       \
                                                  const float *residual, i64 count, int width,     \
                                                  int activation) {                                \
        epilogue<V>(out, x, bias, residual, count, width, activation);                             \
    }
EXPORT(1, f32, float)
EXPORT(4, f32, float)
EXPORT(1, bf16, bf16)
EXPORT(4, bf16, bf16)

#define EXPORT_COPY(V)                                                                             \
    extern "C" __global__ void copy_columns_##V(float *out, const float *x, i64 rows, i64 width,   \
                                                i64 out_stride, i64 out_from, i64 x_stride,        \
                                                i64 x_from) {                                      \
        copy_columns<V>(out, x, rows, width, out_stride, out_from, x_stride, x_from);              \
    }
EXPORT_COPY(1)
EXPORT_COPY(4)
