// The gated long convolution around its FFTs: rows of a step to signals of channels and back.
//
// Its gradients are correlations: with d = grad x0, v gets sum over t of k[t - s] d[t], and tap j
// sum over t of d[t] v[t - j]. Both are one spectrum, that of d, times a conjugate one.

// One stretch of rows that one FFT of each channel takes: `past` inputs before it, then `len` new
// ones. Of the past, `inside` inputs are rows of this step, the others lie in the lane's ring. The
// gradients to these rows come from `ahead` more rows, too. The last `zeros` of past and new inputs
// lie beyond the segment: of those rows only sums are wanted, from row `sums` of theirs on.
struct Piece {
    const float *ring; // (C, capacity)
    u32 row, len, past, inside;
    u32 slot, capacity; // where the first of the past lies in the ring
    u32 ahead, zeros, sums;
    u32 begin, lane; // the segment's first row, and its lane where it has not started here
    u32 blank;       // of the past, values that no filter reaches: zeros, up to a multiple of 4
};
enum { NO_LANE = 0xffffffffu };

// A branch of `len` rows beside those of the segment that it leaves, of which there are `shared`,
// and their sums.
struct Beside { u32 row, len, beside, shared, sums, unused[9]; };

// Tiles of rows and channels lie between memory in which channels are neighbours and signals, in
// which rows are. Of tiles of 32, 64 and 128 these are the fastest, eight blocks at a time.
enum { SIDE = 64, WIDE = 64, THREADS = 256 };
typedef float Matrix[SIDE][WIDE + 1];

// Where a block's tile lies: from row `from` of signal `index` and from channel `column` on.
struct Spot {
    i64 from, index, rows;
    int column, columns;
};

// The block's tile, of `LENGTH` rows, of signals of so many rows and channels each.
template <int LENGTH = SIDE> __device__ __forceinline__ Spot spot(i64 rows, int channels) {
    const u32 spans = (rows + LENGTH - 1) / LENGTH, wide = (channels + WIDE - 1) / WIDE;
    // Neighbouring blocks have neighbouring channels: parts of the same rows in memory.
    const int column = blockIdx.x % wide * WIDE;
    const i64 from = (i64)(blockIdx.x / wide % spans) * LENGTH;
    return {from, blockIdx.x / wide / spans, rows - from, column, channels - column};
}

// f(row, channel) for V neighbouring channels of each of the tile's first rows; neighbouring threads
// have neighbouring channels.
template <int V, class F> __device__ __forceinline__ void by_row(i64 rows, int columns, F f) {
    const int c = threadIdx.x % (WIDE / V) * V;
#pragma unroll
    for (int j = threadIdx.x / (WIDE / V); j < SIDE; j += THREADS * V / WIDE)
        if (j < rows && c < columns) f(j, c);
}

// f(row, channel); neighbouring threads have neighbouring rows.
template <class F> __device__ __forceinline__ void by_channel(i64 rows, int columns, F f) {
    const int j = threadIdx.x % SIDE;
#pragma unroll
    for (int c = threadIdx.x / SIDE; c < WIDE; c += THREADS / SIDE)
        if (j < rows && c < columns) f(j, c);
}

// Writes f(row, channel) of the tile's rows to signals, in which their number is a multiple of 4.
template <typename S, class F>
__device__ __forceinline__ void put(S *signals, const Spot &s, int count, i64 stride, F f) {
    const int j = threadIdx.x % (SIDE / 4) * 4;
#pragma unroll
    for (int c = threadIdx.x / (SIDE / 4); c < WIDE; c += THREADS / (SIDE / 4))
        if (j < s.rows && c < s.columns)
            store(signals + (s.index * count + s.column + c) * stride + s.from + j,
                  Values<4>{{f(j, c), f(j + 1, c), f(j + 2, c), f(j + 3, c)}});
}

// v = x1 x2 of V channels
template <int V, typename E>
__device__ __forceinline__ Values<V> gated(const E *x, i64 row, int channels, int c) {
    const E *at = x + row * 3 * channels + c;
    Values<V> v = load<V>(at + channels);
    const Values<V> x2 = load<V>(at + 2 * channels);
#pragma unroll
    for (int i = 0; i < V; i++) v.x[i] *= x2.x[i];
    return v;
}

