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
    u32 ahead, zeros, sums, unused;
};

// A branch of `len` rows beside those of the segment that it leaves, of which there are `shared`,
// and their sums.
struct Beside { u32 row, len, beside, shared, sums, unused[7]; };

enum { SIDE = 32, ROWS = 8 };

// v = x1 x2
template <typename E>
__device__ __forceinline__ float gated(const E *x, i64 row, int channels, int c) {
    const E *at = x + row * 3 * channels + c;
    return load(at + channels) * load(at + 2 * channels);
}

// A slot less than twice the capacity.
__device__ __forceinline__ i64 wrapped(i64 slot, i64 capacity) {
    return slot < capacity ? slot : slot - capacity;
}

// d = grad x0
template <typename E>
__device__ __forceinline__ float slope(const E *x, const float *grad, i64 row, int channels, int c) {
    return grad[row * channels + c] * load(x + row * 3 * channels + c);
}

// The signals (pieces, channels, stride) of `count` channels from `first` on: past, new inputs,
// zeros up to `size`. With SLOPES d in their place, zeros for the past, and the rows ahead.
template <bool SLOPES, typename E>
__device__ void load_signals(float *signals, const E *x, const float *grad, const Piece *pieces,
                             int channels, int first, int count, i64 size, i64 stride) {
    __shared__ float tile[SIDE][SIDE + 1];
    const i64 spans = (size + SIDE - 1) / SIDE;
    const int columns = (count + SIDE - 1) / SIDE;
    const i64 from = blockIdx.x % spans * SIDE;
    const int column = blockIdx.x / spans % columns * SIDE;
    const i64 index = blockIdx.x / spans / columns;
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
    const Piece p = pieces[index];
    const i64 outside = SLOPES ? p.past : p.past - p.inside;
    const i64 used = (i64)p.past + p.len - p.zeros + (SLOPES ? p.ahead : 0);
    for (int j = ty; j < SIDE; j += ROWS) {
        const i64 i = from + j, row = (i64)p.row + i - p.past;
        const int c = first + column + tx;
        if (i >= outside && i < used && column + tx < count)
            tile[j][tx] = SLOPES ? slope(x, grad, row, channels, c) : gated(x, row, channels, c);
    }
    __syncthreads();
    const i64 i = from + tx;
    if (i >= size) return;
    for (int j = ty; j < SIDE; j += ROWS) {
        if (column + j >= count) return;
        float v = 0.0f;
        if (i < outside && !SLOPES)
            v = p.ring[(i64)(first + column + j) * p.capacity + wrapped(p.slot + i, p.capacity)];
        else if (i >= outside && i < used)
            v = tile[tx][j];
        signals[(index * count + column + j) * stride + i] = v;
    }
}

// x0 (y + bias v), y being the signals after the convolution; y + bias v itself to `sums`, if given.
template <typename E, typename X>
__device__ void store_outputs(E *out, float *sums, const float *signals, const X *x,
                              const float *bias, const Piece *pieces, int channels, int first,
                              int count, i64 longest, i64 stride) {
    __shared__ float tile[SIDE][SIDE + 1];
    const i64 spans = (longest + SIDE - 1) / SIDE;
    const int columns = (count + SIDE - 1) / SIDE;
    const i64 from = blockIdx.x % spans * SIDE;
    const int column = blockIdx.x / spans % columns * SIDE;
    const i64 index = blockIdx.x / spans / columns;
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
    const Piece p = pieces[index];
    const i64 len = (i64)p.len - p.zeros;
    if (from >= len) return;
    if (from + tx < len)
        for (int j = ty; j < SIDE && column + j < count; j += ROWS)
            tile[tx][j] = signals[(index * count + column + j) * stride + p.past + from + tx];
    __syncthreads();
    const int c = first + column + tx;
    if (column + tx >= count) return;
    const float b = bias[c];
    for (int j = ty; j < SIDE && from + j < len; j += ROWS) {
        const i64 row = (i64)p.row + from + j;
        const float y = tile[j][tx] + b * gated(x, row, channels, c);
        if (sums) sums[row * channels + c] = y;
        store(out + row * channels + c, load(x + row * 3 * channels + c) * y);
    }
}

