//! Tests of training as a whole.

mod on_gpu;
