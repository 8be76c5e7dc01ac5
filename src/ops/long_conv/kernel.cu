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
    u32 begin, lane, unused; // the segment's first row, and its lane where it has not started here
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

// The block's tile of signals of so many rows and channels each.
__device__ __forceinline__ Spot spot(i64 rows, int channels) {
    const u32 spans = (rows + SIDE - 1) / SIDE, wide = (channels + WIDE - 1) / WIDE;
    // Neighbouring blocks have neighbouring channels: parts of the same rows in memory.
    const int column = blockIdx.x % wide * WIDE;
    const i64 from = (i64)(blockIdx.x / wide % spans) * SIDE;
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

template <typename S>
__device__ __forceinline__ void put_inputs(const Matrix &tile, S *signals, const Spot &s,
                                           const Piece &p, int first, int count, i64 stride) {
    const i64 outside = (i64)p.past - p.inside, used = (i64)p.past + p.len - p.zeros;
    put(signals, s, count, stride, [&](int j, int c) {
        const i64 i = s.from + j;
        if (i >= outside) return i < used ? tile[j][c] : 0.0f;
        const i64 row = first + s.column + c;
        return p.ring[row * p.capacity + wrapped(p.slot + i, p.capacity)];
    });
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
    put_inputs(tile, signals, s, p, first, count, stride);
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

__device__ __forceinline__ void put_past(const Matrix &tile, float *ring, const Spot &s, i64 slot,
                                         i64 capacity) {
    by_channel(s.rows, s.columns, [&](int j, int c) {
        ring[(i64)(s.column + c) * capacity + wrapped(slot + s.from + j, capacity)] = tile[j][c];
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
    put_past(tile, ring, s, slot, capacity);
}

// x0, x1 and x2 as a short convolution of 3 taps gives them, from what it reads: (rows, 3C).
struct Short {
    const bf16 *u;
    const float *weight, *bias; // (3, 3C) and (3C)
    i64 width;                  // 3C
};

// The first row of a segment, and the two rows before it: (2, 3C), or none.
struct Before { i64 row; const float *rows; };

// Rows of V channels that a thread convolves: two more are read.
enum { RUN = 4 };

// Column `column` of rows from `row` on. Those from `end` on are not read.
template <int V>
__device__ __forceinline__ void convolve(Values<V> (&y)[RUN], const Short &s, const Before &before,
                                         i64 row, i64 end, i64 column) {
    Values<V> x[RUN + 2], w[3];
#pragma unroll
    for (int j = 0; j < RUN + 2; j++) {
        const i64 at = row + j - 2, back = at - before.row;
        x[j] = Values<V>();
        if (back >= 0 && at < end) x[j] = load<V>(s.u + at * s.width + column);
        if (before.rows && back < 0 && back >= -2)
            x[j] = load<V>(before.rows + (back + 2) * s.width + column);
    }
    const Values<V> b = load<V>(s.bias + column);
#pragma unroll
    for (int j = 0; j < 3; j++) w[j] = load<V>(s.weight + j * s.width + column);
#pragma unroll
    for (int j = 0; j < RUN; j++)
#pragma unroll
        for (int i = 0; i < V; i++) {
            const float first = fmaf(x[j].x[i], w[0].x[i], b.x[i]);
            y[j].x[i] = fmaf(x[j + 2].x[i], w[2].x[i], fmaf(x[j + 1].x[i], w[1].x[i], first));
        }
}

// f(row, channel) for RUN rows from `row` on of V neighbouring channels.
template <int V, class F> __device__ __forceinline__ void by_run(i64 rows, int columns, F f) {
    const int c = threadIdx.x % (WIDE / V) * V;
#pragma unroll 1
    for (int j = threadIdx.x / (WIDE / V) * RUN; j < SIDE; j += THREADS * V / WIDE * RUN)
        if (j < rows && c < columns) f(j, c);
}

// v = x1 x2 of RUN rows into the tile.
template <int V>
__device__ __forceinline__ void gate(Matrix &tile, const Short &s, const Before &before, i64 row,
                                     i64 end, int channels, int channel, int j, int c) {
    Values<V> x1[RUN], x2[RUN];
    convolve<V>(x1, s, before, row, end, channels + channel);
    convolve<V>(x2, s, before, row, end, 2 * channels + channel);
#pragma unroll
    for (int k = 0; k < RUN; k++)
#pragma unroll
        for (int i = 0; i < V; i++) tile[j + k][c + i] = x1[k].x[i] * x2[k].x[i];
}

__device__ __forceinline__ Before before(const Piece &p, const float *tails, i64 width) {
    return {p.begin, p.lane == NO_LANE ? nullptr : tails + (i64)p.lane * 2 * width};
}

// As load_inputs.
template <int V, typename S>
__device__ void load_convolved(Matrix &tile, S *signals, const Short &u, const float *tails,
                               const Piece *pieces, int channels, int first, int count, i64 size,
                               i64 stride) {
    const Spot s = spot(size, count);
    const Piece p = pieces[s.index];
    const i64 outside = (i64)p.past - p.inside, used = (i64)p.past + p.len - p.zeros;
    const i64 end = (i64)p.row + p.len - p.zeros;
    by_run<V>(s.rows, s.columns, [&](int j, int c) {
        const i64 i = s.from + j;
        if (i + RUN <= outside || i >= used) return;
        gate<V>(tile, u, before(p, tails, u.width), p.row + i - p.past, end, channels,
                first + s.column + c, j, c);
    });
    __syncthreads();
    put_inputs(tile, signals, s, p, first, count, stride);
}

// As store_outputs, without a bias: x0 y.
template <int V, typename S>
__device__ void store_convolved(Matrix &tile, bf16 *out, const S *signals, const Short &u,
                                const float *tails, const Piece *pieces, int channels, int first,
                                int count, i64 longest, i64 stride) {
    const Spot s = spot(longest, count);
    const Piece p = pieces[s.index];
    const i64 len = (i64)p.len - p.zeros;
    if (s.from >= len) return;
    fetch(tile, signals, s, len, p.past, count, stride);
    by_run<V>(len - s.from, s.columns, [&](int j, int column) {
        const i64 row = (i64)p.row + s.from + j;
        const int c = first + s.column + column;
        Values<V> y[RUN];
        convolve<V>(y, u, before(p, tails, u.width), row, p.row + len, c);
#pragma unroll
        for (int k = 0; k < RUN; k++) {
            if (s.from + j + k >= len) break;
#pragma unroll
            for (int i = 0; i < V; i++) y[k].x[i] *= tile[j + k][column + i];
            store(out + (row + k) * channels + c, y[k]);
        }
    });
}

// As keep_past, of a segment that begins behind the rows `before`.
template <int V>
__device__ void keep_convolved(Matrix &tile, float *ring, const Short &u, const Before &before,
                               int channels, i64 row, i64 kept, i64 slot, i64 capacity) {
    const Spot s = spot(kept, channels);
    by_run<V>(s.rows, s.columns, [&](int j, int c) {
        gate<V>(tile, u, before, row + s.from + j, row + kept, channels, s.column + c, j, c);
    });
    __syncthreads();
    put_past(tile, ring, s, slot, capacity);
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
#define CONVOLVED(S)                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS, 4)                                       \
        load_inputs_##S##_short(S *signals, const bf16 *u, const float *weight, const float *bias, \
                                const float *tails, const float *, const Piece *pieces,            \
                                int channels, int first, int count, i64 size, i64 stride) {        \
        __shared__ Matrix tile;                                                                    \
        const Short all = {u, weight, bias, (i64)3 * channels};                                    \
        if (by_four(channels, first, count))                                                       \
            load_convolved<4>(tile, signals, all, tails, pieces, channels, first, count, size,     \
                              stride);                                                             \
        else                                                                                       \
            load_convolved<1>(tile, signals, all, tails, pieces, channels, first, count, size,     \
                              stride);                                                             \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS, 4) store_outputs_##S##_short_bf16(       \
        bf16 *out, float *, const S *signals, const bf16 *u, const float *weight,                  \
        const float *bias, const float *tails, const float *, const Piece *pieces, int channels,   \
        int first, int count, i64 longest, i64 stride) {                                           \
        __shared__ Matrix tile;                                                                    \
        const Short all = {u, weight, bias, (i64)3 * channels};                                    \
        if (by_four(channels, first, count))                                                       \
            store_convolved<4>(tile, out, signals, all, tails, pieces, channels, first, count,     \
                               longest, stride);                                                   \
        else                                                                                       \
            store_convolved<1>(tile, out, signals, all, tails, pieces, channels, first, count,     \
                               longest, stride);                                                   \
    }
SIGNALS(f32)
SIGNALS(bf16)
KEEP(f32)
KEEP(bf16)
CONVOLVED(f32)
CONVOLVED(bf16)

// `tails` (lanes, 2, 3C), or none for a segment that starts a sequence.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    keep_past_short(float *ring, const bf16 *u, const float *weight, const float *bias,
                    const float *tails, int channels, i64 row, i64 kept, i64 slot, i64 capacity,
                    i64 begin, i64 lane) {
    __shared__ Matrix tile;
    const Short all = {u, weight, bias, (i64)3 * channels};
    const Before rows = {begin, lane < 0 ? nullptr : tails + lane * 2 * all.width};
    if (by_four(channels, 0, 0))
        keep_convolved<4>(tile, ring, all, rows, channels, row, kept, slot, capacity);
    else
        keep_convolved<1>(tile, ring, all, rows, channels, row, kept, slot, capacity);
}

// Adds each channel's skip weight to its filter's first tap.
extern "C" __global__ void add_skip(float *taps, const float *bias, i64 channels, i64 stride) {
    const i64 c = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (c < channels) taps[c * stride] += bias[c];
}

// The row of this block, and the place in it of this thread, where `blockDim.x` threads at a time
// cover rows of `width`.
__device__ __forceinline__ i64 row_of_block(i64 width, i64 &at) {
    const u32 spans = (width + blockDim.x - 1) / blockDim.x;
    at = (i64)(blockIdx.x % spans) * blockDim.x + threadIdx.x;
    return blockIdx.x / spans;
}

// Rings (channels, from) into longer ones (channels, to), whose other slots are not read yet.
extern "C" __global__ void lengthen(float *longer, const float *ring, i64 from, i64 to) {
    i64 at;
    const i64 row = row_of_block(from, at);
    if (at < from) longer[row * to + at] = ring[row * from + at];
}

// Signals as one takes them for complex ones of half the size, even and odd values side by side, and
// their FFTs Z: (pieces, channels, stride). In their place those of the signals convolved with the
// filters, of which X itself is given: (channels, stride). Of both ends of a spectrum,
//   E = (Z(k) + Z*(half - k)) / 2, O = (Z(k) - Z*(half - k)) / 2i, w = exp(-pi i k / half),
//   X(k) = E + w O, X*(half - k) = E - w O,
// and back after the product. A block has some pieces.
extern "C" __global__ void multiply(float2 *signals, const float2 *filters, int pieces,
                                    i64 channels, i64 half, i64 stride, float scale) {
    enum { TOGETHER = 8 };
    i64 k;
    const i64 row = row_of_block(half / 2 + 1, k), channel = row % channels;
    const int first = row / channels * TOGETHER;
    if (k > half / 2) return;
    const float2 f = filters[channel * stride + k];
    const float2 g = filters[channel * stride + half - k];
    float sine, cosine;
    sincospif((float)k / (float)half, &sine, &cosine);
#pragma unroll 4
    for (int i = first; i < min(pieces, first + TOGETHER); i++) {
        float2 *signal = signals + (i * channels + channel) * stride;
        const float2 a = signal[k], b = signal[k ? half - k : 0];
        const float er = a.x + b.x, ei = a.y - b.y;  // 2 E
        const float pr = a.y + b.y, pi = b.x - a.x;  // 2 O
        const float wr = cosine * pr + sine * pi, wi = cosine * pi - sine * pr;
        const float xr = er + wr, xi = ei + wi;  // 2 X(k)
        const float vr = er - wr, vi = ei - wi;  // 2 X*(half - k)
        const float yr = xr * f.x - xi * f.y, yi = xr * f.y + xi * f.x;
        const float ur = vr * g.x + vi * g.y, ui = vi * g.x - vr * g.y;
        const float sr = scale * (yr + ur), si = scale * (yi + ui);  // E of the product
        const float dr = scale * (yr - ur), di = scale * (yi - ui);  // w O of the product
        const float hr = cosine * dr - sine * di, hi = cosine * di + sine * dr;
        signal[k] = make_float2(sr - hi, si + hr);
        if (k) signal[half - k] = make_float2(sr + hi, hr - si);
    }
}

// Spectra of d, (pieces, channels, stride), times the conjugates of the filters', (channels,
// stride). Those of d times the conjugates of the inputs', if given, are added to `sums`,
// (channels, stride): piece after piece.
extern "C" __global__ void correlate(float2 *slopes, const float2 *signals, float2 *sums,
                                     const float2 *filters, int pieces, i64 filter, float scale) {
    const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= filter) return;
    const float2 k = filters[at];
    const float re = k.x * scale, im = k.y * scale;
    float2 sum = sums ? sums[at] : make_float2(0.0f, 0.0f);
#pragma unroll 4
    for (int i = 0; i < pieces; i++) {
        const float2 d = slopes[i * filter + at];
        if (sums) {
            const float2 v = signals[i * filter + at];
            sum.x += d.x * v.x + d.y * v.y;
            sum.y += d.y * v.x - d.x * v.y;
        }
        slopes[i * filter + at] = make_float2(d.x * re + d.y * im, d.y * re - d.x * im);
    }
    if (sums) sums[at] = sum;
}

// Adds the first `count` of each of the sums, (channels, stride), to the taps' gradients,
// (channels, taps).
extern "C" __global__ void add_taps(float *to, const float *sums, i64 count, i64 taps, i64 stride,
                                    float scale) {
    i64 at;
    const i64 row = row_of_block(count, at);
    if (at < count) to[row * taps + at] += scale * sums[row * stride + at];
}

// The first `count` of rows of `taps` values with zeros behind them: (channels, stride).
extern "C" __global__ void place_taps(float *out, const float *taps, i64 count, i64 length,
                                      i64 stride) {
    i64 at;
    const i64 row = row_of_block(stride, at);
    if (at < stride) out[row * stride + at] = at < count ? taps[row * length + at] : 0.0f;
}

// The filter network's outputs (channels, stride), times exp(-t decay) + shift; zeros behind.
extern "C" __global__ void modulate(float *out, const float *t, const float *decay, i64 count,
                                    i64 stride, float shift) {
    i64 at;
    const i64 row = row_of_block(stride, at);
    if (at >= stride) return;
    float *k = out + row * stride + at;
    *k = at < count ? *k * (expf(-t[at] * decay[row]) + shift) : 0.0f;
}

// sin(freq (x + bias)) of rows of `width`.
extern "C" __global__ void sine(float *x, const float *bias, const float *freq, i64 count,
                                int width) {
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    i64 row;
    int c;
    place(i, width, row, c);
    x[i] = sinf(freq[c] * (x[i] + bias[c]));
}

// From the gradient to sin(freq inner), inner = x + bias, that to inner in its place, and in the
// place of x what its rows add to that of freq.
extern "C" __global__ void sine_slopes(float *grad, float *x, const float *bias, const float *freq,
                                       i64 count, int width) {
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    i64 row;
    int c;
    place(i, width, row, c);
    const float inner = x[i] + bias[c];
    const float slope = grad[i] * cosf(freq[c] * inner);
    x[i] = slope * inner;
    grad[i] = slope * freq[c];
}
