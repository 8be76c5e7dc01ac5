// What logits say of bases.

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
    largest = warp_max(largest);
    wrong = warp_max(wrong);
    double all = 0.0;
    for (int i = lane; i < width; i += 32) all += exp((double)(logits[i] - largest));
    all = warp_sum(all);
    if (lane) return;
    out += index * 7;
    if (wrong > 0.0f) {
        for (int i = 0; i < 7; i++) out[i] = none;
        return;
    }
    float of_letters = -infinite;
    for (int i = 0; i < 4; i++) of_letters = fmaxf(of_letters, logits[letters[i]]);
    double p[4], four = 0.0, entropy = 0.0;
    for (int i = 0; i < 4; i++) {
        p[i] = exp((double)(logits[letters[i]] - of_letters));
        four += p[i];
    }
    const double part = four * exp((double)(of_letters - largest)) / all;
    const u32 token = tokens[index];
    out[0] = token < (u32)width ? (float)((double)(logits[token] - largest) - log(all)) : none;
    for (int i = 0; i < 4; i++) {
        const double share = p[i] / four;
        out[1 + i] = (float)share;
        entropy -= share > 0.0 ? share * log(share) : 0.0;
    }
    out[5] = (float)fmax(1.0 - part, 0.0);
    out[6] = (float)entropy;
}
