// Circular convolutions of long signals: FFTs of COLUMN * ROW complex numbers in three passes over
// memory, each of which transforms what fits a block's shared memory (Bailey 1990, "FFTs in external
// or hierarchical memory"). A signal is a matrix (COLUMN, ROW): columns forward; rows forward, the
// product with the filter's spectrum, rows back; columns back.
//
// Forward, the butterflies decimate in frequency and leave frequencies in bit-reversed order; back,
// they decimate in time and take them so: nothing is put in order. COLUMN and ROW are powers of two
// from 256 to 2048.

// Numbers that a thread has, of a column or a row. WIDE neighbouring columns are one block's.
enum { HELD = 16, NUMBERS = COLUMN * ROW, WIDE = 8192 / COLUMN };

// exp(-i pi x)
__device__ __forceinline__ float2 turn(float x) {
    float sine, cosine;
    sincospif(x, &sine, &cosine);
    return make_float2(cosine, -sine);
}

__device__ __forceinline__ float2 times(float2 a, float2 b) {
    return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

// a times the conjugate of b
__device__ __forceinline__ float2 over(float2 a, float2 b) {
    return make_float2(a.x * b.x + a.y * b.y, a.y * b.x - a.x * b.y);
}

// x exp(-i pi eighths / 8), or with BACK its conjugate, for 0 to 7 eighths.
template <bool BACK> __device__ __forceinline__ float2 turned(float2 x, int eighths) {
    constexpr float COSINE[5] = {1.0f, 0.92387953251f, 0.70710678119f, 0.38268343236f, 0.0f};
    if (eighths == 0) return x;
    if (eighths == 4) return BACK ? make_float2(-x.y, x.x) : make_float2(x.y, -x.x);
    const float cosine = eighths < 4 ? COSINE[eighths] : -COSINE[8 - eighths];
    const float sine = eighths < 4 ? COSINE[4 - eighths] : COSINE[eighths - 4];
    const float2 w = make_float2(cosine, -sine);
    return BACK ? over(x, w) : times(x, w);
}

// The butterflies of R numbers that lie at equal distances in a block of M, the first of them at
// place p: `w` is exp(-2 pi i p / M), its second, fourth ... power for half, a quarter ... of M. All
// are 1 without TURN.
template <int R, bool TURN> __device__ __forceinline__ void forward(float2 *x, const float2 *w) {
    if constexpr (R > 1) {
#pragma unroll
        for (int i = 0; i < R / 2; i++) {
            const float2 a = x[i], b = x[i + R / 2];
            x[i] = make_float2(a.x + b.x, a.y + b.y);
            const float2 d = make_float2(a.x - b.x, a.y - b.y);
            const float2 to = turned<false>(d, i * (HELD / R));
            x[i + R / 2] = TURN ? times(to, *w) : to;
        }
        forward<R / 2, TURN>(x, w + 1);
        forward<R / 2, TURN>(x + R / 2, w + 1);
    }
}
template <int R, bool TURN> __device__ __forceinline__ void back(float2 *x, const float2 *w) {
    if constexpr (R > 1) {
        back<R / 2, TURN>(x, w + 1);
        back<R / 2, TURN>(x + R / 2, w + 1);
#pragma unroll
        for (int i = 0; i < R / 2; i++) {
            const float2 from = turned<true>(x[i + R / 2], i * (HELD / R));
            const float2 a = x[i], b = TURN ? over(from, *w) : from;
            x[i] = make_float2(a.x + b.x, a.y + b.y);
            x[i + R / 2] = make_float2(a.x - b.x, a.y - b.y);
        }
    }
}

// exp(-2 pi i x) and its powers 2, 4 and 8.
struct Powers {
    float2 w[4];
    __device__ __forceinline__ explicit Powers(float x) {
        w[0] = turn(2.0f * x);
        w[1] = times(w[0], w[0]);
        w[2] = turn(8.0f * x);
        w[3] = times(w[2], w[2]);
    }
};

// One thread's part in the transform of LENGTH numbers of a block, which lie EACH apart in shared
// memory. They are part of a transform SPREAD times as long, at places `offset` + SPREAD * n of it.
template <int LENGTH, int EACH, int SPREAD> struct Transform {
    enum {
        FIRST = LENGTH / HELD,          // from one of a thread's numbers to the next, at first
        SECOND = LENGTH / HELD / HELD,  // and then
        LAST = SECOND,                  // butterflies that remain: of neighbours
    };
    float2 *shared;
    u32 thread, offset;

    // A thread's numbers at first, then, and in the end. One place is left free after 16, so that
    // threads meet different banks.
    __device__ __forceinline__ float2 &first(int i) const {
        return shared[(thread + thread / HELD) * EACH + (FIRST + FIRST / HELD) * i * EACH];
    }
    __device__ __forceinline__ float2 &second(int i) const {
        return shared[(thread / SECOND * (HELD + 1) * SECOND + thread % SECOND) * EACH +
                      (SECOND * i + SECOND * i / HELD) * EACH];
    }
    __device__ __forceinline__ float2 &last(int i) const {
        return shared[thread * (HELD + 1) * EACH + i * EACH];
    }
    // Of the transform that butterflies in blocks of LENGTH / `parts` begin with number n.
    __device__ __forceinline__ Powers powers(u32 n, int parts) const {
        return Powers((float)(n * SPREAD + offset) * (parts / ((float)LENGTH * SPREAD)));
    }

    // Numbers FIRST apart from `thread` on become frequencies: 16 neighbours from 16 `thread` on.
    __device__ __forceinline__ void forward(float2 *x) const {
        ::forward<HELD, true>(x, powers(thread, 1).w);
#pragma unroll
        for (int i = 0; i < HELD; i++) first(i) = x[i];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < HELD; i++) x[i] = second(i);
        ::forward<HELD, true>(x, powers(thread % SECOND, HELD).w);
        if constexpr (LAST > 1) {
#pragma unroll
            for (int i = 0; i < HELD; i++) second(i) = x[i];
            __syncthreads();
#pragma unroll
            for (int i = 0; i < HELD; i++) x[i] = last(i);
            const Powers same = powers(0, HELD * HELD);
#pragma unroll
            for (int i = 0; i < HELD; i += LAST) ::forward<LAST, (SPREAD > 1)>(x + i, same.w);
        }
    }

    // And frequencies numbers, LENGTH times as large.
    __device__ __forceinline__ void back(float2 *x) const {
        if constexpr (LAST > 1) {
            const Powers same = powers(0, HELD * HELD);
#pragma unroll
            for (int i = 0; i < HELD; i += LAST) ::back<LAST, (SPREAD > 1)>(x + i, same.w);
#pragma unroll
            for (int i = 0; i < HELD; i++) last(i) = x[i];
            __syncthreads();
#pragma unroll
            for (int i = 0; i < HELD; i++) x[i] = second(i);
        }
        ::back<HELD, true>(x, powers(thread % SECOND, HELD).w);
#pragma unroll
        for (int i = 0; i < HELD; i++) second(i) = x[i];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < HELD; i++) x[i] = first(i);
        ::back<HELD, true>(x, powers(thread, 1).w);
    }
};

