// f32 throughout, but pages of bf16 with PAST_BF16=1. Behind kernel_rows.cu.
//
// Softmax attention over tiles of keys with a running maximum and sum: Dao et al. 2022,
// arXiv:2205.14135; its gradients recompute the weights from the logarithms of the sums. Scores
// are in base 2. A block has some rows of one head, its own; it meets the others tile by tile.
// Of its threads, 8 share the own rows among them and 16 the others, or the columns of what is
// summed.

enum {
    PADDED = (HEAD + 15) / 16 * 16,
    STRIDE = PADDED + 4, // of rows in shared memory: neighbours lie in different banks
    THREADS = 128,
    DOWN = 8,
    ACROSS = 16,
    COLUMNS = PADDED / ACROSS,
    PACK = COLUMNS % 4 == 0 ? 4 : COLUMNS % 2 == 0 ? 2 : 1,
    ACCESS = HEAD % 4 == 0 ? 4 : 1,
    // All that a block of `attend` holds fits 48 KB of shared memory.
    QUERIES = PADDED <= 64 ? 64 : PADDED <= 128 ? 32 : 16,
    KEYS = PADDED <= 32 ? 64 : PADDED <= 128 ? 32 : 16,
    OWN = PADDED <= 32 ? 64 : PADDED <= 64 ? 32 : 16,
    OTHERS = PADDED <= 64 ? 32 : 16,
};
#define LOG2E 1.44269504f
#define NONE -1e30f // less than any score
#if PAST_BF16
typedef bf16 Past;
#else
typedef float Past;
#endif

// Rows of this head within the step: parts 0 to 2 are queries, keys and values, 3 the gradient to
// the output.
template <int PART>
__device__ __forceinline__ const float *row(const Attention &p, const Place &at, i64 position) {
    const i64 d = (i64)p.heads * HEAD, column = at.head * HEAD;
    const i64 i = (position < at.past ? at.before : at.row) + position;
    if (PART == 2) return p.x + (3 * i + 2) * d + column;
    if (PART == 3) return p.slope + i * d + column;
    return (const float *)p.turned + (2 * i + PART) * d + column;
}

// Keys or values before it.
template <int PART>
__device__ __forceinline__ const Past *past_row(const Attention &p, const Place &at, i64 position) {
    const Past *page = (const Past *)at.pages[position / PAGE];
    return page + (position % PAGE * 2 + PART - 1) * ((i64)p.heads * HEAD) + at.head * HEAD;
}

template <int PART, int ROWS>
__device__ void fill(float *rows, const Attention &p, const Place &at, i64 first) {
    for (int i = threadIdx.x; i < ROWS * (PADDED / ACCESS); i += THREADS) {
        const int r = i / (PADDED / ACCESS), c = i % (PADDED / ACCESS) * ACCESS;
        const i64 position = first + r;
        Values<ACCESS> v = {};
        if (position < at.end && c < HEAD) {
            if ((PART == 1 || PART == 2) && position < at.held)
                v = load<ACCESS>(past_row<PART>(p, at, position) + c);
            else
                v = load<ACCESS>(row<PART>(p, at, position) + c);
        }
        store(rows + r * STRIDE + c, v);
    }
}

// s = a b' of rows of shared memory: those of this thread, DOWN and ACROSS apart.
template <int R, int C>
__device__ __forceinline__ void products(float (&s)[R][C], const float *a, const float *b) {
    a += threadIdx.x / ACROSS * STRIDE;
    b += threadIdx.x % ACROSS * STRIDE;
#pragma unroll
    for (int i = 0; i < R; i++)
        for (int j = 0; j < C; j++) s[i][j] = 0.0f;
#pragma unroll 2
    for (int c = 0; c < PADDED; c += 4) {
        float4 y[C];
#pragma unroll
        for (int j = 0; j < C; j++) y[j] = *(const float4 *)(b + j * ACROSS * STRIDE + c);
#pragma unroll
        for (int i = 0; i < R; i++) {
            const float4 x = *(const float4 *)(a + i * DOWN * STRIDE + c);
#pragma unroll
            for (int j = 0; j < C; j++) {
                s[i][j] = fmaf(x.x, y[j].x, s[i][j]);
                s[i][j] = fmaf(x.y, y[j].y, s[i][j]);
                s[i][j] = fmaf(x.z, y[j].z, s[i][j]);
                s[i][j] = fmaf(x.w, y[j].w, s[i][j]);
            }
        }
    }
}

// Column c of this thread's.
__device__ __forceinline__ int column(int c) {
    return c / PACK * (ACROSS * PACK) + threadIdx.x % ACROSS * PACK + c % PACK;
}

__device__ __forceinline__ void columns(float *to, const float *row) {
#pragma unroll
    for (int c = 0; c < COLUMNS; c += PACK) {
        const float *at = row + column(c);
        if (PACK == 4) {
            const float4 v = *(const float4 *)at;
            to[c] = v.x, to[c + 1] = v.y, to[c + 2] = v.z, to[c + 3] = v.w;
        } else if (PACK == 2) {
            const float2 v = *(const float2 *)at;
            to[c] = v.x, to[c + 1] = v.y;
        } else {
            to[c] = *at;
        }
    }
}

