//! Genomes in memory, and which of their bases train, which are held out.

use crate::error::{Error, Result};
use crate::io::genome::{Genome, Options};
use crate::io::sha256;
use crate::sequence::region::{Query, Span, merge};
use crate::sequence::{Contig, N, base, complement};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Runs of unknown bases of this length and more end a training span: nothing is learned there.
const GAP: usize = 64;

/// All bases of some FASTA files: one byte a base.
#[derive(Clone)]
pub struct Genomes {
    /// Names and lengths, in the order of the files.
    pub contigs: Vec<Contig>,
    /// Base codes of each contig, without the soft mask.
    bases: Vec<Vec<u8>>,
    /// Where each contig is, by name.
    places: BTreeMap<String, usize>,
    /// The files that were read.
    pub files: Vec<DataFile>,
}

/// A file that took part in training, for the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// As given.
    pub path: PathBuf,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Bases or records that it holds.
    pub size: u64,
}

impl DataFile {
    /// Digests a file.
    pub fn read(path: &Path, size: u64) -> Result<Self> {
        let sha256 = sha256::digest(path)?;
        let path = path.to_path_buf();
        Ok(Self { path, sha256, size })
    }
}

impl Genomes {
    /// Reads whole files.
    ///
    /// # Errors
    /// As [`Genome::open`]; Input too where two contigs share a name, since a held-out range
    /// could then mean either.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut all = Self {
            contigs: Vec::new(),
            bases: Vec::new(),
            places: BTreeMap::new(),
            files: Vec::new(),
        };
        let mut owners = BTreeMap::new();
        for path in paths {
            let mut genome = Genome::open(path, Options::default())?;
            let mut size = 0;
            while let Some(sequence) = genome.next_sequence()? {
                let mut codes = Vec::new();
                while genome.read_bases(&mut codes, 1 << 20)? > 0 {}
                codes.iter_mut().for_each(|code| *code = base(*code));
                if let Some(other) = owners.insert(sequence.name.clone(), path) {
                    let what =
                        format!("contig {} stands in {} too", sequence.name, other.display());
                    return Err(Error::input(what)
                        .file(path.display())
                        .todo("give each genome once, with names of its own"));
                }
                size += codes.len() as u64;
                all.places.insert(sequence.name.clone(), all.contigs.len());
                all.contigs.push(Contig {
                    name: sequence.name,
                    length: codes.len() as u64,
                });
                all.bases.push(codes);
            }
            all.files.push(DataFile::read(path, size)?);
        }
        Ok(all)
    }

    /// Base `i` of a passage in its direction of reading.
    pub fn base(&self, passage: &Passage, i: u64) -> u8 {
        let bases = &self.bases[passage.span.contig];
        if passage.reverse {
            complement(bases[(passage.span.end - 1 - i) as usize])
        } else {
            bases[(passage.span.start + i) as usize]
        }
    }

    /// Bases of a passage, in its direction of reading.
    pub fn read_passage(&self, passage: &Passage, places: Range<u64>) -> Vec<u8> {
        let Span { contig, start, end } = passage.span;
        let bases = |from: u64, to: u64| &self.bases[contig][from as usize..to as usize];
        if passage.reverse {
            let read = bases(end - places.end, end - places.start).iter();
            read.rev().map(|code| complement(*code)).collect()
        } else {
            bases(start + places.start, start + places.end).to_vec()
        }
    }

    /// Where the contig of this name is.
    pub fn place(&self, contig: &str) -> Option<usize> {
        self.places.get(contig).copied()
    }

    /// The bases of each contig.
    pub fn each_bases(&self) -> impl Iterator<Item = &[u8]> {
        self.bases.iter().map(Vec::as_slice)
    }

    /// Something made of the bases of each contig.
    pub fn each<T>(&self, make: impl Fn(&[u8]) -> T) -> Vec<T> {
        self.each_bases().map(make).collect()
    }

    /// The bases of a span.
    pub fn bases(&self, span: &Span) -> &[u8] {
        &self.bases[span.contig][span.start as usize..span.end as usize]
    }

    /// What is held out, resolved: sorted, without overlaps.
    pub fn held_out(&self, queries: &[Query]) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        for query in queries {
            spans.push(query.resolve(&self.contigs)?);
        }
        merge(&mut spans);
        Ok(spans)
    }

    /// [`Genomes::training`] on what neither chooses nor tests.
    ///
    /// # Errors
    /// Usage: nothing is left to train on, or a base is in both.
    pub fn training_without(&self, [held_out, test]: [&[Span]; 2]) -> Result<Vec<Span>> {
        let overlap =
            |a: &Span, b: &Span| a.contig == b.contig && a.start < b.end && b.start < a.end;
        if held_out.iter().any(|a| test.iter().any(|b| overlap(a, b))) {
            let what = "a base is in a --validate region and in a --test region";
            return Err(Error::usage(what).todo("measure on what chose nothing"));
        }
        let mut all = [held_out, test].concat();
        merge(&mut all);
        self.training(&all)
    }

    /// All that is not `held_out`, without long runs of unknown bases and spans of a single base.
    ///
    /// # Errors
    /// Usage: nothing is left.
    pub fn training(&self, held_out: &[Span]) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        for (contig, bases) in self.bases.iter().enumerate() {
            let mut from = 0;
            let here = held_out.iter().filter(|span| span.contig == contig);
            let ends = here.map(|span| (span.start as usize, span.end as usize));
            let end = bases.len();
            for (start, next) in ends.chain([(end, end)]) {
                spans.extend(known(&bases[from..start]).map(|(a, b)| Span {
                    contig,
                    start: (from + a) as u64,
                    end: (from + b) as u64,
                }));
                from = next;
            }
        }
        spans.retain(|span| span.end - span.start >= 2);
        if spans.is_empty() {
            Err(Error::usage("no bases are left to train on")
                .todo("hold out less, or give more sequence"))
        } else {
            Ok(spans)
        }
    }
}

