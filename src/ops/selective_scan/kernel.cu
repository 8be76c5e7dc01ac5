// Compiled with STATES, N filled up to a multiple of 4, and RANK, R where the weights of the time
// step are in registers, else 0; with GRADIENTS, 1 for the kernels of the gradients, 0 for the
// others; and with ROUNDED, 1 where u and the gate are bf16, 0 where they are f32.
//
// The selective scan over tiles of rows: Gu & Dao 2023, arXiv:2312.00752. Three passes: each
// tile's state from a zero start and its decay; the states at each tile's start, one tile after
// the other; the outputs. One thread has one channel and all of its N states.
//
// Instructions bind the first and the last pass: 8.6e9 decays for 2^20 rows of 512 channels with 16
// states, of which each takes its own exponential. The first pass needs no state row by row: it sums
// exp(A steps after the row) step u B from the last row to the first, where an error of the
// exponential does not grow.
//
// Its gradients are a scan from the last row to the first, of the same three passes, after one that
// computes again what it needs. With g the gradient to h, g = ȳ C + a(next) g(next):
//
//   C <- sum over channels of ȳ h         step u <- sum over states of g B
//   B <- sum over channels of g step u    step <- sum over states of g a h(before) A
//                                         A <- sum over rows of g a h(before) step
//
// Sums over channels and rows are always taken in the same order.

// Rows whose projections are in shared memory at once; rows of a block, before which gradients
// find the states.
enum { ROWS = 32, THREADS = 128, BATCH = 4, BLOCK = 8 };
// The last pass, and again for gradients.
enum { OUTPUTS, AGAIN };

#if ROUNDED
typedef bf16 Input;
// A tile begins with a state that did not drift: the hardware's error, 2e-7, grows over its rows
// alone, to less than what was rounded in u.
__device__ __forceinline__ float kept(float x) { return exp2_quick(x); }
#else
typedef float Input;
__device__ __forceinline__ float kept(float x) { return exp2_decay(x); }
#endif

// ln(1 + exp(x)) in a third of the instructions, to 5e-7: ln(1 + e) = e P(e) for 0 <= e <= 1.
__device__ __forceinline__ float time_step(float x) {
    const float e = exp2_quick(-1.44269504f * fabsf(x));
    float p = 5.12610236e-03f;
    p = fmaf(p, e, -2.90740654e-02f);
    p = fmaf(p, e, 7.75160864e-02f);
    p = fmaf(p, e, -1.36022478e-01f);
    p = fmaf(p, e, 1.90768808e-01f);
    p = fmaf(p, e, -2.48353988e-01f);
    p = fmaf(p, e, 3.33181202e-01f);
    p = fmaf(p, e, -4.99994457e-01f);
    p = fmaf(p, e, 9.99999940e-01f);
    return fmaf(p, e, fmaxf(x, 0.0f));
}

struct Scan {
    const Input *u;         // (T, I)
    const float *projected; // (T, rank + 2 states): low-rank time step, B, C
    const float *step;      // (T, I): the time step before bias and softplus, if R is 0
    const float *weight;    // (R, I)
    const float *bias;      // (I)
    const float *decay;     // (N, I): A log2(e)
    const float *skip;      // (I)
    const float *added;     // (T, I) or null
    const Input *gate;      // (T, I) or null
    float *hidden;          // (lanes, N, I)
    float *ends;            // (tiles, N, I): final states of pass 1, then initial ones
    float *sums;            // (tiles, I): of the time steps
    const Tile *tiles;
    const Segment *segments;
    int channels, rank, states, reversed;
};

// What gradients are computed from and go to.
struct Slopes {
    const float *grad; // (T, I): to what the scan gave
    float *step;       // (T, I): softplus was taken
    float *inner;      // (T, I): the gradient to y; only written where there is a gate
    float *to_gate;    // (T, I) or null
    float *starts;     // (T / BLOCK + tiles, N, I): h before each block of rows
    float *later;      // (tiles, N, I): as `ends`, from the rows after a tile
    float *to_u;       // (T, I)
    float *to_step;    // (T, I): before softplus
    float *sums;       // (T, blocks of channels, 2 states): to B and C
    float *rates;      // (tiles, I, states): to A, times A
    float *skips;      // (tiles, I)
};

