// The gradient of an activation; the activation itself is in the prelude.

// The derivative of prelude's `activate`.
__device__ __forceinline__ float slope(float x, int activation) {
    switch (activation) {
    case 1: {
        float s = sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
        return s * (1.0f + x * (1.0f - s) * 1.5957691216f * (1.0f + 0.134145f * x * x));
    }
    case 2: return 0.5f * (1.0f + erff(x * 0.70710678118f)) + x * 0.39894228f * expf(-0.5f * x * x);
    case 3: {
        float s = sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    default: return 1.0f;
    }
}

// grad f'(x)
template <int V>
__device__ void slopes(float *out, const float *grad, const float *x, i64 count, int activation) {
    i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= count) return;
    Values<V> g = load<V>(grad + i), v = load<V>(x + i);
    for (int j = 0; j < V; j++) g.x[j] *= slope(v.x[j], activation);
    store(out + i, g);
}

#define EXPORT(V)                                                                                  \
    extern "C" __global__ void slopes_##V(float *out, const float *grad, const float *x,           \
                                          i64 count, int activation) {                             \
        slopes<V>(out, grad, x, count, activation);                                                \
    }
EXPORT(1)
EXPORT(4)
