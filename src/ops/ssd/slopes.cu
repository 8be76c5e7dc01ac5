// Gradients of the scan of Mamba-2, chunk by chunk, by the formulas of backward/mod.rs: the states
// before each chunk and the gradients to those after it, each by a product within the chunks and a
// walk over them, then the gradients of each chunk by itself. One block for each chunk and head.

enum { CHUNK = 64, THREADS = 256, WARPS = THREADS / 32, PAIRS = CHUNK * (CHUNK + 1) / 2 };

struct Ssd {
    const float *xbc;    // (T, I + 2 G N): x, B and C
    const float *steps;  // (T, H), before bias and softplus
    const float *rate;   // (H): A log2(e)
    const float *bias;   // (H)
    const float *skip;   // (H)
    const float *grad;   // (T, I), to y
    const float *before; // (lanes, I, padded N): the states before the step
    float *states;       // (chunks, I, N): before each chunk
    float *later;        // (chunks, I, N): gradients to those after it
    float *sums;         // (chunks, H): of the time steps
    const Tile *chunks;
    const Segment *segments;
    int heads, channels, groups, states_of, padded;
};

// Where a block's chunk and head are.
struct Here {
    i64 chunk, first;
    int head, count, inner, width, x, b, c;
};

__device__ __forceinline__ Here here(const Ssd &p) {
    Here h;
    h.chunk = blockIdx.x / p.heads;
    h.head = blockIdx.x % p.heads;
    h.first = p.chunks[h.chunk].row;
    h.count = p.chunks[h.chunk].len;
    h.inner = p.heads * p.channels;
    h.width = h.inner + 2 * p.groups * p.states_of;
    h.x = h.head * p.channels;
    h.b = h.inner + h.head / (p.heads / p.groups) * p.states_of;
    h.c = h.b + p.groups * p.states_of;
    return h;
}

// The time steps d of a chunk, and c log2(e), their running sum times the rate: in f64, so that
// differences of neighbours stay exact.
__device__ void decays(const Ssd &p, const Here &h, float least, float most, float *d, double *c) {
    for (int i = threadIdx.x; i < h.count; i += THREADS) {
        const float step = softplus(p.steps[(h.first + i) * p.heads + h.head] + p.bias[h.head]);
        d[i] = fminf(fmaxf(step, least), most);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double sum = 0.0;
        for (int i = 0; i < h.count; i++) c[i] = sum += (double)d[i] * p.rate[h.head];
    }
    __syncthreads();
}

