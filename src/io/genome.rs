//! The sequences of a FASTA input, as the streaming engine pulls them: every contig whole, or
//! regions of contigs with bases of context before them.

use super::bases::Counts;
use super::fai::{beside, read_fai};
use super::fasta::Reader;
use super::indexed::{Access, Indexed};
use super::input::{Format, Input};
use super::pileup::Consensus;
use crate::error::{Error, Result};
use crate::sequence::Contig;
use crate::sequence::region::{Query, Span, TO_END, merge};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::Path;

/// What to read of a FASTA input, and what to let pass.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Regions to read; none reads everything.
    pub regions: Vec<Query>,
    /// Bases before a region that are handed out too, as far as there are any.
    pub context: u64,
    /// Bases after a region that are handed out too: the reverse strand's context.
    pub context_after: u64,
    /// Keeps regions as they are, instead of joining those that overlap or touch.
    pub keep_overlaps: bool,
    /// Lets a BGZF file pass, with a warning, that lacks its closing block.
    pub allow_missing_eof: bool,
    /// Lets a file without sequences pass.
    pub allow_empty: bool,
}

/// A contig or a region of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The contig's place in the dictionary, which grows as a file is streamed.
    pub contig: usize,
    /// The contig's name.
    pub name: String,
    /// The position of the first base that is handed out, context included.
    pub start: u64,
    /// The end of what is handed out, context included; may lie beyond the contig when its length
    /// is not known yet.
    pub end: u64,
    /// The positions that are asked for; those before and after are context. When the contig's length is
    /// not known yet the end may lie beyond it, and is [`TO_END`] for all of a contig.
    pub rows: Range<u64>,
    /// The contig's length, if it is known.
    pub length: Option<u64>,
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
    /// cannot be (at once with an index, else when the file has been read).
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        let input = Input::open(path, options.allow_missing_eof)?;
        let name = input.name().to_string();
        Self::with_input(path, input, options).map_err(|error| error.file(name))
    }

    fn with_input(path: &Path, input: Input, options: Options) -> Result<Self> {
        let name = input.name().to_string();
        if !options.regions.is_empty() {
            match Indexed::open(path, &input, options.allow_missing_eof)? {
                Access::Indexed(reader) => {
                    let spans = Spans::new(*reader, &options)?;
                    return Ok(Self {
                        name,
                        hint: Some(spans.bases()),
                        source: Source::Indexed(Box::new(spans)),
                    });
                }
                Access::Stream(why) => {
                    tracing::info!("reading all of the input to find the regions: {why}");
                }
            }
        }
        for region in &options.regions {
            region.check()?;
        }
        Ok(Self {
            name,
            hint: match options.regions.is_empty() {
                true => whole_hint(path, &input),
                false => None,
            },
            source: Source::Stream(Box::new(Stream::new(input, options))),
        })
    }

    /// The sequences of a sample, as its alignments have them.
    pub fn of_alignments(name: String, consensus: Consensus) -> Self {
        Self {
            name,
            hint: Some(consensus.bases()),
            source: Source::Consensus(Box::new(consensus)),
        }
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
        match &mut self.source {
            Source::Stream(stream) => stream.next_sequence(),
            Source::Indexed(spans) => spans.next_sequence(),
            Source::Consensus(consensus) => consensus.next_sequence(),
        }
        .map_err(|error| error.file(&self.name))
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

/// Bases of a whole input: from its index if that is good, else the size of plain text.
fn whole_hint(path: &Path, input: &Input) -> Option<u64> {
    let size = input.size()?;
    let plain = input.format() == Format::Plain;
    let text_size = if plain { size } else { i64::MAX.unsigned_abs() };
    let indexed = read_fai(&beside(path, ".fai"), text_size).ok();
    indexed
        .map(|entries| entries.iter().map(|entry| entry.length).sum())
        .or_else(|| plain.then_some(size))
}

/// Spans read at random.
struct Spans {
    reader: Indexed,
    context: u64,
    context_after: u64,
    left: VecDeque<Span>,
}

impl Spans {
    fn new(reader: Indexed, options: &Options) -> Result<Self> {
        let contigs = reader.contigs();
        let places: HashMap<&str, usize> = contigs
            .iter()
            .enumerate()
            .map(|(i, contig)| (contig.name.as_str(), i))
            .collect();
        let mut spans = Vec::new();
        for region in &options.regions {
            spans.push(region.resolve_by(contigs, |name| places.get(name).copied())?);
        }
        spans.sort_unstable();
        if !options.keep_overlaps {
            merge(&mut spans);
        }
        Ok(Self {
            reader,
            context: options.context,
            context_after: options.context_after,
            left: spans.into(),
        })
    }

    fn bases(&self) -> u64 {
        let bases = |span: &Span| {
            let length = self.reader.contigs()[span.contig].length;
            let end = span.end.saturating_add(self.context_after).min(length);
            end - span.start.saturating_sub(self.context)
        };
        self.left.iter().map(bases).sum()
    }

    fn next_sequence(&mut self) -> Result<Option<Sequence>> {
        let Some(span) = self.left.pop_front() else {
            return Ok(None);
        };
        let start = span.start.saturating_sub(self.context);
        let length = self.reader.contigs()[span.contig].length;
        let end = span.end.saturating_add(self.context_after).min(length);
        self.reader.seek(Span { start, end, ..span })?;
        let contig = &self.reader.contigs()[span.contig];
        Ok(Some(Sequence {
            contig: span.contig,
            name: contig.name.clone(),
            start,
            end,
            rows: span.start..span.end,
            length: Some(contig.length),
        }))
    }
}

/// The input read from its start to its end.
struct Stream {
    reader: Reader<Input>,
    options: Options,
    /// The regions that may mean a contig, by its name.
    asked: HashMap<String, Vec<usize>>,
    /// The contig that answers to each region.
    answers: Vec<Option<usize>>,
    contigs: Vec<Contig>,
    /// The current contig's name, until all that was asked of it was handed out.
    name: Option<String>,
    /// Its length, once its end was read: spans before that may still be to come.
    length: Option<u64>,
    /// Spans of the current contig that are still to come, in order.
    left: VecDeque<Span>,
    /// The current span, from the next base to be handed out.
    span: Range<u64>,
    /// How far the current contig was read.
    read: u64,
    /// The last bases read, those that this or a coming span needs again.
    kept: VecDeque<u8>,
}

impl Stream {
    fn new(input: Input, options: Options) -> Self {
        let mut asked: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, region) in options.regions.iter().enumerate() {
            for name in region.names() {
                asked.entry(name.to_string()).or_default().push(i);
            }
        }
        Self {
            asked,
            reader: Reader::new(input).allow_empty(options.allow_empty),
            answers: vec![None; options.regions.len()],
            options,
            contigs: Vec::new(),
            name: None,
            length: None,
            left: VecDeque::new(),
            span: 0..0,
            read: 0,
            kept: VecDeque::new(),
        }
    }

    fn next_sequence(&mut self) -> Result<Option<Sequence>> {
        loop {
            if let Some(sequence) = self.next_span()? {
                return Ok(Some(sequence));
            }
            self.end_contig()?;
            let Some(name) = self.reader.next_sequence()? else {
                let unanswered = self.answers.iter().position(Option::is_none);
                return match unanswered {
                    Some(i) => Err(self.options.regions[i].unknown(&self.contigs)),
                    None => Ok(None),
                };
            };
            self.begin_contig(name)?;
        }
    }

    /// Finds what is wanted of the contig that begins.
    fn begin_contig(&mut self, name: String) -> Result<()> {
        let contig = self.contigs.len();
        let mut spans = Vec::new();
        if self.options.regions.is_empty() && !self.reader.at_sequence_end()? {
            spans.push(Span {
                contig,
                start: 0,
                end: TO_END,
            });
        }
        for &i in self.asked.get(&name).map_or(&[][..], Vec::as_slice) {
            let region = &self.options.regions[i];
            let Some(wanted) = region.on(&name) else {
                continue;
            };
            if self.answers[i].replace(contig).is_some() {
                return Err(region.ambiguous());
            }
            spans.push(Span {
                contig,
                start: wanted.start,
                end: wanted.end,
            });
        }
        spans.sort_unstable();
        if !self.options.keep_overlaps {
            merge(&mut spans);
        }
        if spans.windows(2).any(|pair| pair[1].start < pair[0].end) {
            let what = format!("regions of \"{name}\" overlap, and the input is read only once");
            let todo = "let them be joined, or index the file (bgzip, samtools faidx)";
            return Err(Error::usage(what).todo(todo));
        }
        self.left = spans.into();
        self.name = Some(name);
        self.length = None;
        self.read = 0;
        self.span = 0..0;
        self.kept.clear();
        Ok(())
    }

    /// Goes to the next span of the current contig.
    fn next_span(&mut self) -> Result<Option<Sequence>> {
        let (Some(name), Some(span)) = (self.name.clone(), self.left.pop_front()) else {
            return Ok(None);
        };
        let start = span.start.saturating_sub(self.options.context);
        let known = self.read - self.kept.len() as u64;
        self.forget(start.saturating_sub(known));
        if self.read < start {
            self.read += self.reader.skip_bases(start - self.read)?;
            if self.read < start {
                self.end_contig()?;
                return Ok(None);
            }
        }
        let most = self.length.unwrap_or(TO_END);
        let end = span.end.saturating_add(self.options.context_after);
        let end = end.min(most);
        self.span = start..end;
        Ok(Some(Sequence {
            contig: span.contig,
            name,
            start,
            end,
            rows: span.start..span.end.min(most),
            length: self.length,
        }))
    }

    fn read_bases(&mut self, codes: &mut Vec<u8>, max: usize) -> Result<usize> {
        let before = codes.len();
        while codes.len() - before < max && !self.span.is_empty() {
            let room = (max - (codes.len() - before)) as u64;
            let room = room.min(self.span.end - self.span.start) as usize;
            let known = self.read - self.kept.len() as u64;
            if self.span.start < self.read {
                let from = (self.span.start - known) as usize;
                let n = room.min(self.kept.len() - from);
                codes.extend(self.kept.range(from..from + n));
                self.span.start += n as u64;
                continue;
            }
            let keep = self.left.front().map_or(TO_END, |next| {
                next.start.saturating_sub(self.options.context)
            });
            self.forget(keep.saturating_sub(known));
            let n = self.reader.read_bases(codes, room)?;
            if n == 0 {
                self.span = 0..0;
                self.reach_end()?;
                break;
            }
            let new = &codes[codes.len() - n..];
            let skipped = keep.saturating_sub(self.read).min(n as u64) as usize;
            self.kept.extend(&new[skipped..]);
            self.read += n as u64;
            self.span.start = self.read;
        }
        Ok(codes.len() - before)
    }

    /// Forgets the first `n` kept bases.
    fn forget(&mut self, n: u64) {
        let n = n.min(self.kept.len() as u64) as usize;
        self.kept.drain(..n);
    }

    /// Leaves the current contig behind.
    fn end_contig(&mut self) -> Result<()> {
        self.reach_end()?;
        self.name = None;
        self.left.clear();
        self.span = 0..0;
        Ok(())
    }

    /// Reads the current contig to its end; checks what was asked of it against its length. Spans
    /// that are still to come stay: their bases are kept.
    fn reach_end(&mut self) -> Result<()> {
        let (Some(name), None) = (&self.name, self.length) else {
            return Ok(());
        };
        let length = self.reader.finish_sequence()?;
        for &i in self.asked.get(name).map_or(&[][..], Vec::as_slice) {
            let region = &self.options.regions[i];
            if let Some(wanted) = region.on(name) {
                region.check_start(wanted.start, length)?;
                if wanted.end != TO_END {
                    region.warn_if_clipped(wanted.end, length);
                }
            }
        }
        self.length = Some(length);
        self.contigs.push(Contig {
            name: name.clone(),
            length,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