// Where the states before a block of a tile's rows lie, in the order of scanning.
__device__ __forceinline__ i64 start_of(const Tile &tile, i64 index, u32 block) {
    return tile.row / BLOCK + index + block;
}

// The time step of a row before softplus, from its low-rank form where R is not 0.
template <int R>
__device__ __forceinline__ float raw_step(const float4 *row, const float (&w)[R > 0 ? R : 1],
                                          float raw) {
#pragma unroll
    for (int r = 0; r < R / 4; r++) {
        const float4 low = row[r];
        raw = fmaf(low.x, w[4 * r], raw);
        raw = fmaf(low.y, w[4 * r + 1], raw);
        raw = fmaf(low.z, w[4 * r + 2], raw);
        raw = fmaf(low.w, w[4 * r + 3], raw);
    }
    return raw;
}

// `count` rows of the projections to shared memory, from row `first` on in steps of `by`: the
// low-rank time step, then B, and C where KINDS is 2, filled up to N.
template <int N, int R, int KINDS>
__device__ __forceinline__ void stage(const Scan &p, float *rows, i64 first, i64 by, int count) {
    constexpr int WIDTH = R + KINDS * N;
    const int width = p.rank + 2 * p.states;
    for (int i = threadIdx.x; i < count * WIDTH; i += THREADS) {
        const int column = i % WIDTH, n = (column - R) % N, part = (column - R) / N;
        int source = column < R ? column : -1;
        if (column >= R && n < p.states) source = p.rank + part * p.states + n;
        rows[i] = source < 0 ? 0.0f : p.projected[(first + i / WIDTH * by) * width + source];
    }
}

// The final state of each tile but a segment's last, and the sum of its time steps. R: the rank,
// whose weights are then in registers; 0: `step` is given.
template <int N, int R> __device__ void ends(const Scan &p) {
    constexpr int WIDTH = R + N;
    __shared__ __align__(16) float rows[ROWS * WIDTH];
    const int blocks = (p.channels + THREADS - 1) / THREADS;
    const i64 index = blockIdx.x / blocks;
    const int c = blockIdx.x % blocks * THREADS + threadIdx.x;
    const bool real = c < p.channels;
    const Tile tile = p.tiles[index];
    if (tile.index == (p.reversed ? 0 : p.segments[tile.segment].tiles - 1)) return;

    float w[R > 0 ? R : 1], decay[N], h[N];
    for (int r = 0; r < R; r++) w[r] = real ? p.weight[r * p.channels + c] : 0.0f;
    for (int n = 0; n < N; n++) {
        decay[n] = real ? p.decay[n * p.channels + c] : 0.0f;
        h[n] = 0.0f;
    }
    const float bias = real ? p.bias[c] : 0.0f;
    const int by = p.reversed ? 1 : -1;
    float after = 0.0f;

    for (u32 done = 0; done < tile.len; done += ROWS) {
        const int count = min((u32)ROWS, tile.len - done);
        const i64 first = p.reversed ? tile.row + done : (i64)tile.row + tile.len - 1 - done;
        __syncthreads();
        stage<N, R, 1>(p, rows, first, by, count);
        __syncthreads();
        if (!real) continue;
        for (int base = 0; base < count; base += BATCH) {
            // Loads in front, so that they overlap.
            float us[BATCH], steps[BATCH];
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                if (base + b >= count) break;
                const i64 at = (first + (base + b) * by) * p.channels + c;
                us[b] = load(p.u + at);
                if (R == 0) steps[b] = p.step[at];
            }
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                if (base + b >= count) break;
                const float4 *row = (const float4 *)(rows + (base + b) * WIDTH);
                const float step = time_step(raw_step<R>(row, w, R == 0 ? bias + steps[b] : bias));
                const float input = step * us[b];
#pragma unroll
                for (int n = 0; n < N / 4; n++) {
                    const float4 bs = row[R / 4 + n];
                    const float bn[4] = {bs.x, bs.y, bs.z, bs.w};
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        const float faded = exp2_quick(after * decay[4 * n + k]);
                        h[4 * n + k] = fmaf(faded, input * bn[k], h[4 * n + k]);
                    }
                }
                after += step;
            }
        }
    }
    if (!real) return;
    p.sums[index * p.channels + c] = after;
    for (int n = 0; n < N; n++) p.ends[(index * N + n) * p.channels + c] = h[n];
}