// out += weights x, of weights (own, N), N + 4 apart, and x (N, PADDED) in shared memory.
template <int N, int R>
__device__ __forceinline__ void mix(float (&out)[R][COLUMNS], const float *weights, const float *x) {
    weights += threadIdx.x / ACROSS * (N + 4);
#pragma unroll 2
    for (int k = 0; k < N; k += 4) {
        float v[4][COLUMNS];
#pragma unroll
        for (int j = 0; j < 4; j++) columns(v[j], x + (k + j) * STRIDE);
#pragma unroll
        for (int i = 0; i < R; i++) {
            const float4 w = *(const float4 *)(weights + i * DOWN * (N + 4) + k);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                float y = out[i][c];
                y = fmaf(w.x, v[0][c], y);
                y = fmaf(w.y, v[1][c], y);
                y = fmaf(w.z, v[2][c], y);
                out[i][c] = fmaf(w.w, v[3][c], y);
            }
        }
    }
}

template <typename E> __device__ void attend(const Attention &p, E *__restrict__ out) {
    constexpr int R = QUERIES / DOWN, C = KEYS / ACROSS;
    __shared__ __align__(16) float queries[QUERIES * STRIDE];
    __shared__ __align__(16) float rows[KEYS * STRIDE];
    __shared__ __align__(16) float weights[QUERIES * (KEYS + 4)];
    Place at;
    if (!find<QUERIES>(p, at)) return;
    const int down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
    const float scale = LOG2E / sqrtf((float)HEAD);
    const Sight sees(p);
    i64 first = at.from, last = at.from + at.count;
    reach(p, at, true, first, last);

    float largest[R], sum[R], o[R][COLUMNS];
#pragma unroll
    for (int i = 0; i < R; i++) {
        largest[i] = NONE, sum[i] = 0.0f;
        for (int c = 0; c < COLUMNS; c++) o[i][c] = 0.0f;
    }
    fill<0, QUERIES>(queries, p, at, at.from);
    for (i64 from = first; from < last; from += KEYS) {
        __syncthreads();
        fill<1, KEYS>(rows, p, at, from);
        __syncthreads();
        const int apart = at.from - from, there = min(at.end - from, (i64)KEYS);
        float s[R][C];
        products(s, queries, rows);
#pragma unroll
        for (int i = 0; i < R; i++) {
            const int r = down + i * DOWN;
            float most = largest[i];
#pragma unroll
            for (int j = 0; j < C; j++) {
                const int k = across + j * ACROSS;
                s[i][j] = k < there && sees(apart + r - k) ? scale * s[i][j] : NONE;
                most = fmaxf(most, s[i][j]);
            }
#pragma unroll
            for (int by = ACROSS / 2; by > 0; by /= 2)
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, by));
            const float factor = exp2f(largest[i] - most);
            largest[i] = most;
            sum[i] *= factor;
#pragma unroll
            for (int j = 0; j < C; j++) {
                const float w = s[i][j] == NONE ? 0.0f : exp2f(s[i][j] - most);
                sum[i] += w;
                weights[r * (KEYS + 4) + across + j * ACROSS] = w;
            }
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) o[i][c] *= factor;
        }
        __syncthreads();
        fill<2, KEYS>(rows, p, at, from);
        __syncthreads();
        mix<KEYS>(o, weights, rows);
    }
#pragma unroll
    for (int i = 0; i < R; i++) {
        const int r = down + i * DOWN;
#pragma unroll
        for (int by = ACROSS / 2; by > 0; by /= 2)
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], by);
        if (r >= at.count) continue;
        const i64 own = at.row + at.from + r;
        if (p.sums && across == 0) p.sums[own * p.heads + at.head] = largest[i] + log2f(sum[i]);
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
            if (column(c) < HEAD)
                store(out + (own * p.heads + at.head) * HEAD + column(c), o[i][c] / sum[i]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) attend_f32(Attention p, float *out) {
    attend(p, out);
}
extern "C" __global__ void __launch_bounds__(THREADS) attend_bf16(Attention p, bf16 *out) {
    attend(p, out);
}

