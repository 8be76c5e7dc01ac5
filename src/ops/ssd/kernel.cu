// Compiled with STATES, N filled up to a multiple of 16, 256 at most, and SLICE of a head in a
// block, 64 at most.
//
// The scan of Mamba-2 over tiles of rows: Dao & Gu 2024, arXiv:2405.21060. Three passes, as in
// scan.cu. Without tensor cores, which do not compute in f32, the matrix form of a chunk takes more
// operations than the recurrence does: 2 N for the state and 64 (1 + N / P) within the chunk for
// each channel, against 3 N. Four neighbouring threads have one channel, N / 4 of its states each.

enum {
    SHARE = 4,
    OWN = STATES / SHARE,
    THREADS = (SLICE * SHARE + 31) / 32 * 32,
    ROWS = STATES <= 128 ? 32 : 16, // in shared memory at once
    BATCH = 4
};

struct Ssd {
    const float *xbc;   // (T, I + 2 G N): x, B and C
    const float *steps; // (T, H), before bias and softplus
    const float *rate;  // (H): A log2(e)
    const float *bias;  // (H)
    const float *skip;  // (H)
    float *state;       // (lanes, I, STATES)
    float *ends;        // (tiles, I, STATES): final states of pass 1, then initial ones
    float *sums;        // (tiles, H): of the time steps
    const Tile *tiles;
    const Segment *segments;
    int heads, channels, groups, states;
};

template <bool OUTPUT>
__device__ void ssd(const Ssd &p, float least, float most, float *__restrict__ out) {
    __shared__ __align__(16) float b[ROWS * STATES];
    __shared__ __align__(16) float c[OUTPUT ? ROWS * STATES : 4];
    __shared__ float steps[ROWS], decays[ROWS];
    const int parts = (p.channels + SLICE - 1) / SLICE;
    const i64 index = blockIdx.x / (p.heads * parts);
    const int head = blockIdx.x / parts % p.heads, share = threadIdx.x % SHARE;
    const int channel = blockIdx.x % parts * SLICE + threadIdx.x / SHARE;
    const bool real = threadIdx.x / SHARE < SLICE && channel < p.channels;
    const Tile tile = p.tiles[index];
    const Segment segment = p.segments[tile.segment];
    const bool last = tile.index == segment.tiles - 1;
    if (!OUTPUT && last) return;

    const int inner = p.heads * p.channels, width = inner + 2 * p.groups * p.states;
    const int column = head * p.channels + channel;
    const int from_b = inner + head / (p.heads / p.groups) * p.states;
    const int from_c = from_b + p.groups * p.states;
    const float rate = p.rate[head], bias = p.bias[head], skip = p.skip[head];
    float *end = p.ends + (index * inner + column) * STATES + share * 4;
    float s[OWN];
#pragma unroll
    for (int n = 0; n < OWN; n++)
        s[n] = OUTPUT && real ? end[n / 4 * (4 * SHARE) + n % 4] : 0.0f;
    float sum = 0.0f;

    for (u32 done = 0; done < tile.len; done += ROWS) {
        const int count = min((u32)ROWS, tile.len - done);
        const i64 first = tile.row + done;
        __syncthreads();
        for (int i = threadIdx.x; i < count * STATES; i += THREADS) {
            const int n = i % STATES;
            const float *row = p.xbc + (first + i / STATES) * width;
            b[i] = n < p.states ? row[from_b + n] : 0.0f;
            if (OUTPUT) c[i] = n < p.states ? row[from_c + n] : 0.0f;
        }
        for (int i = threadIdx.x; i < count; i += THREADS) {
            const float step = softplus(p.steps[(first + i) * p.heads + head] + bias);
            steps[i] = fminf(fmaxf(step, least), most);
            decays[i] = exp2_decay(steps[i] * rate);
        }
        __syncthreads();
        for (int base = 0; base < count; base += BATCH) {
            // Loads in front, so that they overlap.
            float xs[BATCH];
#pragma unroll
            for (int k = 0; k < BATCH; k++)
                xs[k] = real && base + k < count ? p.xbc[(first + base + k) * width + column] : 0.0f;
#pragma unroll
            for (int k = 0; k < BATCH; k++) {
                const int i = base + k;
                if (i >= count) break;
                const float decay = decays[i], input = steps[i] * xs[k];
                if (!OUTPUT) sum += steps[i];
                float y = 0.0f;
#pragma unroll
                for (int n = 0; n < OWN; n += 4) {
                    const int at = i * STATES + n * SHARE + share * 4;
                    const float4 bs = *(const float4 *)(b + at);
                    s[n] = fmaf(decay, s[n], input * bs.x);
                    s[n + 1] = fmaf(decay, s[n + 1], input * bs.y);
                    s[n + 2] = fmaf(decay, s[n + 2], input * bs.z);
                    s[n + 3] = fmaf(decay, s[n + 3], input * bs.w);
                    if (OUTPUT) {
                        const float4 cs = *(const float4 *)(c + at);
                        y = fmaf(s[n], cs.x, y);
                        y = fmaf(s[n + 1], cs.y, y);
                        y = fmaf(s[n + 2], cs.z, y);
                        y = fmaf(s[n + 3], cs.w, y);
                    }
                }
                if (!OUTPUT) continue;
                y += __shfl_xor_sync(0xffffffffu, y, 1);
                y += __shfl_xor_sync(0xffffffffu, y, 2);
                if (real && share == 0) out[(first + i) * inner + column] = fmaf(skip, xs[k], y);
            }
        }
    }
    if (!real) return;
    if (OUTPUT) {
        if (!last || segment.flags & ENDS) return;
        end = p.state + ((i64)segment.lane * inner + column) * STATES + share * 4;
    } else if (channel == 0 && share == 0) {
        p.sums[index * p.heads + head] = sum;
    }
#pragma unroll
    for (int n = 0; n < OWN; n++) end[n / 4 * (4 * SHARE) + n % 4] = s[n];
}

extern "C" __global__ void __launch_bounds__(THREADS) ssd_ends(Ssd p, float least, float most) {
    ssd<false>(p, least, most, (float *)0);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    ssd_outputs(Ssd p, float least, float most, float *out) {
    ssd<true>(p, least, most, out);
}

// Initial states of each tile of a segment, in place of the final ones.
extern "C" __global__ void ssd_carry(Ssd p) {
    enum { AHEAD = 8 };
    const i64 values = (i64)p.heads * p.channels * STATES;
    const i64 blocks = (values + blockDim.x - 1) / blockDim.x;
    const Segment segment = p.segments[blockIdx.x / blocks];
    const i64 i = blockIdx.x % blocks * blockDim.x + threadIdx.x;
    if (i >= values) return;
    const int head = i / ((i64)p.channels * STATES);
    float s = segment.flags & STARTS ? 0.0f : p.state[segment.lane * values + i];
    const float rate = p.rate[head];
    for (u32 done = 0; done < segment.tiles; done += AHEAD) {
        // No arithmetic between loads, so that they overlap.
        float ends[AHEAD], sums[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            // The last tile has no final state: nothing follows it here.
            if (done + a + 1 >= segment.tiles) break;
            const i64 tile = (i64)segment.first_tile + done + a;
            ends[a] = p.ends[tile * values + i];
            sums[a] = p.sums[tile * p.heads + head];
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            if (done + a >= segment.tiles) break;
            p.ends[((i64)segment.first_tile + done + a) * values + i] = s;
            if (done + a + 1 < segment.tiles) s = fmaf(exp2f(rate * sums[a]), s, ends[a]);
        }
    }
}
