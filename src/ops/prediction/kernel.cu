// What logits say of bases.

__device__ __forceinline__ double warp_total(double x) {
    for (int half = 16; half > 0; half /= 2) x += __shfl_xor_sync(0xffffffffu, x, half);
    return x;
}

__device__ __forceinline__ float warp_largest(float x) {
    for (int half = 16; half > 0; half /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, half));
    return x;
}

// One warp a base that is asked for, by the logits (width) of its row: log P(its token) of all
// tokens, NaN without one; P(A, C, G, T) of these four; what the other tokens have; and the entropy
// of the four. All are NaN if a logit is not finite.
extern "C" __global__ void predictions(float *out, const float *logits, const u32 *rows,
                                       const u32 *tokens, const u32 *letters, i64 count,
                                       int width) {
    const i64 index = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (index >= count) return;
    const int lane = threadIdx.x % 32;
    logits += (i64)rows[index] * width;
    const float none = __uint_as_float(0x7fc00000u);
    const float infinite = __uint_as_float(0x7f800000u);
    float largest = -infinite, wrong = 0.0f;
    for (int i = lane; i < width; i += 32) {
        largest = fmaxf(largest, logits[i]);
        wrong = fabsf(logits[i]) < infinite ? wrong : 1.0f;
    }
    largest = warp_largest(largest);
    wrong = warp_largest(wrong);
    double all = 0.0;
    for (int i = lane; i < width; i += 32) all += exp((double)(logits[i] - largest));
    all = warp_total(all);
    if (lane) return;
    out += index * 7;
    if (wrong > 0.0f) {
        for (int i = 0; i < 7; i++) out[i] = none;
        return;
    }
    double p[4], four = 0.0, entropy = 0.0;
    for (int i = 0; i < 4; i++) {
        p[i] = exp((double)(logits[letters[i]] - largest));
        four += p[i];
    }
    const u32 token = tokens[index];
    out[0] = token < (u32)width ? (float)((double)(logits[token] - largest) - log(all)) : none;
    for (int i = 0; i < 4; i++) {
        const double share = p[i] / four;
        out[1 + i] = (float)share;
        entropy -= share > 0.0 ? share * log(share) : 0.0;
    }
    out[5] = (float)fmax(1.0 - four / all, 0.0);
    out[6] = (float)entropy;
}
