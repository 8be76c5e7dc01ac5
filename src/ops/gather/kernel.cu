// Rows picked by index, and what their gradient is a product with.

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

// Rows (count, width) that are 1 at an index each, 0 elsewhere.
extern "C" __global__ void one_hot(float *out, const u32 *indices, i64 count, int width) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count * width) return;
    i64 row;
    int column;
    place(i, width, row, column);
    out[i] = indices[row] == column ? 1.0f : 0.0f;
}

extern "C" __global__ void gather_1(float *out, const float *table, const u32 *indices, i64 count,
                                    int width) {
    gather<1>(out, table, indices, count, width);
}
extern "C" __global__ void gather_4(float *out, const float *table, const u32 *indices, i64 count,
                                    int width) {
    gather<4>(out, table, indices, count, width);
}
