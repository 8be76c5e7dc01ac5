// Short causal depthwise convolution over packed segments.

// The input `i` places after the segment's start, in the order of reading; before it, the lane's
// tail of K-1 inputs, or zeros where the sequence starts.
__device__ __forceinline__ float input(const float *x, const float *tail, const Segment &s, i64 i,
                                       int taps, int channels, int c, bool reversed) {
    if (i >= 0) {
        i64 row = reversed ? (i64)s.row + s.len - 1 - i : s.row + i;
        return x[row * channels + c];
    }
    if (s.flags & STARTS) return 0.0f;
    return tail[((i64)s.lane * (taps - 1) + taps - 1 + i) * channels + c];
}

// y[t, c] = bias[c] + sum_j weight[j, c] x[t - (K-1) + j, c]; K > 0 is known, 0 is any.
template <int K, typename E>
__device__ void convolve(E *__restrict__ out, const float *__restrict__ x, const float *__restrict__ tail,
                         const float *__restrict__ weight, const float *__restrict__ bias,
                         const Tile *tiles, const Segment *segments, int any_taps, int channels,
                         int activation, bool reversed) {
    const int blocks = (channels + blockDim.x - 1) / blockDim.x;
    const int c = blockIdx.x % blocks * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    const Tile tile = tiles[blockIdx.x / blocks];
    const Segment s = segments[tile.segment];
    const int taps = K > 0 ? K : any_taps;
    const float b = bias[c];
    // Places of this tile's rows, in the order of reading.
    const i64 from = reversed ? (i64)s.len - (tile.row - s.row) - tile.len : tile.row - s.row;
    const i64 to = from + tile.len;
    if constexpr (K > 0) {
        float w[K], window[K];
        for (int j = 0; j < K; j++) w[j] = weight[j * channels + c];
        for (int j = 0; j < K - 1; j++)
            window[j] = input(x, tail, s, from - (K - 1) + j, taps, channels, c, reversed);
#pragma unroll 8
        for (i64 i = from; i < to; i++) {
            const i64 row = reversed ? (i64)s.row + s.len - 1 - i : s.row + i;
            window[K - 1] = x[row * channels + c];
            float y = b;
            for (int j = 0; j < K; j++) y = fmaf(window[j], w[j], y);
            store(out + row * channels + c, activate(y, activation));
            for (int j = 0; j < K - 1; j++) window[j] = window[j + 1];
        }
    } else {
        for (i64 i = from; i < to; i++) {
            const i64 row = reversed ? (i64)s.row + s.len - 1 - i : s.row + i;
            float y = b;
            for (int j = 0; j < taps; j++)
                y = fmaf(input(x, tail, s, i - (taps - 1) + j, taps, channels, c, reversed),
                         weight[j * channels + c], y);
            store(out + row * channels + c, activate(y, activation));
        }
    }
}

#define EXPORT(K, E, S)                                                                            \
    extern "C" __global__ void short_conv_##E##_##K(                                               \
        S *out, const float *x, const float *tail, const float *weight, const float *bias,         \
        const Tile *tiles, const Segment *segments, int taps, int channels, int activation,        \
        int reversed) {                                                                            \
        convolve<K>(out, x, tail, weight, bias, tiles, segments, taps, channels, activation,       \
                    reversed);                                                                     \
    }
EXPORT(0, f32, float)
EXPORT(3, f32, float)
EXPORT(4, f32, float)
EXPORT(0, bf16, bf16)
EXPORT(3, bf16, bf16)
EXPORT(4, bf16, bf16)

// The last K-1 inputs of each unfinished segment, after the convolution has read the old ones.
// Oldest first: an entry is read from a later place of the tail than it is written to.
extern "C" __global__ void keep_tail(float *tail, const float *x, const Segment *segments,
                                     int taps, int channels, int reversed) {
    const int blocks = (channels + blockDim.x - 1) / blockDim.x;
    const int c = blockIdx.x % blocks * blockDim.x + threadIdx.x;
    const Segment s = segments[blockIdx.x / blocks];
    if (c >= channels || s.flags & ENDS) return;
    for (int j = 0; j < taps - 1; j++)
        tail[((i64)s.lane * (taps - 1) + j) * channels + c] =
            input(x, tail, s, (i64)s.len - (taps - 1) + j, taps, channels, c, reversed);
}
