//! The sequences of a FASTA input, as the streaming engine pulls them: every contig whole, or
//! regions of contigs with bases of context before them.

mod index;
mod spans;
mod stream;

pub use super::sequences::{Planned, Sequence};

use super::bases::Counts;
use super::fasta;
use super::indexed::{Access, Indexed};
use super::input::{Format, Input};
use super::pileup::Consensus;
use crate::error::{Error, Result};
use crate::sequence::Contig;
use crate::sequence::region::{Query, names};
use crate::sequence::shard::Cut;
use index::Index;
use spans::Spans;
use std::path::Path;
use stream::Stream;

/// What to read of a FASTA input, and what to let pass.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Regions to read; none reads everything.
    pub regions: Vec<Query>,
    /// Reads nothing of any contig: regions are asked for, and there are none.
    pub nothing: bool,
    /// Bases before a region that are handed out too, as far as there are any.
    pub context: u64,
    /// Bases after a region that are handed out too: the reverse strand's context.
    pub context_after: u64,
    /// Keeps regions as they are, instead of joining those that overlap or touch.
    pub keep_overlaps: bool,
    /// Reads the regions of a contig together, as one sequence with gaps, where with their
    /// contexts they would be more than the contig. Needs an index.
    pub together: bool,
    /// Reads only this shard of what is asked for. Which spans that is follows from the contigs'
    /// lengths: without an index the file is read once more for them, as for regions.
    pub shard: Option<Cut>,
    /// The contigs, if they are known from an earlier reading; an index goes before them.
    pub contigs: Option<Vec<Contig>>,
    /// Lets a BGZF file pass, with a warning, that lacks its closing block.
    pub allow_missing_eof: bool,
    /// Lets a file without sequences pass.
    pub allow_empty: bool,
}

impl Options {
    /// Whether every contig is read, or a shard of all.
    fn everything(&self) -> bool {
        self.regions.is_empty() && !self.nothing
    }
}

/// A FASTA input of which sequences are pulled, one after the other.
///
/// Everything is read from the start to the end of the input, and checked, unless there are
/// regions and the file can be read at random: a regular file, plain or BGZF, with its indexes.
/// Sequences come in the order of contigs in the file (or its index), then by start. Sequences
/// without bases are counted and warned about, but do not come.
///
/// Memory: names and lengths of contigs, buffers of under 1 MiB, and twice the context at most.
pub struct Genome {
    name: String,
    hint: Option<u64>,
    planned: Option<Vec<Planned>>,
    /// Of a shard, the contigs that it reads.
    names: Option<Vec<String>>,
    /// Contigs of which something was handed out, and the last of them.
    handed_out: (u64, Option<usize>),
    source: Source,
}

enum Source {
    Stream(Box<Stream>),
    Indexed(Box<Spans>),
    Consensus(Box<Consensus>),
}

