//! Genes of a genome, found twice: what the genes of the first time have in common says more of the
//! second time's.

use super::CLASSES;
use super::code::GeneticCode;
use super::decode::Decoder;
use super::evidence::Evidence;
use super::gene::Gene;
use super::gff3::Writer;
use super::own::{Found, Own};
use crate::sequence::shard::Shard;
use std::io::{self, Write};
use std::sync::Arc;

/// Bases that are held to learn from: all of most prokaryotes' genomes.
const HELD: usize = 1 << 23;
/// How often is learned from what was found.
const ROUNDS: usize = 2;

/// Takes sequences in their order, base by base, and writes their genes.
///
/// The first 2²³ bases, of all sequences together, are held until they were learned from, eleven
/// bytes each; what comes after them is decoded as it comes, with what was learned. Where too few
/// genes were found nothing is learned.
pub struct Finder<W> {
    code: GeneticCode,
    writer: Writer<W>,
    /// The sequences that are held; none after they were learned from.
    held: Option<Vec<Sequence>>,
    /// Bases that came, and how many are held.
    bases: usize,
    hold: usize,
    own: Option<Arc<Own>>,
    /// Of the sequence that is being read.
    decoder: Option<Decoder>,
}

/// A sequence that is held: its contig, the position of its first base, and its bases.
struct Sequence {
    contig: String,
    start: u64,
    bases: Vec<Evidence>,
}

impl Sequence {
    fn end(&self) -> u64 {
        self.start + self.bases.len() as u64
    }
}

impl<W: Write> Finder<W> {
    /// Begins a file; a comment says what its genes were made with: those of all contigs, or of a
    /// shard.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, code: GeneticCode, source: &str, shard: Option<Shard>) -> io::Result<Self> {
        Ok(Self {
            code,
            writer: Writer::new(out, source, shard)?,
            held: Some(Vec::new()),
            bases: 0,
            hold: HELD,
            own: None,
            decoder: None,
        })
    }

    /// Begins a sequence: part of a contig, from this position on.
    pub fn begin(&mut self, contig: &str, start: u64) {
        match &mut self.held {
            Some(held) => held.push(Sequence {
                contig: contig.to_string(),
                start,
                bases: Vec::new(),
            }),
            None => self.decoder = Some(Decoder::new(self.code, start, self.own.clone())),
        }
    }

    /// Takes the next base of the sequence, which lies on this contig, and the probabilities of its
    /// classes, in the order of [`CLASSES`].
    ///
    /// # Errors
    /// Those of the file.
    pub fn push(&mut self, contig: &str, code: u8, p: &[f32; CLASSES.len()]) -> io::Result<()> {
        let evidence = Evidence::new(code, p);
        if let Some(sequence) = self.held.as_mut().and_then(|held| held.last_mut()) {
            sequence.bases.push(evidence);
            self.bases += 1;
            if self.bases == self.hold {
                self.learn(true)?;
            }
        } else if let Some(decoder) = &mut self.decoder {
            for gene in decoder.push(evidence) {
                self.writer.gene(contig, &gene);
            }
        }
        Ok(())
    }

    /// Ends the sequence, which lies on this contig, from `start` to `end`.
    ///
    /// # Errors
    /// Those of the file.
    pub fn end(&mut self, contig: &str, start: u64, end: u64) -> io::Result<()> {
        if self.held.is_some() {
            return Ok(());
        }
        for gene in self.decoder.take().into_iter().flat_map(Decoder::finish) {
            self.writer.gene(contig, &gene);
        }
        self.writer.end(contig, start, end)
    }

    /// Learns from what is held, and writes its genes; `open`: the last sequence goes on.
    fn learn(&mut self, open: bool) -> io::Result<()> {
        let mut held = self.held.take().unwrap_or_default();
        for _ in 0..ROUNDS {
            let found = held.iter().map(|sequence| Found {
                first: sequence.start,
                bases: &sequence.bases,
                genes: self.decode(sequence),
            });
            let found: Vec<Found> = found.collect();
            self.own = Own::learn(self.code, &found).map(Arc::new);
        }
        let last = if open { held.pop() } else { None };
        for sequence in &held {
            for gene in self.decode(sequence) {
                self.writer.gene(&sequence.contig, &gene);
            }
            self.writer
                .end(&sequence.contig, sequence.start, sequence.end())?;
        }
        if let Some(sequence) = last {
            let mut decoder = Decoder::new(self.code, sequence.start, self.own.clone());
            for base in sequence.bases {
                for gene in decoder.push(base) {
                    self.writer.gene(&sequence.contig, &gene);
                }
            }
            self.decoder = Some(decoder);
        }
        Ok(())
    }

    /// The genes of a sequence, by what is known.
    fn decode(&self, sequence: &Sequence) -> Vec<Gene> {
        let mut decoder = Decoder::new(self.code, sequence.start, self.own.clone());
        let mut genes = Vec::new();
        for base in &sequence.bases {
            genes.extend(decoder.push(*base));
        }
        genes.extend(decoder.finish());
        genes
    }

    /// What is written to.
    pub fn get_ref(&self) -> &W {
        self.writer.get_ref()
    }

    /// Writes what waits; gives what was written to, and the number of genes.
    ///
    /// # Errors
    /// Those of the file.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        if self.held.is_some() {
            self.learn(false)?;
        }
        let genes = self.writer.genes();
        Ok((self.writer.finish()?, genes))
    }
}

#[cfg(test)]
mod tests;
