// Short causal depthwise convolution over packed segments. What it reads in bf16 it writes in bf16;
// the tails of lanes are f32 always.

// V channels of the input `i` places after the segment's start, in the order of reading; before it,
// the rows that a branch branched off, then the lane's tail of K-1 inputs, or zeros where the sequence starts.
template <int V, typename E>
__device__ __forceinline__ Values<V> inputs(const E *x, const float *tail, const Segment &s, i64 i,
                                            int taps, int channels, int c, bool reversed) {
    if (i >= 0) {
        i64 row = reversed ? (i64)s.row + s.len - 1 - i : s.row + i;
        return load<V>(x + row * channels + c);
    }
    i += s.before;
    if (i >= 0) return load<V>(x + (s.origin + i) * channels + c);
    if (s.flags & STARTS) return Values<V>();
    return load<V>(tail + ((i64)s.lane * (taps - 1) + taps - 1 + i) * channels + c);
}
template <typename E>
__device__ __forceinline__ float input(const E *x, const float *tail, const Segment &s, i64 i,
                                       int taps, int channels, int c, bool reversed) {
    return inputs<1>(x, tail, s, i, taps, channels, c, reversed).x[0];
}

// The first place of a tile's rows, in the order of reading.
__device__ __forceinline__ i64 first_place(const Tile &tile, const Segment &s, bool reversed) {
    const i64 from = (i64)tile.row - s.row;
    return reversed ? (i64)s.len - from - tile.len : from;
}

// The row of a place.
__device__ __forceinline__ i64 row_of(const Segment &s, i64 i, bool reversed) {
    return reversed ? (i64)s.row + s.len - 1 - i : s.row + i;
}

// y[t, c] = bias[c] + sum_j weight[j, c] x[t - (K-1) + j, c] for few taps: a thread slides along
// the rows of a tile with V channels.
template <int K, int V, typename E>
__device__ void convolve(E *__restrict__ out, const E *__restrict__ x, const float *__restrict__ tail,
                         const float *__restrict__ weight, const float *__restrict__ bias,
                         const Tile *tiles, const Segment *segments, int count, int channels,
                         int activation, bool reversed) {
    enum { BATCH = 8 };
    const int threads = channels / V;
    i64 index;
    int c;
    place((i64)blockIdx.x * blockDim.x + threadIdx.x, threads, index, c);
    if (index >= count) return;
    c *= V;
    const Tile tile = tiles[index];
    const Segment s = segments[tile.segment];
    const i64 from = first_place(tile, s, reversed), by = reversed ? -channels : channels;
    Values<V> w[K], window[K];
    const Values<V> b = load<V>(bias + c);
#pragma unroll
    for (int j = 0; j < K; j++) w[j] = load<V>(weight + j * channels + c);
#pragma unroll
    for (int j = 0; j < K - 1; j++)
        window[j] = inputs<V>(x, tail, s, from - (K - 1) + j, K, channels, c, reversed);
    i64 at = row_of(s, from, reversed) * channels + c;
    for (u32 done = 0; done < tile.len; done += BATCH, at += BATCH * by) {
        // Loads in front, so that they overlap.
        Values<V> next[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++)
            if (done + i < tile.len) next[i] = load<V>(x + at + i * by);
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            if (done + i >= tile.len) break;
            window[K - 1] = next[i];
            Values<V> y = b;
#pragma unroll
            for (int j = 0; j < K; j++)
                for (int k = 0; k < V; k++) y.x[k] = fmaf(window[j].x[k], w[j].x[k], y.x[k]);
            for (int k = 0; k < V; k++) y.x[k] = activate(y.x[k], activation);
            store(out + at + i * by, y);
#pragma unroll
            for (int j = 0; j < K - 1; j++) window[j] = window[j + 1];
        }
    }
}

// Rows that a thread computes where there are many taps: each value that it loads serves as many.
enum { ROWS = 16 };

// The work of a warp: 32 channels of ROWS rows of a tile. False where there is none.
struct Work {
    Tile tile;
    Segment s;
    i64 from, to; // places
    int c;
};
__device__ __forceinline__ bool work(Work &w, const Tile *tiles, const Segment *segments, int count,
                                     int longest, int channels, bool reversed) {
    const int chunks = (longest + ROWS - 1) / ROWS, groups = (channels + 31) / 32;
    const u32 id = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const u32 index = id / chunks / groups;
    w.c = id / chunks % groups * 32 + threadIdx.x % 32;
    if (index >= count || w.c >= channels) return false;
    w.tile = tiles[index];
    w.s = segments[w.tile.segment];
    const i64 first = first_place(w.tile, w.s, reversed);
    w.from = first + id % chunks * ROWS;
    w.to = min(w.from + ROWS, first + w.tile.len);
    return w.from < w.to;
}

