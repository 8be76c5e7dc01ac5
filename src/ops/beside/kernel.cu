// Branches and the rows beside them.

// As ops::beside::Beside.
struct Beside { u32 row, len, beside, shared, owed; };

// Adds to rows of branches in x, (T, channels), `factor` times those beside them, or owed to them.
extern "C" __global__ void add_beside(float *x, const float *owed, const Beside *branches,
                                      int channels, i64 longest, i64 count, float factor) {
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    i64 row;
    int c;
    place(i, channels, row, c);
    const Beside b = branches[row / longest];
    const i64 at = row % longest;
    if (at >= b.len) return;
    float other = 0.0f;
    if (at < b.shared)
        other = x[(b.beside + at) * channels + c];
    else if (owed)
        other = owed[(b.owed + at - b.shared) * channels + c];
    x[(b.row + at) * channels + c] += factor * other;
}