// The sums of pieces, and of the rows beyond their segments: (rows, C).
extern "C" __global__ void store_sums(float *out, float *, const float *signals, const void *,
                                      const float *, const Piece *pieces, int channels, int first,
                                      int count, i64 longest, i64 stride) {
    __shared__ float tile[SIDE][SIDE + 1];
    const i64 spans = (longest + SIDE - 1) / SIDE;
    const int columns = (count + SIDE - 1) / SIDE;
    const i64 from = blockIdx.x % spans * SIDE;
    const int column = blockIdx.x / spans % columns * SIDE;
    const i64 index = blockIdx.x / spans / columns;
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
    const Piece p = pieces[index];
    if (from >= p.len) return;
    if (from + tx < p.len)
        for (int j = ty; j < SIDE && column + j < count; j += ROWS)
            tile[tx][j] = signals[(index * count + column + j) * stride + p.past + from + tx];
    __syncthreads();
    if (column + tx >= count) return;
    for (int j = ty; j < SIDE && from + j < p.len; j += ROWS)
        out[((i64)p.sums + from + j) * channels + first + column + tx] = tile[j][tx];
}

// The signals of branches: their inputs less those of the rows beside them.
template <typename E>
__device__ void load_differences(float *signals, const E *x, const Beside *branches, int channels,
                                 int first, int count, i64 size, i64 stride) {
    __shared__ float tile[SIDE][SIDE + 1];
    const i64 spans = (size + SIDE - 1) / SIDE;
    const int columns = (count + SIDE - 1) / SIDE;
    const i64 from = blockIdx.x % spans * SIDE;
    const int column = blockIdx.x / spans % columns * SIDE;
    const i64 index = blockIdx.x / spans / columns;
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
    const Beside b = branches[index];
    for (int j = ty; j < SIDE; j += ROWS) {
        const i64 i = from + j;
        const int c = first + column + tx;
        if (i >= b.len || column + tx >= count) continue;
        const float v = gated(x, b.row + i, channels, c);
        tile[j][tx] = i < b.shared ? v - gated(x, b.beside + i, channels, c) : v;
    }
    __syncthreads();
    const i64 i = from + tx;
    if (i >= size) return;
    for (int j = ty; j < SIDE && column + j < count; j += ROWS)
        signals[(index * count + column + j) * stride + i] = i < b.len ? tile[tx][j] : 0.0f;
}

// x0 (y + sums + bias v) of branches, y being the differences after the convolution.
template <typename E, typename X>
__device__ void store_branches(E *out, const float *sums, const float *signals, const X *x,
                               const float *bias, const Beside *branches, int channels, int first,
                               int count, i64 longest, i64 stride) {
    __shared__ float tile[SIDE][SIDE + 1];
    const i64 spans = (longest + SIDE - 1) / SIDE;
    const int columns = (count + SIDE - 1) / SIDE;
    const i64 from = blockIdx.x % spans * SIDE;
    const int column = blockIdx.x / spans % columns * SIDE;
    const i64 index = blockIdx.x / spans / columns;
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
    const Beside p = branches[index];
    if (from >= p.len) return;
    if (from + tx < p.len)
        for (int j = ty; j < SIDE && column + j < count; j += ROWS)
            tile[tx][j] = signals[(index * count + column + j) * stride + from + tx];
    __syncthreads();
    const int c = first + column + tx;
    if (column + tx >= count) return;
    const float b = bias[c];
    for (int j = ty; j < SIDE && from + j < p.len; j += ROWS) {
        const i64 row = (i64)p.row + from + j;
        const float y = tile[j][tx] + sums[((i64)p.sums + from + j) * channels + c] +
                        b * gated(x, row, channels, c);
        store(out + row * channels + c, load(x + row * 3 * channels + c) * y);
    }
}

// The gradients to x (T, 3C), and d v (T, C), from the correlations of d with the taps and from the
// sums y + bias v.
extern "C" __global__ void store_slopes(float *out, float *products, const float *signals,
                                        const float *x, const float *grad, const float *sums,
                                        const float *bias, const Piece *pieces, int channels,
                                        int first, int count, i64 longest, i64 stride) {
    __shared__ float tile[SIDE][SIDE + 1];
    const i64 spans = (longest + SIDE - 1) / SIDE;
    const int columns = (count + SIDE - 1) / SIDE;
    const i64 from = blockIdx.x % spans * SIDE;
    const int column = blockIdx.x / spans % columns * SIDE;
    const i64 index = blockIdx.x / spans / columns;
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
    const Piece p = pieces[index];
    if (from >= p.len) return;
    if (from + tx < p.len)
        for (int j = ty; j < SIDE && column + j < count; j += ROWS)
            tile[tx][j] = signals[(index * count + column + j) * stride + p.past + from + tx];
    __syncthreads();
    const int c = first + column + tx;
    if (column + tx >= count) return;
    const float b = bias[c];
    for (int j = ty; j < SIDE && from + j < p.len; j += ROWS) {
        const i64 row = (i64)p.row + from + j, at = row * 3 * channels + c;
        const float d = slope(x, grad, row, channels, c);
        const float x1 = x[at + channels], x2 = x[at + 2 * channels];
        const float v = tile[j][tx] + b * d;
        out[at] = grad[row * channels + c] * sums[row * channels + c];
        out[at + channels] = v * x2;
        out[at + 2 * channels] = v * x1;
        products[row * channels + c] = d * x1 * x2;
    }
}

