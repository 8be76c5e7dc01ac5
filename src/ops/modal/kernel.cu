// Compiled with PARTS, 2 for complex modes and 1 for real ones, MODES of a thread, and GROUPS,
// threads of a channel, which are neighbours.
//
// Sums of exponentials as recurrences over tiles of rows: s = pole s + g, y = Re residue s. Three
// passes: each tile's final states from a zero start; the states at each tile's start, one tile
// after the other; the outputs.
//
// The gradient to g is the same filter of the gradient to y, from the last row to the first. Those
// of the poles need v = ds / dpole = pole v + s(before), which runs with s: the sums of slope v and
// slope s over a tile's rows are then added up tile by tile, always in the same order.

enum { THREADS = 128, BATCH = 8, CHANNELS = THREADS / GROUPS, VALUES = MODES * PARTS };

struct Modal {
    const float *g;        // (T, C)
    const float *slope;    // (T, C): the gradient to y
    const float *poles;    // (C, N, PARTS)
    const float *residues; // (C, N, PARTS)
    const float *skip;     // (C) or null
    float *state;          // (lanes, N PARTS, C); null: sequences start from zeros, nothing is kept
    float *ends;           // (tiles, 1 or 2, N PARTS, C): s and v, final, then initial
    float *pole_sums;      // (tiles, C, N, PARTS)
    float *residue_sums;   // (tiles, C, N, PARTS)
    float *skip_sums;      // (tiles, C)
    const Tile *tiles;
    const Segment *segments;
    int channels, modes, reversed;
};

// x = pole x + added
__device__ __forceinline__ void advance(float *x, const float *pole, float added, float imaginary) {
    if (PARTS == 1) {
        x[0] = fmaf(pole[0], x[0], added);
    } else {
        const float re = x[0], im = x[1];
        x[0] = fmaf(pole[0], re, fmaf(-pole[1], im, added));
        x[1] = fmaf(pole[0], im, fmaf(pole[1], re, imaginary));
    }
}

// LAST: the third pass. SLOPES: v runs with s, and the third pass sums gradients.
template <bool LAST, bool SLOPES>
__device__ void modal(const Modal &p, float *__restrict__ out) {
    const int blocks = (p.channels + CHANNELS - 1) / CHANNELS;
    const i64 index = blockIdx.x / blocks;
    const int c = blockIdx.x % blocks * CHANNELS + threadIdx.x / GROUPS;
    const int group = threadIdx.x % GROUPS;
    const bool real = c < p.channels;
    const Tile tile = p.tiles[index];
    const Segment segment = p.segments[tile.segment];
    const bool last = tile.index == (p.reversed ? 0 : segment.tiles - 1);
    if (!LAST && last) return;

    const int values = p.modes * PARTS, first = group * VALUES;
    float pole[VALUES], residue[VALUES], s[VALUES], v[VALUES], poles[VALUES], residues[VALUES];
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
        const bool there = real && first + i < values;
        const i64 parameter = (i64)c * values + first + i;
        const i64 kept = (index * (SLOPES ? 2 : 1) * values + first + i) * p.channels + c;
        pole[i] = there ? p.poles[parameter] : 0.0f;
        residue[i] = there && LAST ? p.residues[parameter] : 0.0f;
        s[i] = there && LAST ? p.ends[kept] : 0.0f;
        v[i] = there && LAST && SLOPES ? p.ends[kept + (i64)values * p.channels] : 0.0f;
        poles[i] = residues[i] = 0.0f;
    }
    const float skip = LAST && real && group == 0 && p.skip ? p.skip[c] : 0.0f;
    float skips = 0.0f;

    for (u32 base = 0; base < tile.len; base += BATCH) {
        // Loads in front, so that they overlap.
        float gs[BATCH], slopes[BATCH];
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            gs[b] = slopes[b] = 0.0f;
            if (!real || base + b >= tile.len) continue;
            const u32 i = p.reversed ? tile.len - 1 - base - b : base + b;
            const i64 at = ((i64)tile.row + i) * p.channels + c;
            gs[b] = p.g[at];
            if (LAST && SLOPES) slopes[b] = p.slope[at];
        }
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            if (base + b >= tile.len) break;
            float y = skip * gs[b];
#pragma unroll
            for (int i = 0; i < VALUES; i += PARTS) {
                if (SLOPES) advance(v + i, pole + i, s[i], s[i + PARTS - 1]);
                advance(s + i, pole + i, gs[b], 0.0f);
                if (LAST && SLOPES) {
#pragma unroll
                    for (int k = i; k < i + PARTS; k++) {
                        poles[k] = fmaf(slopes[b], v[k], poles[k]);
                        residues[k] = fmaf(slopes[b], s[k], residues[k]);
                    }
                } else if (LAST) {
                    y = fmaf(residue[i], s[i], y);
                    if (PARTS == 2) y = fmaf(-residue[i + PARTS - 1], s[i + PARTS - 1], y);
                }
            }
            if (LAST && SLOPES) {
                skips = fmaf(slopes[b], gs[b], skips);
            } else if (LAST) {
#pragma unroll
                for (int by = 1; by < GROUPS; by *= 2) y += __shfl_xor_sync(0xffffffffu, y, by);
                const u32 i = p.reversed ? tile.len - 1 - base - b : base + b;
                if (real && group == 0) out[((i64)tile.row + i) * p.channels + c] = y;
            }
        }
    }
    if (!real) return;
    if (LAST && SLOPES && group == 0) p.skip_sums[index * p.channels + c] = skips;
    const bool kept = LAST && !SLOPES && last && p.state && !(segment.flags & ENDS);
