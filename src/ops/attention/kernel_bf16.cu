// Queries, keys and values in bf16 on tensor cores; scores, sums and the output's in f32. Behind
// kernel_rows.cu; HEAD is a multiple of 8. KEYS, the keys of a tile, and WARPGROUP are the
// host's choice: 1 takes Hopper's wgmma, with heads of 128 columns at most, 0 mma.
//
// Dao et al. 2022, arXiv:2205.14135; that the scores of the next tile are begun before the values of
// this one are mixed, so that tensor cores work while exponentials are taken: Shah et al. 2024,
// arXiv:2407.08608. Each of 8 warps has 16 queries, each quad of its threads 2 of them: rows
// lane / 4 and lane / 4 + 8, as the instructions lay out matrices.

typedef unsigned long long u64;
enum {
    THREADS = 256,
    QUERIES = 128, // a warpgroup has 64
    WIDE = HEAD <= 32 ? 32 : HEAD <= 64 ? 64 : HEAD <= 128 ? 128 : 256, // of a row in shared memory
    PANELS = (WIDE + 63) / 64,
    SPAN = WIDE < 64 ? WIDE : 64, // columns of a panel
    TILE = PANELS * KEYS * 128,   // bytes
    SET = KEYS < 64 ? KEYS : 64,  // keys of a set
    SETS = KEYS / SET,
};
#define LOG2E 1.44269504f
#define NONE -1e30f // less than any score

// Rows of `ROWS` in shared memory: panels of 64 columns, and in each the pieces of 8 columns of a row
// in another order, so that neither reading rows nor columns meets a bank twice. Wgmma calls it
// a swizzle of 128 bytes.
template <int ROWS> __device__ __forceinline__ int place(int r, int piece) {
    return piece / 8 * (ROWS * 128) + r * 128 + ((piece ^ r) & 7) * 16;
}

#ifdef EMULATED
// ---- the same, a number at a time

inline void copy(void *to, const bf16 *from, bool there) {
    if (there) memcpy(to, from, 16);
    else memset(to, 0, 16);
}
inline void copies_begun() {}
template <int N> void copies_done() { __syncthreads(); }
template <int N> void hold(float (&)[N]) {}
template <int N> void products_done() {}

// Of rows of `ROWS` in shared memory.
template <int ROWS> float number(const unsigned char *rows, int r, int column) {
    return load((const bf16 *)(rows + place<ROWS>(r, column / 8)) + column % 8);
}
struct Queries {
    const unsigned char *rows;
    void load(const unsigned char *queries) { rows = queries; }
};

inline void scores(float (&s)[SETS][SET / 2], const Queries &q, const unsigned char *keys) {
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
    for (int i = 0; i < KEYS / 2; i++) {
        float sum = 0.0f;
        for (int c = 0; c < HEAD; c++)
            sum += number<QUERIES>(q.rows, row + i / 2 % 2 * 8, c) *
                   number<KEYS>(keys, i / 4 * 8 + lane % 4 * 2 + i % 2, c);
        s[i / (SET / 2)][i % (SET / 2)] = sum;
    }
}

inline void
mix(float (&o)[PANELS][SPAN / 2], const u32 (&weights)[KEYS / 4], const unsigned char *values) {
    const int lane = threadIdx.x % 32;
    for (int w = 0; w < KEYS / 4; w++)
        for (int other = 0; other < 4; other++) {
            const float pair = __shfl_xor_sync(0xffffffffu, __uint_as_float(weights[w]), other);
            u32 two;
            memcpy(&two, &pair, 4);
            for (int e = 0; e < 2; e++) {
                const float weight = __uint_as_float(e ? two & 0xffff0000u : two << 16);
                const int key = w / 2 * 8 + (lane % 4 ^ other) * 2 + e;
                for (int i = w % 2 * 2; i < WIDE / 2; i += i % 2 ? 3 : 1)
                    o[i / (SPAN / 2)][i % (SPAN / 2)] +=
                        weight * number<KEYS>(values, key, i / 4 * 8 + lane % 4 * 2 + i % 2);
            }
        }
}
#else

// ---- copies that go on while the block works

__device__ __forceinline__ u32 shared(const void *at) { return (u32)__cvta_generic_to_shared(at); }

// 16 bytes, or zeros.
__device__ __forceinline__ void copy(void *to, const bf16 *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared(to)), "l"(from),
                 "r"(there ? 16 : 0));
}
__device__ __forceinline__ void copies_begun() { asm volatile("cp.async.commit_group;"); }
// Until at most N groups are under way.
template <int N> __device__ __forceinline__ void copies_done() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#if WARPGROUP
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
    __syncthreads();
}

// ---- products

__device__ __forceinline__ void matrices(u32 (&x)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared(row)));
}

