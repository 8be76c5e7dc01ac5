// Compiled with HEAD, of a head, 256 at most.
//
// What all forms of attention share: where rows of queries, keys and values lie, which keys a query
// sees, the rotation by positions, and the pages of keys and values of unfinished sequences.

enum { PAGE = 512 };

// Three words for each lane: where the address of its page 0 would stand in this array if it were
// still held, the next position, and the first one held; then the addresses of the pages. Page i
// holds the keys and values of positions from i PAGE on: (PAGE, 2, D).
typedef const i64 *Lanes;

struct Attention {
    const void *turned; // (T, 2, D): queries and keys, f32; or with the values (T, 3, D), bf16
    const float *x;     // (T, 3, D), the last of them the values
    float *sums;        // (T, H), log2, or null
    const float *slope; // (T, D): the gradient to the output
    const float *dots;  // (T, H): of output and its gradient
    Lanes lanes;        // null: no sequence goes on
    const Tile *tiles;
    const Segment *segments;
    // `window` 0: none. A tile of rows is cut into `slices`.
    int heads, window, both, slices;
};

// What a block works on. Positions are those in the sequence.
struct Place {
    Lanes pages;         // the addresses, by page
    i64 held;            // of the sequence's first row in this step
    i64 past, end, from; // of the segment's first row; beyond its last; of the own first row
    i64 row;             // of position 0 in the step, if it were there
    i64 before;          // the same among the rows that a branch branched off
    int count, head;
};

__device__ i64 held(Lanes lanes, const Segment &segment) {
    return segment.flags & STARTS || !lanes ? 0 : lanes[3 * segment.lane + 1];
}

// False where there is nothing to do. The last blocks have the most keys, and so go first.
template <int ROWS> __device__ bool find(const Attention &p, Place &at) {
    i64 index = gridDim.x - 1 - blockIdx.x;
    at.head = index % p.heads;
    index /= p.heads;
    const int first = index % p.slices * ROWS;
    const Tile tile = p.tiles[index / p.slices];
    if (first >= tile.len) return false;
    const Segment segment = p.segments[tile.segment];
    at.count = min((int)tile.len - first, (int)ROWS);
    at.held = held(p.lanes, segment);
    at.past = at.held + segment.before;
    at.end = at.past + segment.len;
    at.row = (i64)segment.row - at.past;
    at.from = tile.row + first - at.row;
    at.before = (i64)segment.origin - at.held;
    if (at.held > 0) at.pages = p.lanes + p.lanes[3 * segment.lane];
    return true;
}

// Whether a query sees a key by their distance; those within a step, or a window, are not 2^31
// apart.
struct Sight {
    u32 least, span;
    __device__ Sight(const Attention &p) {
        const u32 window = p.window ? p.window : 0x7fffffffu;
        least = p.both ? 1 - window : 0;
        span = window - least;
    }
    __device__ __forceinline__ bool operator()(int distance) const {
        return (u32)distance - least < span;
    }
};

// Keys that the queries from `first` to before `last` see, or queries that see such keys.
__device__ void reach(const Attention &p, const Place &at, bool keys, i64 &first, i64 &last) {
    const i64 window = p.window ? p.window : at.end;
    const bool before = p.both || keys, after = p.both || !keys;
    first = before ? max((i64)0, first + 1 - window) : first;
    last = after ? min(at.end, last - 1 + window) : last;
}

// Turns queries and keys by their positions; `sign` -1: back. As ops::Rotary.
struct Turn {
    void *to;
    const float *from;        // rows may be the same
    const float *frequencies; // (HEAD / 2) or null: copies
    Lanes lanes;
    const Tile *tiles;
    const Segment *segments;
    int heads, to_stride, from_stride, slices;
};
template <typename E> __device__ void turn_rows(const Turn &p, float scale, float sign) {
    enum { PAIRS = HEAD / 2, ITEMS = (HEAD + 1) / 2 };
    const Tile tile = p.tiles[blockIdx.x / p.slices];
    const Segment segment = p.segments[tile.segment];
    const i64 before = held(p.lanes, segment) + segment.before - segment.row;
    const u32 by = p.slices * blockDim.x;
    for (u32 item = blockIdx.x % p.slices * blockDim.x + threadIdx.x; item < tile.len * ITEMS; item += by) {
        const i64 row = tile.row + item / ITEMS, position = before + row;
        const int pair = item % ITEMS;
        float c = 1.0f, s = 0.0f;
        if (p.frequencies && pair < PAIRS) {
            const float frequency = p.frequencies[pair];
            // Positions of the published context are rotated in f32 as published; beyond it f32
            // would lose whole positions.
            const double angle = position < 1 << 20
                                     ? (double)((float)position / scale * frequency)
                                     : (double)position / (double)scale * (double)frequency;
            double wide_s, wide_c;
            sincos(angle, &wide_s, &wide_c);
            s = sign * (float)wide_s, c = (float)wide_c;
        }
        for (int head = 0; head < 2 * p.heads; head++) {
            const float *from = p.from + row * p.from_stride + head * HEAD;
            E *to = (E *)p.to + row * p.to_stride + head * HEAD;
            if (pair == PAIRS) {
                store(to + HEAD - 1, from[HEAD - 1]);
                continue;
            }
            const float low = from[pair], high = from[pair + PAIRS];
            store(to + pair, low * c - high * s);
            store(to + pair + PAIRS, low * s + high * c);
        }
    }
}