/// The parts of `bases` between runs of [`GAP`] and more unknown ones.
fn known(bases: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for (i, _) in bases.iter().enumerate().filter(|(_, b)| **b != N) {
        match parts.last_mut() {
            Some((_, end)) if i - *end < GAP => *end = i + 1,
            _ => parts.push((i, i + 1)),
        }
    }
    parts.into_iter()
}

/// A span read in one direction, from a state that knows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Passage {
    /// Where.
    #[serde(with = "span")]
    pub span: Span,
    /// The reverse complement is read, from the span's end.
    pub reverse: bool,
}

impl Passage {
    /// Its length in bases.
    pub fn len(&self) -> u64 {
        self.span.end - self.span.start
    }

    /// Whether it has no bases.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a span is stored.
mod span {
    use super::Span;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(span: &Span, serializer: S) -> Result<S::Ok, S::Error> {
        (span.contig as u64, span.start, span.end).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let (contig, start, end) = <(u64, u64, u64)>::deserialize(deserializer)?;
        let contig = contig as usize;
        Ok(Span { contig, start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genomes(text: &str) -> Genomes {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.fa");
        std::fs::write(&path, text).unwrap();
        Genomes::read(&[path]).unwrap()
    }

    fn span(contig: usize, start: u64, end: u64) -> Span {
        Span { contig, start, end }
    }

    #[test]
    fn what_is_held_out_is_not_trained_on_and_all_else_is() {
        let text = format!(
            ">a\n{}\n>b\n{}\n>c\n{}\n",
            "ACGT".repeat(25),
            "AC",
            "GATTACA"
        );
        let genomes = genomes(&text);
        let held = ["a:11-20", "a:16-30", "c"].map(|text| Query::parse(text).unwrap());
        let held = genomes.held_out(&held).unwrap();
        assert_eq!(held, [span(0, 10, 30), span(2, 0, 7)]);
        let training = genomes.training(&held).unwrap();
        assert_eq!(training, [span(0, 0, 10), span(0, 30, 100), span(1, 0, 2)]);
        let all = ["a", "b", "c"].map(|text| Query::parse(text).unwrap());
        let all = genomes.held_out(&all).unwrap();
        assert!(genomes.training(&all).is_err());
    }

    #[test]
    fn long_runs_of_unknown_bases_are_left_out_and_short_ones_are_not() {
        let text = format!(">a\n{}ACGNNNGT{}AC\n", "N".repeat(70), "N".repeat(64));
        let training = genomes(&text).training(&[]).unwrap();
        assert_eq!(training, [span(0, 70, 78), span(0, 142, 144)]);
    }

    #[test]
    fn a_passage_of_the_reverse_strand_is_the_reverse_complement() {
        let genomes = genomes(">a\nACCNGTT\n");
        let mut passage = Passage {
            span: span(0, 1, 6),
            reverse: false,
        };
        let read = |passage: &Passage| (0..5).map(|i| genomes.base(passage, i)).collect::<Vec<_>>();
        assert_eq!(read(&passage), [1, 1, 4, 2, 3]);
        passage.reverse = true;
        assert_eq!(read(&passage), [0, 1, 4, 2, 2]);
        assert_eq!(genomes.read_passage(&passage, 1..4), [1, 4, 2]);
        passage.reverse = false;
        assert_eq!(genomes.read_passage(&passage, 1..4), [1, 4, 2]);
        assert_eq!(genomes.read_passage(&passage, 3..5), [2, 3]);
    }

    #[test]
    fn the_same_name_twice_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["1.fa", "2.fa"].map(|name| dir.path().join(name));
        for path in &paths {
            std::fs::write(path, ">a\nACGT\n").unwrap();
        }
        let error = Genomes::read(&paths).err().unwrap().to_string();
        assert!(
            error.contains("2.fa") && error.contains("1.fa too"),
            "{error}"
        );
    }
}