// The last `kept` inputs of a segment of `len` rows into the lane's ring, the first of them to
// `slot`.
template <typename E>
__device__ void keep_past(float *ring, const E *x, int channels, i64 row, i64 kept, i64 slot,
                          i64 capacity) {
    __shared__ float tile[SIDE][SIDE + 1];
    const int columns = (channels + SIDE - 1) / SIDE;
    const i64 from = blockIdx.x / columns * (i64)SIDE;
    const int column = blockIdx.x % columns * SIDE;
    const int tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
    if (column + tx < channels)
        for (int j = ty; j < SIDE && from + j < kept; j += ROWS)
            tile[j][tx] = gated(x, row + from + j, channels, column + tx);
    __syncthreads();
    if (from + tx >= kept) return;
    for (int j = ty; j < SIDE && column + j < channels; j += ROWS)
        ring[(i64)(column + j) * capacity + wrapped(slot + from + tx, capacity)] = tile[tx][j];
}

// Named for the type of x, and that of what is stored.
#define STORE(X, E)                                                                                \
    extern "C" __global__ void store_outputs_##X##_##E(                                            \
        E *out, float *sums, const float *signals, const X *x, const float *bias,                  \
        const Piece *pieces, int channels, int first, int count, i64 longest, i64 stride) {        \
        store_outputs(out, sums, signals, x, bias, pieces, channels, first, count, longest,        \
                      stride);                                                                     \
    }                                                                                              \
    extern "C" __global__ void store_branches_##X##_##E(                                           \
        E *out, const float *sums, const float *signals, const X *x, const float *bias,            \
        const Beside *branches, int channels, int first, int count, i64 longest, i64 stride) {     \
        store_branches(out, sums, signals, x, bias, branches, channels, first, count, longest,     \
                       stride);                                                                    \
    }
#define EXPORT(X)                                                                                  \
    extern "C" __global__ void load_inputs_##X(                                                    \
        float *signals, const X *x, const float *grad, const Piece *pieces, int channels,          \
        int first, int count, i64 size, i64 stride) {                                              \
        load_signals<false>(signals, x, grad, pieces, channels, first, count, size, stride);       \
    }                                                                                              \
    extern "C" __global__ void load_differences_##X(                                               \
        float *signals, const X *x, const float *, const Beside *branches, int channels,           \
        int first, int count, i64 size, i64 stride) {                                              \
        load_differences(signals, x, branches, channels, first, count, size, stride);              \
    }                                                                                              \
    extern "C" __global__ void keep_past_##X(float *ring, const X *x, int channels, i64 row,       \
                                             i64 kept, i64 slot, i64 capacity) {                   \
        keep_past(ring, x, channels, row, kept, slot, capacity);                                   \
    }                                                                                              \
    STORE(X, f32)                                                                                  \
    STORE(X, bf16)
EXPORT(f32)
EXPORT(bf16)
extern "C" __global__ void load_slopes_f32(float *signals, const float *x, const float *grad,
                                           const Piece *pieces, int channels, int first, int count,
                                           i64 size, i64 stride) {
    load_signals<true>(signals, x, grad, pieces, channels, first, count, size, stride);
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
// their FFTs Z: (pieces, channels, half + 1). In their place those of the signals convolved with
// the filters, of which X itself is given: (channels, half + 1). Of both ends of a spectrum,
//   E = (Z(k) + Z*(half - k)) / 2, O = (Z(k) - Z*(half - k)) / 2i, w = exp(-pi i k / half),
//   X(k) = E + w O, X*(half - k) = E - w O,
// and back after the product. A block has some pieces.
extern "C" __global__ void multiply(float2 *signals, const float2 *filters, int pieces,
                                    i64 channels, i64 half, float scale) {
    enum { TOGETHER = 8 };
    i64 k;
    const i64 row = row_of_block(half / 2 + 1, k), channel = row % channels;
    const int first = row / channels * TOGETHER;
    if (k > half / 2) return;
    const float2 f = filters[channel * (half + 1) + k];
    const float2 g = filters[channel * (half + 1) + half - k];
    float sine, cosine;
    sincospif((float)k / (float)half, &sine, &cosine);
#pragma unroll 4
    for (int i = first; i < min(pieces, first + TOGETHER); i++) {
        float2 *signal = signals + (i * channels + channel) * (half + 1);
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

// Spectra of d, (pieces, channels, bins), times the conjugates of the filters', (channels, bins).
// Those of d times the conjugates of the inputs', if given, are added to `sums`, (channels, bins):
// piece after piece.
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