// Two neighbouring values of a signal are one number: floats, or both in a word where they are bf16.
__device__ __forceinline__ float2 number(const float2 *at) { return *at; }
__device__ __forceinline__ float2 number(const u32 *at) {
    const u32 word = *at;
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}
__device__ __forceinline__ void put(float2 *at, float2 x) { *at = x; }
__device__ __forceinline__ void put(u32 *at, float2 x) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(*at) : "f"(x.y), "f"(x.x));
}

// Where a thread's part of the columns of a block lies: neighbouring threads have neighbouring ones.
struct Columns {
    u32 wide, thread, column;
    i64 signal;
    __device__ __forceinline__ Columns()
        : wide(threadIdx.x % WIDE), thread(threadIdx.x / WIDE),
          column(blockIdx.x % (ROW / WIDE) * WIDE + wide), signal(blockIdx.x / (ROW / WIDE)) {}
    __device__ __forceinline__ Transform<COLUMN, WIDE, ROW> transform(unsigned char *shared) const {
        return {(float2 *)shared + wide, thread, column};
    }
    __device__ __forceinline__ u32 first(int i) const {
        return (thread + i * (COLUMN / HELD)) * ROW + column;
    }
    __device__ __forceinline__ u32 last(int i) const { return (HELD * thread + i) * ROW + column; }
};

