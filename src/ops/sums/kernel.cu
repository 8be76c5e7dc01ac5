// Sums in an order that is always the same, so that equal inputs give equal bits.

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