// The queries of a warp.
struct Queries {
    u32 x[WIDE / 16][4];
    __device__ void load(const unsigned char *queries) {
        const int lane = threadIdx.x % 32, r = threadIdx.x / 32 * 16 + lane % 16;
#pragma unroll
        for (int k = 0; k < WIDE / 16; k++)
            matrices(x[k], queries + place<QUERIES>(r, 2 * k + lane / 16));
    }
};

#if WARPGROUP
#define F4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define F8(d, i) F4(d, i), F4(d, i + 4)

// d (64, 32) += a (64, 16) b.
template <int TURNED>
__device__ __forceinline__ void product(float (&d)[16], const u32 *a, u64 b, int add) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %21, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
                 "{%16, %17, %18, %19}, %20, p, 1, 1, %22;\n}"
                 : F8(d, 0), F8(d, 8)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TURNED));
}

// d (64, 64) += a (64, 16) b.
template <int TURNED>
__device__ __forceinline__ void product(float (&d)[32], const u32 *a, u64 b, int add) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "{%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}"
                 : F8(d, 0), F8(d, 8), F8(d, 16), F8(d, 24)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TURNED));
}

// A matrix of 64 columns, or rows of 64 columns, in shared memory; groups of 8 rows are 1024 bytes
// apart.
__device__ __forceinline__ u64 matrix(const void *at) {
    const u64 apart = 1024 >> 4;
    return (u64)((shared(at) & 0x3ffff) >> 4) | apart << 16 | apart << 32 | (u64)1 << 62;
}
template <int N> __device__ __forceinline__ void hold(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(x[i])::"memory");
}
__device__ __forceinline__ void begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void begun() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most N of what was begun are under way.
template <int N> __device__ __forceinline__ void products_done() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// s = q k' begins.
__device__ __forceinline__ void
scores(float (&s)[SETS][SET / 2], const Queries &q, const unsigned char *keys) {
#pragma unroll
    for (int n = 0; n < SETS; n++) hold(s[n]);
    begin();
#pragma unroll
    for (int k = 0; k < (HEAD + 15) / 16; k++)
#pragma unroll
        for (int n = 0; n < SETS; n++)
            product<0>(s[n], q.x[k], matrix(keys + k / 4 * (KEYS * 128) + n * 8192 + k % 4 * 32), k);
    begun();
}

// o += weights v begins.
__device__ __forceinline__ void
mix(float (&o)[PANELS][SPAN / 2], const u32 (&weights)[KEYS / 4], const unsigned char *values) {
#pragma unroll
    for (int n = 0; n < PANELS; n++) hold(o[n]);
    begin();
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++)
#pragma unroll
        for (int n = 0; n < PANELS; n++)
            product<1>(o[n], weights + 4 * k, matrix(values + n * (KEYS * 128) + k * 2048), 1);
    begun();
}

#else // not WARPGROUP

template <int N> __device__ __forceinline__ void hold(float (&)[N]) {}
template <int N> __device__ __forceinline__ void products_done() {}

// d (16, 8) += a (16, 16) b (16, 8)
__device__ __forceinline__ void product(float *d, const u32 *a, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void turned_matrices(u32 (&x)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared(row)));
}

__device__ __forceinline__ void
scores(float (&s)[SETS][SET / 2], const Queries &q, const unsigned char *keys) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) s[i / (SET / 2)][i % (SET / 2)] = 0.0f;
#pragma unroll
    for (int k = 0; k < (HEAD + 15) / 16; k++)
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
            u32 b[4];
            const int r = 16 * n + lane % 8 + lane / 16 * 8;
            matrices(b, keys + place<KEYS>(r, 2 * k + lane / 8 % 2));
            float *d = &s[16 * n / SET][16 * n % SET / 2];
            product(d, q.x[k], b[0], b[1]);
            product(d + 4, q.x[k], b[2], b[3]);
        }
}

__device__ __forceinline__ void
mix(float (&o)[PANELS][SPAN / 2], const u32 (&weights)[KEYS / 4], const unsigned char *values) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++)
#pragma unroll
        for (int n = 0; n < WIDE / 16; n++) {
            u32 b[4];
            turned_matrices(b, values + place<KEYS>(16 * k + lane % 16, 2 * n + lane / 16));
            float *d = &o[16 * n / SPAN][16 * n % SPAN / 2];
            product(d, weights + 4 * k, b[0], b[1]);
            product(d + 4, weights + 4 * k, b[2], b[3]);
        }
}
#endif
#endif

// ---- attention

// A thread's pieces of the rows of a tile: of 8 columns each, STEP rows apart.
struct Pieces {
    enum { STEP = THREADS / (WIDE / 8) };
    const bf16 *own; // its first piece of the queries, if the tile began at position 0 of this step
    i64 row;         // values from one position to the next: 3 D
    int first, piece;
    __device__ Pieces(const Attention &p, const Place &at)
        : row(3ll * p.heads * HEAD), first(threadIdx.x / (WIDE / 8)), piece(threadIdx.x % (WIDE / 8)) {
        own = (const bf16 *)p.turned + (at.row + first) * row + at.head * HEAD + piece * 8;
    }
};

