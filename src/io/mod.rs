//! Files in and out. Knows nothing of tensors or models.

pub mod atomic;
