// What the matrix products of ssd/chunks.rs take: the scan of Mamba-2 in chunks of Q rows, Dao &
// Gu 2024, arXiv:2405.21060, section 6. With c_i the sum of d A log2(e) over a chunk's rows up to
// i, the rows of one head are one product of bf16 numbers,
//   y = [ C B' o exp2(c_i - c_j) d_j, D on the diagonal | exp2(c_i) C ] [ X ; S' ],
// with the state S before the chunk. A short chunk has rows of zeros, and steps of 0, behind.

enum { Q = 128, THREADS = 256, SPAN = 64, ROWS = 16 };

struct Chunks {
    const void *xbc;     // (T, I + 2 G N): x, B and C, of the type that chunk_inputs is named for
    const float *steps;  // (T, H), before bias and softplus
    const float *rate;   // (H): A log2(e)
    const float *bias;   // (H)
    const float *skip;   // (H)
    const float *before; // (lanes, I, N padded): the states before the step
    float *state;        // the same after it
    const float *from;   // (N, I): state of the segment that this band's start cuts
    float *to;           // (N, I): of the one that its end cuts
    float *sums;         // (chunks, H, Q): c
    float *late;         // (chunks, H, Q): log2(d) - c
    bf16 *bc;            // (chunks, Q, 2 G N): B and C
    bf16 *scaled;        // (chunks, Q, I): X d exp2(c_Q - c)
    float *scores;       // (chunks, G, Q, Q): C B'
    bf16 *left;          // (chunks, H, Q, Q + N), as above
    bf16 *right;         // (chunks, Q + N, I); below X the chunks' own final states, then S'
    const Tile *tiles;   // of all chunks
    const Segment *segments;
    // The band: its first chunk, their count, its first segment.
    int heads, channels, groups, states, padded, first, count, segment;
};

