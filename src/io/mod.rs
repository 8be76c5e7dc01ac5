//! Files in and out. Knows nothing of tensors or models.

pub mod bases;
pub mod bgzf;
pub mod fasta;
pub mod input;

#[cfg(test)]
mod testing;