// The outputs of each tile, from the states before it.
template <int N, int R, int PASS, typename E>
__device__ void scan(const Scan &p, const Slopes &s, E *__restrict__ out) {
    constexpr int WIDTH = R + 2 * N;
    __shared__ __align__(16) float rows[ROWS * WIDTH];
    const int blocks = (p.channels + THREADS - 1) / THREADS;
    const i64 index = blockIdx.x / blocks;
    const int c = blockIdx.x % blocks * THREADS + threadIdx.x;
    const bool real = c < p.channels;
    const Tile tile = p.tiles[index];

    float w[R > 0 ? R : 1], decay[N], h[N];
    for (int r = 0; r < R; r++) w[r] = real ? p.weight[r * p.channels + c] : 0.0f;
    for (int n = 0; n < N; n++) {
        decay[n] = real ? p.decay[n * p.channels + c] : 0.0f;
        h[n] = real ? p.ends[(index * N + n) * p.channels + c] : 0.0f;
    }
    const float bias = real ? p.bias[c] : 0.0f;
    const float skip = real ? p.skip[c] : 0.0f;
    const int by = p.reversed ? -1 : 1;
    float sum = 0.0f;

    for (u32 done = 0; done < tile.len; done += ROWS) {
        const int count = min((u32)ROWS, tile.len - done);
        const i64 first = p.reversed ? (i64)tile.row + tile.len - 1 - done : tile.row + done;
        __syncthreads();
        stage<N, R, 2>(p, rows, first, by, count);
        __syncthreads();
        if (!real) continue;
        for (int base = 0; base < count; base += BATCH) {
            // Loads in front, so that they overlap.
            float us[BATCH], steps[BATCH], gates[BATCH], outs[BATCH], grads[BATCH];
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                if (base + b >= count) break;
                const i64 at = (first + (base + b) * by) * p.channels + c;
                us[b] = load(p.u + at);
                if (R == 0) steps[b] = p.step[at];
                if (p.gate) gates[b] = load(p.gate + at);
                outs[b] = p.added ? p.added[at] : 0.0f;
                if (PASS == AGAIN && p.gate) grads[b] = s.grad[at];
            }
            if (PASS == AGAIN && (done + base) % BLOCK == 0)
                for (int n = 0; n < N; n++)
                    s.starts[(start_of(tile, index, (done + base) / BLOCK) * N + n) * p.channels +
                             c] = h[n];
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                if (base + b >= count) break;
                const float4 *row = (const float4 *)(rows + (base + b) * WIDTH);
                const float step = time_step(raw_step<R>(row, w, R == 0 ? bias + steps[b] : bias));
                const float input = step * us[b];
                if (PASS == AGAIN) sum += step;
                float y[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
                for (int n = 0; n < N / 4; n++) {
                    const float4 bs = row[R / 4 + n], cs = row[R / 4 + N / 4 + n];
                    const float bn[4] = {bs.x, bs.y, bs.z, bs.w};
                    const float cn[4] = {cs.x, cs.y, cs.z, cs.w};
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        float &state = h[4 * n + k];
                        state = fmaf(kept(step * decay[4 * n + k]), state, input * bn[k]);
                        y[k] = fmaf(state, cn[k], y[k]);
                    }
                }
                float v = fmaf(skip, us[b], outs[b]) + ((y[0] + y[1]) + (y[2] + y[3]));
                const i64 at = (first + (base + b) * by) * p.channels + c;
                if (PASS == OUTPUTS) {
                    if (p.gate) v *= silu(gates[b]);
                    store(out + at, v);
                } else {
                    s.step[at] = step;
                    if (p.gate) {
                        s.inner[at] = grads[b] * silu(gates[b]);
                        s.to_gate[at] = grads[b] * v * silu_slope(gates[b]);
                    }
                }
            }
        }
    }
    if (!real) return;
    if (PASS == AGAIN) {
        p.sums[index * p.channels + c] = sum;
        return;
    }
    const Segment segment = p.segments[tile.segment];
    const bool last = tile.index == (p.reversed ? 0 : segment.tiles - 1);
    if (!last || segment.flags & ENDS) return;
    for (int n = 0; n < N; n++) p.hidden[((i64)segment.lane * N + n) * p.channels + c] = h[n];
}

