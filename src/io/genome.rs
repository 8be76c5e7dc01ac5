//! The sequences of a FASTA input, as the streaming engine pulls them: every contig whole, or
//! regions of contigs with bases of context before them.

use super::bases::Counts;
use super::fai::{Entry, beside, read_fai};
use super::fasta::Reader;
use super::indexed::{Access, Indexed};
use super::input::{Format, Input};
use super::pileup::Consensus;
use crate::error::{Error, Result};
use crate::sequence::Contig;
use crate::sequence::region::{Query, Span, TO_END, merge};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};

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
    /// Reads the regions of a contig together, as one sequence with gaps, where with their
    /// contexts they would be more than the contig. Needs an index.
    pub together: bool,
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
    /// Stretches between those positions that are not asked for, in order: of several regions
    /// that are read together.
    pub gaps: Vec<Range<u64>>,
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
    planned: Option<Vec<Planned>>,
    source: Source,
}

/// A sequence that will be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its bases, context included.
    pub bases: u64,
    /// The positions that are asked for: one stretch, or several.
    pub rows: Vec<Range<u64>>,
}

impl Planned {
    /// One stretch.
    pub fn one(bases: u64, rows: Range<u64>) -> Self {
        Self {
            bases,
            rows: std::iter::once(rows).collect(),
        }
    }

    /// Bins of `bin` bases, aligned to multiples of it, that its stretches lie in.
    pub fn rows(&self, bin: u64) -> u64 {
        let stretches = self.rows.iter().filter(|rows| !rows.is_empty());
        stretches
            .map(|rows| (rows.end - 1) / bin - rows.start / bin + 1)
            .sum()
    }
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
                    let planned = spans.planned();
                    return Ok(Self {
                        name,
                        hint: Some(planned.iter().map(|planned| planned.bases).sum()),
                        planned: Some(planned),
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
        let index = if options.regions.is_empty() {
            indexed(path, &input)?
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
                .or(text.filter(|_| options.regions.is_empty())),
            planned,
            source: Source::Stream(Box::new(Stream::new(input, options, index))),
        })
    }

    /// The sequences of a sample, as its alignments have them.
    pub fn of_alignments(name: String, consensus: Consensus) -> Self {
        Self {
            name,
            hint: Some(consensus.bases()),
            planned: Some(consensus.planned()),
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

/// The contigs that the index beside a whole input has, if there is one.
///
/// # Errors
/// Input: the index is damaged, or reaches beyond the end of plain text.
fn indexed(path: &Path, input: &Input) -> Result<Option<Index>> {
    let index = beside(path, ".fai");
    let Some(size) = input.size().filter(|_| index.is_file()) else {
        return Ok(None);
    };
    let plain = input.format() == Format::Plain;
    let text_size = if plain { size } else { i64::MAX.unsigned_abs() };
    let contig = |entry: Entry| Contig {
        name: entry.name,
        length: entry.length,
    };
    let entries = read_fai(&index, text_size)?.into_iter();
    Ok(Some(Index {
        path: index,
        contigs: entries.map(contig).collect(),
    }))
}

/// What an index says of a file that is read as a whole.
struct Index {
    path: PathBuf,
    contigs: Vec<Contig>,
}

impl Index {
    fn planned(&self) -> Vec<Planned> {
        let planned = |contig: &Contig| Planned::one(contig.length, 0..contig.length);
        self.contigs.iter().map(planned).collect()
    }

    /// An error unless the file has these contigs, and no others.
    fn must_fit(&self, found: &[Contig]) -> Result<()> {
        if self.contigs == found {
            return Ok(());
        }
        let pairs = self.contigs.iter().zip(found);
        let place = pairs.take_while(|(says, has)| says == has).count();
        let named = |contigs: &[Contig]| match contigs.get(place) {
            Some(contig) => format!("\"{}\" of {} bases", contig.name, contig.length),
            None => "no more sequences".to_string(),
        };
        let what = format!(
            "the file does not fit its index {}: sequence {} is {}, and the index has {}",
            self.path.display(),
            place + 1,
            named(found),
            named(&self.contigs)
        );
        Err(Error::input(what).todo("get the whole file, or make the index anew (samtools faidx)"))
    }
}

/// Spans read at random.
struct Spans {
    reader: Indexed,
    context: u64,
    context_after: u64,
    /// Spans that are read as one sequence each.
    left: VecDeque<Vec<Span>>,
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
        let mut spans = Self {
            left: spans.into_iter().map(|span| vec![span]).collect(),
            reader,
            context: options.context,
            context_after: options.context_after,
        };
        if options.together && !options.keep_overlaps {
            spans.bring_together();
        }
        Ok(spans)
    }

    /// Makes one sequence of a contig's spans where with their contexts they are more than it.
    fn bring_together(&mut self) {
        let mut left: VecDeque<Vec<Span>> = VecDeque::new();
        let mut all = std::mem::take(&mut self.left).into_iter().peekable();
        while let Some(first) = all.next() {
            let contig = first[0].contig;
            let mut of_contig = vec![first];
            while let Some(next) = all.next_if(|next| next[0].contig == contig) {
                of_contig.push(next);
            }
            let read = of_contig.iter().map(|spans| self.reach(spans));
            let bases: u64 = read.map(|reach| reach.end - reach.start).sum();
            if bases > self.reader.contigs()[contig].length {
                left.push_back(of_contig.concat());
            } else {
                left.extend(of_contig);
            }
        }
        self.left = left;
    }

    /// What is read of spans of one contig, context included.
    fn reach(&self, spans: &[Span]) -> Range<u64> {
        let length = self.reader.contigs()[spans[0].contig].length;
        let end = spans[spans.len() - 1]
            .end
            .saturating_add(self.context_after);
        spans[0].start.saturating_sub(self.context)..end.min(length)
    }

    fn planned(&self) -> Vec<Planned> {
        let planned = |spans: &Vec<Span>| {
            let reach = self.reach(spans);
            Planned {
                bases: reach.end - reach.start,
                rows: spans.iter().map(|span| span.start..span.end).collect(),
            }
        };
        self.left.iter().map(planned).collect()
    }

    fn next_sequence(&mut self) -> Result<Option<Sequence>> {
        let Some(spans) = self.left.pop_front() else {
            return Ok(None);
        };
        let Range { start, end } = self.reach(&spans);
        let (first, last) = (spans[0], spans[spans.len() - 1]);
        self.reader.seek(Span {
            start,
            end,
            ..first
        })?;
        let contig = &self.reader.contigs()[first.contig];
        Ok(Some(Sequence {
            contig: first.contig,
            name: contig.name.clone(),
            start,
            end,
            rows: first.start..last.end,
            gaps: spans
                .windows(2)
                .map(|pair| pair[0].end..pair[1].start)
                .collect(),
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
    /// What the file must have, if an index says so.
    index: Option<Index>,
}

impl Stream {
    fn new(input: Input, options: Options, index: Option<Index>) -> Self {
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
            index,
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
                if let Some(i) = unanswered {
                    return Err(self.options.regions[i].unknown(&self.contigs));
                }
                if let Some(index) = &self.index {
                    index.must_fit(&self.contigs)?;
                }
                return Ok(None);
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
            gaps: Vec::new(),
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