// sums[r] += sum_j weight(j) at(j + r), J taps at a time; what is read reaches to `reach`.
__device__ __forceinline__ int reach(int taps, int J) { return (taps + J - 1) / J * J + ROWS; }
template <int J, typename At, typename Weight>
__device__ __forceinline__ void correlate(float (&sums)[ROWS], int taps, At at, Weight weight) {
    float window[ROWS + J];
#pragma unroll
    for (int r = 0; r < ROWS; r++) window[r] = at(r);
    for (int from = 0; from < taps; from += J) {
#pragma unroll
        for (int j = 0; j < J; j++) window[ROWS + j] = at(from + ROWS + j);
#pragma unroll
        for (int j = 0; j < J; j++) {
            if (from + j >= taps) break;
            const float w = weight(from + j);
#pragma unroll
            for (int r = 0; r < ROWS; r++) sums[r] = fmaf(window[j + r], w, sums[r]);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) window[r] = window[r + J];
    }
}

// The same for any number of taps.
template <int J, typename E>
__device__ void convolve_many(E *__restrict__ out, const E *__restrict__ x,
                              const float *__restrict__ tail, const float *__restrict__ weight,
                              const float *__restrict__ bias, const Tile *tiles,
                              const Segment *segments, int count, int longest, int taps,
                              int channels, int activation, bool reversed) {
    Work w;
    if (!work(w, tiles, segments, count, longest, channels, reversed)) return;
    const int c = w.c;
    float sums[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) sums[r] = bias[c];
    const i64 first = w.from - (taps - 1);
    const auto tap = [&](int j) { return weight[j * channels + c]; };
    if (first >= 0 && first + reach(taps, J) <= w.s.len) {
        // All of it is rows of the segment.
        const E *from = x + row_of(w.s, first, reversed) * channels + c;
        const i64 by = reversed ? -channels : channels;
        correlate<J>(sums, taps, [&](int i) { return load(from + i * by); }, tap);
    } else {
        const auto at = [&](int i) {
            return first + i < w.s.len ? input(x, tail, w.s, first + i, taps, channels, c, reversed)
                                       : 0.0f;
        };
        correlate<J>(sums, taps, at, tap);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (w.from + r < w.to)
            store(out + row_of(w.s, w.from + r, reversed) * channels + c,
                  activate(sums[r], activation));
}

// The gradient to x: tap j brings the input at p to the output at p + K - 1 - j.
template <int J>
__device__ void to_input(float *__restrict__ out, const float *__restrict__ grad,
                         const float *__restrict__ weight, const Tile *tiles,
                         const Segment *segments, int count, int longest, int taps, int channels,
                         bool reversed) {
    Work w;
    if (!work(w, tiles, segments, count, longest, channels, reversed)) return;
    const int c = w.c;
    float sums[ROWS] = {};
    const auto at = [&](int i) {
        return w.from + i < w.s.len ? grad[row_of(w.s, w.from + i, reversed) * channels + c] : 0.0f;
    };
    const auto tap = [&](int j) { return weight[(taps - 1 - j) * channels + c]; };
    correlate<J>(sums, taps, at, tap);
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (w.from + r < w.to) out[row_of(w.s, w.from + r, reversed) * channels + c] = sums[r];
}

// The gradient to the taps, of `parts` parts of the tiles: (parts, K, C). A warp has J taps of 32
// channels of a part.
template <int J>
__device__ void to_taps(float *__restrict__ out, const float *__restrict__ grad,
                        const float *__restrict__ x, const float *__restrict__ tail,
                        const Tile *tiles, const Segment *segments, int count, int parts, int taps,
                        int channels, bool reversed) {
    const int chunks = (taps + J - 1) / J, groups = (channels + 31) / 32;
    const u32 id = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const u32 part = id / chunks / groups;
    const int first = id % chunks * J;
    const int c = id / chunks % groups * 32 + threadIdx.x % 32;
    if (part >= parts || c >= channels) return;
    float sums[J] = {};
    const i64 end = (i64)(part + 1) * count / parts;
    for (i64 index = (i64)part * count / parts; index < end; index++) {
        const Tile tile = tiles[index];
        const Segment s = segments[tile.segment];
        const i64 from = first_place(tile, s, reversed), to = from + tile.len;
        // Tap j sees the input at p - (K - 1) + j with the output at p.
        const i64 shift = first - (taps - 1);
        const auto at = [&](i64 i) {
            return i < s.len ? input(x, tail, s, i, taps, channels, c, reversed) : 0.0f;
        };
        float window[ROWS + J];
#pragma unroll
        for (int j = 0; j < J; j++) window[j] = at(from + shift + j);
        for (i64 p = from; p < to; p += ROWS) {
#pragma unroll
            for (int r = 0; r < ROWS; r++) window[J + r] = at(p + shift + J + r);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                if (p + r >= to) break;
                const float g = grad[row_of(s, p + r, reversed) * channels + c];
#pragma unroll
                for (int j = 0; j < J; j++) sums[j] = fmaf(g, window[r + j], sums[j]);
            }
#pragma unroll
            for (int j = 0; j < J; j++) window[j] = window[ROWS + j];
        }
    }
#pragma unroll
    for (int j = 0; j < J; j++)
        if (first + j < taps) out[((i64)part * taps + first + j) * channels + c] = sums[j];
}