// What a chunk adds to the state after it, or to the gradient to the state before it.
template <bool LATER> __device__ void products(const Ssd &p, float least, float most) {
    __shared__ float d[CHUNK], factors[CHUNK];
    __shared__ double c[CHUNK];
    const Here h = here(p);
    decays(p, h, least, most, d, c);
    for (int i = threadIdx.x; i < h.count; i += THREADS)
        factors[i] = LATER ? exp2_decay((float)c[i])
                           : exp2_decay((float)(c[h.count - 1] - c[i])) * d[i];
    __syncthreads();
    const float *left = LATER ? p.grad + h.first * h.inner + h.x : p.xbc + h.first * h.width + h.x;
    const float *right = p.xbc + h.first * h.width + (LATER ? h.c : h.b);
    const int by = LATER ? h.inner : h.width;
    float *out = (LATER ? p.later : p.states) + (h.chunk * h.inner + h.x) * p.states_of;
    for (int at = threadIdx.x; at < p.channels * p.states_of; at += THREADS) {
        const int channel = at / p.states_of, n = at % p.states_of;
        float sum = 0.0f;
        for (int i = 0; i < h.count; i++)
            sum = fmaf(factors[i] * left[(i64)i * by + channel], right[(i64)i * h.width + n], sum);
        out[at] = sum;
    }
    if (!LATER && threadIdx.x == 0) {
        float sum = 0.0f;
        for (int i = 0; i < h.count; i++) sum += d[i];
        p.sums[h.chunk * p.heads + h.head] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) ssd_states(Ssd p, float least, float most) {
    products<false>(p, least, most);
}
extern "C" __global__ void __launch_bounds__(THREADS) ssd_later(Ssd p, float least, float most) {
    products<true>(p, least, most);
}

// In their place what stands before each chunk, or behind it: one thread for each value of a
// segment's state. Nothing passes back from behind a segment.
extern "C" __global__ void ssd_walk(Ssd p) {
    const int values = p.heads * p.channels * p.states_of;
    const int blocks = (values + blockDim.x - 1) / blockDim.x;
    const Segment segment = p.segments[blockIdx.x / blocks];
    const int i = blockIdx.x % blocks * blockDim.x + threadIdx.x;
    if (i >= values) return;
    const int column = i / p.states_of, head = column / p.channels;
    const i64 carried = ((i64)segment.lane * p.heads * p.channels + column) * p.padded;
    float s = segment.flags & STARTS ? 0.0f : p.before[carried + i % p.states_of], g = 0.0f;
    for (u32 k = 0; k < segment.tiles; k++) {
        const i64 chunk = (i64)segment.first_tile + k;
        const float own = p.states[chunk * values + i];
        p.states[chunk * values + i] = s;
        s = fmaf(exp2f(p.rate[head] * p.sums[chunk * p.heads + head]), s, own);
    }
    for (i64 chunk = (i64)segment.first_tile + segment.tiles - 1; chunk >= segment.first_tile; chunk--) {
        const float own = p.later[chunk * values + i];
        p.later[chunk * values + i] = g;
        g = fmaf(exp2f(p.rate[head] * p.sums[chunk * p.heads + head]), g, own);
    }
}

struct Slopes {
    float *to_xbc;   // (T, I + 2 G N)
    float *to_steps; // (T, H)
    float *parts;    // (T, H, 2 N): to B and C, of each head
    float *rates;    // (chunks, H), to a_log
    float *skips;    // (chunks, H)
};

// Of rows i and j <= i of a chunk.
__device__ __forceinline__ int pair(int i, int j) { return i * (i + 1) / 2 + j; }

// L ∘ C B^T, L ∘ y' X^T, and what comes through L before its time step.
__device__ void within(const Ssd &p, const Here &h, const float *d, const double *c,
                       float *weights, float *slopes, float *through) {
    const float *x = p.xbc + h.first * h.width, *y = p.grad + h.first * h.inner + h.x;
    for (int at = threadIdx.x; at < h.count * h.count; at += THREADS) {
        const int i = at / h.count, j = at % h.count;
        if (j > i) continue;
        const float *row = x + (i64)i * h.width, *other = x + (i64)j * h.width;
        float score = 0.0f, slope = 0.0f;
        for (int n = 0; n < p.states_of; n++) score = fmaf(row[h.c + n], other[h.b + n], score);
        for (int k = 0; k < p.channels; k++)
            slope = fmaf(y[(i64)i * h.inner + k], other[h.x + k], slope);
        const float kept = exp2_decay((float)(c[i] - c[j]));
        weights[pair(i, j)] = score * kept * d[j];
        slopes[pair(i, j)] = slope * kept * d[j];
        through[pair(i, j)] = slope * score * kept;
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS)
    ssd_slopes(Ssd p, Slopes s, float least, float most) {
    __shared__ float weights[PAIRS], slopes[PAIRS], through[PAIRS];
    __shared__ float d[CHUNK], after[CHUNK], seen[CHUNK], skips[CHUNK], products[WARPS];
    __shared__ float to_c[CHUNK], to_d[CHUNK];
    __shared__ double c[CHUNK];
    const Here h = here(p);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, last = h.count - 1;
    decays(p, h, least, most, d, c);
    within(p, h, d, c, weights, slopes, through);

    const float *xbc = p.xbc + h.first * h.width, *y = p.grad + h.first * h.inner + h.x;
    const i64 state = (h.chunk * h.inner + h.x) * p.states_of;
    const float *before = p.states + state, *later = p.later + state;
    const float skip = p.skip[h.head];
    // Warps take as many turns each: those that have no row left repeat the last.
    for (int turn = warp; turn < (h.count + WARPS - 1) / WARPS * WARPS; turn += WARPS) {
        const int row = min(turn, last);
        const float *own = xbc + (i64)row * h.width, *own_y = y + (i64)row * h.inner;
        const float decay = exp2_decay((float)c[row]);
        const float factor = exp2_decay((float)(c[last] - c[row])), weight = factor * d[row];
        float passed = 0.0f, direct = 0.0f, visible = 0.0f;
        for (int k = lane; k < p.channels; k += 32) {
            float behind = 0.0f, sum = skip * own_y[k];
            for (int n = 0; n < p.states_of; n++)
                behind = fmaf(own[h.b + n], later[k * p.states_of + n], behind);
            for (int i = row; i < h.count; i++)
                sum = fmaf(weights[pair(i, row)], y[(i64)i * h.inner + k], sum);
            s.to_xbc[(h.first + row) * h.width + h.x + k] = fmaf(weight, behind, sum);
            passed = fmaf(behind, own[h.x + k], passed);
            direct = fmaf(own_y[k], own[h.x + k], direct);
        }
        float *to_b = s.parts + ((h.first + row) * p.heads + h.head) * 2 * p.states_of;
        for (int n = lane; n < p.states_of; n += 32) {
            float b = 0.0f, from = 0.0f, sum = 0.0f;
            for (int k = 0; k < p.channels; k++) {
                b = fmaf(own[h.x + k], later[k * p.states_of + n], b);
                from = fmaf(own_y[k], before[k * p.states_of + n], from);
            }
            b *= weight;
            from *= decay;
            for (int i = row; i < h.count; i++)
                b = fmaf(slopes[pair(i, row)], xbc[(i64)i * h.width + h.c + n], b);
            for (int j = 0; j <= row; j++)
                sum = fmaf(slopes[pair(row, j)], xbc[(i64)j * h.width + h.b + n], sum);
            to_b[n] = b;
            to_b[p.states_of + n] = sum + from;
            visible = fmaf(from, own[h.c + n], visible);
        }
        passed = warp_sum(passed);
        direct = warp_sum(direct);
        visible = warp_sum(visible);
        if (lane == 0) {
            after[row] = factor * passed;
            skips[row] = direct;
            seen[row] = visible;
        }
    }
    float product = 0.0f;
    for (int at = threadIdx.x; at < p.channels * p.states_of; at += THREADS)
        product = fmaf(later[at], before[at], product);
    product = warp_sum(product);
    if (lane == 0) products[warp] = product;
    __syncthreads();

    // To the exponents c and to the steps beside them.
    for (int row = threadIdx.x; row < h.count; row += THREADS) {
        float own = after[row], exponent = seen[row];
        for (int j = 0; j <= row; j++) exponent = fmaf(through[pair(row, j)], d[j], exponent);
        for (int i = row; i < h.count; i++) own += through[pair(i, row)];
        to_d[row] = own;
        to_c[row] = exponent - own * d[row];
    }
    __syncthreads();
    if (threadIdx.x) return;
    // A step is in the exponents of all rows from its own on, and of what is kept behind the last.
    double sum = 0.0, rates = 0.0;
    for (int i = 0; i < WARPS; i++) sum += products[i];
    sum *= exp2f((float)c[last]);
    float direct = 0.0f;
    for (int row = 0; row < h.count; row++) {
        sum += after[row] * d[row];
        direct += skips[row];
    }
    const float rate = p.rate[h.head] * 0.69314718056f; // A
    for (int row = last; row >= 0; row--) {
        sum += to_c[row];
        rates += sum * d[row];
        const i64 at = (h.first + row) * p.heads + h.head;
        const float raw = p.steps[at] + p.bias[h.head], step = softplus(raw);
        const float slope = step >= least && step <= most ? sigmoid(raw) : 0.0f;
        s.to_steps[at] = (to_d[row] + rate * (float)sum) * slope;
    }
    s.rates[h.chunk * p.heads + h.head] = rate * (float)rates;
    s.skips[h.chunk * p.heads + h.head] = direct;
}

// The gradients to B and C: sums over the heads of each group.
extern "C" __global__ void ssd_groups(Ssd p, Slopes s, i64 rows) {
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    const int width = 2 * p.groups * p.states_of, inner = p.heads * p.channels;
    if (i >= rows * width) return;
    i64 row;
    int column;
    place(i, width, row, column);
    const int which = column / (p.groups * p.states_of), n = column % p.states_of;
    const int group = column / p.states_of % p.groups, count = p.heads / p.groups;
    float sum = 0.0f;
    for (int head = group * count; head < (group + 1) * count; head++)
        sum += s.parts[(row * p.heads + head) * 2 * p.states_of + which * p.states_of + n];
    s.to_xbc[row * (inner + width) + inner + column] = sum;
}