// A block has one head, or SPAN columns of B and C, of a chunk.
template <typename E> __device__ void chunk_inputs(const Chunks &p, float least, float most) {
    __shared__ float sums[2][Q], factors[Q];
    const E *xbc = (const E *)p.xbc;
    const int inner = p.heads * p.channels, both = 2 * p.groups * p.states;
    const int width = inner + both, parts = p.heads + (both + SPAN - 1) / SPAN;
    const i64 chunk = blockIdx.x / parts;
    const int head = blockIdx.x % parts, row = threadIdx.x;
    const Tile tile = p.tiles[p.first + chunk];
    if (head >= p.heads) {
        const int first = (head - p.heads) * SPAN, fours = min((int)SPAN, both - first) / 4;
#pragma unroll 4
        for (int i = threadIdx.x; i < Q * fours; i += THREADS) {
            const int r = i / fours, column = first + i % fours * 4;
            Values<4> v = {};
            if (r < tile.len) v = load<4>(xbc + (i64)(tile.row + r) * width + inner + column);
            store(p.bc + (chunk * Q + r) * both + column, v);
        }
        return;
    }
    float step = 0.0f;
    if (row < tile.len) {
        step = softplus(p.steps[(i64)(tile.row + row) * p.heads + head] + p.bias[head]);
        step = fminf(fmaxf(step, least), most);
    }
    if (row < Q) sums[0][row] = step * p.rate[head];
    __syncthreads();
    int at = 0;
    for (int distance = 1; distance < Q; distance *= 2) {
        if (row < Q)
            sums[1 - at][row] = sums[at][row] + (row < distance ? 0.0f : sums[at][row - distance]);
        at = 1 - at;
        __syncthreads();
    }
    if (row < Q) {
        const float sum = sums[at][row];
        const i64 place = (chunk * p.heads + head) * Q + row;
        factors[row] = step * exp2f(sums[at][Q - 1] - sum);
        p.sums[place] = sum;
        p.late[place] = log2f(step) - sum;
    }
    __syncthreads();
    const int fours = p.channels / 4;
    bf16 *right = p.right + chunk * (Q + p.states) * inner + head * p.channels;
    bf16 *scaled = p.scaled + chunk * Q * inner + head * p.channels;
    const E *x = xbc + (i64)tile.row * width + head * p.channels;
#pragma unroll 4
    for (int i = threadIdx.x; i < Q * fours; i += THREADS) {
        const int r = i / fours, column = i % fours * 4;
        Values<4> v = {};
        if (r < tile.len) v = load<4>(x + (i64)r * width + column);
        store(right + (i64)r * inner + column, v);
#pragma unroll
        for (int k = 0; k < 4; k++) v.x[k] *= factors[r];
        store(scaled + (i64)r * inner + column, v);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    chunk_inputs_f32(Chunks p, float least, float most) {
    chunk_inputs<float>(p, least, most);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    chunk_inputs_bf16(Chunks p, float least, float most) {
    chunk_inputs<bf16>(p, least, most);
}

// The left factors. A block has ROWS rows of a chunk, of all heads.
extern "C" __global__ void __launch_bounds__(THREADS) chunk_weights(Chunks p) {
    const int wide = Q + p.states, share = p.heads / p.groups;
    const i64 chunk = blockIdx.x / (Q / ROWS);
    const int first = blockIdx.x % (Q / ROWS) * ROWS;
    for (int i = threadIdx.x; i < ROWS * (wide / 4); i += THREADS) {
        const int row = first + i / (wide / 4), column = i % (wide / 4) * 4;
        const bool within = column < Q, later = within && column > row;
        for (int group = 0; group < p.groups; group++) {
            Values<4> given = {};
            if (!within)
                given = load<4>(p.bc + (chunk * Q + row) * (2 * p.groups * p.states) +
                                (p.groups + group) * p.states + column - Q);
            else if (!later)
                given = load<4>(p.scores + ((chunk * p.groups + group) * Q + row) * Q + column);
#pragma unroll 4
            for (int head = group * share; head < (group + 1) * share; head++) {
                const i64 place = (chunk * p.heads + head) * Q;
                const float sum = p.sums[place + row];
                Values<4> v = {};
                if (!within) {
                    const float kept = exp2_quick(sum);
#pragma unroll
                    for (int k = 0; k < 4; k++) v.x[k] = kept * given.x[k];
                } else if (!later) {
                    const Values<4> late = load<4>(p.late + place + column);
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        if (column + k <= row) v.x[k] = given.x[k] * exp2_quick(sum + late.x[k]);
                        if (column + k == row) v.x[k] += p.skip[head];
                    }
                }
                store(p.left + (place + row) * wide + column, v);
            }
        }
    }
}

// The states before each chunk of a segment, in place of its own final ones; one thread a value.
extern "C" __global__ void chunk_carry(Chunks p) {
    enum { AHEAD = 16 };
    const int inner = p.heads * p.channels;
    const i64 values = (i64)p.states * inner;
    const i64 blocks = (values + blockDim.x - 1) / blockDim.x;
    const Segment segment = p.segments[p.segment + blockIdx.x / blocks];
    const i64 i = blockIdx.x % blocks * blockDim.x + threadIdx.x;
    if (i >= values) return;
    const int column = i % inner, head = column / p.channels;
    const i64 lane = ((i64)segment.lane * inner + column) * p.padded + i / inner;
    // Chunks of the segment, counted from the band's first.
    const i64 begin = (i64)segment.first_tile - p.first, end = begin + segment.tiles;
    const i64 last = min(end, (i64)p.count);
    float s = begin < 0 ? p.from[i] : segment.flags & STARTS ? 0.0f : p.before[lane];
    bf16 *states = p.right + (i64)Q * inner + i;
    const i64 step = (i64)(Q + p.states) * inner;
    for (i64 done = max(begin, (i64)0); done < last; done += AHEAD) {
        // No arithmetic between loads, so that they overlap.
        bf16 own[AHEAD];
        float sums[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            if (done + a >= last) break;
            own[a] = states[(done + a) * step];
            sums[a] = p.sums[((done + a) * p.heads + head) * Q + Q - 1];
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            if (done + a >= last) break;
            store(states + (done + a) * step, s);
            s = fmaf(exp2f(sums[a]), s, load(own + a));
        }
    }
    if (end > p.count) p.to[i] = s;
    else if (!(segment.flags & ENDS)) p.state[lane] = s;
}

// The rows of y that are not padding: (chunks, Q, I) to (T, I).
extern "C" __global__ void chunk_rows(Chunks p, const float *y, float *out) {
    const int fours = p.heads * p.channels / 4;
    i64 row;
    int four;
    place((i64)blockIdx.x * blockDim.x + threadIdx.x, fours, row, four);
    if (row >= (i64)p.count * Q) return;
    const Tile tile = p.tiles[p.first + row / Q];
    if (row % Q >= tile.len) return;
    store(out + ((tile.row + row % Q) * fours + four) * 4, load<4>(y + (row * fours + four) * 4));
}
