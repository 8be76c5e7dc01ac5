//! The sample's own sequence along the reference: at each position the base that most reads have.
//!
//! Coordinates stay the reference's: a deleted base is N, inserted bases are left out. Where reads
//! are too few or disagree, the reference stands (or N, if that is asked for).

mod choice;
mod contigs;
mod depths;

pub use choice::{Choice, Chosen};
pub use depths::Depths;

use super::alignments::{Alignments, Options, Placed, Record, Reference, flag};
use super::bases::Counts;
use super::indexed::Indexed;
use super::sequences::{Planned, Sequence};
use crate::error::{Error, Result};
use crate::sequence::region::{Query, Span, names};
use crate::sequence::shard::Cut;
use crate::sequence::{Contig, N};
use choice::Column;
use contigs::{matched, warn_of_lacking, whole, wide_regions, widened};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Positions that are decided at a time.
const BLOCK: u64 = 1 << 14;
/// Reference bases that an alignment may span; longer ones are left out.
const MAX_SPAN: u64 = 1 << 24;

/// The consensus of sorted alignments, as sequences along a reference.
///
/// Memory: 20 bytes for each position between the first that is not decided and the end of the
/// alignment that reaches furthest, at most 16 million of them beyond a region's context.
pub struct Consensus {
    name: String,
    source: Alignments,
    reference: Indexed,
    choice: Choice,
    /// The reference's number of each contig of the alignments.
    contigs: Vec<Option<usize>>,
    /// Sequences that are still to come: what gets rows, by the alignments' contigs.
    left: VecDeque<Span>,
    context: [u64; 2],
    /// The current sequence, from the next position on, and its contig's name.
    span: Span,
    contig: Arc<str>,
    /// The record read last, which begins after all that was needed.
    next: Option<Record>,
    /// Where the records read so far end: contig and start.
    reached: (usize, u64),
    ended: bool,
    /// Columns from position `first` of contig `on`.
    columns: VecDeque<Column>,
    first: u64,
    on: usize,
    chosen: Chosen,
    depths: Depths,
    /// Of a shard, the contigs that it reads.
    names: Option<Vec<String>>,
}

impl Consensus {
    /// Opens alignments and the reference that they lie on. `context`: positions before and after
    /// a region that are handed out too; `shard`: only this part of what is asked for.
    ///
    /// # Errors
    /// Input, when the two have no contig in common, or contigs of different lengths; Usage, when
    /// the file holds no alignments, or an index is missing.
    pub fn open(
        path: &Path,
        reference: &Path,
        (regions, shard): (&[Query], Option<Cut>),
        context: [u64; 2],
        choice: Choice,
        allow_missing_eof: bool,
    ) -> Result<Self> {
        let fasta = Reference::indexed(reference, allow_missing_eof)?;
        let mut options = Options {
            regions: regions.to_vec(),
            reference: Some(PathBuf::from(reference)),
            allow_missing_eof,
            ..Options::default()
        };
        let name = path.display().to_string();
        let mut source = Alignments::open(path, &options)?;
        let header = source.header();
        if header.contigs.is_empty() {
            let what = "reads without alignments have no place on a reference";
            return Err(Error::usage(what).file(name).todo("crocuta reads"));
        }
        let contigs = matched(&header.contigs, fasta.contigs());
        let contigs = contigs.map_err(|error| error.file(&name))?;
        let mut left: Vec<Span> = source.spans().to_vec();
        if regions.is_empty() {
            warn_of_lacking(&header.contigs, &contigs);
            left = whole(&header.contigs, &contigs);
        } else {
            if let Some(span) = left.iter().find(|span| contigs[span.contig].is_none()) {
                let contig = &header.contigs[span.contig].name;
                return Err(Error::input(format!("the reference has no \"{contig}\"")).file(name));
            }
            options.regions = wide_regions(&left, context, &header.contigs);
            source = Alignments::open(path, &options)?;
        }
        if let Some(cut) = shard {
            left = cut.of(left);
        }
        let names = shard.map(|_| names(&left, &source.header().contigs));
        Ok(Self {
            name,
            source,
            reference: fasta,
            choice,
            contigs,
            left: left.into(),
            context,
            span: Span {
                contig: 0,
                start: 0,
                end: 0,
            },
            contig: Arc::from(""),
            next: None,
            reached: (0, 0),
            ended: false,
            columns: VecDeque::new(),
            first: 0,
            on: 0,
            chosen: Chosen::default(),
            depths: Depths::default(),
            names,
        })
    }

    /// The same with no position to be handed out.
    #[must_use]
    pub fn of_nothing(mut self) -> Self {
        self.left.clear();
        self
    }

    /// Of a shard, the contigs that it reads.
    pub fn names(&self) -> Option<Vec<String>> {
        self.names.clone()
    }

    /// The sequences that will be handed out.
    pub fn planned(&self) -> Vec<Planned> {
        let contigs = &self.source.header().contigs;
        let planned = self.left.iter().map(|&span| {
            let wide = widened(span, self.context, contigs);
            Planned::one(wide.end - wide.start, span.start..span.end)
        });
        planned.collect()
    }

    /// The contigs that the alignments and the reference share.
    pub fn contigs(&self) -> &[Contig] {
        self.reference.contigs()
    }

    /// What was read of the reference.
    pub fn counts(&self) -> &Counts {
        self.reference.counts()
    }

    /// What was chosen so far.
    pub fn chosen(&self) -> Chosen {
        self.chosen
    }

    /// The depth at each position, as they are handed out.
    pub fn depths(&self) -> Depths {
        self.depths.clone()
    }