// A slot less than twice the capacity.
__device__ __forceinline__ i64 wrapped(i64 slot, i64 capacity) {
    return slot < capacity ? slot : slot - capacity;
}

// d = grad x0
__device__ __forceinline__ float slope(const float *x, const float *grad, i64 row, int channels,
                                       int c) {
    return grad[row * channels + c] * x[row * 3 * channels + c];
}

// Value i of a piece's past, which lies in its lane's ring, of channel `row`.
__device__ __forceinline__ float past_value(const Piece &p, i64 i, i64 row) {
    if (i < p.blank) return 0.0f;
    return p.ring[row * p.capacity + wrapped(p.slot + i - p.blank, p.capacity)];
}

// The signals (pieces, channels, stride) of `count` channels from `first` on: past, new inputs,
// zeros up to `size`.
template <int V, typename S, typename E>
__device__ void load_inputs(Matrix &tile, S *signals, const E *x, const Piece *pieces,
                            int channels, int first, int count, i64 size, i64 stride) {
    const Spot s = spot(size, count);
    const Piece p = pieces[s.index];
    const i64 outside = (i64)p.past - p.inside, used = (i64)p.past + p.len - p.zeros;
    by_row<V>(s.rows, s.columns, [&](int j, int c) {
        const i64 i = s.from + j;
        if (i < outside || i >= used) return;
        const Values<V> v = gated<V>(x, p.row + i - p.past, channels, first + s.column + c);
#pragma unroll
        for (int k = 0; k < V; k++) tile[j][c + k] = v.x[k];
    });
    __syncthreads();
    put(signals, s, count, stride, [&](int j, int c) {
        const i64 i = s.from + j;
        if (i < outside) return past_value(p, i, first + s.column + c);
        return i < used ? tile[j][c] : 0.0f;
    });
}

// d in the place of v, zeros for the past, and the rows ahead.
extern "C" __global__ void load_slopes_f32_f32(float *signals, const float *x, const float *grad,
                                           const Piece *pieces, int channels, int first, int count,
                                           i64 size, i64 stride) {
    __shared__ Matrix tile;
    const Spot s = spot(size, count);
    const Piece p = pieces[s.index];
    const i64 used = (i64)p.past + p.len - p.zeros + p.ahead;
    by_row<1>(s.rows, s.columns, [&](int j, int c) {
        const i64 i = s.from + j;
        if (i >= p.past && i < used)
            tile[j][c] = slope(x, grad, p.row + i - p.past, channels, first + s.column + c);
    });
    __syncthreads();
    put(signals, s, count, stride, [&](int j, int c) {
        const i64 i = s.from + j;
        return i >= p.past && i < used ? tile[j][c] : 0.0f;
    });
}

// The convolved signals' values behind `skip` others, into the tile.
template <typename S>
__device__ __forceinline__ void fetch(Matrix &tile, const S *signals, const Spot &s, i64 rows,
                                      i64 skip, int count, i64 stride) {
    by_channel(rows - s.from, s.columns, [&](int j, int c) {
        tile[j][c] = load(signals + (s.index * count + s.column + c) * stride + skip + s.from + j);
    });
    __syncthreads();
}

// x0 (y + bias v), y being the signals after the convolution; y + bias v itself to `sums`, if given.
// Without a bias it is in the filters.
template <int V, typename E, typename X, typename S>
__device__ void store_outputs(Matrix &tile, E *out, float *sums, const S *signals, const X *x,
                              const float *bias, const Piece *pieces, int channels, int first,
                              int count, i64 longest, i64 stride) {
    const Spot s = spot(longest, count);
    const Piece p = pieces[s.index];
    const i64 len = (i64)p.len - p.zeros;
    if (s.from >= len) return;
    fetch(tile, signals, s, len, p.past, count, stride);
    by_row<V>(len - s.from, s.columns, [&](int j, int column) {
        const i64 row = (i64)p.row + s.from + j;
        const int c = first + s.column + column;
        Values<V> v, b;
        if (bias) v = gated<V>(x, row, channels, c), b = load<V>(bias + c);
        Values<V> y = load<V>(x + row * 3 * channels + c);
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float sum = tile[j][column + k] + (bias ? b.x[k] * v.x[k] : 0.0f);
            if (sums) sums[row * channels + c + k] = sum;
            y.x[k] *= sum;
        }
        store(out + row * channels + c, y);
    });
}

