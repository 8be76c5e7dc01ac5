// The gated long convolution of what a short one of 3 taps gives of `u`, which is convolved as it is
// read: x0, x1 and x2 are never stored. Behind tiles.cu.

// x0, x1 and x2 as a short convolution of 3 taps gives them, from what it reads: (rows, 3C).
struct Short {
    const bf16 *u;
    const float *weight, *bias; // (3, 3C) and (3C)
    i64 width;                  // 3C
};

// The first row of a segment, and the two rows before it: (2, 3C), or none.
struct Before { i64 row; const float *rows; };

// Tiles of what a short convolution gives: STRIP rows, of which a thread has RUN of V channels at a
// time, and reads two more. In shared memory a channel's runs trade places so that threads of
// neighbouring channels meet different banks.
enum { STRIP = 128, RUN = 4 };
template <typename S> struct alignas(16) Strip {
    S rows[WIDE][STRIP];
    __device__ __forceinline__ S *run(int row, int c) {
        return rows[c] + ((row / RUN) ^ (c / 4)) * RUN;
    }
};

// Column `column` of rows from `row` on. Those from `end` on are not read.
template <int V>
__device__ __forceinline__ void convolve(Values<V> (&y)[RUN], const Short &s, const Before &before,
                                         i64 row, i64 end, i64 column) {
    Values<V> x[RUN + 2], w[3];
    const bf16 *u = s.u + (row - 2) * s.width + column;
    if (row - 2 >= before.row && row + RUN <= end) {
#pragma unroll
        for (int j = 0; j < RUN + 2; j++) x[j] = load<V>(u + j * s.width);
    } else {
#pragma unroll
        for (int j = 0; j < RUN + 2; j++) {
            const i64 at = row + j - 2, back = at - before.row;
            x[j] = Values<V>();
            if (back >= 0 && at < end) x[j] = load<V>(u + j * s.width);
            if (before.rows && back < 0 && back >= -2)
                x[j] = load<V>(before.rows + (back + 2) * s.width + column);
        }
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

// f(row, channel) for RUN rows from `row` on of V neighbouring channels; neighbouring threads have
// neighbouring channels.
template <int V, class F> __device__ __forceinline__ void by_run(i64 rows, int columns, F f) {
    const int c = threadIdx.x % (WIDE / V) * V;
#pragma unroll 1
    for (int j = threadIdx.x / (WIDE / V) * RUN; j < STRIP; j += THREADS * V / WIDE * RUN)
        if (j < rows && c < columns) f(j, c);
}

// f(row, channel) for RUN rows of a channel; neighbouring threads have neighbouring rows.
template <class F> __device__ __forceinline__ void along_run(i64 rows, int columns, F f) {
    const int j = threadIdx.x % (STRIP / RUN) * RUN;
#pragma unroll 4
    for (int c = threadIdx.x / (STRIP / RUN); c < WIDE; c += THREADS * RUN / STRIP)
        if (j < rows && c < columns) f(j, c);
}

// v = x1 x2 of RUN rows into the strip.
template <int V, typename S>
__device__ __forceinline__ void gate(Strip<S> &strip, const Short &s, const Before &before, i64 row,
                                     i64 end, int channels, int channel, int j, int c) {
    Values<V> x1[RUN], x2[RUN];
    convolve<V>(x1, s, before, row, end, channels + channel);
    convolve<V>(x2, s, before, row, end, 2 * channels + channel);
#pragma unroll
    for (int i = 0; i < V; i++) {
        Values<RUN> v;
#pragma unroll
        for (int k = 0; k < RUN; k++) v.x[k] = x1[k].x[i] * x2[k].x[i];
        store(strip.run(j, c + i), v);
    }
}

__device__ __forceinline__ Before before(const Piece &p, const float *tails, i64 width) {
    return {p.begin, p.lane == NO_LANE ? nullptr : tails + (i64)p.lane * 2 * width};
}

// As load_inputs.
template <int V, typename S>
__device__ void load_convolved(Strip<S> &strip, S *signals, const Short &u, const float *tails,
                               const Piece *pieces, int channels, int first, int count, i64 size,
                               i64 stride) {
    const Spot s = spot<STRIP>(size, count);
    const Piece p = pieces[s.index];
    const i64 outside = (i64)p.past - p.inside, used = (i64)p.past + p.len - p.zeros;
    const i64 end = (i64)p.row + p.len - p.zeros;
    by_run<V>(s.rows, s.columns, [&](int j, int c) {
        const i64 i = s.from + j;
        if (i + RUN <= outside || i >= used) return;
        gate<V>(strip, u, before(p, tails, u.width), p.row + i - p.past, end, channels,
                first + s.column + c, j, c);
    });
    __syncthreads();
    along_run(s.rows, s.columns, [&](int j, int c) {
        const i64 i = s.from + j;
        Values<RUN> v = {};
        if (i + RUN > outside && i < used) v = load<RUN>(strip.run(j, c));
        if (i < outside || i + RUN > used)
#pragma unroll
            for (int k = 0; k < RUN; k++) {
                if (i + k < outside) v.x[k] = past_value(p, i + k, first + s.column + c);
                if (i + k >= used) v.x[k] = 0.0f;
            }
        store(signals + (s.index * count + s.column + c) * stride + i, v);
    });
}

// As store_outputs, without a bias: x0 y. The past's length is a multiple of RUN.
template <int V, typename S>
__device__ void store_convolved(Strip<S> &strip, bf16 *out, const S *signals, const Short &u,
                                const float *tails, const Piece *pieces, int channels, int first,
                                int count, i64 longest, i64 stride) {
    const Spot s = spot<STRIP>(longest, count);
    const Piece p = pieces[s.index];
    const i64 len = (i64)p.len - p.zeros;
    if (s.from >= len) return;
    along_run(len - s.from, s.columns, [&](int j, int c) {
        const S *from = signals + (s.index * count + s.column + c) * stride + p.past + s.from;
        store(strip.run(j, c), load<RUN>(from + j));
    });
    __syncthreads();
    by_run<V>(len - s.from, s.columns, [&](int j, int column) {
        const i64 row = (i64)p.row + s.from + j;
        const int c = first + s.column + column;
        Values<V> x[RUN];
        convolve<V>(x, u, before(p, tails, u.width), row, p.row + len, c);
#pragma unroll
        for (int i = 0; i < V; i++) {
            const Values<RUN> y = load<RUN>(strip.run(j, column + i));
#pragma unroll
            for (int k = 0; k < RUN; k++) x[k].x[i] *= y.x[k];
        }
#pragma unroll
        for (int k = 0; k < RUN; k++)
            if (s.from + j + k < len) store(out + (row + k) * channels + c, x[k]);
    });
}

// As keep_past, of a segment that begins behind the rows `before`.
template <int V>
__device__ void keep_convolved(Strip<float> &strip, float *ring, const Short &u,
                               const Before &before, int channels, i64 row, i64 kept, i64 slot,
                               i64 capacity) {
    const Spot s = spot<STRIP>(kept, channels);
    by_run<V>(s.rows, s.columns, [&](int j, int c) {
        gate<V>(strip, u, before, row + s.from + j, row + kept, channels, s.column + c, j, c);
    });
    __syncthreads();
    const int j = threadIdx.x % STRIP;
#pragma unroll 4
    for (int c = threadIdx.x / STRIP; c < WIDE; c += THREADS / STRIP)
        if (j < s.rows && c < s.columns)
            ring[(i64)(s.column + c) * capacity + wrapped(slot + s.from + j, capacity)] =
                strip.run(j, c)[j % RUN];
}

#define CONVOLVED(S)                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS, 4)                                       \
        load_inputs_##S##_short(S *signals, const bf16 *u, const float *weight, const float *bias, \
                                const float *tails, const float *, const Piece *pieces,            \
                                int channels, int first, int count, i64 size, i64 stride) {        \
        __shared__ Strip<S> strip;                                                                 \
        const Short all = {u, weight, bias, (i64)3 * channels};                                    \
        if (by_four(channels, first, count))                                                       \
            load_convolved<4>(strip, signals, all, tails, pieces, channels, first, count, size,    \
                              stride);                                                             \
        else                                                                                       \
            load_convolved<1>(strip, signals, all, tails, pieces, channels, first, count, size,    \
                              stride);                                                             \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS, 4) store_outputs_##S##_short_bf16(       \
        bf16 *out, float *, const S *signals, const bf16 *u, const float *weight,                  \
        const float *bias, const float *tails, const float *, const Piece *pieces, int channels,   \
        int first, int count, i64 longest, i64 stride) {                                           \
        __shared__ Strip<S> strip;                                                                 \
        const Short all = {u, weight, bias, (i64)3 * channels};                                    \
        if (by_four(channels, first, count))                                                       \
            store_convolved<4>(strip, out, signals, all, tails, pieces, channels, first, count,    \
                               longest, stride);                                                   \
        else                                                                                       \
            store_convolved<1>(strip, out, signals, all, tails, pieces, channels, first, count,    \
                               longest, stride);                                                   \
    }
CONVOLVED(f32)
CONVOLVED(bf16)

// `tails` (lanes, 2, 3C), or none for a segment that starts a sequence.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    keep_past_short(float *ring, const bf16 *u, const float *weight, const float *bias,
                    const float *tails, int channels, i64 row, i64 kept, i64 slot, i64 capacity,
                    i64 begin, i64 lane) {
    __shared__ Strip<float> strip;
    const Short all = {u, weight, bias, (i64)3 * channels};
    const Before rows = {begin, lane < 0 ? nullptr : tails + lane * 2 * all.width};
    if (by_four(channels, 0, 0))
        keep_convolved<4>(strip, ring, all, rows, channels, row, kept, slot, capacity);
    else
        keep_convolved<1>(strip, ring, all, rows, channels, row, kept, slot, capacity);
}