    /// The next sequence: a contig, or a region with its context.
    pub fn next_sequence(&mut self) -> Result<Option<Sequence>> {
        let Some(rows) = self.left.pop_front() else {
            // What follows is checked too.
            self.read_to(usize::MAX, 0)?;
            return Ok(None);
        };
        let contig = &self.source.header().contigs[rows.contig];
        let (name, length) = (contig.name.clone(), contig.length);
        self.span = widened(rows, self.context, &self.source.header().contigs);
        let on_reference = Span {
            contig: self.contigs[rows.contig].unwrap_or_default(),
            ..self.span
        };
        self.reference.seek(on_reference)?;
        if self.on != rows.contig {
            self.columns.clear();
            (self.on, self.first) = (rows.contig, 0);
        }
        self.forget(self.span.start);
        self.contig = Arc::from(name.as_str());
        Ok(Some(Sequence {
            contig: rows.contig,
            name,
            start: self.span.start,
            end: self.span.end,
            rows: rows.start..rows.end,
            gaps: Vec::new(),
            length: Some(length),
        }))
    }

    /// Appends base codes of the current sequence, at most `max`; returns how many. 0 is its end.
    pub fn read_bases(&mut self, codes: &mut Vec<u8>, max: usize) -> Result<usize> {
        let (start, contig) = (self.span.start, self.span.contig);
        let end = self.span.end.min(start + BLOCK.min(max as u64));
        if start >= end {
            return Ok(0);
        }
        // A sequence that begins before this one's end needs these columns again.
        let keep = match self.left.front() {
            Some(next) if next.contig == contig => next.start.saturating_sub(self.context[0]),
            _ => u64::MAX,
        };
        self.read_to(contig, end)?;
        let before = codes.len();
        while ((codes.len() - before) as u64) < end - start {
            let missing = (end - start) as usize - (codes.len() - before);
            if self.reference.read_bases(codes, missing)? == 0 {
                break;
            }
        }
        let mut depths = Vec::with_capacity(codes.len() - before);
        for (code, position) in codes[before..].iter_mut().zip(start..) {
            let column = position.checked_sub(self.first);
            let column = column.and_then(|i| self.columns.get(i as usize));
            let column = column.copied().unwrap_or_default();
            depths.push(column.iter().sum());
            *code = self.choice.base(&column, *code, &mut self.chosen);
        }
        self.depths.push((Arc::clone(&self.contig), start, depths));
        self.span.start = end;
        self.forget(keep.min(end));
        Ok(codes.len() - before)
    }

    /// Drops the columns before `position`.
    fn forget(&mut self, position: u64) {
        let passed = position.saturating_sub(self.first) as usize;
        self.columns.drain(..passed.min(self.columns.len()));
        self.first = self.first.max(position);
    }

    /// Counts all records that begin before `end` of a contig.
    fn read_to(&mut self, contig: usize, end: u64) -> Result<()> {
        loop {
            let record = match self.next.take() {
                Some(record) => record,
                None if self.ended => return Ok(()),
                None => match self.source.next_record()? {
                    Some(record) => record,
                    None => {
                        self.ended = true;
                        return Ok(());
                    }
                },
            };
            let Some((on, start)) = record.position() else {
                // Unplaced records come last.
                continue;
            };
            if (on, start) < self.reached {
                let what = "alignments are not in the order of coordinates";
                return Err(Error::input(what).file(&self.name).todo("samtools sort"));
            }
            if (on, start) >= (contig, end) {
                self.next = Some(record);
                return Ok(());
            }
            self.reached = (on, start);
            self.count(&record, on == contig)?;
        }
    }

    fn count(&mut self, record: &Record, here: bool) -> Result<()> {
        const NOT_COUNTED: u16 = flag::UNMAPPED | flag::SECONDARY | flag::FAILED | flag::DUPLICATE;
        let poor = record
            .mapping_quality()
            .is_some_and(|q| q < self.choice.min_mapping_quality);
        if record.flag() & NOT_COUNTED != 0 || poor || record.is_empty() {
            return Ok(());
        }
        let (contig, start) = match record.placed(&self.source.header().contigs) {
            Placed::At { contig, start, end } if end - start <= MAX_SPAN => (contig, start),
            _ => {
                self.chosen.refused += 1;
                return Ok(());
            }
        };
        if !here || self.contigs[contig].is_none() {
            return Ok(());
        }
        self.chosen.alignments += 1;
        let (codes, qualities) = (record.codes(false), record.qualities());
        let (mut at, mut base) = (start, 0);
        for (letter, n) in record.cigar() {
            let n = n as usize;
            match letter {
                b'M' | b'=' | b'X' => {
                    for i in base..(base + n).min(codes.len()) {
                        let good = qualities[i] >= self.choice.min_base_quality;
                        if codes[i] < N && good {
                            self.add(at + (i - base) as u64, usize::from(codes[i]));
                        }
                    }
                    (at, base) = (at + n as u64, base + n);
                }
                b'D' => {
                    (at..at + n as u64).for_each(|position| self.add(position, 4));
                    at += n as u64;
                }
                b'N' => at += n as u64,
                b'I' | b'S' => base += n,
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, position: u64, what: usize) {
        let Some(i) = position.checked_sub(self.first) else {
            return;
        };
        let i = i as usize;
        if i >= self.columns.len() {
            self.columns.resize(i + 1, Column::default());
        }
        self.columns[i][what] += 1;
    }
}

#[cfg(test)]
mod tests;