// The gradients to the turned queries, or to turned keys and values: (T, 3, D).
template <bool KEY> __device__ void slopes(const Attention &p, float *__restrict__ out) {
    constexpr int R = OWN / DOWN, C = OTHERS / ACROSS;
    DYNAMIC_SHARED(memory);
    float(*own)[OWN * STRIDE] = (float(*)[OWN * STRIDE])memory;
    float(*others)[OTHERS * STRIDE] = (float(*)[OTHERS * STRIDE])(own + 2);
    float *weights = (float *)(others + 2);
    Place at;
    if (!find<OWN>(p, at)) return;
    const int down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
    const float scale = 1.0f / sqrtf((float)HEAD);
    const Sight sees(p);
    i64 first = at.from, last = at.from + at.count;
    reach(p, at, !KEY, first, last);
    if (KEY) first = max(first, at.past);

    // Of queries and keys, and of values; what belongs to the queries.
    constexpr int Q = KEY ? C : R;
    float o[R][COLUMNS], v[R][COLUMNS], sums[Q], dots[Q];
#pragma unroll
    for (int i = 0; i < R; i++)
        for (int c = 0; c < COLUMNS; c++) o[i][c] = v[i][c] = 0.0f;
    const auto look_up = [&](int i, i64 query) {
        const i64 value = (at.row + query) * p.heads + at.head;
        sums[i] = query < at.end ? p.sums[value] : 0.0f;
        dots[i] = query < at.end ? p.dots[value] : 0.0f;
    };
    if (!KEY)
        for (int i = 0; i < Q; i++) look_up(i, at.from + down + i * DOWN);
    fill<KEY ? 1 : 0, OWN>(own[0], p, at, at.from);
    fill<KEY ? 2 : 3, OWN>(own[1], p, at, at.from);
    for (i64 from = first; from < last; from += OTHERS) {
        __syncthreads();
        fill<KEY ? 0 : 1, OTHERS>(others[0], p, at, from);
        fill<KEY ? 3 : 2, OTHERS>(others[1], p, at, from);
        __syncthreads();
        const int apart = KEY ? from - at.from : at.from - from;
        const int there = min(at.end - from, (i64)OTHERS);
        if (KEY)
            for (int j = 0; j < Q; j++) look_up(j, from + across + j * ACROSS);
        float s[R][C], d[R][C];
        products(s, own[0], others[0]);
        products(d, own[1], others[1]);
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int j = 0; j < C; j++) {
                const int a = down + i * DOWN, b = across + j * ACROSS, q = KEY ? j : i;
                const bool seen = b < there && sees(apart + (KEY ? b - a : a - b));
                const float w = seen ? exp2f(LOG2E * scale * s[i][j] - sums[q]) : 0.0f;
                s[i][j] = scale * w * (d[i][j] - dots[q]);
                weights[a * (OTHERS + 4) + b] = KEY ? w : s[i][j];
            }
        __syncthreads();
        if (KEY) {
            mix<OTHERS>(v, weights, others[1]);
            __syncthreads();
#pragma unroll
            for (int i = 0; i < R; i++)
#pragma unroll
                for (int j = 0; j < C; j++)
                    weights[(down + i * DOWN) * (OTHERS + 4) + across + j * ACROSS] = s[i][j];
            __syncthreads();
        }
        mix<OTHERS>(o, weights, others[0]);
    }
    const i64 width = (i64)p.heads * HEAD;
#pragma unroll
    for (int i = 0; i < R; i++) {
        const int r = down + i * DOWN;
        if (r >= at.count) continue;
        float *to = out + 3 * (at.row + at.from + r) * width + at.head * HEAD;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            if (column(c) >= HEAD) continue;
            to[(KEY ? width : 0) + column(c)] = o[i][c];
            if (KEY) to[2 * width + column(c)] = v[i][c];
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) query_slopes(Attention p, float *out) {
    slopes<false>(p, out);
}
extern "C" __global__ void __launch_bounds__(THREADS) key_slopes(Attention p, float *out) {
    slopes<true>(p, out);
}

// x . y of each head, (T, D) to (T, H).
extern "C" __global__ void head_dots(float *out, const float *x, const float *y, i64 count) {
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float sum = 0.0f;
#pragma unroll 8
    for (int c = 0; c < HEAD; c += ACCESS) {
        const Values<ACCESS> a = load<ACCESS>(x + i * HEAD + c), b = load<ACCESS>(y + i * HEAD + c);
        for (int k = 0; k < ACCESS; k++) sum = fmaf(a.x[k], b.x[k], sum);
    }
    out[i] = sum;
}

extern "C" __global__ void turn(Turn p, float scale, float sign) {
    turn_rows<float>(p, scale, sign);
}

// The keys and values of sequences that go on into their lanes' pages: `lanes` are as they are
// after the step.
extern "C" __global__ void keep_rows(Lanes lanes, const float *turned, const float *x,
                                     const Segment *segments, int width, int slices) {
    const Segment segment = segments[blockIdx.x / slices];
    if (segment.flags & ENDS) return;
    Lanes lane = lanes + 3 * segment.lane, pages = lanes + lane[0];
    const i64 kept = min((i64)segment.len, lane[1] - lane[2]), by = (i64)slices * blockDim.x;
    const i64 first = blockIdx.x % slices * (i64)blockDim.x + threadIdx.x;
    for (i64 i = first; i < kept * width; i += by) {
        const i64 back = kept - i / width, column = i % width, position = lane[1] - back;
        const i64 row = (i64)segment.row + segment.len - back;
        Past *to = (Past *)pages[position / PAGE] + position % PAGE * 2 * width + column;
        store(to, turned[(2 * row + 1) * width + column]);
        store(to + width, x[(3 * row + 2) * width + column]);
    }
}
