// Runs of rows brought together.

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

extern "C" __global__ void pool_1(float *out, const float *x, const uint2 *runs, i64 count,
                                  int width, int how) {
    pool<1>(out, x, runs, count, width, how);
}
extern "C" __global__ void pool_4(float *out, const float *x, const uint2 *runs, i64 count,
                                  int width, int how) {
    pool<4>(out, x, runs, count, width, how);
}