// Columns of signals of `count` numbers, zeros behind, `apart` numbers from one to the next, to
// those `stride` numbers apart. These may be the same.
template <typename N>
__device__ void transform_columns(const N *from, i64 apart, u32 count, float2 *signals, i64 stride) {
    DYNAMIC_SHARED(shared);
    const Columns all;
    float2 x[HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const u32 at = all.first(i);
        x[i] = at < count ? number(from + all.signal * apart + at) : make_float2(0.0f, 0.0f);
    }
    all.transform(shared).forward(x);
#pragma unroll
    for (int i = 0; i < HELD; i++) signals[all.signal * stride + all.last(i)] = x[i];
}

// And back: of signals only numbers from `begin` to `end` are written.
template <typename N>
__device__ void columns_to_signals(const float2 *signals, i64 stride, N *to, i64 apart, u32 begin,
                                   u32 end) {
    DYNAMIC_SHARED(shared);
    const Columns all;
    float2 x[HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) x[i] = signals[all.signal * stride + all.last(i)];
    all.transform(shared).back(x);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const u32 at = all.first(i);
        if (at >= begin && at < end) put(to + all.signal * apart + at, x[i]);
    }
}

// The place of a frequency of LENGTH.
template <int LENGTH> __device__ __forceinline__ int reversed(int frequency) {
    return __brev(frequency) / (0x80000000u / (LENGTH / 2));
}

// Signals are even and odd values side by side, taken for real and imaginary parts. Of their
// transform's numbers a = Z(k) and b = Z(NUMBERS - k) those of the real signal's spectrum X:
//   E = (a + b*) / 2, O = (a - b*) / 2i, w = exp(-pi i k / NUMBERS),
//   X(k) = E + w O, X*(NUMBERS - k) = E - w O.
// Twice these take their place.
__device__ __forceinline__ void split(float2 &a, float2 &b, float2 w) {
    const float2 e = make_float2(a.x + b.x, a.y - b.y);
    const float2 o = times(make_float2(a.y + b.y, b.x - a.x), w);
    a = make_float2(e.x + o.x, e.y + o.y);
    b = make_float2(e.x - o.x, e.y - o.y);
}

// And back: four times Z(k) and Z(NUMBERS - k) of twice X(k) and X*(NUMBERS - k).
__device__ __forceinline__ void join(float2 &a, float2 &b, float2 w) {
    const float2 e = make_float2(a.x + b.x, a.y + b.y);
    const float2 o = over(make_float2(a.x - b.x, a.y - b.y), w);
    a = make_float2(e.x - o.y, e.y + o.x);
    b = make_float2(e.x + o.y, o.x - e.y);
}