// Initial states of each tile of a segment, in place of the final ones; from zeros without `hidden`.
extern "C" __global__ void scan_carry(Scan p) {
    enum { AHEAD = 8 };
    const i64 values = (i64)STATES * p.channels;
    const int blocks = (values + blockDim.x - 1) / blockDim.x;
    const Segment segment = p.segments[blockIdx.x / blocks];
    const i64 i = blockIdx.x % blocks * (i64)blockDim.x + threadIdx.x;
    if (i >= values) return;
    const int c = i % p.channels;
    float h = segment.flags & STARTS || !p.hidden ? 0.0f : p.hidden[segment.lane * values + i];
    const float decay = p.decay[i];
    const i64 from = p.reversed ? segment.first_tile + segment.tiles - 1 : segment.first_tile;
    const i64 by = p.reversed ? -1 : 1;
    for (u32 done = 0; done < segment.tiles; done += AHEAD) {
        // No arithmetic between loads, so that they overlap.
        float ends[AHEAD], sums[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            // The last tile has no final state: nothing follows it here.
            if (done + a + 1 >= segment.tiles) break;
            const i64 tile = from + by * (done + a);
            ends[a] = p.ends[tile * values + i];
            sums[a] = p.sums[tile * p.channels + c];
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            if (done + a >= segment.tiles) break;
            p.ends[(from + by * (done + a)) * values + i] = h;
            if (done + a + 1 < segment.tiles) h = fmaf(exp2f(decay * sums[a]), h, ends[a]);
        }
    }
}

#if GRADIENTS
// The gradient that each tile's own rows give to the states before it.
template <int N> __device__ void slope_ends(const Scan &p, const Slopes &s) {
    __shared__ __align__(16) float rows[ROWS * N];
    const int blocks = (p.channels + THREADS - 1) / THREADS;
    const i64 index = blockIdx.x / blocks;
    const int c = blockIdx.x % blocks * THREADS + threadIdx.x;
    const bool real = c < p.channels;
    const Tile tile = p.tiles[index];
    if (tile.index == (p.reversed ? p.segments[tile.segment].tiles - 1 : 0)) return;

    const float *inner = p.gate ? s.inner : s.grad;
    const int width = p.rank + 2 * p.states;
    float decay[N], g[N];
    for (int n = 0; n < N; n++) {
        decay[n] = real ? p.decay[n * p.channels + c] : 0.0f;
        g[n] = 0.0f;
    }
    for (u32 done = 0; done < tile.len; done += ROWS) {
        const int count = min((u32)ROWS, tile.len - done);
        const i64 first = p.reversed ? tile.row + done : (i64)tile.row + tile.len - done - count;
        __syncthreads();
        for (int i = threadIdx.x; i < count * N; i += THREADS) {
            const int n = i % N, column = p.rank + p.states + n;
            rows[i] = n < p.states ? p.projected[(first + i / N) * width + column] : 0.0f;
        }
        __syncthreads();
        if (!real) continue;
        for (int base = 0; base < count; base += BATCH) {
            float steps[BATCH], grads[BATCH];
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                if (base + b >= count) break;
                const int i = p.reversed ? base + b : count - 1 - base - b;
                steps[b] = s.step[(first + i) * p.channels + c];
                grads[b] = inner[(first + i) * p.channels + c];
            }
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                if (base + b >= count) break;
                const int i = p.reversed ? base + b : count - 1 - base - b;
                const float4 *row = (const float4 *)(rows + i * N);
#pragma unroll
                for (int n = 0; n < N / 4; n++) {
                    const float4 cs = row[n];
                    const float cn[4] = {cs.x, cs.y, cs.z, cs.w};
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        float &x = g[4 * n + k];
                        x = fmaf(grads[b], cn[k], x) * exp2_decay(steps[b] * decay[4 * n + k]);
                    }
                }
            }
        }
    }
    if (!real) return;
    for (int n = 0; n < N; n++) s.later[(index * N + n) * p.channels + c] = g[n];
}

