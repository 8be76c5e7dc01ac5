//! What decoding gives and files of genes hold.

/// A gene, 0-based and half-open.
#[derive(Clone, Debug, PartialEq)]
pub struct Gene {
    /// Its leftmost base.
    pub start: u64,
    /// One past its rightmost base; stop codon included.
    pub end: u64,
    /// It lies on the reverse strand.
    pub reverse: bool,
    /// Its first codon, in letters; none where the sequence's end cuts it.
    pub first_codon: Option<String>,
    /// The stop codon is part of it.
    pub stops: bool,
    /// What it is worth, in nats: above 0.
    pub score: f64,
}
