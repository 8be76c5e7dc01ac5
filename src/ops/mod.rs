//! Numeric kernels on candle tensors. Each op has a CPU form on slices (rayon over rows or
//! channels, SIMD chosen at run time) and is tested against a plain f64 loop.