// Keys (PART 1) or values (2) from position `from` on, a multiple of KEYS, so that those before the
// step lie in one page.
template <int PART>
__device__ __forceinline__ void
fetch(unsigned char *to, const Pieces &x, const Attention &p, const Place &at, i64 from) {
    to += place<KEYS>(x.first, x.piece);
    const i64 d = (i64)p.heads * HEAD;
    const bf16 *own = x.own + from * x.row + PART * d;
    if (HEAD == WIDE && from >= at.past && from + KEYS <= at.end) {
        // Nearly all tiles: with what follows, a third of a thread's work was this.
#pragma unroll
        for (int r = 0; r < KEYS; r += x.STEP, own += x.STEP * x.row) copy(to + r * 128, own, true);
        return;
    }
    const int earlier = max((i64)0, min(at.past - from, (i64)KEYS)), there = min(at.end - from, (i64)KEYS);
    const bf16 *page = own;
    if (earlier)
        page = (const bf16 *)at.pages[from / PAGE] + (from % PAGE + x.first) * 2 * d + (PART - 1) * d +
               at.head * HEAD + x.piece * 8;
    for (int r = 0; r < KEYS; r += x.STEP) {
        const bf16 *row = x.first + r < earlier ? page + r * 2 * d : own + r * x.row;
        copy(to + r * 128, row, x.first + r < there && x.piece < HEAD / 8);
    }
}

__device__ void fetch_queries(unsigned char *to, const Pieces &x, const Place &at) {
    for (int r = 0; r < QUERIES; r += x.STEP)
        copy(to + place<QUERIES>(x.first + r, x.piece), x.own + (at.from + r) * x.row,
             x.first + r < at.count && x.piece < HEAD / 8);
}

__device__ __forceinline__ float power(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// What a thread knows of its two queries.
struct Running {
    float largest[2], sum[2], factor[2]; // the sums are over the thread's own keys

    // Scores to weights, relative to the largest score so far; `factor` is what brings earlier
    // weights there.
    __device__ __forceinline__ void weigh(float (&s)[SETS][SET / 2]) {
        const float scale = LOG2E / sqrtf((float)HEAD);
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float most = s[0][2 * e];
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++)
                if (i / 2 % 2 == e) most = fmaxf(most, s[i / (SET / 2)][i % (SET / 2)]);
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
            most = fmaxf(largest[e], scale * most);
            factor[e] = power(largest[e] - most);
            largest[e] = most;
            float added = 0.0f;
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++)
                if (i / 2 % 2 == e) {
                    float &x = s[i / (SET / 2)][i % (SET / 2)];
                    x = power(fmaf(scale, x, -most));
                    added += x;
                }
            sum[e] = fmaf(sum[e], factor[e], added);
        }
    }
};

// Scores of keys that a query does not see become minus infinity.
__device__ __forceinline__ void
hide(float (&s)[SETS][SET / 2], const Attention &p, const Place &at, i64 from) {
    const Sight sees(p);
    const int lane = threadIdx.x % 32, apart = at.from - from;
    const int there = min(at.end - from, (i64)KEYS);
    // Most tiles are seen by all queries.
    if (there == KEYS && sees(apart - (KEYS - 1)) && sees(apart + (QUERIES - 1))) return;
    const int row = apart + threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
        const int key = i / 4 * 8 + lane % 4 * 2 + i % 2;
        if (key >= there || !sees(row + i / 2 % 2 * 8 - key))
            s[i / (SET / 2)][i % (SET / 2)] = -__int_as_float(0x7f800000);
    }
}

__device__ __forceinline__ u32 rounded(float low, float high) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ void round(u32 (&weights)[KEYS / 4], const float (&s)[SETS][SET / 2]) {
#pragma unroll
    for (int i = 0; i < KEYS / 2; i += 2)
        weights[i / 2] = rounded(s[i / (SET / 2)][i % (SET / 2)], s[i / (SET / 2)][i % (SET / 2) + 1]);
}

