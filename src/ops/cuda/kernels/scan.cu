// Compiled with STATES, N filled up to a multiple of 4, and RANK, R where the weights of the time
// step are in registers, else 0.
//
// The selective scan over tiles of rows: Gu & Dao 2023, arXiv:2312.00752. Three passes: each
// tile's state from a zero start and its decay; the states at each tile's start, one tile after
// the other; the outputs. One thread has one channel and all of its N states.

// Rows whose projections are in shared memory at once.
enum { ROWS = 32, THREADS = 128, BATCH = 4 };

struct Scan {
    const float *u;         // (T, I)
    const float *projected; // (T, rank + 2 states): low-rank time step, B, C
    const float *step;      // (T, I): the time step before bias and softplus, if R is 0
    const float *weight;    // (R, I)
    const float *bias;      // (I)
    const float *decay;     // (N, I): A log2(e)
    const float *skip;      // (I)
    const float *added;     // (T, I) or null
    const float *gate;      // (T, I) or null
    float *hidden;          // (lanes, N, I)
    float *ends;            // (tiles, N, I): final states of pass 1, then initial ones
    float *sums;            // (tiles, I): of the time steps
    const Tile *tiles;
    const Segment *segments;
    int channels, rank, states, reversed;
};

// R: the rank, whose weights are then in registers; 0: `step` is given.
template <int N, int R, bool OUTPUT, typename E>
__device__ void scan(const Scan &p, E *__restrict__ out) {
    constexpr int WIDTH = R + 2 * N;
    __shared__ __align__(16) float rows[ROWS * WIDTH];
    const int blocks = (p.channels + THREADS - 1) / THREADS;
    const i64 index = blockIdx.x / blocks;
    const int c = blockIdx.x % blocks * THREADS + threadIdx.x;
    const bool real = c < p.channels;
    const Tile tile = p.tiles[index];
    const Segment segment = p.segments[tile.segment];
    const bool last = tile.index == (p.reversed ? 0 : segment.tiles - 1);
    if (!OUTPUT && last) return;

    float w[R > 0 ? R : 1], decay[N], h[N];
    for (int r = 0; r < R; r++) w[r] = real ? p.weight[r * p.channels + c] : 0.0f;
    for (int n = 0; n < N; n++) {
        decay[n] = real ? p.decay[n * p.channels + c] : 0.0f;
        h[n] = OUTPUT && real ? p.ends[(index * N + n) * p.channels + c] : 0.0f;
    }
    const float bias = real ? p.bias[c] : 0.0f;
    const float skip = OUTPUT && real ? p.skip[c] : 0.0f;
    const int width = p.rank + 2 * p.states;
    float sum = 0.0f;

    for (u32 done = 0; done < tile.len; done += ROWS) {
        const int count = min((u32)ROWS, tile.len - done);
        const i64 first = p.reversed ? (i64)tile.row + tile.len - done - count : tile.row + done;
        __syncthreads();
        for (int i = threadIdx.x; i < count * WIDTH; i += THREADS) {
            const int column = i % WIDTH;
            int source = column < R ? column : -1;
            if (column >= R && column < R + N && column - R < p.states)
                source = p.rank + column - R;
            if (column >= R + N && column - R - N < p.states)
                source = p.rank + p.states + column - R - N;
            rows[i] = source < 0 ? 0.0f : p.projected[(first + i / WIDTH) * width + source];
        }
        __syncthreads();
        if (!real) continue;
        for (int base = 0; base < count; base += BATCH) {
            // Loads in front, so that they overlap.
            float us[BATCH], steps[BATCH], gates[BATCH], outs[BATCH];
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                if (base + b >= count) break;
                const int i = p.reversed ? count - 1 - base - b : base + b;
                const i64 at = (first + i) * p.channels + c;
                us[b] = p.u[at];
                if (R == 0) steps[b] = p.step[at];
                if (OUTPUT && p.gate) gates[b] = p.gate[at];
                if (OUTPUT) outs[b] = p.added ? p.added[at] : 0.0f;
            }
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                if (base + b >= count) break;
                const int i = p.reversed ? count - 1 - base - b : base + b;
                const float4 *row = (const float4 *)(rows + i * WIDTH);
                float raw = R == 0 ? bias + steps[b] : bias;
#pragma unroll
                for (int r = 0; r < R / 4; r++) {
                    const float4 low = row[r];
                    raw = fmaf(low.x, w[4 * r], raw);
                    raw = fmaf(low.y, w[4 * r + 1], raw);
                    raw = fmaf(low.z, w[4 * r + 2], raw);
                    raw = fmaf(low.w, w[4 * r + 3], raw);
                }
                const float step = softplus(raw);
                const float input = step * us[b];
                if (!OUTPUT) sum += step;
                float y[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
                for (int n = 0; n < N / 4; n++) {
                    const float4 bs = row[R / 4 + n];
                    const float4 cs = OUTPUT ? row[R / 4 + N / 4 + n] : bs;
                    const float bn[4] = {bs.x, bs.y, bs.z, bs.w};
                    const float cn[4] = {cs.x, cs.y, cs.z, cs.w};
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        float &s = h[4 * n + k];
                        s = fmaf(exp2_decay(step * decay[4 * n + k]), s, input * bn[k]);
                        if (OUTPUT) y[k] = fmaf(s, cn[k], y[k]);
                    }
                }
                if (OUTPUT) {
                    float v = fmaf(skip, us[b], outs[b]) + ((y[0] + y[1]) + (y[2] + y[3]));
                    if (p.gate) v *= silu(gates[b]);
                    store(out + (first + i) * p.channels + c, v);
                }
            }
        }
    }
    if (!real) return;
    if (OUTPUT) {
        if (!last || segment.flags & ENDS) return;
        for (int n = 0; n < N; n++) p.hidden[((i64)segment.lane * N + n) * p.channels + c] = h[n];
    } else {
        for (int n = 0; n < N; n++) p.ends[(index * N + n) * p.channels + c] = h[n];
        p.sums[index * p.channels + c] = sum;
    }
}