// The gradients of a tile's rows, from the states before each block of them and the gradient that
// the rows after them give to the states.
template <int N> __device__ void slopes(const Scan &p, const Slopes &s) {
    // Rows of a multiple of 32 and 8 floats: what a warp sums is then in different banks.
    enum { VALUES = 2 * BLOCK, SHARES = THREADS / VALUES, PADDED = THREADS + SHARES };
    __shared__ float rows[BLOCK * 2 * N];
    __shared__ float folded[2][VALUES * PADDED];
    const int blocks = (p.channels + THREADS - 1) / THREADS;
    const i64 index = blockIdx.x / blocks;
    const int column = blockIdx.x % blocks;
    const int c = column * THREADS + threadIdx.x;
    const bool real = c < p.channels;
    const Tile tile = p.tiles[index];
    const float *inner = p.gate ? s.inner : s.grad;
    const int width = p.rank + 2 * p.states;
    const int value = threadIdx.x / SHARES, part = threadIdx.x % SHARES;

    // Registers of more states would not suffice.
    constexpr int UNROLLED = N <= 16 ? N : 1;
    float later[N], rates[N];
#pragma unroll(UNROLLED)
    for (int n = 0; n < N; n++) {
        later[n] = real ? s.later[(index * N + n) * p.channels + c] : 0.0f;
        rates[n] = 0.0f;
    }
    const float skip = real ? p.skip[c] : 0.0f;
    float skips = 0.0f;

    for (int block = (tile.len - 1) / BLOCK; block >= 0; block--) {
        const int count = min((u32)BLOCK, tile.len - block * BLOCK);
        // The block's row k, in the order of scanning, is first + by k.
        const i64 by = p.reversed ? -1 : 1;
        const i64 first = tile.row + (p.reversed ? tile.len - 1 - block * BLOCK : block * BLOCK);
        __syncthreads();
        for (int i = threadIdx.x; i < BLOCK * 2 * N; i += THREADS) {
            const int k = i / (2 * N), n = i % N;
            const int source = p.rank + n + (i % (2 * N) < N ? 0 : p.states);
            const bool there = k < count && n < p.states;
            rows[i] = there ? p.projected[(first + by * k) * width + source] : 0.0f;
        }
        __syncthreads();
        // Rows that are not there change nothing: their time steps are zeros.
        float us[BLOCK], steps[BLOCK], grads[BLOCK], to_input[BLOCK], to_step[BLOCK];
#pragma unroll
        for (int k = 0; k < BLOCK; k++) {
            const bool there = real && k < count;
            const i64 at = (first + by * k) * p.channels + c;
            us[k] = there ? load(p.u + at) : 0.0f;
            steps[k] = there ? s.step[at] : 0.0f;
            grads[k] = there ? inner[at] : 0.0f;
            to_input[k] = to_step[k] = 0.0f;
        }
        const float *start = s.starts + start_of(tile, index, block) * N * p.channels + c;
#pragma unroll(UNROLLED)
        for (int n = 0; n < N; n++) {
            const float decay = real ? p.decay[n * p.channels + c] : 0.0f;
            float h[BLOCK + 1], kept[BLOCK];
            h[0] = real ? start[(i64)n * p.channels] : 0.0f;
#pragma unroll
            for (int k = 0; k < BLOCK; k++) {
                kept[k] = exp2_decay(steps[k] * decay);
                h[k + 1] = fmaf(kept[k], h[k], steps[k] * us[k] * rows[k * 2 * N + n]);
            }
            float *to = folded[n % 2];
#pragma unroll
            for (int k = BLOCK - 1; k >= 0; k--) {
                const float b = rows[k * 2 * N + n];
                const float g = fmaf(grads[k], rows[k * 2 * N + N + n], later[n]);
                to[k * PADDED + threadIdx.x] = g * steps[k] * us[k];
                to[(BLOCK + k) * PADDED + threadIdx.x] = grads[k] * h[k + 1];
                to_input[k] = fmaf(g, b, to_input[k]);
                later[n] = g * kept[k];
                const float through = later[n] * h[k];
                to_step[k] = fmaf(through, decay, to_step[k]);
                rates[n] = fmaf(through, steps[k], rates[n]);
            }
            // The other half of `folded` is written next: one barrier for each state.
            __syncthreads();
            float sum = 0.0f;
#pragma unroll
            for (int i = 0; i < THREADS / SHARES; i++) sum += to[value * PADDED + part + SHARES * i];
#pragma unroll
            for (int half = 1; half < SHARES; half *= 2)
                sum += __shfl_xor_sync(0xffffffffu, sum, half);
            const int k = value % BLOCK;
            if (part == 0 && k < count && n < p.states)
                s.sums[((first + by * k) * blocks + column) * 2 * p.states +
                       (value < BLOCK ? 0 : p.states) + n] = sum;
        }
        if (!real) continue;
#pragma unroll
        for (int k = 0; k < BLOCK; k++) {
            if (k >= count) break;
            const i64 at = (first + by * k) * p.channels + c;
            s.to_u[at] = fmaf(steps[k], to_input[k], skip * grads[k]);
            skips = fmaf(us[k], grads[k], skips);
            const float to = fmaf(to_input[k], us[k], to_step[k] * 0.69314718056f);
            // The slope of softplus is 1 - exp(-softplus).
            s.to_step[at] = to * -expm1f(-steps[k]);
        }
    }
    if (!real) return;
    s.skips[index * p.channels + c] = skips;
#pragma unroll(UNROLLED)
    for (int n = 0; n < N; n++)
        if (n < p.states)
            s.rates[(index * p.channels + c) * p.states + n] =
                rates[n] * p.decay[n * p.channels + c] * 0.69314718056f;
}

