//! Genes of bacteria and archaea: what each base of a sequence is to them, learned from an
//! annotation ([`labels`]) and put together again from a head's probabilities ([`Finder`]).

mod binding;
mod code;
mod coding;
mod decode;
mod evidence;
mod finder;
mod gene;
mod gff3;
mod labels;
mod nodes;
mod own;

pub use code::GeneticCode;
pub use coding::circles;
pub use finder::Finder;
pub use gene::Gene;
pub use labels::labels;

/// What a base can be: the outputs of a gene head, in its order. `plus_1` is the first base of a
/// codon on the forward strand, `plus_start` that of the first codon, `plus_stop` the last base of
/// the stop codon; `minus_…` the same of the reverse strand, read along it.
pub const CLASSES: [&str; 11] = [
    "noncoding",
    "plus_1",
    "plus_2",
    "plus_3",
    "minus_1",
    "minus_2",
    "minus_3",
    "plus_start",
    "plus_stop",
    "minus_start",
    "minus_stop",
];

/// The class of a base after the sequence was reverse-complemented.
pub const MIRROR: [usize; 11] = [0, 4, 5, 6, 1, 2, 3, 9, 10, 7, 8];

/// The label of a base that is not to be learned.
pub const UNKNOWN: u8 = u8::MAX;

const NONCODING: usize = 0;
/// Of the three positions in a codon, by strand: forward, reverse.
const CODON: [usize; 2] = [1, 4];
const START: [usize; 2] = [7, 9];
const STOP: [usize; 2] = [8, 10];