// The sums of pieces, and of the rows beyond their segments: (rows, C).
template <typename S>
__device__ void store_sums(Matrix &tile, float *out, const S *signals, const Piece *pieces,
                           int channels, int first, int count, i64 longest, i64 stride) {
    const Spot s = spot(longest, count);
    const Piece p = pieces[s.index];
    if (s.from >= p.len) return;
    fetch(tile, signals, s, p.len, p.past, count, stride);
    by_row<1>(p.len - s.from, s.columns, [&](int j, int c) {
        out[((i64)p.sums + s.from + j) * channels + first + s.column + c] = tile[j][c];
    });
}

// The signals of branches: their inputs less those of the rows beside them.
template <typename S, typename E>
__device__ void load_differences(Matrix &tile, S *signals, const E *x, const Beside *branches,
                                 int channels, int first, int count, i64 size, i64 stride) {
    const Spot s = spot(size, count);
    const Beside b = branches[s.index];
    by_row<1>(b.len - s.from, s.columns, [&](int j, int column) {
        const i64 i = s.from + j;
        const int c = first + s.column + column;
        const float v = gated<1>(x, b.row + i, channels, c).x[0];
        const bool both = i < b.shared;
        tile[j][column] = both ? v - gated<1>(x, b.beside + i, channels, c).x[0] : v;
    });
    __syncthreads();
    put(signals, s, count, stride, [&](int j, int c) {
        return s.from + j < b.len ? tile[j][c] : 0.0f;
    });
}

// x0 (y + sums + bias v) of branches, y being the differences after the convolution.
template <typename E, typename X, typename S>
__device__ void store_branches(Matrix &tile, E *out, const float *sums, const S *signals,
                               const X *x, const float *bias, const Beside *branches, int channels,
                               int first, int count, i64 longest, i64 stride) {
    const Spot s = spot(longest, count);
    const Beside p = branches[s.index];
    if (s.from >= p.len) return;
    fetch(tile, signals, s, p.len, 0, count, stride);
    by_row<1>(p.len - s.from, s.columns, [&](int j, int column) {
        const i64 i = s.from + j, row = p.row + i;
        const int c = first + s.column + column;
        float y = tile[j][column] + sums[((i64)p.sums + i) * channels + c];
        if (bias) y += bias[c] * gated<1>(x, row, channels, c).x[0];
        store(out + row * channels + c, load(x + row * 3 * channels + c) * y);
    });
}

// The gradients to x (T, 3C), and d v (T, C), from the correlations of d with the taps and from the
// sums y + bias v.
extern "C" __global__ void store_slopes(float *out, float *products, const float *signals,
                                        const float *x, const float *grad, const float *sums,
                                        const float *bias, const Piece *pieces, int channels,
                                        int first, int count, i64 longest, i64 stride) {
    __shared__ Matrix tile;
    const Spot s = spot(longest, count);
    const Piece p = pieces[s.index];
    if (s.from >= p.len) return;
    fetch(tile, signals, s, p.len, p.past, count, stride);
    by_row<1>(p.len - s.from, s.columns, [&](int j, int column) {
        const i64 row = (i64)p.row + s.from + j;
        const int c = first + s.column + column;
        const i64 at = row * 3 * channels + c;
        const float d = slope(x, grad, row, channels, c);
        const float x1 = x[at + channels], x2 = x[at + 2 * channels];
        const float v = tile[j][column] + bias[c] * d;
        out[at] = grad[row * channels + c] * sums[row * channels + c];
        out[at + channels] = v * x2;
        out[at + 2 * channels] = v * x1;
        products[row * channels + c] = d * x1 * x2;
    });
}