// Two rows of a signal, those of k1 and of COLUMN - k1, or the two that are their own partners. They
// become a spectrum with FILTER, X itself in the place of Z, X(NUMBERS) behind; else they are
// multiplied with such a spectrum, and transformed back. `pieces` signals of each channel.
template <bool FILTER>
__device__ void transform_rows(float2 *signals, const float2 *filters, int pieces, i64 channels,
                               i64 stride, float scale) {
    enum { THREADS = ROW / HELD, SIDE = ROW + ROW / HELD };
    __shared__ float2 shared[2 * SIDE];
    const int piece = blockIdx.x % pieces, pair = blockIdx.x / pieces % (COLUMN / 2);
    const i64 channel = blockIdx.x / pieces / (COLUMN / 2);
    float2 *signal = signals + (piece * channels + channel) * stride;
    const float2 *filter = filters + channel * stride;
    const int upper = reversed<COLUMN>(pair) * ROW;
    const int lower = reversed<COLUMN>(pair ? COLUMN - pair : COLUMN / 2) * ROW;
    const bool below = threadIdx.x >= THREADS;
    const Transform<ROW, 1, 1> row = {shared + (below ? SIDE : 0), threadIdx.x % THREADS, 0};
    float2 *mine = signal + (below ? lower : upper);
    float2 x[HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) x[i] = mine[row.thread + i * THREADS];
    row.forward(x);
#pragma unroll
    for (int i = 0; i < HELD; i++) row.last(i) = x[i];
    __syncthreads();
#pragma unroll 2
    for (int i = threadIdx.x; i < ROW + (pair ? 0 : 1); i += 2 * THREADS) {
        // Where Z(k) and Z(NUMBERS - k) are: a number that is its own partner is taken twice.
        bool low = false, high = true;
        int place = i, partner = ROW - 1 - i, k = pair + COLUMN * reversed<ROW>(i);
        if (pair == 0) {
            low = i > ROW / 2;
            high = low;
            place = low ? i - ROW / 2 - 1 : reversed<ROW>(i);
            partner = low ? ROW - 1 - place : reversed<ROW>((ROW - i) % ROW);
            k = low ? COLUMN / 2 + COLUMN * reversed<ROW>(place) : COLUMN * i;
        }
        float2 &at = shared[(low ? SIDE : 0) + place + place / HELD];
        float2 &other = shared[(high ? SIDE : 0) + partner + partner / HELD];
        const int first = (low ? lower : upper) + place;
        const int last = k ? (high ? lower : upper) + partner : NUMBERS;
        const float2 w = turn((float)k / NUMBERS);
        float2 a = at, b = other;
        split(a, b, w);
        if (FILTER) {
            signal[first] = make_float2(0.5f * a.x, 0.5f * a.y);
            signal[last] = make_float2(0.5f * b.x, -0.5f * b.y);
        } else {
            const float2 f = filter[first], g = filter[last];
            a = times(a, make_float2(scale * f.x, scale * f.y));
            b = over(b, make_float2(scale * g.x, scale * g.y));
            join(a, b, w);
            at = a;
            if (k) other = b;
        }
    }
    if (FILTER) return;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < HELD; i++) x[i] = row.last(i);
    row.back(x);
#pragma unroll
    for (int i = 0; i < HELD; i++) mine[row.thread + i * THREADS] = x[i];
}

// Named for the type of values.
#define COLUMNS(T, N)                                                                              \
    extern "C" __global__ void __launch_bounds__(512, 2)                                           \
        columns_##T(const N *from, i64 apart, u32 count, float2 *signals, i64 stride) {            \
        transform_columns(from, apart, count, signals, stride);                                    \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(512, 2)                                           \
        columns_back_##T(const float2 *signals, i64 stride, N *to, i64 apart, u32 begin,           \
                         u32 end) {                                                                \
        columns_to_signals(signals, stride, to, apart, begin, end);                                \
    }
COLUMNS(f32, float2)
COLUMNS(bf16, u32)
extern "C" __global__ void __launch_bounds__(ROW / 8, 8192 / ROW) filter_rows(float2 *signals, i64 stride) {
    transform_rows<true>(signals, signals, 1, 0, stride, 1.0f);
}
extern "C" __global__ void __launch_bounds__(ROW / 8, 8192 / ROW)
    signal_rows(float2 *signals, const float2 *filters, int pieces, i64 channels, i64 stride,
                float scale) {
    transform_rows<false>(signals, filters, pieces, channels, stride, scale);
}