// The gradients to B and C, (T, 2 states), behind those to the low-rank time steps.
extern "C" __global__ void scan_projections(float *out, const float *sums, i64 rows, int rank,
                                            int states, int blocks) {
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * 2 * states) return;
    i64 row;
    int column;
    place(i, 2 * states, row, column);
    float sum = 0.0f;
    for (int b = 0; b < blocks; b++) sum += sums[(row * blocks + b) * 2 * states + column];
    out[row * (rank + 2 * states) + rank + column] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) scan_again(Scan p, Slopes s) {
    scan<STATES, RANK, AGAIN>(p, s, (float *)0);
}
extern "C" __global__ void __launch_bounds__(THREADS) scan_slope_ends(Scan p, Slopes s) {
    slope_ends<STATES>(p, s);
}
extern "C" __global__ void __launch_bounds__(THREADS) scan_slopes(Scan p, Slopes s) {
    slopes<STATES>(p, s);
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) scan_ends(Scan p) {
    ends<STATES, RANK>(p);
}
extern "C" __global__ void __launch_bounds__(THREADS) scan_f32(Scan p, float *out) {
    scan<STATES, RANK, OUTPUTS>(p, Slopes(), out);
}
extern "C" __global__ void __launch_bounds__(THREADS) scan_bf16(Scan p, bf16 *out) {
    scan<STATES, RANK, OUTPUTS>(p, Slopes(), out);
}
#endif