__device__ __forceinline__ void finish(const float (&o)[PANELS][SPAN / 2], Running &running,
                                       const Attention &p, const Place &at, bf16 *out) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int e = 0; e < 2; e++) {
        float sum = running.sum[e];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        const int r = threadIdx.x / 32 * 16 + lane / 4 + 8 * e;
        if (r >= at.count) continue;
        const i64 own = (at.row + at.from + r) * p.heads + at.head;
        const float share = 1.0f / sum;
#pragma unroll
        for (int i = 2 * e; i < WIDE / 2; i += 4) {
            const int column = i / 4 * 8 + lane % 4 * 2;
            const float *x = &o[i / (SPAN / 2)][i % (SPAN / 2)];
            if (column < HEAD)
                *(u32 *)(out + own * HEAD + column) = rounded(x[0] * share, x[1] * share);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, WIDE <= 64 ? 2 : 1)
attend_rounded(Attention p, bf16 *out) {
    DYNAMIC_SHARED(memory);
    Place at;
    if (!find<QUERIES>(p, at)) return;
    unsigned char *keys = memory + PANELS * QUERIES * 128, *values = keys + 2 * TILE;
    i64 first = at.from, last = at.from + at.count;
    reach(p, at, true, first, last);
    first = first / KEYS * KEYS;
    const int tiles = (last - first + KEYS - 1) / KEYS;

    const Pieces pieces(p, at);
    fetch_queries(memory, pieces, at);
    fetch<1>(keys, pieces, p, at, first);
    copies_begun();
    if (tiles > 1) fetch<1>(keys + TILE, pieces, p, at, first + KEYS);
    fetch<2>(values, pieces, p, at, first);
    copies_begun();

    float s[SETS][SET / 2], o[PANELS][SPAN / 2];
    u32 weights[KEYS / 4];
    Running running = {{NONE, NONE}, {0.0f, 0.0f}};
#pragma unroll
    for (int i = 0; i < WIDE / 2; i++) o[i / (SPAN / 2)][i % (SPAN / 2)] = 0.0f;
    Queries q;
    copies_done<1>();
    q.load(memory);
    const auto await_scores = [&] {
#pragma unroll
        for (int n = 0; n < SETS; n++) hold(s[n]);
    };
    const auto await_values = [&] {
        products_done<0>();
#pragma unroll
        for (int n = 0; n < PANELS; n++) hold(o[n]);
    };
    scores(s, q, keys);
    products_done<0>();
    await_scores();
    hide(s, p, at, first);
    running.weigh(s);
    round(weights, s);
    for (int j = 0; j + 1 < tiles; j++) {
        const i64 from = first + (i64)j * KEYS;
        copies_done<0>();
        if (j + 2 < tiles) fetch<1>(keys + j % 2 * TILE, pieces, p, at, from + 2 * KEYS);
        fetch<2>(values + (j + 1) % 2 * TILE, pieces, p, at, from + KEYS);
        copies_begun();
        scores(s, q, keys + (j + 1) % 2 * TILE);
        mix(o, weights, values + j % 2 * TILE);
        products_done<1>(); // the scores
        await_scores();
        hide(s, p, at, from + KEYS);
        running.weigh(s);
        await_values();
#pragma unroll
        for (int i = 0; i < WIDE / 2; i++)
            o[i / (SPAN / 2)][i % (SPAN / 2)] *= running.factor[i / 2 % 2];
        round(weights, s);
    }
    copies_done<0>();
    mix(o, weights, values + (tiles - 1) % 2 * TILE);
    await_values();
    finish(o, running, p, at, out);
}

// Queries and keys turned, and values, (T, 3, D), rounded.
extern "C" __global__ void turn_rounded(Turn p, float scale, float sign) {
    turn_rows<bf16>(p, scale, sign);
    const Tile tile = p.tiles[blockIdx.x / p.slices];
    const int width = p.heads * HEAD, by = p.slices * blockDim.x;
    for (int i = blockIdx.x % p.slices * blockDim.x + threadIdx.x; i < (int)tile.len * (width / 4); i += by) {
        const i64 at = (i64)(tile.row + i / (width / 4)) * 3 * width + 2 * width + i % (width / 4) * 4;
        store((bf16 *)p.to + at, load<4>(p.from + at));
    }
}

// Their keys and values to the pages of sequences that go on: `lanes` are as after the step.
extern "C" __global__ void keep_rounded(Lanes lanes, const bf16 *turned, const Segment *segments,
                                        int width, int slices) {
    const Segment segment = segments[blockIdx.x / slices];
    if (segment.flags & ENDS) return;
    Lanes lane = lanes + 3 * segment.lane, pages = lanes + lane[0];
    const i64 kept = min((i64)segment.len, lane[1] - lane[2]), by = (i64)slices * blockDim.x;
    const int pieces = width / 4; // of a row: both parts, 8 values each
    for (i64 i = blockIdx.x % slices * (i64)blockDim.x + threadIdx.x; i < kept * pieces; i += by) {
        const i64 back = kept - i / pieces, position = lane[1] - back;
        const i64 row = (i64)segment.row + segment.len - back, column = i % pieces * 8;
        bf16 *to = (bf16 *)pages[position / PAGE] + position % PAGE * 2 * width + column;
        *(uint4 *)to = *(const uint4 *)(turned + (3 * row + 1) * width + column);
    }
}