#pragma unroll
    for (int i = 0; i < VALUES; i++) {
        if (first + i >= values) break;
        const i64 at = ((i64)first + i) * p.channels + c, all = (i64)values * p.channels;
        if (!LAST) {
            p.ends[index * (SLOPES ? 2 : 1) * all + at] = s[i];
            if (SLOPES) p.ends[(2 * index + 1) * all + at] = v[i];
        } else if (SLOPES) {
            // conj(residue sum(slope v)), conj(sum(slope s))
            const i64 to = index * all + (i64)c * values + first + i;
            const int re = i / PARTS * PARTS, im = re + PARTS - 1;
            if (PARTS == 1) {
                p.pole_sums[to] = residue[i] * poles[i];
                p.residue_sums[to] = residues[i];
            } else if (i == re) {
                p.pole_sums[to] = residue[re] * poles[re] - residue[im] * poles[im];
                p.residue_sums[to] = residues[i];
            } else {
                p.pole_sums[to] = -(residue[re] * poles[im] + residue[im] * poles[re]);
                p.residue_sums[to] = -residues[i];
            }
        } else if (kept) {
            p.state[segment.lane * all + at] = s[i];
        }
    }
}

// pole^n in f64: its rounding would else be as large as that of n rows.
__device__ void power(const float *pole, u32 n, double &re, double &im) {
    double a = pole[0], b = PARTS == 2 ? pole[PARTS - 1] : 0.0;
    re = 1.0, im = 0.0;
    for (; n; n /= 2) {
        if (n & 1) {
            const double before = re;
            re = before * a - im * b;
            im = before * b + im * a;
        }
        const double before = a;
        a = before * before - b * b;
        b = 2.0 * before * b;
    }
}

// Initial states of each tile of a segment, in place of the final ones.
template <bool SLOPES> __device__ void carry(const Modal &p) {
    enum { AHEAD = 8, COPIES = SLOPES ? 2 : 1 };
    const i64 modes = (i64)p.modes * p.channels;
    const int blocks = (modes + blockDim.x - 1) / blockDim.x;
    const Segment segment = p.segments[blockIdx.x / blocks];
    const i64 mode = blockIdx.x % blocks * (i64)blockDim.x + threadIdx.x;
    if (mode >= modes) return;
    const i64 all = modes * PARTS, n = mode / p.channels, c = mode % p.channels;
    const float *pole = p.poles + (c * p.modes + n) * PARTS;
    const i64 at = n * PARTS * p.channels + c;
    float s[PARTS], v[PARTS];
    for (int k = 0; k < PARTS; k++) {
        const bool goes_on = p.state && !(segment.flags & STARTS);
        s[k] = goes_on ? p.state[segment.lane * all + at + k * p.channels] : 0.0f;
        v[k] = 0.0f;
    }
    const i64 from = p.reversed ? segment.first_tile + segment.tiles - 1 : segment.first_tile;
    const i64 by = p.reversed ? -1 : 1;
    // All tiles of a segment but the last are of one length, and so the first, if there are two. To
    // the tile after a short one, when reversed, nothing is carried but from a zero start.
    double re, im, less_re, less_im;
    const u32 len = p.tiles[segment.first_tile].len;
    power(pole, len, re, im);
    power(pole, len - 1, less_re, less_im);
    for (u32 done = 0; done < segment.tiles; done += AHEAD) {
        float ends[AHEAD][COPIES][PARTS];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            // The last tile has no final state: nothing follows it here.
            if (done + a + 1 >= segment.tiles) break;
            for (int j = 0; j < COPIES; j++)
                for (int k = 0; k < PARTS; k++)
                    ends[a][j][k] = p.ends[((from + by * (done + a)) * COPIES + j) * all + at +
                                           k * p.channels];
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            if (done + a >= segment.tiles) break;
            const i64 to = (from + by * (done + a)) * COPIES * all + at;
            for (int k = 0; k < PARTS; k++) {
                p.ends[to + k * p.channels] = s[k];
                if (SLOPES) p.ends[to + all + k * p.channels] = v[k];
            }
            if (done + a + 1 >= segment.tiles) break;
            const double a0 = s[0], b0 = PARTS == 2 ? s[PARTS - 1] : 0.0f;
            if (SLOPES) {
                // pole^n v + n pole^(n-1) s
                const double c0 = v[0], d0 = PARTS == 2 ? v[PARTS - 1] : 0.0f;
                v[0] = re * c0 - im * d0 + len * (less_re * a0 - less_im * b0) + ends[a][COPIES - 1][0];
                if (PARTS == 2)
                    v[PARTS - 1] = re * d0 + im * c0 + len * (less_re * b0 + less_im * a0) +
                                   ends[a][COPIES - 1][PARTS - 1];
            }
            s[0] = re * a0 - im * b0 + ends[a][0][0];
            if (PARTS == 2) s[PARTS - 1] = re * b0 + im * a0 + ends[a][0][PARTS - 1];
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) modal_ends(Modal p) {
    modal<false, false>(p, (float *)0);
}
extern "C" __global__ void modal_carry(Modal p) { carry<false>(p); }
extern "C" __global__ void __launch_bounds__(THREADS) modal_outputs(Modal p, float *out) {
    modal<true, false>(p, out);
}
extern "C" __global__ void __launch_bounds__(THREADS) modal_slope_ends(Modal p) {
    modal<false, true>(p, (float *)0);
}
extern "C" __global__ void modal_slope_carry(Modal p) { carry<true>(p); }
extern "C" __global__ void __launch_bounds__(THREADS) modal_slopes(Modal p) {
    modal<true, true>(p, (float *)0);
}