// The last K-1 inputs of each unfinished segment, after the convolution has read the old ones.
// Oldest first: an entry is read from a later place of the tail than it is written to.
template <typename E>
__device__ void keep_tail(float *tail, const E *x, const Segment *segments, int taps, int channels,
                          bool reversed) {
    const int blocks = (channels + blockDim.x - 1) / blockDim.x;
    const int c = blockIdx.x % blocks * blockDim.x + threadIdx.x;
    const Segment s = segments[blockIdx.x / blocks];
    if (c >= channels || s.flags & ENDS) return;
    for (int j = 0; j < taps - 1; j++)
        tail[((i64)s.lane * (taps - 1) + j) * channels + c] =
            input(x, tail, s, (i64)s.len - (taps - 1) + j, taps, channels, c, reversed);
}

#define FEW(E, K, V)                                                                               \
    extern "C" __global__ void short_conv_##E##_##K##_##V(                                         \
        E *out, const E *x, const float *tail, const float *weight, const float *bias,             \
        const Tile *tiles, const Segment *segments, int count, int channels, int activation,       \
        int reversed) {                                                                            \
        convolve<K, V>(out, x, tail, weight, bias, tiles, segments, count, channels, activation,   \
                       reversed);                                                                  \
    }
#define EXPORT(E)                                                                                  \
    FEW(E, 3, 1) FEW(E, 3, 4) FEW(E, 4, 1) FEW(E, 4, 4) FEW(E, 7, 1) FEW(E, 7, 4)                  \
    extern "C" __global__ void short_conv_##E(                                                     \
        E *out, const E *x, const float *tail, const float *weight, const float *bias,             \
        const Tile *tiles, const Segment *segments, int count, int longest, int taps,              \
        int channels, int activation, int reversed) {                                              \
        convolve_many<8>(out, x, tail, weight, bias, tiles, segments, count, longest, taps,        \
                         channels, activation, reversed);                                          \
    }                                                                                              \
    extern "C" __global__ void keep_tail_##E(float *tail, const E *x, const Segment *segments,     \
                                             int taps, int channels, int reversed) {               \
        keep_tail(tail, x, segments, taps, channels, reversed);                                    \
    }
EXPORT(f32)
EXPORT(bf16)

#define TO_INPUT(J)                                                                                \
    extern "C" __global__ void short_conv_to_input_##J(                                            \
        float *out, const float *grad, const float *weight, const Tile *tiles,                     \
        const Segment *segments, int count, int longest, int taps, int channels, int reversed) {   \
        to_input<J>(out, grad, weight, tiles, segments, count, longest, taps, channels, reversed); \
    }
TO_INPUT(4)
TO_INPUT(8)

#define TO_TAPS(J)                                                                                 \
    extern "C" __global__ void short_conv_to_taps_##J(                                             \
        float *out, const float *grad, const float *x, const float *tail, const Tile *tiles,       \
        const Segment *segments, int count, int parts, int taps, int channels, int reversed) {     \
        to_taps<J>(out, grad, x, tail, tiles, segments, count, parts, taps, channels, reversed);   \
    }
TO_TAPS(4)
TO_TAPS(8)
TO_TAPS(16)