impl Genome {
    /// Opens a path, or standard input for `-` and `stdin`.
    ///
    /// # Errors
    /// Io when it cannot be opened, Input when it or an index is damaged, Usage when a region
    /// cannot be (of a stream that is read once, when it has been read).
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        let mut input = Input::open(path, options.allow_missing_eof)?;
        let name = input.name().to_string();
        let looked = fasta::look(&mut input);
        let opened = looked.and_then(|()| Self::with_input(path, input, options));
        opened.map_err(|error| error.file(name))
    }

    fn with_input(path: &Path, input: Input, options: Options) -> Result<Self> {
        let name = input.name().to_string();
        if options.shard.is_some() && input.size().is_none() {
            let what = "a shard is found by the lengths of all contigs, and this is a stream";
            return Err(Error::usage(what).todo("give a file, best one with an index"));
        }
        if !options.everything() || options.shard.is_some() {
            match Indexed::open(path, &input, options.allow_missing_eof)? {
                Access::Indexed(reader) => {
                    let spans = Spans::new(*reader, &options)?;
                    let (planned, names) = (spans.planned(), spans.names());
                    let names = options.shard.map(|_| names);
                    let source = Source::Indexed(Box::new(spans));
                    return Ok(Self::planning(name, planned, names, source));
                }
                Access::Stream(why) if input.size().is_some() => {
                    tracing::info!("reading all of the input first, for its contigs: {why}");
                    return Self::known(path, input, options);
                }
                Access::Stream(why) => {
                    tracing::info!("reading all of the input to find the regions: {why}");
                }
            }
        }
        for region in &options.regions {
            region.check()?;
        }
        let index = if options.everything() {
            Index::of(path, &input)?
        } else {
            None
        };
        let planned = index.as_ref().map(Index::planned);
        let text = input.size().filter(|_| input.format() == Format::Plain);
        let all = |planned: &Vec<Planned>| planned.iter().map(|planned| planned.bases).sum();
        Ok(Self {
            name,
            hint: planned
                .as_ref()
                .map(all)
                .or(text.filter(|_| options.everything())),
            planned,
            names: None,
            handed_out: (0, None),
            source: Source::Stream(Box::new(Stream::new(input, options, index))),
        })
    }

    /// Regions, or a shard, of a file that cannot be read at random but twice: what cannot be is
    /// said before any work.
    fn known(path: &Path, input: Input, mut options: Options) -> Result<Self> {
        let name = input.name().to_string();
        let is_shard = options.shard.is_some();
        let index = Index::of(path, &input)?;
        let contigs = match (&index, options.contigs.take()) {
            (Some(index), _) => index.contigs().to_vec(),
            (None, Some(contigs)) => contigs,
            (None, None) => Self::read_contigs(path, &options)?,
        };
        let spans = spans::asked(&contigs, &options)?;
        let context = [options.context, options.context_after];
        let planned = |span| spans::planned(std::slice::from_ref(span), &contigs, context);
        let planned = spans.iter().map(planned).collect();
        let names = names(&spans, &contigs);
        let stream = Stream::of_spans(input, options, index, &spans);
        let source = Source::Stream(Box::new(stream));
        Ok(Self::planning(
            name,
            planned,
            is_shard.then_some(names),
            source,
        ))
    }

    /// The contigs of a file, by reading all of it, whatever `options` ask for.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read_contigs(path: &Path, options: &Options) -> Result<Vec<Contig>> {
        let all = Options {
            allow_missing_eof: options.allow_missing_eof,
            allow_empty: options.allow_empty,
            ..Options::default()
        };
        let mut genome = Self::open(path, all)?;
        while genome.next_sequence()?.is_some() {}
        Ok(genome.finished_contigs().to_vec())
    }

    fn planning(
        name: String,
        planned: Vec<Planned>,
        names: Option<Vec<String>>,
        source: Source,
    ) -> Self {
        Self {
            name,
            hint: Some(planned.iter().map(|planned| planned.bases).sum()),
            planned: Some(planned),
            names,
            handed_out: (0, None),
            source,
        }
    }

    /// The sequences of a sample, as its alignments have them.
    pub fn of_alignments(name: String, consensus: Consensus) -> Self {
        let (planned, names) = (consensus.planned(), consensus.names());
        Self::planning(name, planned, names, Source::Consensus(Box::new(consensus)))
    }

    /// Of a shard, the contigs that it reads, in their order.
    pub fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// The alignments, if the sequences are a sample's.
    pub fn consensus(&self) -> Option<&Consensus> {
        match &self.source {
            Source::Consensus(consensus) => Some(consensus),
            _ => None,
        }
    }

    /// The dictionary, if it is known up front: when regions are read at random.
    pub fn contigs(&self) -> Option<&[Contig]> {
        match &self.source {
            Source::Stream(_) => None,
            Source::Indexed(spans) => Some(spans.reader.contigs()),
            Source::Consensus(consensus) => Some(consensus.contigs()),
        }
    }

    /// The contigs whose lengths are known so far; in the end, the dictionary.
    pub fn finished_contigs(&self) -> &[Contig] {
        match &self.source {
            Source::Stream(stream) => &stream.contigs,
            Source::Indexed(spans) => spans.reader.contigs(),
            Source::Consensus(consensus) => consensus.contigs(),
        }
    }

    /// About how many bases will be handed out, for a progress bar: exact with an index, the
    /// file's size for plain text without one.
    pub fn bases_hint(&self) -> Option<u64> {
        self.hint
    }

    /// The sequences that will be handed out, where regions or an index tell.
    pub fn planned(&self) -> Option<Vec<Planned>> {
        self.planned.clone()
    }

    /// Reads what is left, and says which sequences were handed out.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn count(&mut self) -> Result<Vec<Planned>> {
        let (mut counted, mut codes) = (Vec::new(), Vec::new());
        while let Some(sequence) = self.next_sequence()? {
            let mut bases = 0;
            while self.read_bases(&mut codes, 1 << 16)? > 0 {
                bases += codes.len() as u64;
                codes.clear();
            }
            let end = sequence.rows.end.min(sequence.start + bases);
            let rows = sequence.rows.start..end.max(sequence.rows.start);
            counted.push(Planned::one(bases, rows));
        }
        Ok(counted)
    }

    /// What was read so far, skipped bases included.
    pub fn counts(&self) -> &Counts {
        match &self.source {
            Source::Stream(stream) => stream.reader.counts(),
            Source::Indexed(spans) => spans.reader.counts(),
            Source::Consensus(consensus) => consensus.counts(),
        }
    }

    /// The next sequence; `None` when all were handed out and the input ended well. Skips what is
    /// left of the current one.
    pub fn next_sequence(&mut self) -> Result<Option<Sequence>> {
        let next = match &mut self.source {
            Source::Stream(stream) => stream.next_sequence(),
            Source::Indexed(spans) => spans.next_sequence(),
            Source::Consensus(consensus) => consensus.next_sequence(),
        };
        let next = next.map_err(|error| error.file(&self.name))?;
        // Those of one contig come one after the other.
        let contig = next.as_ref().map(|sequence| sequence.contig);
        if contig.is_some() && contig != self.handed_out.1 {
            self.handed_out = (self.handed_out.0 + 1, contig);
        }
        Ok(next)
    }

    /// Of how many contigs all or parts were handed out.
    pub fn handed_out(&self) -> u64 {
        self.handed_out.0
    }

    /// Appends base codes of the current sequence until it ends or `max` (at least 1) were
    /// appended; returns how many. 0 is the sequence's end.
    pub fn read_bases(&mut self, codes: &mut Vec<u8>, max: usize) -> Result<usize> {
        match &mut self.source {
            Source::Stream(stream) => stream.read_bases(codes, max),
            Source::Indexed(spans) => spans.reader.read_bases(codes, max),
            Source::Consensus(consensus) => consensus.read_bases(codes, max),
        }
        .map_err(|error| error.file(&self.name))
    }
}

#[cfg(test)]
mod tests;
