//! Promises about all ops together: their kernels compile, and how fast they are.

mod kernels;
mod speed;