// The last `kept` inputs of a segment of `len` rows into the lane's ring, the first of them to
// `slot`.
template <int V, typename E>
__device__ void keep_past(Matrix &tile, float *ring, const E *x, int channels, i64 row, i64 kept,
                          i64 slot, i64 capacity) {
    const Spot s = spot(kept, channels);
    by_row<V>(s.rows, s.columns, [&](int j, int c) {
        const Values<V> v = gated<V>(x, row + s.from + j, channels, s.column + c);
#pragma unroll
        for (int k = 0; k < V; k++) tile[j][c + k] = v.x[k];
    });
    __syncthreads();
    by_channel(s.rows, s.columns, [&](int j, int c) {
        ring[(i64)(s.column + c) * capacity + wrapped(slot + s.from + j, capacity)] = tile[j][c];
    });
}

// Whether four channels can be read at once.
__device__ __forceinline__ bool by_four(int channels, int first, int count) {
    return (channels | first | count) % 4 == 0;
}

// Named for the types of signals, of x, and of what is stored.
#define STORE(S, X, E)                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, 8)                                       \
        store_outputs_##S##_##X##_##E(E *out, float *sums, const S *signals, const X *x,           \
                                      const float *bias, const Piece *pieces, int channels,        \
                                      int first, int count, i64 longest, i64 stride) {             \
        __shared__ Matrix tile;                                                                    \
        if (by_four(channels, first, count))                                                       \
            store_outputs<4>(tile, out, sums, signals, x, bias, pieces, channels, first, count,    \
                             longest, stride);                                                     \
        else                                                                                       \
            store_outputs<1>(tile, out, sums, signals, x, bias, pieces, channels, first, count,    \
                             longest, stride);                                                     \
    }                                                                                              \
    extern "C" __global__ void store_branches_##S##_##X##_##E(                                     \
        E *out, const float *sums, const S *signals, const X *x, const float *bias,                \
        const Beside *branches, int channels, int first, int count, i64 longest, i64 stride) {     \
        __shared__ Matrix tile;                                                                    \
        store_branches(tile, out, sums, signals, x, bias, branches, channels, first, count,        \
                       longest, stride);                                                           \
    }
#define LOAD(S, X)                                                                                 \
    extern "C" __global__ void __launch_bounds__(THREADS, 8)                                       \
        load_inputs_##S##_##X(S *signals, const X *x, const float *, const Piece *pieces,          \
                              int channels, int first, int count, i64 size, i64 stride) {          \
        __shared__ Matrix tile;                                                                    \
        if (by_four(channels, first, count))                                                       \
            load_inputs<4>(tile, signals, x, pieces, channels, first, count, size, stride);        \
        else                                                                                       \
            load_inputs<1>(tile, signals, x, pieces, channels, first, count, size, stride);        \
    }                                                                                              \
    extern "C" __global__ void load_differences_##S##_##X(                                         \
        S *signals, const X *x, const float *, const Beside *branches, int channels, int first,    \
        int count, i64 size, i64 stride) {                                                         \
        __shared__ Matrix tile;                                                                    \
        load_differences(tile, signals, x, branches, channels, first, count, size, stride);        \
    }                                                                                              \
    extern "C" __global__ void store_sums_##S##_##X##_f32(                                         \
        float *out, float *, const S *signals, const X *, const float *, const Piece *pieces,      \
        int channels, int first, int count, i64 longest, i64 stride) {                             \
        __shared__ Matrix tile;                                                                    \
        store_sums(tile, out, signals, pieces, channels, first, count, longest, stride);           \
    }                                                                                              \
    STORE(S, X, f32)                                                                               \
    STORE(S, X, bf16)
#define SIGNALS(S)                                                                                 \
    LOAD(S, f32)                                                                                   \
    LOAD(S, bf16)
#define KEEP(X)                                                                                    \
    extern "C" __global__ void keep_past_##X(float *ring, const X *x, int channels, i64 row,       \
                                             i64 kept, i64 slot, i64 capacity) {                   \
        __shared__ Matrix tile;                                                                    \
        if (by_four(channels, 0, 0))                                                               \
            keep_past<4>(tile, ring, x, channels, row, kept, slot, capacity);                      \
        else                                                                                       \
            keep_past<1>(tile, ring, x, channels, row, kept, slot, capacity);                      \
    }
SIGNALS(f32)
SIGNALS(bf16)
KEEP(f32)
KEEP(bf16)
