//! Files in and out. Knows nothing of tensors or models.

pub mod atomic;
pub mod schema;
pub mod spill;
pub mod table;
pub mod vector;