// Initial states of each tile of a segment, in place of the final ones.
extern "C" __global__ void scan_carry(Scan p) {
    enum { AHEAD = 8 };
    const i64 values = (i64)STATES * p.channels;
    const int blocks = (values + blockDim.x - 1) / blockDim.x;
    const Segment segment = p.segments[blockIdx.x / blocks];
    const i64 i = blockIdx.x % blocks * (i64)blockDim.x + threadIdx.x;
    if (i >= values) return;
    const int c = i % p.channels;
    float h = segment.flags & STARTS ? 0.0f : p.hidden[segment.lane * values + i];
    const float decay = p.decay[i];
    const i64 from = p.reversed ? segment.first_tile + segment.tiles - 1 : segment.first_tile;
    const i64 by = p.reversed ? -1 : 1;
    for (u32 done = 0; done < segment.tiles; done += AHEAD) {
        float ends[AHEAD], kept[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            // The last tile has no final state: nothing follows it here.
            if (done + a + 1 >= segment.tiles) break;
            const i64 tile = from + by * (done + a);
            ends[a] = p.ends[tile * values + i];
            kept[a] = exp2f(decay * p.sums[tile * p.channels + c]);
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            if (done + a >= segment.tiles) break;
            p.ends[(from + by * (done + a)) * values + i] = h;
            if (done + a + 1 < segment.tiles) h = fmaf(kept[a], h, ends[a]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) scan_ends(Scan p) {
    scan<STATES, RANK, false>(p, (float *)0);
}
extern "C" __global__ void __launch_bounds__(THREADS) scan_f32(Scan p, float *out) {
    scan<STATES, RANK, true>(p, out);
}
extern "C" __global__ void __launch_bounds__(THREADS) scan_bf16(Scan p, bf16 *out) {
    scan<STATES, RANK, true>(p, out);
}
