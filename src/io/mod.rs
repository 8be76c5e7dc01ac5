//! Files in and out. Knows nothing of tensors or models.

pub mod alignments;
pub mod atomic;
pub mod bases;
pub mod bed;
pub mod bedgraph;
pub mod bgzf;
pub mod bigwig;
pub mod delimited;
pub mod fai;
pub mod fasta;
pub mod foreign_table;
pub mod genome;
pub mod gff;
pub mod indexed;
pub mod input;
pub mod intervals;
pub mod labels;
mod lines;
pub mod panics;
pub mod picture;
pub mod pileup;
pub mod read;
pub mod read_ahead;
pub mod row_groups;
pub mod sequences;
pub mod sha256;
pub mod spill;
pub mod table_file;
pub mod table_writer;
#[cfg(test)]
pub(crate) mod testing;
mod text;
pub mod threads;
pub mod tsv;
pub mod variants;
pub mod vector;
pub mod yaml;
