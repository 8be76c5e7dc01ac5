// The loss of predicting one class of many, and its gradient.

// One warp a row: weight * -ln softmax(logits)[target] into losses, and its gradient, if wanted.
// A row of weight 0 has neither.
extern "C" __global__ void cross_entropy(float *losses, float *out, const float *logits,
                                         const u32 *targets, const float *weights, i64 rows,
                                         int width) {
    const i64 row = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    const int lane = threadIdx.x % 32;
    const float weight = weights[row];
    const int target = targets[row];
    logits += row * width;
    if (out) out += row * width;
    if (weight == 0.0f) {
        for (int i = lane; out && i < width; i += 32) out[i] = 0.0f;
        if (lane == 0) losses[row] = 0.0f;
        return;
    }
    float largest = __uint_as_float(0xff800000u); // -inf
    for (int i = lane; i < width; i += 32) largest = fmaxf(largest, logits[i]);
    largest = warp_max(largest);
    float sum = 0.0f;
    for (int i = lane; i < width; i += 32) sum += expf(logits[i] - largest);
    sum = warp_sum(sum);
    for (int i = lane; out && i < width; i += 32)
        out[i] = weight * (expf(logits[i] - largest) / sum - (i == target ? 1.0f : 0.0f));
    if (lane == 0) losses[row] = weight * (logf(sum) - (logits[target] - largest));
}
