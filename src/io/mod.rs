//! Files in and out. Knows nothing of tensors or models.

pub mod bases;
pub mod bed;
pub mod bgzf;
pub mod fai;
pub mod fasta;
pub mod genome;
pub mod indexed;
pub mod input;

#[cfg(test)]
mod testing;
