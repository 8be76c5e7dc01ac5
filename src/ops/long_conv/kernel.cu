// Rings, filters and spectra of the gated long convolution. Behind tiles.cu and convolved.cu.

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
