//! What is known of each base: classes and values out of annotations and tracks.

mod place;
mod read;
#[cfg(test)]
mod tests;

use super::split::DataFile;
use crate::genes;
use crate::head::{Link, Shape, Task, Unit};
use crate::sequence::region::Span;

/// Labels of all bases of some genomes.
#[derive(Clone)]
pub struct Labels {
    /// What each number of a head stands for.
    pub outputs: Vec<String>,
    /// The files that were read.
    pub files: Vec<DataFile>,
    targets: Targets,
}

/// By contig, then base.
#[derive(Clone)]
enum Targets {
    /// A class of [`genes::CLASSES`], or [`genes::UNKNOWN`].
    Genes(Vec<Vec<u8>>),
    /// A bit for each class.
    Marks(Vec<Vec<u32>>),
    /// A number for each output: (bases, K); NaN where there is none.
    Values(Vec<Vec<f32>>),
}

impl Labels {
    /// The head that can learn these labels.
    pub fn task(&self, shape: Shape, both_strands: bool) -> Task {
        let (name, link) = match &self.targets {
            Targets::Genes(_) => ("genes", Link::Softmax),
            Targets::Marks(_) => ("tracks", Link::Sigmoid),
            Targets::Values(_) => ("tracks", Link::Identity),
        };
        Task {
            name: name.to_string(),
            unit: Unit::Base,
            link,
            outputs: self.outputs.clone(),
            shape,
            both_strands,
            stale: false,
        }
    }

    /// Appends the targets of a base, read on the forward strand or on the other: of genes its
    /// class as one number, NaN if it is unknown; else a number for each output: 0 or 1 of classes,
    /// NaN where there is no value.
    pub fn target(&self, contig: usize, base: u64, reverse: bool, out: &mut Vec<f32>) {
        let (i, k) = (base as usize, self.outputs.len());
        match &self.targets {
            Targets::Genes(all) => out.push(match all[contig][i] {
                genes::UNKNOWN => f32::NAN,
                class if reverse => genes::MIRROR[usize::from(class)] as f32,
                class => f32::from(class),
            }),
            Targets::Marks(all) => {
                let bits = all[contig][i];
                out.extend((0..k).map(|class| ((bits >> class) & 1) as f32));
            }
            Targets::Values(all) => out.extend_from_slice(&all[contig][i * k..][..k]),
        }
    }

    /// For each class the weights of its bases and of all others, so that the classes count alike
    /// on `spans`; 1 where it has none. Of genes only the first is used.
    pub fn balance(&self, spans: &[Span]) -> Vec<[f32; 2]> {
        let k = self.outputs.len();
        let (mut counts, mut all, mut row) = (vec![0u64; k], 0, Vec::new());
        for span in spans {
            for base in span.start..span.end {
                row.clear();
                self.target(span.contig, base, false, &mut row);
                match (&self.targets, &row[..]) {
                    (Targets::Genes(_), [class]) if class.is_nan() => continue,
                    (Targets::Genes(_), [class]) => counts[*class as usize] += 1,
                    _ => counts
                        .iter_mut()
                        .zip(&row)
                        .for_each(|(n, x)| *n += u64::from(*x > 0.0)),
                }
                all += 1;
            }
        }
        let groups = match &self.targets {
            Targets::Genes(_) => counts.iter().filter(|n| **n > 0).count(),
            _ => 2,
        };
        let weight = |n: u64| match n {
            0 => 1.0,
            n => (all as f64 / groups as f64 / n as f64) as f32,
        };
        counts
            .iter()
            .map(|n| [weight(*n), weight(all - n)])
            .collect()
    }

    /// Bytes that they take in memory.
    pub fn bytes(&self) -> u64 {
        let sum = |lengths: &mut dyn Iterator<Item = usize>| lengths.sum::<usize>() as u64;
        match &self.targets {
            Targets::Genes(all) => sum(&mut all.iter().map(Vec::len)),
            Targets::Marks(all) => 4 * sum(&mut all.iter().map(Vec::len)),
            Targets::Values(all) => 4 * sum(&mut all.iter().map(Vec::len)),
        }
    }

    /// Runs of bases that are of any class; none where labels are values.
    pub fn marked(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut mark = |contig: usize, base: usize| {
            let (start, end) = (base as u64, base as u64 + 1);
            match spans.last_mut() {
                Some(last) if last.contig == contig && last.end == start => last.end = end,
                _ => spans.push(Span { contig, start, end }),
            }
        };
        if let Targets::Marks(all) = &self.targets {
            for (contig, bases) in all.iter().enumerate() {
                let marked = bases.iter().enumerate().filter(|(_, bits)| **bits != 0);
                marked.for_each(|(base, _)| mark(contig, base));
            }
        }
        spans
    }

    /// Whether anything is known of a base of some spans: of others nothing can be learned.
    pub fn know(&self, spans: &[Span]) -> bool {
        let mut bases = spans.iter().flat_map(|span| {
            let bases = span.start..span.end;
            bases.map(|base| (span.contig, base as usize))
        });
        let k = self.outputs.len();
        match &self.targets {
            Targets::Genes(all) => bases.any(|(contig, i)| all[contig][i] != genes::UNKNOWN),
            Targets::Marks(_) => bases.next().is_some(),
            Targets::Values(all) => {
                bases.any(|(contig, i)| all[contig][i * k..][..k].iter().any(|x| !x.is_nan()))
            }
        }
    }
}
